/** Rebuilding graphs with some tensors exchanged: what every pass is made of. */
import { nodesFor } from "./graph.ts";
import { type Node, reapply, type Tensor } from "./tensor.ts";

/** What takes the place of a node whose inputs are already rewritten; undefined leaves the node as it is. */
export type Replace = (node: Node) => readonly Tensor[] | undefined;

/**
 * Rewrites everything that `outputs` need: `known` tensors are exchanged for others, every other node is made again on
 * its new inputs where those changed, and then offered to `replace`.
 */
export function rewrite(
  outputs: readonly Tensor[],
  known: ReadonlyMap<Tensor, Tensor> = new Map(),
  replace: Replace = () => undefined,
): Tensor[] {
  const done = new Map(known);
  const at = (tensor: Tensor) => done.get(tensor) ?? tensor;
  for (const node of neededNodes(outputs, known)) {
    const inputs = node.inputs.map(at);
    const changed = inputs.some((tensor, i) => tensor !== node.inputs[i]);
    const current = changed ? reapply(node, inputs) : node;
    const replaced = replace(current) ?? current.outputs;
    node.outputs.forEach((output, i) => {
      if (!done.has(output)) done.set(output, replaced[i]!);
    });
  }
  return outputs.map(at);
}

/** Nodes for the outputs, not looking behind tensors that are exchanged anyway. */
function neededNodes(outputs: readonly Tensor[], known: ReadonlyMap<Tensor, Tensor>): Node[] {
  if (known.size === 0) return nodesFor(outputs);
  const found = new Set<Node>();
  const open = outputs.filter((tensor) => !known.has(tensor)).map((tensor) => tensor.node);
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    for (const tensor of node.inputs) if (!known.has(tensor) && !found.has(tensor.node)) open.push(tensor.node);
  }
  return [...found].sort((a, b) => a.id - b.id);
}
