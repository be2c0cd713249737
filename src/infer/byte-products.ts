/**
 * Whether a runtime's products of 8-bit whole numbers are exact.
 *
 * Processors without instructions for sums of 8-bit products (VNNI and later) add pairs of them in 16 bits, which the largest
 * numbers overflow; other devices have no such kernel. Whether a kernel does is asked of it, once a runtime.
 */
import { dim, type SignedWeight, signedMatmul, spec, type Tensor, trace } from "../graph/index.ts";
import type { Runtime } from "../runtime/runtime.ts";

const known = new WeakMap<Runtime, Promise<boolean>>();

export function hasExactByteProducts(runtime: Runtime): Promise<boolean> {
  let answer = known.get(runtime);
  if (!answer) {
    answer = runtime.info.device === "cpu" ? multiplyLargest(runtime) : Promise.resolve(false);
    known.set(runtime, answer);
  }
  return answer;
}

/** Sums of the largest numbers there are, both operands' signs alike. */
async function multiplyLargest(runtime: Runtime): Promise<boolean> {
  const [M, N, K] = [8, 16, 64];
  const graph = trace(
    "largest bytes",
    ({ x, ...weight }: { readonly x: Tensor } & SignedWeight) => ({ y: signedMatmul(x, weight) }),
    { x: spec("float32", [dim("M"), K]), signed: spec("int8", [N, K]), channel: spec("float32", [N]) },
  );
  using program = await runtime.compile(graph);
  using x = runtime.upload(new Float32Array(M * K).fill(1), "float32", [M, K]);
  using signed = runtime.upload(new Int8Array(N * K).fill(127), "int8", [N, K]);
  using channel = runtime.upload(new Float32Array(N).fill(1 / 127), "float32", [N]);
  const { y } = await program.run({ x, signed, channel });
  const sums = (await runtime.download(y!)) as Float32Array;
  y!.dispose();
  return sums.every((sum) => Math.abs(sum / K - 1) < 1e-3);
}
