/**
 * What an operator is: one entry with its shape rule, its gradient, its ONNX form and its plain evaluation.
 *
 * Adding one is one `defineOperator` call in `operators/` and one row in the conformance test.
 */
import type { DType } from "../runtime/dtype.ts";
import type { EmitTarget } from "../runtime/runtime.ts";
import { ShapeError } from "../util/error.ts";
import { type Dim, formatShape, type Shape } from "./dim.ts";
import type { Attributes, Tensor, TensorSpec } from "./tensor.ts";

/** A dense array of the reference evaluation. Floats are Float32Array or Float64Array, all else (bool too) Int32Array. */
export interface NdArray {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: NumberArray;
}
export type NumberArray = Float32Array | Float64Array | Int32Array;

export interface EvaluateContext<A> {
  readonly attributes: A;
  /** Output shapes with every size known. */
  readonly shapes: readonly (readonly number[])[];
  /** Sizes of a shape from the attributes. */
  resolve(shape: Shape): number[];
  /** A zeroed array in this evaluation's float precision. */
  allocate(dtype: DType, shape: readonly number[]): NdArray;
}

/** Values of ONNX attributes; whole numbers in `ints`, others by what they are. */
export type OnnxAttribute = number | string | { readonly float: number } | readonly number[];

/** How a node says itself in ONNX. Values are named; names of inputs and outputs are given. */
export interface EmitContext<A> {
  readonly target: EmitTarget;
  /** Every node runs in one thread: forms that are right only then may be chosen. */
  readonly oneThread: boolean;
  readonly attributes: A;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly inputTypes: readonly TensorSpec[];
  readonly outputTypes: readonly TensorSpec[];
  /** Appends a node. `outputs` defaults to this operator's outputs. Returns the first output's name. */
  emit(
    type: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, OnnxAttribute>>,
    options?: { readonly outputs?: readonly string[]; readonly domain?: string },
  ): string;
  /** A new name for a value inside the operator. */
  temporary(): string;
  /** A scalar constant. */
  scalar(dtype: DType, value: number): string;
  /** A constant tensor under a name of one's choice. */
  literal(dtype: DType, shape: readonly number[], data: ArrayLike<number>, name?: string): string;
  /** An int64 vector constant. */
  ints(values: readonly number[]): string;
  /** An int64 vector with these sizes, computed from the program's inputs where they are symbolic. */
  sizes(shape: readonly Dim[]): string;
}

export interface GradientContext<A> {
  readonly attributes: A;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** Gradients of the outputs; undefined where an output does not matter. */
  readonly cotangents: readonly (Tensor | undefined)[];
  /** Which inputs' gradients are wanted: the others may be left undefined. */
  readonly needs: readonly boolean[];
}

// biome-ignore lint/suspicious/noExplicitAny: the table holds operators of all attribute types
export interface Operator<A extends Attributes = any> {
  readonly name: string;
  /** Types of the outputs; throws through `mismatch` where the inputs do not fit. */
  infer(inputs: readonly Tensor[], attributes: A): readonly TensorSpec[];
  /** Gradients of the inputs, or absent where the operator has none (comparisons, indices). */
  readonly gradient?: (context: GradientContext<A>) => readonly (Tensor | undefined)[];
  /** It has a gradient that nobody wrote down: wanting one through it is an error rather than silently zero. */
  readonly refusesGradient?: boolean;
  onnx(context: EmitContext<A>): void;
  evaluate(inputs: readonly NdArray[], context: EvaluateContext<A>): readonly NdArray[];
  /**
   * What making a result again costs beside reading it back from memory: "free" is never worth storing (views, constants,
   * broadcasts), "cheap" is not where its inputs are at hand (element by element, one row at a time). Absent: it is.
   */
  readonly cost?: "free" | "cheap";
}

const table = new Map<string, Operator>();

/** All operators by name. */
export const operators: ReadonlyMap<string, Operator> = table;

export function defineOperator<A>(operator: Operator<A>): Operator<A> {
  if (table.has(operator.name)) throw new Error(`internal: operator ${operator.name} is defined twice`);
  table.set(operator.name, operator);
  return operator;
}

/** Says that inputs do not fit; `apply` adds the operator, the shapes and the user's line. */
export function mismatch(what: string, expected?: string, hint?: string): never {
  throw new ShapeError("CPM_SHAPE_MISMATCH", what, { expected, hint });
}

/** Inputs must have one dtype. */
export function sameDType(inputs: readonly Tensor[]): DType {
  const dtype = inputs[0]!.dtype;
  if (inputs.some((input) => input.dtype !== dtype)) {
    throw new ShapeError("CPM_DTYPE_MISMATCH", "the inputs differ in dtype", {
      expected: `all ${dtype}`,
      hint: "Convert with cast().",
    });
  }
  return dtype;
}

export function requireDType(input: Tensor, allowed: readonly DType[], role: string): void {
  if (allowed.includes(input.dtype)) return;
  throw new ShapeError("CPM_DTYPE_MISMATCH", `${role} has dtype ${input.dtype}`, { expected: allowed.join(" or ") });
}

/** A negative axis counts from the end. */
export function normalizeAxis(axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normalized < 0 || normalized >= rank) {
    mismatch(`axis ${axis} is not within rank ${rank}`, `-${rank} to ${rank - 1}`);
  }
  return normalized;
}

/** NumPy's broadcasting of two shapes. Symbolic sizes fit themselves and 1. */
export function broadcastShapes(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    return mismatch(
      `${formatShape(a)} and ${formatShape(b)} do not broadcast`,
      "equal sizes, or 1, on every axis from the last",
    );
  });
}
