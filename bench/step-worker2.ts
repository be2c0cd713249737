/**
 * Our side of bench/pytorch.ts: one training step for each line on standard input, in a process of its own so that its
 * memory can be compared.
 *
 *     node bench/step-worker.ts SHAPE ROWS COLUMNS THREADS [RECOMPUTE]
 */
import { createInterface } from "node:readline";
import { countTargets } from "../src/model/batch.ts";
import { trainingFlops } from "../src/model/flops.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const [shape, rows, columns, threads, recompute = "none"] = process.argv.slice(2) as string[];
const config = benchConfig(shape!);
const batch = benchBatch(config, Number(rows), Number(columns));
const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
const peakBytes = () => process.resourceUsage().maxRSS * 1024;

const importedBytes = peakBytes();
const runtime = createNativeRuntime({ threads: Number(threads), spin: false });
const { update } = await benchStep(runtime, config, batch, recompute as "none" | "block");
const flops = trainingFlops(config, {
  rows: batch.rows,
  columns: batch.columns,
  headPositions: countTargets(batch),
});
say({ runtime: runtime.info.version, parameters: parameterCount(config), flops, importedBytes });
for await (const _ of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const { loss, gradientNorm } = await update();
  say({ ms: performance.now() - began, loss, gradientNorm, peakBytes: peakBytes() });
}
runtime.dispose();
