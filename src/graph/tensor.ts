/**
 * The graph's two words: a *node* applies an operator, a *tensor* is one of its outputs.
 *
 * Tracing is nothing more than calling functions that make nodes. Tensors are immutable; a graph is whatever can be
 * reached from its outputs, and since a node is made after its inputs, ascending `id` is always an order of execution.
 */
import type { DType } from "../runtime/dtype.ts";
import { ShapeError } from "../util/error.ts";
import { formatShape, type Shape } from "./dim.ts";
import type { Operator } from "./operator.ts";

/** A typed value in a graph: dtype and (partly symbolic) shape. */
export interface Tensor {
  readonly node: Node;
  /** Which output of the node this is. */
  readonly index: number;
  readonly dtype: DType;
  readonly shape: Shape;
}

// biome-ignore lint/suspicious/noExplicitAny: each operator knows the type of its own attributes
export type Attributes = any;

export interface Node {
  readonly id: number;
  readonly operator: Operator;
  readonly inputs: readonly Tensor[];
  readonly attributes: Attributes;
  readonly outputs: readonly Tensor[];
  /** Where the user's code made this node: formatted only when an error needs it. */
  readonly origin: Error | undefined;
}

/** A dtype and a shape without a node: what a traced function takes for an argument. */
export interface TensorSpec {
  readonly dtype: DType;
  readonly shape: Shape;
}

export function spec(dtype: DType, shape: Shape): TensorSpec {
  return { dtype, shape };
}

let nextId = 1;

/** The id that the next node will have: everything below it exists already. */
export function nextNodeId(): number {
  return nextId;
}

/**
 * Applies an operator: checks inputs by its shape rule and makes the node.
 *
 * Errors: `CPM_SHAPE_MISMATCH` and `CPM_DTYPE_MISMATCH` with the operator, all input shapes and the user's line.
 */
export function apply<A extends Attributes>(
  operator: Operator<A>,
  inputs: readonly Tensor[],
  attributes: A,
): readonly Tensor[] {
  return createNode(operator as Operator, inputs, attributes, captureOrigin()).outputs;
}

/** The same operation on other inputs, or with other attributes, remembered as the same line of the user's code. */
export function reapply(node: Node, inputs: readonly Tensor[], attributes: Attributes = node.attributes): Node {
  return createNode(node.operator, inputs, attributes, node.origin);
}

function createNode(
  operator: Operator,
  inputs: readonly Tensor[],
  attributes: Attributes,
  origin: Error | undefined,
): Node {
  let types: readonly TensorSpec[];
  try {
    types = operator.infer(inputs, attributes);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(error.code, `${operator.name}: ${error.what}`, {
      where: originLine(origin),
      got: inputs.map(describeTensor).join(", "),
      expected: error.expected,
      hint: error.hint,
    });
  }
  const outputs: Tensor[] = [];
  const node: Node = { id: nextId++, operator, inputs, attributes, outputs, origin };
  types.forEach(({ dtype, shape }, index) => {
    outputs.push({ node, index, dtype, shape });
  });
  return node;
}

/** `apply` for operators with a single output. */
export function apply1<A extends Attributes>(operator: Operator<A>, inputs: readonly Tensor[], attributes: A): Tensor {
  return apply(operator, inputs, attributes)[0]!;
}

export function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "node" in value && "dtype" in value;
}

export function isSpec(value: unknown): value is TensorSpec {
  return typeof value === "object" && value !== null && "shape" in value && "dtype" in value;
}

export function describeTensor(tensor: TensorSpec): string {
  return `${tensor.dtype}${formatShape(tensor.shape)}`;
}

function captureOrigin(): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 16;
  const origin = new Error("origin");
  Error.stackTraceLimit = limit;
  return origin;
}

/** Where this folder's code lies, as stack traces name it. */
const ownFolder = new URL(".", import.meta.url).href;

/** The first line of a stack outside this folder, `function (file:line:column)`: the code that called an operator. */
export function originLine(origin: Error | undefined): string | undefined {
  const frames = origin?.stack?.split("\n").slice(1) ?? [];
  const frame = frames.find((line) => !line.includes(ownFolder) || line.includes(".test.ts")) ?? frames.at(-1);
  return frame?.trim().replace(/^at /, "").replace("file://", "");
}
