/**
 * What a call costs and what a GEMM reaches: `node bench/runtime.ts [--threads 2] [--json]`.
 *
 * - call: µs of one run of a one-node program over 8 floats, through `Binding.runSync`, `Binding.run` and, for comparison, the
 *   npm binding's `InferenceSession.run`;
 * - gemm: GFLOP/s of a 1024³ fp32 product (2·1024³ operations), weights as an input and as a constant.
 *
 * Each figure is the best of several rounds, which is the least disturbed one.
 */
import { parseArgs } from "node:util";
import { createNativeRuntime, type ProgramSource } from "../src/runtime/index.ts";
import { port, tinyProgram } from "../test/support/tiny-onnx.ts";

const { values: args } = parseArgs({ options: { threads: { type: "string" }, json: { type: "boolean" } } });
using runtime = createNativeRuntime(args.threads === undefined ? {} : { threads: Number(args.threads) });

/** Milliseconds of one call: the best of `rounds` rounds of `calls`. */
async function bestMs(rounds: number, calls: number, call: () => unknown): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) {
      const pending = call();
      if (pending instanceof Promise) await pending;
    }
    if (round > 0) best = Math.min(best, (performance.now() - start) / calls); // the first round warms up
  }
  return best;
}

async function calls(): Promise<Record<string, number>> {
  const source = tinyProgram({
    name: "negate",
    inputs: [port("x", "float32", [8])],
    outputs: [port("y", "float32", [8])],
    nodes: [{ op: "Neg", inputs: ["x"], outputs: ["y"] }],
  });
  using program = await runtime.compile(source);
  using x = runtime.allocate("float32", [8]);
  using y = runtime.allocate("float32", [8]);
  const binding = program.bind({ x }, { y });
  const sync = await bestMs(10, 20_000, () => binding.runSync());
  const async = await bestMs(10, 2_000, () => binding.run());
  return { runSync: sync * 1000, run: async * 1000, npmBinding: (await npmBindingMs(source)) * 1000 };
}

async function npmBindingMs(source: ProgramSource): Promise<number> {
  const { InferenceSession, Tensor } = await import("onnxruntime-node");
  const session = await InferenceSession.create(source.onnx({ target: "cpu" }), {
    intraOpNumThreads: runtime.info.threads,
  });
  const x = new Tensor("float32", new Float32Array(8), [8]);
  const milliseconds = await bestMs(10, 2_000, () => session.run({ x }));
  await session.release();
  return milliseconds;
}

async function gemm(): Promise<Record<string, number>> {
  const size = 1024;
  const source = tinyProgram({
    name: "gemm",
    inputs: [port("a", "float32", [size, size]), port("b", "float32", [size, size])],
    outputs: [port("c", "float32", [size, size])],
    nodes: [{ op: "MatMul", inputs: ["a", "b"], outputs: ["c"] }],
  });
  const numbers = () => Float32Array.from({ length: size * size }, (_, i) => ((i * 7) % 13) / 13);
  using a = runtime.upload(numbers(), "float32", [size, size]);
  using b = runtime.upload(numbers(), "float32", [size, size]);
  using c = runtime.allocate("float32", [size, size]);
  using asInput = await runtime.compile(source);
  using asConstant = await runtime.compile(source, { constants: { b } });
  const free = asInput.bind({ a, b }, { c });
  const packed = asConstant.bind({ a }, { c });
  const rate = (milliseconds: number) => (2 * size ** 3) / milliseconds / 1e6;
  return {
    input: rate(await bestMs(20, 5, () => free.runSync())),
    constant: rate(await bestMs(20, 5, () => packed.runSync())),
  };
}

const result = {
  threads: runtime.info.threads,
  version: runtime.info.version,
  callUs: await calls(),
  gemmGflops: await gemm(),
};
if (args.json) {
  console.log(JSON.stringify(result));
} else {
  const { callUs, gemmGflops } = result;
  console.log(`ONNX Runtime ${result.version}, ${result.threads} threads`);
  console.log(`one call         runSync ${callUs.runSync!.toFixed(2)} µs, run ${callUs.run!.toFixed(1)} µs`);
  console.log(`  npm binding    ${callUs.npmBinding!.toFixed(1)} µs`);
  console.log(`GEMM 1024³ fp32  weights as input ${gemmGflops.input!.toFixed(0)} GFLOP/s`);
  console.log(`                 weights as constant ${gemmGflops.constant!.toFixed(0)} GFLOP/s`);
}
