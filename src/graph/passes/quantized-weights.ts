/**
 * A graph whose weights are packed: inputs of products and tables are exchanged for their parts of 4 or 8 bits.
 *
 * The program stays as it was traced; only what multiplies by a weight, or looks up its rows, is another operator then.
 * Each exchanged input `NAME` becomes `NAME.packed`, `NAME.scales` and, where it has zeros, `NAME.zeros`.
 */
import { createGraph, type Graph, type NamedTensor } from "../graph.ts";
import { mul } from "../operators/elementwise.ts";
import { input } from "../operators/mark.ts";
import {
  dequantize,
  gatherQuantized,
  type QuantizedFormat,
  type QuantizedWeight,
  quantizedMatmul,
  quantizedShapes,
} from "../operators/quantized.ts";
import { type SignedWeight, signedFrom, signedMatmul, signedMatmulBack } from "../operators/rounded-product.ts";
import { rewrite } from "../rewrite.ts";
import { type Node, spec, type Tensor } from "../tensor.ts";
import { dropUnusedInputs, optimize } from "./optimize.ts";

export interface PackedInput extends QuantizedFormat {
  readonly hasZeros: boolean;
  /**
   * Products with it, in both directions, are of whole numbers and round the other operand by row; it must have one scale a row.
   * "given": the weight comes as `NAME.signed` [N, K] int8 and `NAME.channel` [N] beside its parts, which serve whatever does
   * more than multiply. "folded": it is made from the parts, which the compiler does once where they are constants.
   */
  readonly wholeNumbers?: "given" | "folded" | undefined;
  /** Only x·Wᵀ is of whole numbers; y·W, its gradient, is taken with the weight unpacked. */
  readonly unpacksBackward?: boolean | undefined;
}

interface Exchanged {
  readonly weight: QuantizedWeight;
  readonly format: PackedInput;
  readonly signed?: SignedWeight | undefined;
}

/**
 * `formats` tells which inputs [N, K] are packed, and how; names that the graph lacks are ignored. `activations` as in
 * `quantizedMatmul`. A weight that is used in any other way than by a product x·Wᵀ or for its rows is unpacked inside.
 */
export function quantizeWeights(
  graph: Graph,
  formats: ReadonlyMap<string, PackedInput>,
  activations: "int8" | "float32" = "int8",
): Graph {
  const exchanged = new Map<Tensor, Exchanged>();
  const inputs = graph.inputTensors.flatMap(([name, tensor]): NamedTensor[] => {
    const format = formats.get(name);
    if (format === undefined) return [[name, tensor]];
    const [N, K] = tensor.shape as [number, number];
    const shapes = quantizedShapes(N, K, format);
    const part = (suffix: string, dtype: "uint8" | "int8" | "float32", shape: readonly number[]): NamedTensor => [
      `${name}.${suffix}`,
      input(`${name}.${suffix}`, spec(dtype, shape)),
    ];
    const packed = part("packed", "uint8", shapes.packed);
    const scales = part("scales", "float32", shapes.scales);
    const zeros = format.hasZeros ? part("zeros", "uint8", shapes.zeros) : undefined;
    const given = format.wholeNumbers === "given";
    const own = given ? [part("signed", "int8", [N, K]), part("channel", "float32", [N])] : [];
    exchanged.set(tensor, {
      weight: { packed: packed[1], scales: scales[1], zeros: zeros?.[1] },
      format,
      signed: given
        ? { signed: own[0]![1], channel: own[1]![1] }
        : format.wholeNumbers && signedFrom(packed[1], scales[1]),
    });
    return [packed, scales, ...(zeros ? [zeros] : []), ...own];
  });
  if (exchanged.size === 0) return graph;

  const replace = (node: Node): readonly Tensor[] | undefined => {
    const { operator, inputs: from, attributes } = node;
    const [a, b] = from as [Tensor, Tensor];
    const right = b && exchanged.get(b);
    if (operator.name === "matmul" && right?.signed && !attributes.transposeA && !exchanged.has(a)) {
      const { signed, format } = right;
      if (attributes.transposeB) return [signedMatmul(a, signed, attributes.alpha)];
      if (!format.unpacksBackward) return [signedMatmulBack(mul(a, signed.channel), signed, attributes.alpha)];
    }
    if (operator.name === "matmul" && right && attributes.transposeB && !attributes.transposeA && !exchanged.has(a)) {
      return [quantizedMatmul(mul(a, attributes.alpha), right.weight, right.format, activations)];
    }
    const table = a && exchanged.get(a);
    if (operator.name === "gather" && table) return [gatherQuantized(table.weight, b, table.format)];
    return undefined;
  };
  const outputs = rewrite(
    graph.outputTensors.map(([, tensor]) => tensor),
    new Map(),
    replace,
  );
  // Whatever still reads the plain weight gets it unpacked.
  const plain = new Map([...exchanged].map(([tensor, { weight, format }]) => [tensor, dequantize(weight, format)]));
  const results = rewrite(outputs, plain);
  const made = createGraph(
    graph.name,
    inputs,
    graph.outputTensors.map(([name], i): NamedTensor => [name, results[i]!]),
  );
  return dropUnusedInputs(optimize(made));
}
