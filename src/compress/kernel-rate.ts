/** How many bytes of weights a second this machine's kernels take in when one row is multiplied: what decoding is bound by. */
import { matmul, quantizedMatmul, quantizedShapes, spec, trace } from "../graph/index.ts";
import type { DType } from "../runtime/dtype.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type InferencePrecision, inferencePrecisions } from "./inference-plan.ts";

/** More than any cache holds. */
const weightBytes = 192 * 2 ** 20;
const K = 4096;
const groupSize = 128;
const runs = 7;

/** Measured on the runtime's threads, the best of a few runs; takes about a second. */
export async function kernelRates(runtime: Runtime): Promise<Record<InferencePrecision, number>> {
  const rates: Partial<Record<InferencePrecision, number>> = {};
  for (const precision of inferencePrecisions) rates[precision] = await rateOf(runtime, precision);
  return rates as Record<InferencePrecision, number>;
}

async function rateOf(runtime: Runtime, precision: InferencePrecision): Promise<number> {
  const bits = precision === "float32" ? 32 : precision === "int8" ? 8 : 4;
  const N = Math.floor((8 * weightBytes) / bits / K / 64) * 64;
  const format = { bits: bits as 4 | 8, groupSize };
  const shapes = quantizedShapes(N, K, format);
  const isPlain = precision === "float32";
  const source = isPlain
    ? trace("rate", ({ x, w }) => ({ y: matmul(x, w, { transposeB: true }) }), {
        x: spec("float32", [1, K]),
        w: spec("float32", [N, K]),
      })
    : trace("rate", ({ x, w, scales }) => ({ y: quantizedMatmul(x, { packed: w, scales }, format) }), {
        x: spec("float32", [1, K]),
        w: spec("uint8", shapes.packed),
        scales: spec("float32", shapes.scales),
      });
  const filled = (dtype: DType, shape: readonly number[], value: number) => {
    const tensor = runtime.allocate(dtype, shape);
    (tensor.view() as Float32Array | Uint8Array).fill(value);
    return tensor;
  };
  const constants = isPlain
    ? { w: filled("float32", [N, K], 0.01) }
    : { w: filled("uint8", shapes.packed, 0x99), scales: filled("float32", shapes.scales, 0.01) };
  const bytes = Object.values(constants).reduce((sum, { byteLength }) => sum + byteLength, 0);
  try {
    using program = await runtime.compile(source, { constants });
    using x = filled("float32", [1, K], 0.5);
    using y = runtime.allocate("float32", [1, N]);
    const binding = program.bind({ x }, { y });
    let bestMs = Number.POSITIVE_INFINITY;
    for (let run = 0; run <= runs; run++) {
      const startMs = performance.now();
      binding.runSync();
      if (run > 0) bestMs = Math.min(bestMs, performance.now() - startMs);
    }
    binding.dispose();
    return (1000 * bytes) / bestMs;
  } finally {
    for (const tensor of Object.values(constants)) tensor.dispose();
  }
}
