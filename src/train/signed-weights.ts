/**
 * A frozen base of 8 bits as whole numbers, for products that are taken in whole numbers in both directions: y = x·Wᵀ and
 * dx = dy·W with x and dy rounded to 8 bits by row (`graph/operators/rounded-product.ts`).
 *
 * A product can take a weight's scales out of its sums only where a row of W [N, K] has a single one, so the base must have
 * been rounded per channel. The signed numbers stand beside the file's own, which are mapped and then only read for rows of
 * the token table.
 */
import { hasExactByteProducts } from "../infer/byte-products.ts";
import { hasWholeRows, isPacked, type ModelTensors, packedFormat } from "../infer/weight-ports.ts";
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
  if (!(await hasExactByteProducts(runtime))) {
    throw new UnsupportedError("CPM_TUNE_PRODUCTS_INEXACT", "this processor's products of 8-bit numbers overflow", {
      where: "products",
      got: runtime.info.device,
      expected: "a processor with instructions for 8-bit products (AVX-512 VNNI, AVX-VNNI, AMX)",
      hint: "Leave products at float32.",
    });
  }
  const result = new Map(base);
  for (const { name, shape } of table) {
    const [N, K] = shape as [number, number];
    const format = packedFormat(base, name, K);
    if (!hasWholeRows(format, K)) refuse(`${name} in ${format.bits} bits, groups of ${format.groupSize}`);
    const packed = (await runtime.download(base.get(`${name}.packed`)!)) as Uint8Array;
    const scales = (await runtime.download(base.get(`${name}.scales`)!)) as Float32Array;
    // q − 128 in two's complement is q with its highest bit turned.
    const signed = new Int8Array(packed.length);
    for (let i = 0; i < packed.length; i++) signed[i] = packed[i]! ^ 128;
    result.set(`${name}.signed`, own(runtime.upload(signed, "int8", [N, K])));
    result.set(`${name}.channel`, own(runtime.upload(scales, "float32", [N])));
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
