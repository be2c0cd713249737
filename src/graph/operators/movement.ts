/** Operators that move elements and compute nothing: reshape, transpose, broadcast, concatenate, slice, pad. */
import { addDims, type Dim, divideDims, formatShape, type Shape, sameShape, sizeOf, subDims } from "../dim.ts";
import { broadcastOffset, forEachIndex, strides } from "../ndarray.ts";
import { broadcastShapes, defineOperator, mismatch, normalizeAxis, sameDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { sumTo } from "./reduction.ts";

const reshapeOperator = defineOperator<{ readonly shape: Shape }>({
  name: "reshape",
  cost: "free",
  infer: ([x], { shape }) => {
    if (sizeOf(x!.shape) !== sizeOf(shape)) {
      mismatch(`${formatShape(x!.shape)} has not as many elements as ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs: [x], cotangents: [dy] }) => [reshape(dy!, x!.shape)],
  onnx: ({ inputs, outputs, inputTypes, attributes: { shape }, emit, ints, sizes }) => {
    // A symbolic size is 0 ("as the input's axis") or, once, -1 ("what is left"); only beyond that is it computed.
    const from = inputTypes[0]!.shape;
    let inferred = false;
    const literal = shape.map((size, axis) => {
      if (typeof size === "number") return size;
      if (size === from[axis]) return 0;
      if (inferred || shape.includes(0)) return undefined;
      inferred = true;
      return -1;
    });
    const complete = literal.every((size) => size !== undefined);
    const allowZero = shape.includes(0) && complete ? 1 : 0;
    emit(
      "Reshape",
      [inputs[0]!, complete ? ints(literal as number[]) : sizes(shape)],
      { allowzero: allowZero },
      { outputs },
    );
  },
  evaluate: ([x], { shapes }) => [{ dtype: x!.dtype, shape: shapes[0]!, data: x!.data }],
});

/** The same elements in the same order under another shape. One size may be −1: whatever is left. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  let full = shape;
  const open = shape.indexOf(-1);
  if (open >= 0) {
    const rest = divideDims(sizeOf(x.shape), sizeOf(shape.toSpliced(open, 1)));
    if (rest !== undefined) full = shape.with(open, rest);
  }
  return sameShape(x.shape, full) ? x : apply1(reshapeOperator, [x], { shape: full });
}

const transposeOperator = defineOperator<{ readonly permutation: readonly number[] }>({
  name: "transpose",
  cost: "cheap",
  infer: ([x], { permutation }) => {
    const axes = [...permutation].sort((a, b) => a - b);
    if (axes.length !== x!.shape.length || axes.some((axis, i) => axis !== i)) {
      mismatch(`[${permutation}] is not a permutation of the ${x!.shape.length} axes`);
    }
    return [{ dtype: x!.dtype, shape: permutation.map((axis) => x!.shape[axis]!) }];
  },
  gradient: ({ cotangents: [dy], attributes: { permutation } }) => [
    transpose(
      dy!,
      permutation.map((_, i) => permutation.indexOf(i)),
    ),
  ],
  onnx: ({ inputs, outputs, attributes, emit }) =>
    void emit("Transpose", inputs, { perm: attributes.permutation }, { outputs }),
  evaluate: ([x], { attributes: { permutation }, shapes, allocate }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const from = strides(x!.shape);
    forEachIndex(out.shape, (index, flat) => {
      out.data[flat] = x!.data[index.reduce((sum, i, axis) => sum + i * from[permutation[axis]!]!, 0)]!;
    });
    return [out];
  },
});

/** Axis i of the result is axis `permutation[i]` of x. */
export function transpose(x: Tensor, permutation: readonly number[]): Tensor {
  const identity = permutation.length === x.shape.length && permutation.every((axis, i) => axis === i);
  return identity ? x : apply1(transposeOperator, [x], { permutation });
}

const broadcastOperator = defineOperator<{ readonly shape: Shape }>({
  name: "broadcastTo",
  cost: "free",
  infer: ([x], { shape }) => {
    if (!sameShape(broadcastShapes(x!.shape, shape), shape)) {
      mismatch(`${formatShape(x!.shape)} does not broadcast to ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs: [x], cotangents: [dy] }) => [sumTo(dy!, x!.shape)],
  onnx: ({ inputs, outputs, attributes, emit, sizes }) =>
    void emit("Expand", [inputs[0]!, sizes(attributes.shape)], {}, { outputs }),
  evaluate: ([x], { shapes, allocate }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const from = strides(x!.shape);
    forEachIndex(out.shape, (index, flat) => {
      out.data[flat] = x!.data[broadcastOffset(x!, from, index)]!;
    });
    return [out];
  },
});

/** Repeats axes of size 1, and new axes in front, to fill a shape. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply1(broadcastOperator, [x], { shape });
}

const concatOperator = defineOperator<{ readonly axis: number }>({
  name: "concat",
  cost: "cheap",
  infer: (inputs, { axis }) => {
    const dtype = sameDType(inputs);
    const first = inputs[0]!.shape;
    for (const { shape } of inputs) {
      if (shape.length !== first.length || shape.some((size, i) => i !== axis && size !== first[i])) {
        mismatch(`the inputs differ on an axis other than ${axis}`, "equal sizes on all other axes");
      }
    }
    const total = inputs.reduce<Dim>((sum, { shape }) => addDims(sum, shape[axis]!), 0);
    return [{ dtype, shape: first.with(axis, total) }];
  },
  gradient: ({ inputs, cotangents: [dy], attributes: { axis }, needs }) => {
    let start: Dim = 0;
    return inputs.map(({ shape }, i) => {
      const end = addDims(start, shape[axis]!);
      const part = needs[i] ? slice(dy!, axis, start, end) : undefined;
      start = end;
      return part;
    });
  },
  onnx: ({ inputs, outputs, attributes: { axis }, emit }) => void emit("Concat", inputs, { axis }, { outputs }),
  evaluate: (inputs, { attributes: { axis }, shapes, allocate }) => {
    const out = allocate(inputs[0]!.dtype, shapes[0]!);
    const to = strides(out.shape);
    let start = 0;
    for (const x of inputs) {
      forEachIndex(x.shape, (index, flat) => {
        const at = index.reduce((sum, i, k) => sum + (k === axis ? i + start : i) * to[k]!, 0);
        out.data[at] = x.data[flat]!;
      });
      start += x.shape[axis]!;
    }
    return [out];
  },
});

/** Joins tensors along an axis. */
export function concat(inputs: readonly Tensor[], axis: number): Tensor {
  if (inputs.length === 0) throw new Error("internal: concat of nothing");
  if (inputs.length === 1) return inputs[0]!;
  return apply1(concatOperator, inputs, { axis: normalizeAxis(axis, inputs[0]!.shape.length) });
}

interface SliceAttributes {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
}

const sliceOperator = defineOperator<SliceAttributes>({
  name: "slice",
  cost: "cheap",
  infer: ([x], { axis, start, end }) => {
    const length = x!.shape[axis]!;
    if (typeof start === "number" && typeof end === "number" && typeof length === "number") {
      if (start < 0 || end < start || end > length) mismatch(`${start} to ${end} is not within axis ${axis}`);
    }
    return [{ dtype: x!.dtype, shape: x!.shape.with(axis, subDims(end, start)) }];
  },
  gradient: ({ inputs: [x], cotangents: [dy], attributes: { axis, start, end } }) => [
    pad(dy!, axis, start, subDims(x!.shape[axis]!, end)),
  ],
  onnx: ({ inputs, outputs, attributes: { axis, start, end }, emit, sizes, ints }) =>
    void emit("Slice", [inputs[0]!, sizes([start]), sizes([end]), ints([axis])], {}, { outputs }),
  evaluate: ([x], { attributes, shapes, allocate, resolve }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const from = strides(x!.shape);
    const [start] = resolve([attributes.start]);
    forEachIndex(out.shape, (index, flat) => {
      const at = index.reduce((sum, i, axis) => sum + (axis === attributes.axis ? i + start! : i) * from[axis]!, 0);
      out.data[flat] = x!.data[at]!;
    });
    return [out];
  },
});

/** Elements `start` to `end` (not included) along an axis. */
export function slice(x: Tensor, axis: number, start: Dim, end: Dim): Tensor {
  const at = normalizeAxis(axis, x.shape.length);
  return start === 0 && end === x.shape[at] ? x : apply1(sliceOperator, [x], { axis: at, start, end });
}

interface PadAttributes {
  readonly axis: number;
  readonly before: Dim;
  readonly after: Dim;
}

const padOperator = defineOperator<PadAttributes>({
  name: "pad",
  cost: "cheap",
  infer: ([x], { axis, before, after }) => [
    { dtype: x!.dtype, shape: x!.shape.with(axis, addDims(addDims(before, x!.shape[axis]!), after)) },
  ],
  gradient: ({ inputs: [x], cotangents: [dy], attributes: { axis, before } }) => [
    slice(dy!, axis, before, addDims(before, x!.shape[axis]!)),
  ],
  onnx: ({ inputs, outputs, inputTypes, attributes: { axis, before, after }, emit, sizes, ints, scalar }) => {
    const zero = scalar(inputTypes[0]!.dtype, 0);
    emit("Pad", [inputs[0]!, sizes([before, after]), zero, ints([axis])], {}, { outputs });
  },
  evaluate: ([x], { attributes, shapes, allocate, resolve }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const to = strides(out.shape);
    const [before] = resolve([attributes.before]);
    forEachIndex(x!.shape, (index, flat) => {
      const at = index.reduce((sum, i, axis) => sum + (axis === attributes.axis ? i + before! : i) * to[axis]!, 0);
      out.data[at] = x!.data[flat]!;
    });
    return [out];
  },
});

/** Zeros before and after along an axis. */
export function pad(x: Tensor, axis: number, before: Dim, after: Dim): Tensor {
  if (before === 0 && after === 0) return x;
  return apply1(padOperator, [x], { axis: normalizeAxis(axis, x.shape.length), before, after });
}
