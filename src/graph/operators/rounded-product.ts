/**
 * Products of 8-bit whole numbers: the left operand is rounded row by row while the program runs, the right one is a weight of
 * 8 bits with one scale for each output. Sums are exact in 32 bits; what is off is the rounding of both operands.
 *
 * Legend: M rows, I inner size, N columns.
 *
 * - p `[M, 1]` = max|x| of each row, q `[M, I]` uint8 = 128 + round(127 · x / p)
 * - W int8 `[N, I]` (transposed in the product) or `[I, N]`
 * - y `[M, N]` = p / 127 ∘ ((q − 128) · W) ∘ factor, factor `[N]` or absent
 */
import { defineOperator, mismatch, requireDType } from "../operator.ts";
import { apply, apply1, type Tensor } from "../tensor.ts";
import { reshape, slice } from "./movement.ts";

/** Of q, and of weights as they are packed: numbers are symmetric about it. */
const zero = 128;
/** The largest size of a rounded number. */
const largest = 127;

const roundRowsOperator = defineOperator<Record<string, never>>({
  name: "roundRows",
  infer: ([x]) => {
    requireDType(x!, ["float32"], "what is rounded");
    if (x!.shape.length !== 2) mismatch("rows to be rounded are a matrix", "[M, I]");
    return [
      { dtype: "uint8", shape: x!.shape },
      { dtype: "float32", shape: [x!.shape[0]!, 1] },
    ];
  },
  // A row of zeros is 0/0 here; whatever whole numbers that gives are multiplied with its largest, 0.
  onnx: ({ inputs: [x], outputs: [q, p], emit, temporary, scalar, ints }) => {
    const sizes = emit("Abs", [x!], {}, { outputs: [temporary()] });
    emit("ReduceMax", [sizes, ints([-1])], { keepdims: 1 }, { outputs: [p!] });
    const shares = emit("Div", [x!, p!], {}, { outputs: [temporary()] });
    const step = scalar("float32", 1 / largest);
    emit("QuantizeLinear", [shares, step, scalar("uint8", zero)], {}, { outputs: [q!] });
  },
  evaluate: ([x], { shapes, allocate }) => {
    const [M, I] = shapes[0] as [number, number];
    const q = allocate("uint8", [M, I]);
    const p = allocate("float32", [M, 1]);
    for (let row = 0; row < M; row++) {
      let peak = 0;
      for (let i = row * I; i < (row + 1) * I; i++) peak = Math.max(peak, Math.abs(x!.data[i]!));
      p.data[row] = peak;
      for (let i = row * I; i < (row + 1) * I; i++)
        q.data[i] = peak === 0 ? zero : zero + roundHalfEven((largest * x!.data[i]!) / peak);
    }
    return [q, p];
  },
});

/** The nearest whole number; of two equally near the even one, as IEEE 754 and ONNX round. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

interface RoundedProductAttributes {
  /** W is `[N, I]`. */
  readonly transposeB: boolean;
  /** A factor of the result. */
  readonly alpha: number;
}

const roundedProductOperator = defineOperator<RoundedProductAttributes>({
  name: "roundedProduct",
  infer: ([q, p, w, factor], { transposeB }) => {
    requireDType(q!, ["uint8"], "a rounded operand");
    requireDType(w!, ["int8"], "a weight of whole numbers");
    const [inner, N] = transposeB ? [w!.shape[1]!, w!.shape[0]!] : [w!.shape[0]!, w!.shape[1]!];
    const M = q!.shape[0]!;
    if (q!.shape[1] !== inner) mismatch("the inner sizes differ", `[M, ${String(inner)}]`);
    if (String(p!.shape) !== String([M, 1])) mismatch("a rounded operand has its rows' largest numbers", "[M, 1]");
    if (factor && String(factor.shape) !== String([N])) mismatch("there is a factor for each column", "[N]");
    return [{ dtype: "float32", shape: [M, N] }];
  },
  onnx: ({ inputs, outputs, attributes: { transposeB, alpha }, emit, temporary, scalar }) => {
    const [q, p, w, factor] = inputs as [string, string, string, string | undefined];
    const part = (type: string, from: readonly string[], settings = {}, domain = "") =>
      emit(type, from, settings, { outputs: [temporary()], domain });
    const right = transposeB ? part("Transpose", [w], { perm: [1, 0] }) : w;
    const scales = [scalar("float32", alpha / largest), factor ?? scalar("float32", 1)];
    const sums = part("MatMulIntegerToFloat", [q, right, ...scales, scalar("uint8", zero)], {}, "com.microsoft");
    emit("Mul", [sums, p], {}, { outputs });
  },
  evaluate: ([q, p, w, factor], { attributes: { transposeB, alpha }, shapes, allocate }) => {
    const [M, N] = shapes[0] as [number, number];
    const I = q!.shape[1]!;
    const out = allocate("float32", [M, N]);
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let i = 0; i < I; i++) sum += (q!.data[m * I + i]! - zero) * w!.data[transposeB ? n * I + i : i * N + n]!;
        out.data[m * N + n] = ((sum * alpha) / largest) * (factor ? factor.data[n]! : 1) * p!.data[m]!;
      }
    }
    return [out];
  },
});

const signedBytesOperator = defineOperator<Record<string, never>>({
  name: "signedBytes",
  infer: ([packed]) => {
    requireDType(packed!, ["uint8"], "a packed weight");
    const [N, G, K] = packed!.shape;
    if (packed!.shape.length !== 3 || G !== 1) mismatch("whole rows share one scale", "[N, 1, K]");
    return [{ dtype: "int8", shape: [N!, K!] }];
  },
  // q − 128 in two's complement is q with its highest bit turned.
  onnx: ({ inputs: [packed], outputs, outputTypes, emit, temporary, literal, ints }) => {
    const turned = emit("BitwiseXor", [packed!, literal("uint8", [], [zero])], {}, { outputs: [temporary()] });
    const rows = emit("Reshape", [turned, ints(outputTypes[0]!.shape as number[])], {}, { outputs: [temporary()] });
    emit("Cast", [rows], { to: 3 }, { outputs });
  },
  evaluate: ([packed], { shapes, allocate }) => {
    const out = allocate("int8", shapes[0]!);
    for (let i = 0; i < out.data.length; i++) out.data[i] = packed!.data[i]! - zero;
    return [out];
  },
});

/** A packed weight of 8 bits with one scale a row as whole numbers; worth it where the compiler folds it into a constant. */
export function signedFrom(packed: Tensor, scales: Tensor): SignedWeight {
  return { signed: apply1(signedBytesOperator, [packed], {}), channel: reshape(slice(scales, 1, 0, 1), [-1]) };
}

/** A weight of 8 bits whose rows have one scale each: W `[N, K]` = channel ∘ signed. */
export interface SignedWeight {
  /** `[N, K]` int8, −127 to 127. */
  readonly signed: Tensor;
  /** `[N]` float32 */
  readonly channel: Tensor;
}

/** α · x · Wᵀ with x `[…, K]` rounded to 8 bits by row: `[…, N]`. It has no gradient: it replaces products after them. */
export function signedMatmul(x: Tensor, { signed, channel }: SignedWeight, alpha = 1): Tensor {
  return product(x, signed, { transposeB: true, alpha }, channel);
}

/** α · y · W with y ∘ channel `[…, N]` rounded to 8 bits by row: `[…, K]`. `scaled` is y ∘ channel. */
export function signedMatmulBack(scaled: Tensor, { signed }: SignedWeight, alpha = 1): Tensor {
  return product(scaled, signed, { transposeB: false, alpha });
}

function product(x: Tensor, w: Tensor, attributes: RoundedProductAttributes, factor?: Tensor): Tensor {
  const leading = x.shape.slice(0, -1);
  const flat = x.shape.length > 2 ? reshape(x, [-1, x.shape.at(-1)!]) : x;
  const [q, p] = apply(roundRowsOperator, [flat], {}) as [Tensor, Tensor];
  const y = apply1(roundedProductOperator, [q, p, w, ...(factor ? [factor] : [])], attributes);
  return x.shape.length > 2 ? reshape(y, [...leading, y.shape[1]!]) : y;
}
