/**
 * The memory that `cpm plan` predicts beside what a process takes: a few steps of each shape in a process of its own.
 *
 *     node bench/memory.ts [--only mini]
 *
 * Predicted is the plan's total; measured the growth of the largest resident size (VmHWM) from before the runtime is
 * opened to after four updates. A case with a method and a precision tunes a delta on a base that is mapped from a file and
 * read whole once, as `cpm tune` does. Every row must agree within 15 %.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openCheckpoint, saveCheckpoint } from "../src/checkpoint/index.ts";
import { quantizeCheckpoint } from "../src/compress/index.ts";
import { attachDelta, baseHash, initialValues, parameterReader } from "../src/delta/index.ts";
import { loadWeights } from "../src/infer/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterElements, parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { arenaLayout, createAdamW, createArena, tunedDelta } from "../src/train/index.ts";
import { planMemory } from "../src/train/memory-plan.ts";
import { fillNormal } from "../src/util/random.ts";
import { machine } from "./report.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const { values, positionals } = parseArgs({
  options: { only: { type: "string", default: "" } },
  allowPositionals: true,
});
const cases = [
  "tiny 8 128 none",
  "tiny 8 128 block",
  "5m 1 512 none",
  "25m 1 512 none",
  "mini 4 256 none",
  "mini 4 256 block",
  "mini 8 512 none",
  "mini 8 512 block",
  "100m 1 512 none",
  "100m 2 512 block",
  "5m 1 256 none lora int4",
  "25m 2 256 none lora float32",
  "25m 2 256 none lora int8",
  "25m 4 256 none houlsby int4",
  "100m 1 512 none lora int8",
] as const;

type Recompute = "none" | "block";
type Precision = "float32" | "int8" | "int4";

/** The process's largest resident size so far. */
function peakResidentBytes(): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}

interface Case {
  readonly config: ModelConfig;
  readonly rows: number;
  readonly columns: number;
  readonly recompute: Recompute;
  /** Of tuning. */
  readonly method?: string | undefined;
  readonly precision: Precision;
}

function caseOf([shape, rows, columns, recompute, method, precision = "float32"]: readonly string[]): Case {
  return {
    config: benchConfig(shape!),
    rows: Number(rows),
    columns: Number(columns),
    recompute: recompute as Recompute,
    method,
    precision: precision as Precision,
  };
}

/** A method at every linear layer where it can be. */
function deltaOf({ config, method }: Case) {
  return attachDelta(config, [method === "lora" ? { method, rank: 8, places: ["attn", "ffn"] } : { method: method! }]);
}

async function writeBase(folder: string, { config, precision }: Case): Promise<void> {
  const tensors = parameterTable(config).map((parameter) => ({
    ...{ name: parameter.name, dtype: "float32" as const, shape: parameter.shape },
    read: () => {
      const weights = new Float32Array(parameterElements(parameter));
      if (parameter.kind === "norm") weights.fill(1);
      else fillNormal(weights, 1, parameter.name, 0, parameter.kind === "embedding" ? 0.02 : 1);
      return weights;
    },
  }));
  const plain = precision === "float32" ? folder : `${folder}-plain`;
  await saveCheckpoint(plain, config, tensors);
  if (precision === "float32") return;
  await using checkpoint = await openCheckpoint(plain);
  const options = { bits: precision === "int8" ? 8 : 4, group: 128, symmetric: true, embedding: true } as const;
  await saveCheckpoint(folder, config, quantizeCheckpoint(checkpoint, options));
}

async function measure(one: Case, folder: string | undefined): Promise<void> {
  const { config, rows, columns, recompute } = one;
  const delta = one.method === undefined ? undefined : deltaOf(one);
  const batch = benchBatch(delta?.grafts.config ?? config, rows, columns);
  const before = peakResidentBytes();
  const runtime = createNativeRuntime({ threads: 2, spin: false });
  let update: () => Promise<unknown>;
  if (delta === undefined) ({ update } = await benchStep(runtime, config, batch, recompute));
  else {
    await using checkpoint = await openCheckpoint(folder!);
    const { tensors } = await loadWeights(runtime, checkpoint);
    const read = parameterReader(runtime, config, tensors);
    const baseSha256 = await baseHash(config, read);
    const trainee = await tunedDelta(runtime, { delta, base: tensors, readBase: read, baseSha256, seed: 1 });
    const layout = arenaLayout(trainee.parameters);
    const arena = () => createArena(runtime, layout);
    const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
    const initial = await initialValues(delta, { seed: 1, base: read });
    for (const [name, tensor] of parameters.tensors) runtime.write(tensor, initial.get(name)!);
    const step = await trainee.createStep(parameters, gradients, { rows, columns, recompute });
    const optimizer = await createAdamW(runtime, parameters, gradients, moments);
    update = async () => {
      await step.lossAndGradients(batch);
      await optimizer.update(1e-4, await optimizer.gradientNorm());
    };
  }
  for (let i = 0; i < 4; i++) await update();
  console.log(JSON.stringify({ peak: peakResidentBytes() - before, tensors: runtime.memory().tensorBytes }));
  process.exit(0);
}

/** The tensors that loading a base gives. */
async function baseSpecs(folder: string) {
  await using checkpoint = await openCheckpoint(folder);
  using runtime = createNativeRuntime({ threads: 1 });
  const { tensors } = await loadWeights(runtime, checkpoint);
  return new Map([...tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }]));
}

if (positionals.length > 0) {
  const folder = positionals[6];
  await measure(caseOf(positionals), folder);
}
console.log(machine());
for (const name of cases.filter((each) => each.includes(values.only))) {
  const words = name.split(" ");
  const one = caseOf(words);
  const { config, rows, columns, recompute, method } = one;
  const folder = method === undefined ? undefined : join(mkdtempSync(join(tmpdir(), "cpm-memory-")), "base");
  if (folder !== undefined) await writeBase(folder, one);
  const tuned = folder === undefined ? undefined : { delta: deltaOf(one), base: await baseSpecs(folder) };
  const plan = await planMemory(config, { rows, columns, recompute, targets: (rows * columns) / 2, tuned });
  const child = spawnSync(
    process.execPath,
    [fileURLToPath(import.meta.url), ...words, ...(folder === undefined ? [] : [folder])],
    {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  if (folder !== undefined) rmSync(join(folder, ".."), { recursive: true });
  const { peak, tensors } = JSON.parse(child.stdout) as { peak: number; tensors: number };
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0).padStart(6);
  const off = (100 * (plan.totalBytes - peak)) / peak;
  const exact = Math.abs(plan.tensorBytes - tensors) < 4096 ? "exact" : `${plan.tensorBytes - tensors} B off`;
  console.log(
    `${name.padEnd(28)} predicted ${mib(plan.totalBytes)} MiB, measured ${mib(peak)} MiB, ${off.toFixed(1).padStart(6)} %; tensors ${mib(tensors)} MiB (${exact}), workspace ${mib(plan.bytes.workspace)} MiB`,
  );
}
