/**
 * Decoding one row, token by token: how much of a step passes outside of the runtime.
 *
 *     node bench/decode.ts [--layers 12] [--dim 512] [--tokens 200] [--threads 2] [--weights packed]
 *
 * A small random model; greedy choice from the logits included. The time inside of `run` is taken around every call of a
 * binding, everything else (positions, biases, choosing, JavaScript) is overhead.
 */
import { parseArgs } from "node:util";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { argmax } from "../src/infer/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterCount, parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { type Binding, createNativeRuntime, type Program, type Runtime } from "../src/runtime/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    layers: { type: "string", default: "12" },
    dim: { type: "string", default: "512" },
    tokens: { type: "string", default: "200" },
    threads: { type: "string", default: "2" },
    weights: { type: "string", default: "packed" },
  },
});
const dim = Number(values.dim);
const config: ModelConfig = {
  ...preset("mini"),
  layers: Number(values.layers),
  dimModel: dim,
  dimFf: Math.round((dim * 2.75) / 64) * 64,
  heads: dim / 64,
  dimHead: 64,
};

const runtime = createNativeRuntime({ threads: Number(values.threads) });
let insideMs = 0;
function timed(binding: Binding): Binding {
  return {
    async run() {
      const start = performance.now();
      await binding.run();
      insideMs += performance.now() - start;
    },
    runSync() {
      const start = performance.now();
      binding.runSync();
      insideMs += performance.now() - start;
    },
    dispose: () => binding.dispose(),
  };
}
/** The runtime with a clock around every run of a binding. */
const watched: Runtime = Object.create(runtime, {
  info: { value: runtime.info },
  allocate: { value: runtime.allocate.bind(runtime) },
  upload: { value: runtime.upload.bind(runtime) },
  write: { value: runtime.write.bind(runtime) },
  download: { value: runtime.download.bind(runtime) },
  compile: {
    value: async (...args: Parameters<Runtime["compile"]>): Promise<Program> => {
      const program = await runtime.compile(...args);
      return Object.create(program, {
        inputs: { value: program.inputs },
        outputs: { value: program.outputs },
        run: { value: program.run.bind(program) },
        dispose: { value: program.dispose.bind(program) },
        bind: { value: (...ports: Parameters<Program["bind"]>) => timed(program.bind(...ports)) },
      });
    },
  },
});

const parameters = new Map(
  parameterTable(config).map(({ name, shape, kind }) => {
    const tensor = runtime.allocate("float32", shape);
    const view = tensor.view() as Float32Array;
    if (kind === "norm") view.fill(1);
    else fillNormal(view, 1, name, 0, kind === "embedding" ? 0.02 : 1);
    return [name, tensor];
  }),
);
const compileStart = performance.now();
const session = await createCpmAntSession(watched, config, parameters, {
  capacityTokens: 64 + Number(values.tokens),
  weights: values.weights as "packed" | "shared",
});
const compileMs = performance.now() - compileStart;
let logits = await session.prefill([Array.from({ length: 32 }, (_, i) => 100 + i)]);
const steps: number[] = [];
const overheads: number[] = [];
for (let step = 0; step < Number(values.tokens); step++) {
  insideMs = 0;
  const start = performance.now();
  logits = await session.step(Int32Array.of(argmax(logits)));
  const ms = performance.now() - start;
  if (step < 10) continue;
  steps.push(ms);
  overheads.push(ms - insideMs);
}
const weightBytes = 4 * (parameterCount(config) - config.promptTypes * config.promptLength * dim);
console.log(machine(runtime.info));
console.log(
  `${config.layers} layers × ${dim}, ${(parameterCount(config) / 1e6).toFixed(1)} M parameters, ${values.weights} weights, compiled in ${compileMs.toFixed(0)} ms`,
);
console.log(
  `step ${median(steps).toFixed(2)} ms, ${(1000 / median(steps)).toFixed(0)} tokens/s, ${(weightBytes / median(steps) / 1e6).toFixed(1)} GB/s of weights`,
);
console.log(
  `outside of run ${(1000 * median(overheads)).toFixed(0)} µs, ${((100 * median(overheads)) / median(steps)).toFixed(1)} % of the step (bar 10 %)`,
);
session.dispose();
runtime.dispose();
