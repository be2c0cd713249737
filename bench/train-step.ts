/**
 * The training step of the `mini` preset beside a plain product of the same runtime in the same process.
 *
 *     node bench/train-step.ts [--steps 10] [--threads 2] [--rows 4] [--columns 256] [--recompute none]
 *     node bench/train-step.ts --layers 3 --dim 768 --ff 2048      (27.7 M parameters, wider and shallower)
 *
 * Prints the share of the product's rate that the model's FLOPs reach over the whole step (forward, backward, update)
 * and the optimizer's share of the step. Rounds of steps and products alternate; medians.
 */
import { parseArgs } from "node:util";
import { matmul, spec, trace } from "../src/graph/index.ts";
import { countTargets, createBatch } from "../src/model/batch.ts";
import { trainingFlops } from "../src/model/flops.ts";
import { parameterCount, parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { createAdamW } from "../src/train/adamw.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "10" },
    threads: { type: "string", default: "2" },
    rows: { type: "string", default: "4" },
    columns: { type: "string", default: "256" },
    preset: { type: "string", default: "mini" },
    recompute: { type: "string", default: "none" },
    layers: { type: "string" },
    dim: { type: "string" },
    ff: { type: "string" },
  },
});
const [rows, columns] = [Number(values.rows), Number(values.columns)];
const runtime = createNativeRuntime({ threads: Number(values.threads), spin: false });
const base = preset(values.preset);
const config = {
  ...base,
  layers: Number(values.layers ?? base.layers),
  dimModel: Number(values.dim ?? base.dimModel),
  heads: Number(values.dim ?? base.dimModel) / base.dimHead,
  dimFf: Number(values.ff ?? base.dimFf),
};

const layout = arenaLayout(parameterTable(config));
const arena = () => createArena(runtime, layout);
const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
for (const { name, kind } of layout.parameters) {
  const view = parameters.tensors.get(name)!.view() as Float32Array;
  if (kind === "norm") view.fill(1);
  else fillNormal(view, 1, name, 0, kind === "embedding" ? 0.02 : 1);
}
const recompute = values.recompute as "none" | "block" | "all";
const step = await createTrainingStep(runtime, config, parameters, gradients, { rows, columns, recompute });
const optimizer = await createAdamW(runtime, parameters, gradients, moments);

const random = createRandom(1, "batch");
const batch = createBatch(rows, columns);
batch.length.fill(columns);
for (let i = 0; i < rows * columns; i++) {
  const column = i % columns;
  const isPrompt = column < config.promptLength;
  batch.input[i] = isPrompt ? config.promptLength * 2 + column : random.integer(config.vocabSize);
  batch.segment[i] = isPrompt ? 0 : 2;
  batch.context[i] = Number(column < columns / 2);
  if (column >= columns / 2 - 1 && column < columns - 1) batch.target[i] = random.integer(config.vocabSize);
}

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
for (let round = -2; round < Number(values.steps); round++) {
  const start = performance.now();
  await step.lossAndGradients(batch);
  const backwardEnd = performance.now();
  await optimizer.update(1e-4, await optimizer.gradientNorm());
  const end = performance.now();
  productBinding.runSync();
  const productStart = performance.now();
  for (let i = 0; i < 5; i++) productBinding.runSync();
  const productMs = (performance.now() - productStart) / 5;
  if (round < 0) continue;
  steps!.push(end - start);
  updates!.push(end - backwardEnd);
  products!.push(productMs);
}

const flops = trainingFlops(config, { rows, columns, headPositions: countTargets(batch) });
const [stepMs, updateMs, productMs] = [median(steps!), median(updates!), median(products!)];
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
console.log(`optimizer's share of the step ${((100 * updateMs) / stepMs).toFixed(1)} % (bar 8 %)`);
runtime.dispose();
