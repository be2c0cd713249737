/** Rebuilding graphs with some tensors exchanged: what every pass is made of. */
import { nodesFor } from "./graph.ts";
import { type Attributes, type Node, reapply, type Tensor } from "./tensor.ts";

/**
 * What takes the place of a node whose inputs are already rewritten; undefined leaves the node as it is. `uses` counts the
 * inputs and outputs that a tensor serves as: what has several is not saved by absorbing it into one of them.
 */
export type Replace = (node: Node, uses: (tensor: Tensor) => number) => readonly Tensor[] | undefined;

/**
 * Rewrites everything that `outputs` need: `known` tensors are exchanged for others, every other node is made again on
 * its new inputs (and attributes, which `attributesOf` may change) where those changed, and then offered to `replace`.
 */
export function rewrite(
  outputs: readonly Tensor[],
  known: ReadonlyMap<Tensor, Tensor> = new Map(),
  replace: Replace = () => undefined,
  attributesOf: (node: Node) => Attributes = (node) => node.attributes,
): Tensor[] {
  const done = new Map(known);
  const at = (tensor: Tensor) => done.get(tensor) ?? tensor;
  const nodes = neededNodes(outputs, known);
  const counts = new Map<Tensor, number>();
  const count = (tensor: Tensor, by: number) => counts.set(tensor, (counts.get(tensor) ?? 0) + by);
  const uses = (tensor: Tensor) => counts.get(tensor) ?? 0;
  for (const tensor of [...outputs, ...nodes.flatMap(({ inputs }) => inputs)]) count(tensor, 1);
  for (const node of nodes) {
    const inputs = node.inputs.map(at);
    const attributes = attributesOf(node);
    const changed = attributes !== node.attributes || inputs.some((tensor, i) => tensor !== node.inputs[i]);
    const current = changed ? reapply(node, inputs, attributes) : node;
    const replaced = replace(current, uses) ?? current.outputs;
    node.outputs.forEach((output, i) => {
      if (done.has(output)) return;
      done.set(output, replaced[i]!);
      if (replaced[i] !== output) count(replaced[i]!, uses(output));
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
