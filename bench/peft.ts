/**
 * Deltas beside PEFT's on Hugging Face's `cpmant`, in both directions: what is saved here gives the same logits there, and
 * the reverse.
 *
 *     node bench/peft.ts [--python python3]
 *
 * Needs a Python with torch, transformers and peft. Ends with an error where logits differ by more than 1e-4 of their
 * largest.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openSafetensors, saveCheckpoint } from "../src/checkpoint/index.ts";
import {
  attachDelta,
  baseHash,
  type DeltaSpec,
  type DeltaWithValues,
  initialValues,
  openDelta,
  saveDelta,
} from "../src/delta/index.ts";
import { createBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterElements, parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime, type DeviceTensor, type Runtime } from "../src/runtime/index.ts";
import { createTrainingStep } from "../src/train/index.ts";
import { fillNormal } from "../src/util/random.ts";

const { values: options } = parseArgs({ options: { python: { type: "string", default: "python3" } } });
const config: ModelConfig = { ...preset("tiny"), vocabSize: 90, layers: 3, promptLength: 4, promptTypes: 4 };
const ids = [6, 17, 30, 31, 5, 80, 44, 12];
const bar = 1e-4;

/** What is written here and loaded there. */
const written: Readonly<Record<string, readonly DeltaSpec[]>> = {
  lora: [{ method: "lora" }],
  "lora, rank stabilised, some layers": [
    { method: "lora", rank: 4, rankStabilized: true, places: ["layers.1-2.ffn", "layers.0.attn.out"] },
  ],
  dora: [{ method: "lora", rank: 3, dora: true, places: ["attn.q", "ffn.out"] }],
  pissa: [{ method: "lora", rank: 2, init: "pissa" }],
  ia3: [{ method: "ia3" }],
};
/** What PEFT writes and is loaded here. */
const made = ["lora", "rslora", "dora", "patterns", "ia3"];

const folder = mkdtempSync(join(tmpdir(), "cpm-peft-"));
try {
  using runtime = createNativeRuntime();
  await compare(runtime);
} finally {
  rmSync(folder, { recursive: true });
}

async function compare(runtime: Runtime): Promise<void> {
  const base = new Map<string, Float32Array>();
  for (const parameter of parameterTable(config)) {
    const data = new Float32Array(parameterElements(parameter));
    const norm = parameter.kind === "norm";
    fillNormal(data, 1, parameter.name, norm ? 1 : 0, norm ? 0.1 : 1);
    base.set(parameter.name, data);
  }
  const tensors = parameterTable(config).map(({ name, shape }) => {
    return { name, dtype: "float32" as const, shape, read: () => base.get(name)! };
  });
  const exported = join(folder, "base");
  await saveCheckpoint(exported, config, tensors, { layout: "hf-cpmant" });
  const sha256 = await baseHash(config, (name) => base.get(name)!);
  const bound = new Map(tensors.map(({ name, shape }) => [name, runtime.upload(base.get(name)!, "float32", shape)]));
  let worst = 0;
  const judge = async (name: string, ours: Float32Array, file: string) => {
    const theirs = await readLogits(file);
    const largest = theirs.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const error = ours.reduce((most, x, i) => Math.max(most, Math.abs(x - theirs[i]!)), 0) / largest;
    const plain = await logits(runtime, bound);
    const effect = plain.reduce((most, x, i) => Math.max(most, Math.abs(x - theirs[i]!)), 0) / largest;
    worst = Math.max(worst, error);
    console.log(`${name}: ${error.toExponential(1)} apart; without the delta ${effect.toExponential(1)}`);
    if (!(effect > 100 * bar)) throw new Error(`${name} has no effect that could be compared`);
  };
  const jobs: { adapter: string; output: string; make?: string }[] = [];
  const judged: (() => Promise<void>)[] = [];
  for (const [name, specs] of Object.entries(written)) {
    const delta = attachDelta(config, specs);
    const values = await initialValues(delta, { seed: 3, base: async (key) => base.get(key)! });
    for (const [key, data] of values) disturb(key, data);
    const adapter = join(folder, `ours ${name}`);
    await saveDelta(adapter, { delta, values }, { baseSha256: sha256 });
    const output = `${adapter}.safetensors`;
    jobs.push({ adapter, output });
    judged.push(async () => judge(`written here: ${name}`, await logits(runtime, bound, { delta, values }), output));
  }
  for (const make of made) {
    const adapter = join(folder, `theirs ${make}`);
    const output = `${adapter}.safetensors`;
    jobs.push({ adapter, output, make });
    judged.push(async () => {
      await judge(`written by PEFT: ${make}`, await logits(runtime, bound, await openDelta(adapter, config)), output);
    });
  }
  const order = join(folder, "jobs.json");
  writeFileSync(order, JSON.stringify({ base: exported, ids, jobs }));
  const script = fileURLToPath(new URL("./peers/cpm_ant_peft.py", import.meta.url));
  const printed = execFileSync(options.python, [script, order], { encoding: "utf8" });
  const about = JSON.parse(printed.trim().split("\n").at(-1)!);
  if ("missing" in about) throw new Error(`${about.missing} is not installed for ${options.python}`);
  console.log(`PEFT ${about.peft}, PyTorch ${about.torch}, Transformers ${about.transformers}`);
  for (const run of judged) await run();
  console.log(`worst ${worst.toExponential(1)}, bar ${bar}`);
  if (!(worst <= bar)) process.exitCode = 1;
}

/** Away from where training begins: there factors are zero. */
function disturb(name: string, data: Float32Array): void {
  const noise = new Float32Array(data.length);
  fillNormal(noise, 2, name, 0, 0.1);
  data.forEach((x, i) => {
    data[i] = x + noise[i]!;
  });
}

/** Scores after each token of a text that is all context, as Hugging Face runs it: [T, V]. */
async function logits(
  runtime: Runtime,
  base: ReadonlyMap<string, DeviceTensor>,
  tuned?: DeltaWithValues,
): Promise<Float32Array> {
  const P = config.promptLength;
  const columns = P + ids.length;
  const batch = createBatch(1, columns);
  batch.input.set([...Array.from({ length: P }, (_, i) => 2 * P + i), ...ids]);
  batch.length[0] = columns;
  batch.context.fill(1);
  batch.segment.fill(2, P);
  const own = (tuned?.delta.parameters ?? []).map(({ name, shape }) => {
    return [name, runtime.upload(tuned!.values.get(name)!, "float32", shape)] as const;
  });
  const settings = { rows: 1, columns, recompute: "none", grafts: tuned?.delta.grafts } as const;
  const step = await createTrainingStep(runtime, config, { tensors: new Map([...base, ...own]) }, undefined, settings);
  const outputs = await step.outputs(batch);
  const all = (outputs.logits.view() as Float32Array).slice(P * config.vocabSize);
  for (const thing of [outputs.hidden, outputs.logits, step, ...own.map(([, tensor]) => tensor)]) thing.dispose();
  return all;
}

async function readLogits(file: string): Promise<Float32Array> {
  const opened = await openSafetensors(file);
  try {
    return (await opened.tensors.get("logits")!.read()) as Float32Array;
  } finally {
    await opened.close();
  }
}
