/** One matrix product on a runtime, compared with plain TypeScript and timed: the smoke run of `cpm doctor`, and the rate that MFU is a share of. */
import { trace } from "../graph/graph.ts";
import { matmul } from "../graph/operators/product.ts";
import { spec } from "../graph/tensor.ts";
import type { Runtime } from "../runtime/runtime.ts";

export interface ProductReport {
  /** Rows and columns of both matrices. */
  readonly size: number;
  /** The largest difference to the same product in float64, relative to the largest of the elements compared. */
  readonly relativeError: number;
  readonly gflops: number;
}

/** Takes some milliseconds and runs near the library's best rate. */
const productSize = 1024;
const timedRuns = 5;
const probes = 16;

/** C_NN = A_NN · B_NN in fp32: compared in a few elements, timed as the best of a few runs. */
export async function multiplyMatrices(runtime: Runtime): Promise<ProductReport> {
  const n = productSize;
  const source = trace("doctor.product", ({ a, b }) => ({ c: matmul(a, b) }), {
    a: spec("float32", [n, n]),
    b: spec("float32", [n, n]),
  });
  using program = await runtime.compile(source);
  // Exact in fp32 and without a pattern that a wrong stride would keep.
  const a_NN = Float32Array.from({ length: n * n }, (_, i) => ((i * 7919) % 257) / 256 - 0.5);
  const b_NN = Float32Array.from({ length: n * n }, (_, i) => ((i * 104_729) % 263) / 256 - 0.5);
  using a = runtime.upload(a_NN, "float32", [n, n]);
  using b = runtime.upload(b_NN, "float32", [n, n]);
  using c = runtime.allocate("float32", [n, n]);
  let bestMs = Number.POSITIVE_INFINITY;
  for (let run = 0; run <= timedRuns; run++) {
    const startedMs = performance.now();
    await program.run({ a, b }, { c });
    if (run > 0) bestMs = Math.min(bestMs, performance.now() - startedMs);
  }
  const c_NN = await runtime.download(c);
  let difference = 0;
  let largest = 0;
  for (let probe = 0; probe < probes; probe++) {
    const row = (probe * 389) % n;
    const column = (probe * 727 + 11) % n;
    let expected = 0;
    for (let k = 0; k < n; k++) expected += a_NN[row * n + k]! * b_NN[k * n + column]!;
    difference = Math.max(difference, Math.abs(Number(c_NN[row * n + column]) - expected));
    largest = Math.max(largest, Math.abs(expected));
  }
  return { size: n, relativeError: difference / largest, gflops: (2 * n ** 3) / bestMs / 1e6 };
}
