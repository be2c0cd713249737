/** Values without inputs: literals, counting sequences and sizes as numbers. */
import { type DType, elementCount } from "../../runtime/dtype.ts";
import type { Dim } from "../dim.ts";
import { defineOperator, type NumberArray } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";

interface ConstantAttributes {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: NumberArray;
}

export const constantOperator = defineOperator<ConstantAttributes>({
  name: "constant",
  cost: "free",
  infer: (_, { dtype, shape }) => [{ dtype, shape }],
  onnx: ({ attributes: { dtype, shape, data }, literal, outputs }) => void literal(dtype, shape, data, outputs[0]!),
  evaluate: (_, { attributes, allocate }) => {
    const out = allocate(attributes.dtype, attributes.shape);
    out.data.set(attributes.data);
    return [out];
  },
});

/** A literal tensor. `data` is copied. */
export function constant(data: ArrayLike<number>, dtype: DType, shape: readonly number[] = [data.length]): Tensor {
  if (data.length !== elementCount(shape)) throw new Error(`internal: ${data.length} numbers for the shape [${shape}]`);
  const copy = dtype.includes("float") ? Float64Array.from(data) : Int32Array.from(data);
  return apply1(constantOperator, [], { dtype, shape, data: copy });
}

export function scalar(value: number, dtype: DType = "float32"): Tensor {
  return constant([value], dtype, []);
}

/** What arithmetic takes: a tensor, or a number that becomes a scalar of the other operand's dtype. */
export type Operand = Tensor | number;

/** Both operands as tensors. */
export function operands(a: Operand, b: Operand): [Tensor, Tensor] {
  if (typeof a === "number" && typeof b === "number") return [scalar(a), scalar(b)];
  if (typeof a === "number") return [scalar(a, (b as Tensor).dtype), b as Tensor];
  if (typeof b === "number") return [a, scalar(b, a.dtype)];
  return [a, b];
}

const sizeOperator = defineOperator<{ readonly size: Dim; readonly dtype: DType }>({
  name: "size",
  cost: "free",
  infer: (_, { dtype }) => [{ dtype, shape: [] }],
  onnx: ({ attributes, sizes, emit, scalar, ints, outputs }) => {
    if (typeof attributes.size === "number") {
      emit("Identity", [scalar(attributes.dtype, attributes.size)], {}, { outputs });
      return;
    }
    const vector = emit("Squeeze", [sizes([attributes.size]), ints([0])], {}, { outputs: [`${outputs[0]}.vector`] });
    emit("Cast", [vector], { to: attributes.dtype === "int32" ? 6 : 1 }, { outputs });
  },
  evaluate: (_, { attributes, allocate, resolve }) => {
    const out = allocate(attributes.dtype, []);
    out.data[0] = resolve([attributes.size])[0]!;
    return [out];
  },
});

/** A (perhaps symbolic) size as a scalar. */
export function size(value: Dim, dtype: "float32" | "int32" = "float32"): Tensor {
  return typeof value === "number" ? scalar(value, dtype) : apply1(sizeOperator, [], { size: value, dtype });
}

const iotaOperator = defineOperator<{ readonly length: Dim }>({
  name: "iota",
  cost: "free",
  infer: (_, { length }) => [{ dtype: "int32", shape: [length] }],
  onnx: ({ attributes, sizes, emit, scalar, ints, outputs, temporary }) => {
    const end = emit("Squeeze", [sizes([attributes.length]), ints([0])], {}, { outputs: [temporary()] });
    const end32 = emit("Cast", [end], { to: 6 }, { outputs: [temporary()] });
    emit("Range", [scalar("int32", 0), end32, scalar("int32", 1)], {}, { outputs });
  },
  evaluate: (_, { shapes, allocate }) => {
    const out = allocate("int32", shapes[0]!);
    for (let i = 0; i < out.data.length; i++) out.data[i] = i;
    return [out];
  },
});

/** 0, 1, … length − 1 as int32 `[length]`. */
export function iota(length: Dim): Tensor {
  return apply1(iotaOperator, [], { length });
}
