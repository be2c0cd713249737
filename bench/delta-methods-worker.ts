/**
 * One cell of bench/delta-methods.ts in a process of its own, so that its memory is its own: `cpm tune` with one method on
 * one task, then `cpm eval` with the delta of the best checkpoint; without a delta, `cpm eval` alone.
 *
 *     node bench/delta-methods-worker.ts JOB.json
 *
 * Prints one line of JSON.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { main, type World } from "../src/cli/main.ts";
import { baseHash } from "../src/delta/index.ts";
import type { EvaluationReport } from "../src/evaluate/index.ts";
import { loadWeights } from "../src/infer/index.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";

export interface Job {
  /** A folder with `model.safetensors` and `vocab.txt`. */
  readonly base: string;
  /** Where run, delta and outputs go. */
  readonly folder: string;
  readonly threads: number;
  /** Of `cpm tune`, without model and run; without it the base itself is evaluated. */
  readonly tune?: Readonly<Record<string, unknown>> | undefined;
  /** Of `cpm eval`: one evaluation. */
  readonly evaluation: Readonly<Record<string, unknown>>;
}

export interface Tuned {
  readonly trained: number;
  readonly share: number;
  readonly steps: number;
  /** Nats a target token, before training and at its best. */
  readonly before: number;
  readonly best: number;
  readonly bestStep: number;
  readonly ms: number;
  /** Of it, of the processor: what it takes on a machine left alone. */
  readonly processorMs: number;
  /** Of the whole process, before it evaluates. */
  readonly peakBytes: number;
}

export interface Outcome {
  /** Of the base's file, before and after. */
  readonly fileSha256: readonly [string, string];
  /** Of the base's numbers: as read before, as `cpm tune` had them in memory to the end, as read after. */
  readonly memorySha256: readonly string[];
  readonly tuned?: Tuned | undefined;
  readonly report: EvaluationReport;
  readonly evaluationMs: number;
}

const job = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Job;
const file = join(job.base, "model.safetensors");
const threads = ["--threads", String(job.threads)];

const fileBefore = fileHash();
const before = await numbersHash();
const tuned = job.tune && (await tune(job.tune, before.parameters));
const began = performance.now();
const report = await evaluate();
const evaluationMs = performance.now() - began;
const after = await numbersHash();
const outcome: Outcome = {
  fileSha256: [fileBefore, fileHash()],
  memorySha256: [before.sha256, ...(tuned ? [tuned.baseSha256] : []), after.sha256],
  ...(tuned && { tuned: tuned.figures }),
  report,
  evaluationMs,
};
process.stdout.write(`${JSON.stringify(outcome)}\n`);
process.exit(0);

async function tune(recipe: Readonly<Record<string, unknown>>, parameters: number) {
  const start = performance.now();
  const processor = process.cpuUsage();
  const lines = await cpm("tune", { ...recipe, power: "off" }, [
    ...[job.base, "--run", join(job.folder, "run"), "-o", join(job.folder, "delta"), ...threads],
  ]);
  const end = lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .find(({ event }) => event === "end");
  const { trained, step, first, best, baseSha256 } = end;
  const { user, system } = process.cpuUsage(processor);
  const figures: Tuned = {
    trained,
    share: trained / parameters,
    steps: step,
    before: first.nats,
    best: best.nats,
    bestStep: best.step,
    ms: performance.now() - start,
    processorMs: (user + system) / 1000,
    peakBytes: Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024,
  };
  return { figures, baseSha256: String(baseSha256) };
}

async function evaluate(): Promise<EvaluationReport> {
  const printed = await cpm("eval", { evaluations: [job.evaluation] }, [
    ...[job.base, "-o", join(job.folder, "results"), ...threads],
    ...(job.tune ? ["--delta", join(job.folder, "delta")] : []),
  ]);
  return JSON.parse(printed).evaluations[0];
}

/** Runs a command as from a shell; what it printed. */
async function cpm(verb: string, recipe: object, words: readonly string[]): Promise<string> {
  const path = join(job.folder, `${verb}.yaml`);
  writeFileSync(path, JSON.stringify(recipe));
  let printed = "";
  const writer = (write: (text: string) => void) => ({ isTTY: false, columns: 100, write, flush: async () => {} });
  const world: World = {
    stdout: writer((text) => {
      printed += text;
    }),
    stderr: writer((text) => void process.stderr.write(text)),
    stdin: { isTTY: false, async *[Symbol.asyncIterator]() {} },
    env: process.env,
    now: Date.now,
    signal: new AbortController().signal,
  };
  const code = await main([verb, ...words, "-c", path, "--json", "--lang", "en"], world);
  if (code !== 0) throw new Error(`cpm ${verb} ended with ${code}`);
  return printed;
}

function fileHash(): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

/** The base's numbers as they are loaded. */
async function numbersHash() {
  using runtime = createNativeRuntime({ threads: 1 });
  await using checkpoint = await openCheckpoint(job.base);
  const { tensors } = await loadWeights(runtime, checkpoint);
  const read = async (name: string) => (await runtime.download(tensors.get(name)!)) as Float32Array;
  return { sha256: await baseHash(checkpoint.config, read), parameters: parameterCount(checkpoint.config) };
}
