/**
 * Our side of bench/lora.ts: one LoRA training step for each line on standard input.
 *
 *     node bench/lora-worker.ts BASE ADAPTER BATCH.json THREADS RECOMPUTE PRODUCTS
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { openDelta, parameterReader } from "../src/delta/index.ts";
import { loadWeights } from "../src/infer/index.ts";
import { checkBatch } from "../src/model/batch.ts";
import { parameterElements } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { arenaLayout, createAdamW, createArena, tunedDelta } from "../src/train/index.ts";
import { type LoraBatch, learningRate, loraBatch } from "./lora-fixture.ts";

const [base, adapter, batchFile, threads, recompute, products] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  "none" | "block",
  "float32" | "int8",
];
const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
/** The largest resident size of this process; `maxRSS` may be that of its parent. */
const peakBytes = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;

const importedBytes = peakBytes();
const runtime = createNativeRuntime({ threads: Number(threads), spin: false });
await using checkpoint = await openCheckpoint(base);
const { config } = checkpoint;
const { tensors } = await loadWeights(runtime, checkpoint);
const { delta, values } = await openDelta(adapter, config);
const trainee = await tunedDelta(runtime, {
  delta,
  base: tensors,
  readBase: parameterReader(runtime, config, tensors),
  baseSha256: "",
  seed: 1,
  products,
});
const batch = loraBatch(config, JSON.parse(readFileSync(batchFile, "utf8")) as LoraBatch);
checkBatch(batch, config);
const layout = arenaLayout(trainee.parameters);
const trained = trainee.parameters.reduce((sum, parameter) => sum + parameterElements(parameter), 0);
const arena = () => createArena(runtime, layout);
const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
for (const [name, tensor] of parameters.tensors) runtime.write(tensor, values.get(name)!);
const step = await trainee.createStep(parameters, gradients, {
  rows: batch.rows,
  columns: batch.columns,
  packed: true,
  recompute,
});
const optimizer = await createAdamW(runtime, parameters, gradients, moments);

say({ ready: true, runtime: runtime.info.version, importedBytes, readyBytes: peakBytes(), trained });
for await (const _ of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const processor = process.cpuUsage();
  const loss = await step.lossAndGradients(batch);
  await optimizer.update(learningRate, await optimizer.gradientNorm());
  const { user, system } = process.cpuUsage(processor);
  say({ ms: performance.now() - began, processorMs: (user + system) / 1000, loss, peakBytes: peakBytes() });
}
process.exit(0);
