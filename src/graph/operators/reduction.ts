/** Operators that sum, average or search along axes. */
import { type DType, elementCount } from "../../runtime/dtype.ts";
import { type Dim, mulDims, type Shape, sameShape } from "../dim.ts";
import { forEachIndex, strides } from "../ndarray.ts";
import { defineOperator, type EmitContext, normalizeAxis, requireDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { size } from "./constant.ts";
import { cast, div, equal, mul } from "./elementwise.ts";
import { broadcastTo, reshape } from "./movement.ts";

interface ReduceAttributes {
  /** Ascending, not negative. */
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

const numeric: readonly DType[] = ["float32", "float64", "int32", "int64"];

function reducedShape(shape: Shape, { axes, keepDims }: ReduceAttributes): Shape {
  return keepDims ? shape.map((s, i) => (axes.includes(i) ? 1 : s)) : shape.filter((_, i) => !axes.includes(i));
}

/** A reduction's result or gradient spread over the axes that it had reduced. */
function spread(reduced: Tensor, shape: Shape, attributes: ReduceAttributes): Tensor {
  return broadcastTo(reshape(reduced, reducedShape(shape, { ...attributes, keepDims: true })), shape);
}

function defineReduction(
  name: string,
  onnx: string,
  rule: {
    readonly start: number;
    readonly step: (accumulated: number, x: number) => number;
    readonly finish?: (accumulated: number, count: number) => number;
    readonly gradient: (dy: Tensor, x: Tensor, y: Tensor, attributes: ReduceAttributes) => Tensor;
  },
) {
  const operator = defineOperator<ReduceAttributes>({
    name,
    infer: ([x], attributes) => {
      requireDType(x!, numeric, "the operand");
      return [{ dtype: x!.dtype, shape: reducedShape(x!.shape, attributes) }];
    },
    gradient: ({ inputs: [x], outputs: [y], cotangents: [dy], attributes }) => [rule.gradient(dy!, x!, y!, attributes)],
    onnx: ({ inputs, outputs, attributes: { axes, keepDims }, emit, ints }: EmitContext<ReduceAttributes>) =>
      void emit(onnx, [inputs[0]!, ints(axes)], { keepdims: Number(keepDims), noop_with_empty_axes: 1 }, { outputs }),
    evaluate: ([x], { attributes, allocate, shapes }) => {
      const out = allocate(x!.dtype, shapes[0]!);
      const kept = reducedShape(x!.shape, { ...attributes, keepDims: true }) as number[];
      const steps = strides(kept);
      const sums = new Float64Array(out.data.length).fill(rule.start);
      forEachIndex(x!.shape, (index, flat) => {
        const at = index.reduce((sum, i, axis) => sum + (kept[axis] === 1 ? 0 : i * steps[axis]!), 0);
        sums[at] = rule.step(sums[at]!, x!.data[flat]!);
      });
      const count = elementCount(x!.shape) / Math.max(1, sums.length);
      out.data.set(rule.finish ? sums.map((sum) => rule.finish!(sum, count)) : sums);
      return [out];
    },
  });
  return (x: Tensor, axes?: number | readonly number[], keepDims = false): Tensor => {
    const all = axes === undefined ? x.shape.map((_, i) => i) : typeof axes === "number" ? [axes] : axes;
    const sorted = [...new Set(all.map((axis) => normalizeAxis(axis, x.shape.length)))].sort((a, b) => a - b);
    return apply1(operator, [x], { axes: sorted, keepDims });
  };
}

/** Σ over the axes (all where none are given). */
export const reduceSum = defineReduction("reduceSum", "ReduceSum", {
  start: 0,
  step: (sum, x) => sum + x,
  gradient: (dy, x, _, attributes) => spread(dy, x.shape, attributes),
});

/** The mean over the axes. */
export const reduceMean = defineReduction("reduceMean", "ReduceMean", {
  start: 0,
  step: (sum, x) => sum + x,
  finish: (sum, count) => sum / count,
  gradient: (dy, x, _, attributes) => {
    const count = attributes.axes.reduce<Dim>((product, axis) => mulDims(product, x.shape[axis]!), 1);
    return spread(div(dy, cast(size(count), dy.dtype)), x.shape, attributes);
  },
});

/** Σ x² over the axes: of a gradient, the square of its norm. */
export const reduceSumSquare = defineReduction("reduceSumSquare", "ReduceSumSquare", {
  start: 0,
  step: (sum, x) => sum + x * x,
  gradient: (dy, x, _, attributes) => mul(spread(dy, x.shape, attributes), mul(x, 2)),
});

/** The largest over the axes; several equal ones share the gradient. */
export const reduceMax = defineReduction("reduceMax", "ReduceMax", {
  start: Number.NEGATIVE_INFINITY,
  step: Math.max,
  gradient: (dy, x, y, attributes) => {
    const isLargest = cast(equal(x, spread(y, x.shape, attributes)), x.dtype);
    const ties = reduceSum(isLargest, attributes.axes, true);
    return mul(spread(dy, x.shape, attributes), div(isLargest, ties));
  },
});

const argMaxOperator = defineOperator<Record<string, never>>({
  name: "argMax",
  infer: ([x]) => {
    requireDType(x!, numeric, "the operand");
    normalizeAxis(-1, x!.shape.length);
    return [{ dtype: "int32", shape: x!.shape.slice(0, -1) }];
  },
  onnx: ({ inputs, outputs, emit, temporary }) => {
    const wide = emit("ArgMax", inputs, { axis: -1, keepdims: 0 }, { outputs: [temporary()] });
    emit("Cast", [wide], { to: 6 }, { outputs });
  },
  evaluate: ([x], { shapes, allocate }) => {
    const out = allocate("int32", shapes[0]!);
    const columns = x!.shape.at(-1)!;
    for (let row = 0; row < out.data.length; row++) {
      let best = 0;
      for (let i = 1; i < columns; i++) if (x!.data[row * columns + i]! > x!.data[row * columns + best]!) best = i;
      out.data[row] = best;
    }
    return [out];
  },
});

/** Index of the largest element of the last axis, the first of equals, as int32. */
export function argMax(x: Tensor): Tensor {
  return apply1(argMaxOperator, [x], {});
}

/** Sums a gradient over the axes along which an operand of this shape had been broadcast. */
export function sumTo(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const added = gradient.shape.length - shape.length;
  const axes = gradient.shape.flatMap((length, axis) => {
    const own = shape[axis - added];
    return own === undefined || (own === 1 && length !== 1) ? [axis] : [];
  });
  return reshape(axes.length > 0 ? reduceSum(gradient, axes) : gradient, shape);
}
