/** Named sizes become numbers: a program for one batch size and length, whose shape arithmetic is all constant. */
import { type DimValues, isSymbolic, substituteDim } from "../dim.ts";
import { createGraph, type Graph, type NamedTensor } from "../graph.ts";
import { rewrite } from "../rewrite.ts";
import { type Attributes, type Node, reapply, type Tensor } from "../tensor.ts";

/**
 * The same graph with sizes given by name. Names that are not given stay symbolic.
 *
 * Errors: `CPM_SHAPE_MISMATCH` where an operator cannot work on these sizes.
 */
export function bindSizes(graph: Graph, sizes: Readonly<Record<string, number>>): Graph {
  const values: DimValues = new Map(Object.entries(sizes));
  const attributesOf = (node: Node) => bindAttributes(node.attributes, values);
  const inputs = graph.inputTensors.map(([name, { node }]): NamedTensor => {
    return [name, reapply(node, [], attributesOf(node)).outputs[0]!];
  });
  const known = new Map<Tensor, Tensor>(graph.inputTensors.map(([, tensor], i) => [tensor, inputs[i]![1]]));
  const tensors = graph.outputTensors.map(([, tensor]) => tensor);
  const outputs = rewrite(tensors, known, undefined, attributesOf);
  return createGraph(
    graph.name,
    inputs,
    graph.outputTensors.map(([name], i): NamedTensor => [name, outputs[i]!]),
  );
}

/** Attributes with every symbolic size in them replaced; the same object where there is none. */
function bindAttributes(attributes: Attributes, values: DimValues): Attributes {
  if (isSymbolic(attributes)) return substituteDim(attributes, values);
  if (Array.isArray(attributes)) {
    const bound = attributes.map((item) => bindAttributes(item, values));
    return bound.some((item, i) => item !== attributes[i]) ? bound : attributes;
  }
  if (typeof attributes !== "object" || attributes === null || ArrayBuffer.isView(attributes)) return attributes;
  let changed = false;
  const bound: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(attributes)) {
    bound[key] = bindAttributes(value, values);
    changed ||= bound[key] !== value;
  }
  return changed ? bound : attributes;
}
