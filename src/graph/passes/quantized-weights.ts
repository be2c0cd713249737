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
import { rewrite } from "../rewrite.ts";
import { type Node, spec, type Tensor } from "../tensor.ts";
import { dropUnusedInputs, optimize } from "./optimize.ts";

export interface PackedInput extends QuantizedFormat {
  readonly hasZeros: boolean;
}

interface Exchanged {
  readonly weight: QuantizedWeight;
  readonly format: QuantizedFormat;
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
    const part = (suffix: string, dtype: "uint8" | "float32", shape: readonly number[]): NamedTensor => [
      `${name}.${suffix}`,
      input(`${name}.${suffix}`, spec(dtype, shape)),
    ];
    const packed = part("packed", "uint8", shapes.packed);
    const scales = part("scales", "float32", shapes.scales);
    const zeros = format.hasZeros ? part("zeros", "uint8", shapes.zeros) : undefined;
    exchanged.set(tensor, { weight: { packed: packed[1], scales: scales[1], zeros: zeros?.[1] }, format });
    return zeros ? [packed, scales, zeros] : [packed, scales];
  });
  if (exchanged.size === 0) return graph;

  const replace = (node: Node): readonly Tensor[] | undefined => {
    const { operator, inputs: from, attributes } = node;
    const [a, b] = from as [Tensor, Tensor];
    const right = b && exchanged.get(b);
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
