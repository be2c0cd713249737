/**
 * Our side of bench/tune-step.ts: a LoRA step for each line on standard input, in a process of its own so that its memory
 * can be compared.
 *
 *     node bench/tune-step-worker.ts SHAPE ROWS COLUMNS THREADS BITS
 */
import { createInterface } from "node:readline";
import { roundToNearest } from "../src/compress/round-to-nearest.ts";
import { attachDelta, initialValues } from "../src/delta/index.ts";
import { names, parameterCount, parameterElements, parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { adamWDefaults, arenaLayout, createAdamW, createArena, createTrainingStep } from "../src/train/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { benchBatch, benchConfig } from "./step-fixture.ts";

const [shape, ...numbers] = process.argv.slice(2) as [string, ...string[]];
const [rows, columns, threads, bits] = numbers.map(Number) as [number, number, number, number];
const config = benchConfig(shape);
const batch = benchBatch(config, rows, columns);
const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
const peakBytes = () => process.resourceUsage().maxRSS * 1024;

const importedBytes = peakBytes();
const runtime = createNativeRuntime({ threads, spin: false });
const groupSize = 128;
const tensors = new Map<string, DeviceTensor>();
for (const parameter of parameterTable(config)) {
  const { name, shape: size, kind } = parameter;
  const tensor = runtime.allocate("float32", size);
  const values = tensor.view() as Float32Array;
  if (kind === "norm") values.fill(1);
  else fillNormal(values, 1, name, 0, kind === "embedding" ? 0.02 : 1);
  if (bits === 32 || (kind !== "linear" && name !== names.token)) {
    tensors.set(name, tensor);
    continue;
  }
  const [N, K] = size as [number, number];
  const { values: packed } = roundToNearest(values, [N, K], { bits: bits as 4 | 8, groupSize, symmetric: true });
  tensors.set(`${name}.packed`, runtime.upload(packed.packed, "uint8", [N, K / groupSize, (groupSize * bits) / 8]));
  tensors.set(`${name}.scales`, runtime.upload(packed.scales, "float32", [N, K / groupSize]));
  tensor.dispose();
}
const delta = attachDelta(config, [{ method: "lora", rank: 8, alpha: 16 }]);
const layout = arenaLayout(delta.parameters);
const arena = () => createArena(runtime, layout);
const [values, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
const initial = await initialValues(delta, { seed: 1, base: async () => new Float32Array(0) });
for (const [name, tensor] of values.tensors) runtime.write(tensor, initial.get(name)!);
const all = { tensors: new Map([...tensors, ...values.tensors]) };
const settings = { rows, columns, recompute: "none", grafts: delta.grafts } as const;
const step = await createTrainingStep(runtime, config, all, gradients, settings);
const optimizer = await createAdamW(runtime, values, gradients, moments, adamWDefaults);
const trained = delta.parameters.reduce((sum, parameter) => sum + parameterElements(parameter), 0);
say({ runtime: runtime.info.version, parameters: parameterCount(config), trained, importedBytes });
for await (const _ of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const loss = await step.lossAndGradients(batch);
  const gradientNorm = await optimizer.gradientNorm();
  await optimizer.update(1e-3, gradientNorm);
  say({ ms: performance.now() - began, loss, gradientNorm, peakBytes: peakBytes() });
}
runtime.dispose();
