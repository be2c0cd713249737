/**
 * A frozen base of 8 bits as whole numbers, for products that are taken in whole numbers in both directions: y = x·Wᵀ and
 * dx = dy·W with x and dy rounded to 8 bits by row (`graph/operators/rounded-product.ts`).
 *
 * A product can take a weight's scales out of its sums only where a row of W [N, K] has a single one, so the base must have
 * been rounded per channel. The signed numbers stand beside the file's own, which are mapped and then only read for rows of
 * the token table.
 */
import { dim, type SignedWeight, signedMatmul, spec, type Tensor, trace } from "../graph/index.ts";
import { isPacked, type ModelTensors, packedFormat } from "../infer/weight-ports.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterTable } from "../model/parameters.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { ConfigError, UnsupportedError } from "../util/error.ts";
import type { Owner } from "../util/owner.ts";

/**
 * The base's tensors with `NAME.signed` [N, K] int8 and `NAME.channel` [N] float32 for every packed NAME.
 *
 * @throws ConfigError CPM_TUNE_PRODUCTS for a base that is not of 8 bits, symmetric, with one scale a row; UnsupportedError
 * CPM_TUNE_PRODUCTS_INEXACT where the processor's products of 8-bit numbers overflow
 */
export async function withSignedWeights(
  { own }: Owner,
  runtime: Runtime,
  config: ModelConfig,
  base: ModelTensors,
): Promise<Map<string, DeviceTensor>> {
  const table = parameterTable(config).filter(({ name }) => isPacked(base, name));
  if (table.length === 0) refuse("a base of float32 or float16");
  await requireExactSums(runtime);
  const result = new Map(base);
  for (const { name, shape } of table) {
    const [N, K] = shape as [number, number];
    const { bits, groupSize, hasZeros } = packedFormat(base, name, K);
    if (bits !== 8 || hasZeros) refuse(`${name} in ${bits} bits${hasZeros ? ", asymmetric" : ""}`);
    const packed = (await runtime.download(base.get(`${name}.packed`)!)) as Uint8Array;
    const scales = (await runtime.download(base.get(`${name}.scales`)!)) as Float32Array;
    const G = K / groupSize;
    const channel = Float32Array.from({ length: N }, (_, row) => scales[row * G]!);
    if (scales.some((scale, i) => scale !== channel[Math.floor(i / G)])) refuse(`${name} in groups of ${groupSize}`);
    // q − 128 in two's complement is q with its highest bit turned.
    const signed = new Int8Array(packed.length);
    for (let i = 0; i < packed.length; i++) signed[i] = packed[i]! ^ 128;
    result.set(`${name}.signed`, own(runtime.upload(signed, "int8", [N, K])));
    result.set(`${name}.channel`, own(runtime.upload(channel, "float32", [N])));
  }
  return result;
}

function refuse(got: string): never {
  throw new ConfigError(
    "CPM_TUNE_PRODUCTS",
    "products in whole numbers need a base of 8 bits with one scale an output",
    {
      where: "products",
      got,
      expected: "a model from cpm quantize --precision int8 --group channel",
      hint: "Quantise the base per channel, or leave products at float32.",
    },
  );
}

/**
 * Processors without instructions for sums of 8-bit products (VNNI and later) add pairs of them in 16 bits, which the largest
 * numbers overflow. Whether this one does is asked of its kernel.
 */
async function requireExactSums(runtime: Runtime): Promise<void> {
  const [M, N, K] = [8, 16, 64];
  const specs = { x: spec("float32", [dim("M"), K]), signed: spec("int8", [N, K]), channel: spec("float32", [N]) };
  const graph = trace(
    "largest",
    ({ x, ...weight }: { readonly x: Tensor } & SignedWeight) => ({ y: signedMatmul(x, weight) }),
    specs,
  );
  using program = await runtime.compile(graph);
  using x = runtime.upload(new Float32Array(M * K).fill(1), "float32", [M, K]);
  using signed = runtime.upload(new Int8Array(N * K).fill(127), "int8", [N, K]);
  using channel = runtime.upload(new Float32Array(N).fill(1 / 127), "float32", [N]);
  const { y } = await program.run({ x, signed, channel });
  const sums = (await runtime.download(y!)) as Float32Array;
  y!.dispose();
  if (sums.every((sum) => Math.abs(sum / K - 1) < 1e-3)) return;
  throw new UnsupportedError("CPM_TUNE_PRODUCTS_INEXACT", "this processor's products of 8-bit numbers overflow", {
    where: "products",
    got: `${sums[0]} for a sum of ${K} ones`,
    expected: "a processor with instructions for 8-bit products (AVX-512 VNNI, AVX-VNNI, AMX)",
    hint: "Leave products at float32.",
  });
}
