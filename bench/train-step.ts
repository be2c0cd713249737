/**
 * The training step of the `mini` preset beside a plain product of the same runtime in the same process.
 *
 *     node bench/train-step.ts [--steps 10] [--threads 2] [--rows 4] [--columns 256] [--recompute none]
 *     node bench/train-step.ts --packed                            (beside it the step of packed rows)
 *     node bench/train-step.ts --layers 3 --dim 768 --ff 2048      (27.7 M parameters, wider and shallower)
 *
 * Prints the share of the product's rate that the model's FLOPs reach over the whole step (forward, backward, update)
 * and the optimizer's share of the step. Rounds of steps and products alternate; medians.
 */
import { parseArgs } from "node:util";
import { matmul, spec, trace } from "../src/graph/index.ts";
import { countTargets } from "../src/model/batch.ts";
import { trainingFlops } from "../src/model/flops.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { machine, median } from "./report.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "10" },
    threads: { type: "string", default: "2" },
    rows: { type: "string", default: "4" },
    columns: { type: "string", default: "256" },
    preset: { type: "string", default: "mini" },
    recompute: { type: "string", default: "none" },
    packed: { type: "boolean", default: false },
    layers: { type: "string" },
    dim: { type: "string" },
    ff: { type: "string" },
  },
});
const [rows, columns] = [Number(values.rows), Number(values.columns)];
const runtime = createNativeRuntime({ threads: Number(values.threads), spin: false });
const base = benchConfig(values.preset);
const dimModel = Number(values.dim ?? base.dimModel);
const config = benchConfig(values.preset, {
  layers: Number(values.layers ?? base.layers),
  dimModel,
  heads: values.dim === undefined ? base.heads : dimModel / base.dimHead,
  dimFf: Number(values.ff ?? base.dimFf),
});
const batch = benchBatch(config, rows, columns);
const recompute = values.recompute as "none" | "block" | "all";
const training = await benchStep(runtime, config, batch, recompute);
const prompt = Uint8Array.from(batch.input, (_, i) => Number(i % columns < config.promptLength));
const packed = values.packed ? await benchStep(runtime, config, { ...batch, prompt }, recompute) : undefined;

const size = 1024;
const square = spec("float32", [size, size]);
const product = await runtime.compile(trace("product", ({ a, b }) => ({ y: matmul(a, b) }), { a: square, b: square }));
const [a, b, y] = [0, 1, 2].map(() => runtime.allocate("float32", [size, size])) as [
  DeviceTensor,
  DeviceTensor,
  DeviceTensor,
];
for (const tensor of [a, b]) fillNormal(tensor.view() as Float32Array, 2, "product");
const productBinding = product.bind({ a, b }, { y });

const [steps, updates, products]: number[][] = [[], [], []] as never;
const packedRatios: number[] = [];
for (let round = -2; round < Number(values.steps); round++) {
  const start = performance.now();
  const { updateMs } = await training.update();
  const end = performance.now();
  if (packed) {
    const packedStart = performance.now();
    await packed.update();
    if (round >= 0) packedRatios.push((performance.now() - packedStart) / (end - start));
  }
  productBinding.runSync();
  const productStart = performance.now();
  for (let i = 0; i < 5; i++) productBinding.runSync();
  const productMs = (performance.now() - productStart) / 5;
  if (round < 0) continue;
  steps!.push(end - start);
  updates!.push(updateMs);
  products!.push(productMs);
}

const flops = trainingFlops(config, { rows, columns, headPositions: countTargets(batch) });
const [stepMs, optimizerMs, productMs] = [median(steps!), median(updates!), median(products!)];
const stepRate = flops / stepMs / 1e6;
const productRate = (2 * size ** 3) / productMs / 1e6;
console.log(machine(runtime.info));
console.log(
  `${values.preset}, ${config.layers} × ${config.dimModel}: ${(parameterCount(config) / 1e6).toFixed(1)} M parameters, ${rows} × ${columns} tokens`,
);
console.log(
  `step ${stepMs.toFixed(0)} ms, ${(((rows * columns) / stepMs) * 1000).toFixed(0)} tokens/s, ${stepRate.toFixed(1)} GFLOP/s`,
);
console.log(`product 1024³ ${productRate.toFixed(1)} GFLOP/s`);
const ratios = steps!.map((ms, i) => flops / ms / ((2 * size ** 3) / products![i]!));
console.log(
  `share of the product's rate ${(stepRate / productRate).toFixed(3)} (median of pairs ${median(ratios).toFixed(3)}, bar 0.80)`,
);
console.log(`optimizer's share of the step ${((100 * optimizerMs) / stepMs).toFixed(1)} % (bar 8 %)`);
if (packed)
  console.log(`step of packed rows ${median(packedRatios).toFixed(3)} × that of plain ones (median of pairs)`);
runtime.dispose();
