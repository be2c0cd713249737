/**
 * Every delta method on one base, with the same few steps, rows and order of samples: what is trained, losses, metrics,
 * seconds, memory, and whether the base is as it was.
 *
 *     node bench/delta-methods.ts BASE [--data ../shared/data/tasks] [--out runs/delta-methods]
 *                                 [--tasks headline,ccpm] [--methods LoRA,…] [--steps 500] [--rows 4] [--rate 1]
 *                                 [--dev 128] [--samples 200] [--processes 2] [--threads 1] [--minutes 600] [--table]
 *
 * BASE is a checkpoint of a run or a model's folder, with its vocabulary.
 *
 * Each method on each task is a process of its own that runs `cpm tune` and `cpm eval`. Its result stays in the output
 * folder and is not made again with the same settings, so the bench can be stopped at any time and called again;
 * `--minutes` begins nothing new after so long, `--table` prints what is there. `--rate` multiplies every learning rate.
 *
 * Metrics are of the test file. Headlines are decoded greedily with a penalty of 1.3 on what was said (a small base repeats
 * one token else) and at least 12 tokens (what is taught first is how often titles end); options are compared by what the
 * question adds (`normalize: pmi`). Losses are nats a token of the right answer: of dev rows, before and after, and of the
 * test samples. The majority baseline is counted on the training file: the most representative title, and the loss of its
 * titles' token frequencies. Differences to the untuned base are paired by sample; intervals are bootstrapped, of 95 %.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compareRecords, type MetricReport, readRecords, resamplingSchema } from "../src/evaluate/index.ts";
import { writeFileAtomic } from "../src/util/atomic-file.ts";
import type { Job, Outcome } from "./delta-methods-worker.ts";
import { machine } from "./report.ts";

const { values, positionals } = parseArgs({
  options: {
    data: { type: "string", default: "../shared/data/tasks" },
    out: { type: "string", default: "runs/delta-methods" },
    tasks: { type: "string", default: "headline,ccpm" },
    methods: { type: "string", default: "" },
    steps: { type: "string", default: "500" },
    rows: { type: "string", default: "4" },
    rate: { type: "string", default: "1" },
    dev: { type: "string", default: "128" },
    samples: { type: "string", default: "200" },
    processes: { type: "string", default: "2" },
    threads: { type: "string", default: "1" },
    minutes: { type: "string", default: "600" },
    table: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const [base] = positionals;
if (base === undefined) throw new Error("which base? node bench/delta-methods.ts BASE");
const [steps, rows, rate, dev, samples, threads] = [
  ...[values.steps, values.rows, values.rate, values.dev, values.samples, values.threads].map(Number),
] as [number, number, number, number, number, number];

const { num_layers: layers, prompt_length: promptLength } = JSON.parse(
  readFileSync(join(base, "config.json"), "utf8"),
) as { num_layers: number; prompt_length: number };

type Spec = Readonly<Record<string, unknown>>;

interface Method {
  readonly name: string;
  readonly delta: Spec | readonly Spec[];
  /**
   * Peak of the learning rate, tried at 200 steps of 4 headlines for LoRA, Houlsby, IA³ and fine-tuning; the others by what
   * they have in common with these.
   */
  readonly peak: number;
  /** Columns that it adds to every row. */
  readonly columns?: number;
}

const linear = { rank: 8, places: ["attn", "ffn"] };
const methods: readonly Method[] = [
  { name: "LoRA", delta: { method: "lora", ...linear }, peak: 0.002 },
  { name: "Houlsby adapter", delta: { method: "houlsby" }, peak: 0.005 },
  { name: "parallel adapter", delta: { method: "parallel" }, peak: 0.005 },
  { name: "low-rank adapter", delta: { method: "low-rank" }, peak: 0.01 },
  { name: "Compacter", delta: { method: "compacter" }, peak: 0.003 },
  { name: "BitFit", delta: { method: "bitfit" }, peak: 0.02 },
  { name: "prefix", delta: { method: "prefix", tokens: 16, reparameterize: false, deviation: 0.1 }, peak: 0.02 },
  { name: "soft prompt", delta: { method: "soft-prompt", tokens: 16 }, peak: 0.02, columns: 16 },
  { name: "IA³", delta: { method: "ia3" }, peak: 0.05 },
  // Its branch is √rank times as large as LoRA's.
  { name: "rsLoRA", delta: { method: "lora", ...linear, rankStabilized: true }, peak: 0.0007 },
  { name: "DoRA", delta: { method: "lora", ...linear, dora: true }, peak: 0.002 },
  // What PEFT calls modules to save: the token table, which is the head, is trained whole beside LoRA.
  {
    name: "LoRA and table",
    delta: [
      { method: "lora", ...linear },
      { method: "fine-tuning", places: ["input_embedding"] },
    ],
    peak: 0.002,
  },
  { name: "last two layers", delta: { method: "fine-tuning", places: [`layers.${layers - 2}-`] }, peak: 0.008 },
  { name: "fine-tuning", delta: { method: "fine-tuning" }, peak: 0.008 },
];

interface TaskSetting {
  readonly name: string;
  /** Of cpm tune and cpm eval alike. */
  readonly shared: { readonly template: string; readonly lengthTokens: number; readonly answerTokens: number };
  /** Of cpm eval alone. */
  readonly evaluation: Readonly<Record<string, unknown>>;
  /** Of `--steps`. */
  readonly stepShare: number;
  readonly metric: string;
  readonly shown: string;
}

const tasks: readonly TaskSetting[] = [
  {
    name: "headline",
    shared: { template: "title", lengthTokens: 48, answerTokens: 24 },
    evaluation: { decoding: { mode: "greedy", repetitionPenalty: 1.3, minTokens: 12 } },
    stepShare: 1,
    metric: "rougeL.characters",
    shown: "ROUGE-L, characters",
  },
  {
    name: "ccpm",
    shared: { template: "likelihood", lengthTokens: 64, answerTokens: 16 },
    evaluation: { normalize: "pmi" },
    stepShare: 0.2,
    metric: "accuracy",
    shown: "accuracy",
  },
];

const chosenTasks = tasks.filter(({ name }) => values.tasks.split(",").includes(name));
const chosenMethods = methods.filter(({ name }) => values.methods === "" || values.methods.split(",").includes(name));
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
if (!values.table) await runAll();
console.log(await table());

/** What a cell is made of; without a method the untuned base. */
function jobOf(task: TaskSetting, method: Method | undefined): Job {
  const data = (part: string) => resolve(values.data, task.name, `${part}.jsonl.gz`);
  const own = stepsOf(task);
  return {
    base: resolve(base!),
    folder: join(out, nameOf(task, method)),
    threads,
    ...(method && {
      tune: {
        ...{ task: task.name, train: [data("train")], dev: [data("dev")], ...task.shared },
        // Somewhat more than the steps read; the rest of the file would be encoded for nothing.
        ...{ limit: Math.ceil(own * rows * 1.25), devLimit: dev },
        ...{
          delta: [method.delta].flat(),
          rows,
          length: task.shared.lengthTokens + promptLength + (method.columns ?? 0),
        },
        steps: own,
        schedule: { kind: "cosine", total: own, warmup: Math.ceil(own / 10), ...rates(method) },
        every: { validation: Math.ceil(own / 2), checkpoint: 0 },
        patience: 0,
      },
    }),
    evaluation: {
      ...{ task: task.name, data: data("test"), train: data("train"), limit: samples },
      ...{ ...task.shared, ...task.evaluation },
    },
  };
}

function stepsOf({ stepShare }: TaskSetting): number {
  return Math.ceil(steps * stepShare);
}

function rates({ peak }: Method) {
  return { peak: peak * rate, floor: (peak * rate) / 10 };
}

function nameOf(task: TaskSetting, method: Method | undefined): string {
  return `${task.name} ${method?.name ?? "untuned"}`.replaceAll(" ", "-");
}

function resultPath(task: TaskSetting, method: Method | undefined): string {
  return join(out, `${nameOf(task, method)}.json`);
}

interface Kept extends Outcome {
  readonly settings: string;
  readonly date: string;
}

function readResult(task: TaskSetting, method: Method | undefined): Kept | undefined {
  const path = resultPath(task, method);
  if (!existsSync(path)) return undefined;
  const kept = JSON.parse(readFileSync(path, "utf8")) as Kept;
  return kept.settings === settingsOf(jobOf(task, method)) ? kept : undefined;
}

function settingsOf(job: Job): string {
  return createHash("sha256").update(JSON.stringify(job)).digest("hex");
}

async function runAll(): Promise<void> {
  console.error(machine());
  const began = performance.now();
  const cells = chosenTasks.flatMap((task) => [undefined, ...chosenMethods].map((method) => [task, method] as const));
  const next = cells.values();
  const worker = async () => {
    for (const [task, method] of next) {
      if (performance.now() - began > Number(values.minutes) * 60_000) return;
      await runCell(task, method);
    }
  };
  await Promise.all(Array.from({ length: Number(values.processes) }, worker));
}

async function runCell(task: TaskSetting, method: Method | undefined): Promise<void> {
  const name = nameOf(task, method);
  if (readResult(task, method)) {
    console.error(`${name}: there`);
    return;
  }
  const job = jobOf(task, method);
  rmSync(job.folder, { recursive: true, force: true });
  mkdirSync(job.folder);
  const path = join(job.folder, "job.json");
  writeFileSync(path, JSON.stringify(job));
  const outcome = await work(path, join(job.folder, "log.txt"));
  if (outcome === undefined) {
    console.error(`${name}: failed, see ${job.folder}/log.txt`);
    process.exitCode = 1;
    return;
  }
  const kept: Kept = { settings: settingsOf(job), date: new Date().toISOString(), ...outcome };
  await writeFileAtomic(resultPath(task, method), `${JSON.stringify(kept, undefined, 2)}\n`);
  const { tuned, report } = outcome;
  const loss = tuned
    ? `, dev ${tuned.before.toFixed(3)} → ${tuned.best.toFixed(3)}, ${seconds(tuned.processorMs)} s of the processor`
    : "";
  const metric = metricOf(report.metrics, task.metric)!;
  console.error(
    `${name}: ${task.metric} ${percent(metric.value)}${loss}, evaluated in ${seconds(outcome.evaluationMs)} s`,
  );
}

async function work(path: string, log: string): Promise<Outcome | undefined> {
  const script = fileURLToPath(new URL("./delta-methods-worker.ts", import.meta.url));
  const child = spawn(process.execPath, [script, path], { stdio: ["ignore", "pipe", "pipe"] });
  const [printed, said] = await Promise.all([collect(child.stdout), collect(child.stderr)]);
  writeFileSync(log, said);
  const last = printed.trim().split("\n").at(-1)!;
  return last.startsWith("{") ? (JSON.parse(last) as Outcome) : undefined;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += chunk;
  return text;
}

async function table(): Promise<string> {
  const head = [
    ...["task", "method", "peak rate", "trained", "%", "dev loss before → after", "test loss", "metric, %"],
    ...["metric − untuned", "s of the processor (clock)", "MiB", "base"],
  ];
  const lines: string[][] = [head, head.map(() => "---")];
  for (const task of chosenTasks) {
    const untuned = readResult(task, undefined);
    if (untuned === undefined) continue;
    const own = metricOf(untuned.report.metrics, task.metric)!;
    for (const kind of ["random", "majority", "lead"] as const) {
      if (own[kind] === undefined) continue;
      const loss = metricOf(untuned.report.metrics, "answerLoss")?.[kind];
      const shown = [task.name, kind, "", "", "", "", loss?.toFixed(2) ?? "", percent(own[kind])];
      lines.push([...shown, "", "", "", ""]);
    }
    for (const method of [undefined, ...chosenMethods]) {
      const kept = readResult(task, method);
      if (kept) lines.push(await cellsOf(task, method, kept, untuned));
    }
  }
  const shown = chosenTasks.map(({ name, shown: metric }) => `${name}: ${metric}`).join("; ");
  const lengths = chosenTasks.map((task) => `${task.name} ${stepsOf(task)} steps`).join(", ");
  const note = `${lengths}, ${rows} rows each, rates × ${rate}, ${dev} dev rows, ${samples} test samples (${shown}), ${threads} thread(s)`;
  return `${note}\n\n${lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n")}`;
}

async function cellsOf(task: TaskSetting, method: Method | undefined, kept: Kept, untuned: Kept): Promise<string[]> {
  const { tuned, report } = kept;
  const loss = metricOf(report.metrics, "answerLoss");
  const metric = metricOf(report.metrics, task.metric)!;
  return [
    task.name,
    method?.name ?? "untuned base",
    method ? (method.peak * rate).toPrecision(2) : "",
    tuned ? tuned.trained.toLocaleString("en") : "",
    tuned ? (100 * tuned.share).toPrecision(2) : "",
    tuned ? `${tuned.before.toFixed(3)} → ${tuned.best.toFixed(3)} (step ${tuned.bestStep})` : "",
    loss ? `${loss.value.toFixed(2)} [${loss.low.toFixed(2)}, ${loss.high.toFixed(2)}]` : "",
    `${percent(metric.value)} [${percent(metric.low)}, ${percent(metric.high)}]`,
    method ? await difference(task, method) : "",
    tuned ? `${seconds(tuned.processorMs)} (${seconds(tuned.ms)})` : "",
    tuned ? (tuned.peakBytes / 2 ** 20).toFixed(0) : "",
    isKept(kept, untuned) ? "equal" : "CHANGED",
  ];
}

/** All hashes are those of the base before anything was tuned on it. */
function isKept({ fileSha256, memorySha256 }: Outcome, untuned: Outcome): boolean {
  const [file] = untuned.fileSha256;
  const [numbers] = untuned.memorySha256;
  return fileSha256.every((hash) => hash === file) && memorySha256.every((hash) => hash === numbers);
}

async function difference(task: TaskSetting, method: Method): Promise<string> {
  const records = (of: Method | undefined) =>
    readRecords(join(out, nameOf(task, of), "results", "records", `${task.name}.jsonl`));
  const [first, second] = [await records(undefined), await records(method)];
  if (!first || !second) return "";
  const compared = compareRecords(first, second, { ...resamplingSchema.parse({}), normalize: "pmi" });
  const found = compared.metrics.find(({ name }) => name === task.metric)!;
  return `${percent(found.difference)} [${percent(found.low)}, ${percent(found.high)}]`;
}

function metricOf(metrics: readonly MetricReport[], name: string): MetricReport | undefined {
  return metrics.find((metric) => metric.name === name);
}

function percent(share: number): string {
  return (100 * share).toFixed(1);
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(0);
}
