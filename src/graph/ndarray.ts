/** Dense arrays of the reference evaluation: allocation, strides and the walk over indices with broadcasting. */
import { type DType, elementCount, isFloat } from "../runtime/dtype.ts";
import type { NdArray, NumberArray } from "./operator.ts";

/** Width of floats in a reference evaluation: float64 judges gradients by finite differences. */
export type Precision = "float32" | "float64";

export function newArray(dtype: DType, count: number, precision: Precision): NumberArray {
  if (!isFloat(dtype)) return new Int32Array(count);
  return precision === "float64" ? new Float64Array(count) : new Float32Array(count);
}

export function allocateArray(dtype: DType, shape: readonly number[], precision: Precision): NdArray {
  return { dtype, shape, data: newArray(dtype, elementCount(shape), precision) };
}

export function strides(shape: readonly number[]): number[] {
  const out = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    out[axis] = step;
    step *= shape[axis]!;
  }
  return out;
}

/** Calls `visit` with every index of a shape in row-major order. The index array is reused. */
export function forEachIndex(shape: readonly number[], visit: (index: readonly number[], flat: number) => void): void {
  const count = elementCount(shape);
  const index = new Array<number>(shape.length).fill(0);
  for (let flat = 0; flat < count; flat++) {
    visit(index, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
}

/** Position in `array` of an index of a shape that it broadcasts to. */
export function broadcastOffset(array: NdArray, arrayStrides: readonly number[], index: readonly number[]): number {
  let offset = 0;
  const skip = index.length - array.shape.length;
  for (let axis = 0; axis < array.shape.length; axis++) {
    if (array.shape[axis] !== 1) offset += index[axis + skip]! * arrayStrides[axis]!;
  }
  return offset;
}

/** Rows of the last axis: how many, and how long. */
export function rowsOf(shape: readonly number[]): { rows: number; columns: number } {
  const columns = shape.at(-1) ?? 1;
  return { rows: elementCount(shape.slice(0, -1)), columns };
}
