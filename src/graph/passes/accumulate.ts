/** Outputs that are added to what they hold: gradients summed over layers or micro-batches without a program of their own. */
import { createGraph, type Graph, type NamedTensor } from "../graph.ts";
import { add } from "../operators/elementwise.ts";
import { input } from "../operators/mark.ts";

/**
 * Gives each chosen output `y` a further input `sum.y` and makes the output `sum.y + y`. Bind both to one tensor to add
 * in place.
 */
export function accumulateOutputs(graph: Graph, chosen: (name: string) => boolean): Graph {
  const sums: NamedTensor[] = [];
  const outputs = graph.outputTensors.map(([name, tensor]): NamedTensor => {
    if (!chosen(name)) return [name, tensor];
    const sum = input(`sum.${name}`, tensor);
    sums.push([`sum.${name}`, sum]);
    return [name, add(sum, tensor)];
  });
  return createGraph(graph.name, [...graph.inputTensors, ...sums], outputs);
}
