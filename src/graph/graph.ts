/**
 * A graph: named inputs, named outputs and whatever lies between. It is a program's source for any runtime.
 *
 * `trace` makes one from a plain function over trees of tensors. Ports are named by their paths in those trees
 * (`params.attention.q`); `in` and `out` prefixes are never added.
 */
import type { EmitOptions, Port, ProgramSource } from "../runtime/runtime.ts";
import { formatDim } from "./dim.ts";
import { writeOnnx } from "./onnx/writer.ts";
import { input } from "./operators/mark.ts";
import { isSpec, isTensor, type Node, type Tensor, type TensorSpec } from "./tensor.ts";
import { leaves, type MapTree, mapTree, type Tree } from "./tree.ts";

export type NamedTensor = readonly [name: string, tensor: Tensor];

export interface Graph extends ProgramSource {
  readonly inputTensors: readonly NamedTensor[];
  readonly outputTensors: readonly NamedTensor[];
  /** Every node that the outputs need, each after its inputs. */
  readonly nodes: readonly Node[];
}

/** A tree of specs as a tree of tensors. */
export type TensorsOf<Specs> = MapTree<Specs, TensorSpec, Tensor>;

/** A graph from given tensors. Inputs that no output needs stay part of its signature. */
export function createGraph(name: string, inputs: readonly NamedTensor[], outputs: readonly NamedTensor[]): Graph {
  const names = new Set<string>();
  for (const [portName] of [...inputs, ...outputs]) {
    if (portName === "") throw new Error(`internal: ${name} has a port without a name: give and return objects`);
    if (names.has(portName)) throw new Error(`internal: ${name} has two ports named ${portName}`);
    names.add(portName);
  }
  const nodes = nodesFor(outputs.map(([, tensor]) => tensor));
  const known = new Set(inputs.map(([, tensor]) => tensor.node));
  const stray = nodes.find((node) => node.operator.name === "input" && !known.has(node));
  if (stray) throw new Error(`internal: ${name} needs ${stray.attributes.name}, which is not among its inputs`);
  const port = ([portName, { dtype, shape }]: NamedTensor): Port => ({
    name: portName,
    dtype,
    shape: shape.map((size) => (typeof size === "number" ? size : formatDim(size))),
  });
  const graph: Graph = {
    name,
    inputs: inputs.map(port),
    outputs: outputs.map(port),
    inputTensors: inputs,
    outputTensors: outputs,
    nodes,
    onnx: (options: EmitOptions) => writeOnnx(graph, options),
  };
  return graph;
}

/** All nodes that these tensors need, themselves included, in an order of execution. */
export function nodesFor(tensors: readonly Tensor[]): Node[] {
  const found = new Set<Node>();
  const open = tensors.map((tensor) => tensor.node);
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    for (const { node: before } of node.inputs) if (!found.has(before)) open.push(before);
  }
  return [...found].sort((a, b) => a.id - b.id);
}

/** Tensors of a tree with the names that their ports get. */
export function named(tree: Tree<Tensor> | undefined): NamedTensor[] {
  return leaves(tree, isTensor, "");
}

/** Inputs for a tree of specs, named by path. */
export function inputsFor<Specs>(specs: Specs): TensorsOf<Specs> {
  return mapTree(specs as Tree<TensorSpec>, isSpec, (type, path) => input(path, type)) as TensorsOf<Specs>;
}

/**
 * Runs a function once on symbolic tensors and keeps what it did.
 *
 * `args` is a tree of specs (dtype and shape); the function gets the same tree of tensors and returns a tree of
 * tensors.
 *
 *     const program = trace("scale", ({ x }) => ({ y: mul(x, 2) }), { x: spec("float32", [dim("N")]) });
 */
export function trace<Specs extends object>(
  name: string,
  fn: (args: TensorsOf<Specs>) => Tree<Tensor>,
  args: Specs,
): Graph {
  const inputs = inputsFor(args);
  return createGraph(name, named(inputs as Tree<Tensor>), named(fn(inputs)));
}
