/**
 * Products with weights of 4 or 8 bits, rows of such a table, and the weights back in float32.
 *
 * A weight W [N, K] is kept in groups of consecutive inputs: w = scale · (q − zero). Legend: N rows (outputs), K inputs, G
 * groups of `groupSize` inputs, Z bytes of a group (4 bits: two numbers a byte, the lower nibble first). The layout is
 * that of ONNX Runtime's MatMulNBits.
 *
 * - packed `[N, G, Z]` uint8
 * - scales `[N, G]` float32
 * - zeros `[N, ⌈G·bits/8⌉]` uint8, packed in the same way; without them zero is 2^(bits−1): the symmetric form
 */
import { elementCount } from "../../runtime/dtype.ts";
import type { Dim, Shape } from "../dim.ts";
import { defineOperator, type EmitContext, mismatch, type NdArray, requireDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { reshape } from "./movement.ts";
import { matmul } from "./product.ts";

export interface QuantizedFormat {
  readonly bits: 4 | 8;
  /** Inputs that share a scale: a power of two from 16 on that divides K, or all K of them. */
  readonly groupSize: number;
}

interface QuantizedAttributes extends QuantizedFormat {
  /** How the products' other operand is rounded: to 8 bits in groups (fast, about 0.5 % off), or not at all. */
  readonly activations?: "int8" | "float32";
}

/** A packed weight as tensors of a graph. */
export interface QuantizedWeight {
  readonly packed: Tensor;
  readonly scales: Tensor;
  readonly zeros?: Tensor | undefined;
}

/** Sizes of a packed weight [N, K]. */
export function quantizedShapes(N: number, K: number, { bits, groupSize }: QuantizedFormat) {
  const G = K / groupSize;
  return { packed: [N, G, (groupSize * bits) / 8], scales: [N, G], zeros: [N, Math.ceil((G * bits) / 8)] };
}

/** N and K, after checking that the three tensors belong together. */
function sizesOf(weight: readonly Tensor[], format: QuantizedFormat): { N: number; K: number } {
  const [packed, scales, zeros] = weight as [Tensor, Tensor, Tensor | undefined];
  requireDType(packed, ["uint8"], "a packed weight");
  requireDType(scales, ["float32"], "the scales");
  if (zeros) requireDType(zeros, ["uint8"], "the zeros");
  const [N, G] = packed.shape as number[];
  const K = G! * format.groupSize;
  const expected = quantizedShapes(N!, K, format);
  const fits =
    String(packed.shape) === String(expected.packed) &&
    String(scales.shape) === String(expected.scales) &&
    (zeros === undefined || String(zeros.shape) === String(expected.zeros));
  if (!fits) mismatch(`the parts of a weight of ${format.bits} bits do not fit`, JSON.stringify(expected));
  return { N: N!, K };
}

/** The largest group that MatMulNBits takes for rows of K inputs with this many to a scale: a power of two up to 256. */
function kernelGroup(K: number, groupSize: number): number {
  let size = groupSize === K ? 256 : groupSize;
  while (K % size !== 0) size /= 2;
  return size;
}

/** Number `i` of a packed run of bytes. */
function unpack(data: ArrayLike<number>, bits: number, byteOffset: number, i: number): number {
  if (bits === 8) return data[byteOffset + i]!;
  const byte = data[byteOffset + (i >> 1)]!;
  return i % 2 === 0 ? byte & 15 : byte >> 4;
}

/** Row `row` of the weight in plain numbers, into `out` from `at` on. */
function dequantizeRow(
  weight: readonly NdArray[],
  { bits, groupSize }: QuantizedFormat,
  row: number,
  out: { [index: number]: number },
  at: number,
): void {
  const [packed, scales, zeros] = weight as [NdArray, NdArray, NdArray | undefined];
  const [, G, Z] = packed.shape as [number, number, number];
  for (let group = 0; group < G; group++) {
    const zero = zeros ? unpack(zeros.data, bits, row * zeros.shape[1]!, group) : 2 ** (bits - 1);
    const scale = scales.data[row * G + group]!;
    for (let i = 0; i < groupSize; i++) {
      out[at + group * groupSize + i] = scale * (unpack(packed.data, bits, (row * G + group) * Z, i) - zero);
    }
  }
}

const quantizedMatmulOperator = defineOperator<QuantizedAttributes>({
  name: "quantizedMatmul",
  infer: ([x, ...weight], format) => {
    requireDType(x!, ["float32"], "the operand");
    const { N, K } = sizesOf(weight, format);
    if (x!.shape.at(-1) !== K) mismatch(`a weight with ${K} inputs does not fit`, `[…, ${K}]`);
    return [{ dtype: "float32", shape: [...x!.shape.slice(0, -1), N] }];
  },
  gradient: ({ inputs: [, packed, scales, zeros], cotangents: [dy], attributes }) => [
    matmul(dy!, dequantize({ packed: packed!, scales: scales!, zeros }, attributes)),
  ],
  onnx: ({ inputs, outputs, inputTypes, attributes: { bits, groupSize, activations }, emit, temporary, ints }) => {
    const [N, G] = inputTypes[1]!.shape as [number, number];
    const K = G * groupSize;
    const accuracy = activations === "int8" ? 4 : 1;
    const product = (weight: readonly string[], size: number) => {
      const attributes = { N, K, bits, block_size: size, accuracy_level: accuracy };
      emit("MatMulNBits", [inputs[0]!, ...weight], attributes, { outputs, domain: "com.microsoft" });
    };
    const size = kernelGroup(K, groupSize);
    if (size === groupSize) return product(inputs.slice(1), size);
    // A scale of a whole row is one of each of the kernel's groups.
    const part = (type: string, from: readonly string[]) => emit(type, from, {}, { outputs: [temporary()] });
    const packed = part("Reshape", [inputs[1]!, ints([N, K / size, (size * bits) / 8])]);
    product([packed, part("Expand", [inputs[2]!, ints([N, K / size])])], size);
  },
  evaluate: ([x, ...weight], { attributes, shapes, allocate }) => {
    const out = allocate("float32", shapes[0]!);
    const K = x!.shape.at(-1)!;
    const N = weight[0]!.shape[0]!;
    const row_K = new Float64Array(K);
    for (let n = 0; n < N; n++) {
      dequantizeRow(weight, attributes, n, row_K, 0);
      for (let m = 0; m < out.data.length / N; m++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += x!.data[m * K + k]! * row_K[k]!;
        out.data[m * N + n] = sum;
      }
    }
    return [out];
  },
});

const dequantizeOperator = defineOperator<QuantizedFormat>({
  name: "dequantize",
  infer: (weight, format) => {
    const { N, K } = sizesOf(weight, format);
    return [{ dtype: "float32", shape: [N, K] }];
  },
  onnx: (context) => {
    const { inputs, outputs, inputTypes, attributes, emit, ints, temporary, literal } = context;
    const { bits, groupSize } = attributes;
    const [N, G] = inputTypes[0]!.shape as [number, number];
    const part = (type: string, from: readonly string[], settings = {}) =>
      emit(type, from, settings, { outputs: [temporary()] });
    const numbers = part("Reshape", [unpacked(context, inputs[0]!, 3), ints([N, G * groupSize])]);
    const spread = inputs[2] === undefined ? undefined : unpacked(context, inputs[2], 2);
    const zeros =
      spread === undefined
        ? literal("uint8", [N, G], new Uint8Array(N * G).fill(2 ** (bits - 1)))
        : part("Slice", [spread, ints([0]), ints([G]), ints([1])]);
    emit("DequantizeLinear", [numbers, inputs[1]!, zeros], { axis: 1, block_size: groupSize }, { outputs });
  },
  evaluate: (weight, { attributes, shapes, allocate }) => {
    const out = allocate("float32", shapes[0]!);
    const [N, K] = shapes[0] as [number, number];
    for (let n = 0; n < N; n++) dequantizeRow(weight, attributes, n, out.data, n * K);
    return [out];
  },
});

const gatherQuantizedOperator = defineOperator<QuantizedFormat>({
  name: "gatherQuantized",
  infer: ([indices, ...weight], format) => {
    requireDType(indices!, ["int32", "int64"], "the indices");
    return [{ dtype: "float32", shape: [...indices!.shape, sizesOf(weight, format).K] }];
  },
  onnx: (context) => {
    const { inputs, outputs, inputTypes, outputTypes, attributes, emit, ints, sizes, scalar, temporary } = context;
    const { bits, groupSize } = attributes;
    const [indices, packed, scales, zeros] = inputs as [string, string, string, string | undefined];
    const G = inputTypes[1]!.shape[1] as number;
    const rank = inputTypes[0]!.shape.length;
    const leading: Shape = inputTypes[0]!.shape;
    const part = (type: string, from: readonly string[], settings = {}) =>
      emit(type, from, settings, { outputs: [temporary()] });
    const rows = (table: string) => part("Gather", [table, indices], { axis: 0 });
    const float = (x: string) => part("Cast", [x], { to: 1 });
    const grouped = sizes([...leading, G, groupSize]);
    const numbers = float(part("Reshape", [unpacked(context, rows(packed), rank + 2), grouped], { allowzero: 1 }));
    const last = ints([rank + 1]);
    const centre =
      zeros === undefined
        ? scalar("float32", 2 ** (bits - 1))
        : part("Unsqueeze", [
            float(part("Slice", [unpacked(context, rows(zeros), rank + 1), ints([0]), ints([G]), ints([rank])])),
            last,
          ]);
    const centred = part("Sub", [numbers, centre]);
    const scaled = part("Mul", [centred, part("Unsqueeze", [rows(scales), last])]);
    emit("Reshape", [scaled, sizes(outputTypes[0]!.shape)], { allowzero: 1 }, { outputs });
  },
  evaluate: ([indices, ...weight], { attributes, shapes, allocate }) => {
    const out = allocate("float32", shapes[0]!);
    const K = shapes[0]!.at(-1)!;
    for (let i = 0; i < elementCount(indices!.shape); i++) {
      const row = indices!.data[i]!;
      if (!(row >= 0 && row < weight[0]!.shape[0]!)) throw new RangeError(`gatherQuantized: there is no row ${row}`);
      dequantizeRow(weight, attributes, row, out.data, i * K);
    }
    return [out];
  },
});

/** Bytes `[…, Z]` as one number each in uint8: `[…, Z]` at 8 bits, `[…, 2·Z]` at 4. */
function unpacked(
  { attributes: { bits }, emit, literal, ints, temporary }: EmitContext<QuantizedFormat>,
  x: string,
  rank: number,
): string {
  if (bits === 8) return x;
  const part = (type: string, from: readonly string[], settings = {}) =>
    emit(type, from, settings, { outputs: [temporary()] });
  const axis = ints([rank]);
  const low = part("BitwiseAnd", [x, literal("uint8", [], [15])]);
  const high = part("BitShift", [x, literal("uint8", [], [4])], { direction: "RIGHT" });
  const pairs = part("Concat", [part("Unsqueeze", [low, axis]), part("Unsqueeze", [high, axis])], { axis: rank });
  // [..., Z, 2] → [..., 2 Z]: every leading size stays (0), what is left goes into the last.
  const shape = ints([...Array<number>(rank - 1).fill(0), -1]);
  return part("Reshape", [pairs, shape]);
}

function partsOf({ packed, scales, zeros }: QuantizedWeight): Tensor[] {
  return zeros ? [packed, scales, zeros] : [packed, scales];
}

/**
 * x · Wᵀ with a packed weight: x `[…, K]` float32, W `[N, K]` give `[…, N]`. Its gradient flows to x alone, through W in
 * float32, which exists only inside the program meanwhile.
 */
export function quantizedMatmul(
  x: Tensor,
  weight: QuantizedWeight,
  format: QuantizedFormat,
  activations: "int8" | "float32" = "int8",
): Tensor {
  const K = x.shape.at(-1) as Dim;
  const flat = x.shape.length > 2 ? reshape(x, [-1, K]) : x;
  const product = apply1(quantizedMatmulOperator, [flat, ...partsOf(weight)], { ...attributesOf(format), activations });
  return x.shape.length > 2 ? reshape(product, [...x.shape.slice(0, -1), product.shape[1]!]) : product;
}

/** A packed weight as float32 `[N, K]`. */
export function dequantize(weight: QuantizedWeight, format: QuantizedFormat): Tensor {
  return apply1(dequantizeOperator, partsOf(weight), attributesOf(format));
}

/** Rows of a packed table in float32: indices `[…I]` give `[…I, K]`. */
export function gatherQuantized(weight: QuantizedWeight, indices: Tensor, format: QuantizedFormat): Tensor {
  return apply1(gatherQuantizedOperator, [indices, ...partsOf(weight)], attributesOf(format));
}

function attributesOf({ bits, groupSize }: QuantizedFormat): QuantizedFormat {
  return { bits, groupSize };
}
