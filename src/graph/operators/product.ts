/** The matrix product, with transposition and scaling folded in: nearly all of a model's arithmetic. */
import { formatDim, type Shape, sizeOf } from "../dim.ts";
import { forEachIndex, strides } from "../ndarray.ts";
import { broadcastShapes, defineOperator, mismatch, requireDType, sameDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { reshape } from "./movement.ts";
import { sumTo } from "./reduction.ts";

export interface ProductOptions {
  /** Take a with its last two axes swapped. */
  readonly transposeA?: boolean;
  /** Take b with its last two axes swapped. */
  readonly transposeB?: boolean;
  /** A factor of the result; default 1. */
  readonly alpha?: number;
}

type ProductAttributes = Required<ProductOptions>;

function matrixSizes(shape: Shape, transposed: boolean) {
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
  return transposed ? { rows: columns, columns: rows } : { rows, columns };
}

const matmulOperator = defineOperator<ProductAttributes>({
  name: "matmul",
  infer: (inputs, { transposeA, transposeB }) => {
    const [a, b] = inputs as [Tensor, Tensor];
    const dtype = sameDType(inputs);
    requireDType(a, ["float32", "float16", "float64"], "a product");
    if (a.shape.length < 2 || b.shape.length < 2) mismatch("a product needs two axes on both sides");
    const left = matrixSizes(a.shape, transposeA);
    const right = matrixSizes(b.shape, transposeB);
    if (left.columns !== right.rows) {
      const flags = `${transposeA ? ", a transposed" : ""}${transposeB ? ", b transposed" : ""}`;
      mismatch(`the inner sizes ${formatDim(left.columns)} and ${formatDim(right.rows)} differ${flags}`);
    }
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
    return [{ dtype, shape: [...batch, left.rows, right.columns] }];
  },
  // Y = α·A·B:  dA = α·dY·Bᵀ,  dB = α·Aᵀ·dY; with a transposed operand its gradient is transposed as a whole.
  gradient: ({ inputs, cotangents: [dy], attributes: { transposeA, transposeB, alpha }, needs }) => {
    const [a, b] = inputs as [Tensor, Tensor];
    const dA = () =>
      transposeA
        ? matmul(b, dy!, { transposeA: transposeB, transposeB: true, alpha })
        : matmul(dy!, b, { transposeB: !transposeB, alpha });
    const dB = () =>
      transposeB
        ? matmul(dy!, a, { transposeA: true, transposeB: transposeA, alpha })
        : matmul(a, dy!, { transposeA: !transposeA, alpha });
    return [needs[0] ? sumTo(dA(), a.shape) : undefined, needs[1] ? sumTo(dB(), b.shape) : undefined];
  },
  onnx: ({
    inputs,
    outputs,
    inputTypes,
    target,
    attributes: { transposeA, transposeB, alpha },
    emit,
    scalar,
    temporary,
  }) => {
    const [a, b] = inputs as [string, string];
    const [aType, bType] = inputTypes;
    if (!transposeA && !transposeB && alpha === 1) {
      emit("MatMul", [a, b], {}, { outputs });
    } else if (target === "cpu" && aType!.dtype === "float32") {
      const attributes = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: alpha } };
      emit("FusedMatMul", [a, b], attributes, { outputs, domain: "com.microsoft" });
    } else if (aType!.shape.length === 2 && bType!.shape.length === 2) {
      const attributes = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: alpha } };
      emit("Gemm", [a, b], attributes, { outputs });
    } else {
      const swap = (name: string, rank: number) => {
        const perm = Array.from({ length: rank }, (_, i) => i);
        perm.push(...perm.splice(-2, 2).reverse());
        return emit("Transpose", [name], { perm }, { outputs: [temporary()] });
      };
      const left = transposeA ? swap(a, aType!.shape.length) : a;
      const right = transposeB ? swap(b, bType!.shape.length) : b;
      if (alpha === 1) emit("MatMul", [left, right], {}, { outputs });
      else {
        const product = emit("MatMul", [left, right], {}, { outputs: [temporary()] });
        emit("Mul", [product, scalar(aType!.dtype, alpha)], {}, { outputs });
      }
    }
  },
  evaluate: ([a, b], { attributes: { transposeA, transposeB, alpha }, shapes, allocate }) => {
    const out = allocate(a!.dtype, shapes[0]!);
    const inner = a!.shape.at(transposeA ? -2 : -1)!;
    const [aStrides, bStrides] = [strides(a!.shape), strides(b!.shape)];
    const [aRow, aInner] = transposeA ? [aStrides.at(-1)!, aStrides.at(-2)!] : [aStrides.at(-2)!, aStrides.at(-1)!];
    const [bInner, bColumn] = transposeB ? [bStrides.at(-1)!, bStrides.at(-2)!] : [bStrides.at(-2)!, bStrides.at(-1)!];
    const rank = out.shape.length;
    const batchOffset = (shape: readonly number[], steps: readonly number[], index: readonly number[]) => {
      let offset = 0;
      for (let axis = 0; axis < shape.length - 2; axis++) {
        if (shape[axis] !== 1) offset += index[axis + rank - shape.length]! * steps[axis]!;
      }
      return offset;
    };
    forEachIndex(out.shape, (index, flat) => {
      let i = batchOffset(a!.shape, aStrides, index) + index[rank - 2]! * aRow;
      let j = batchOffset(b!.shape, bStrides, index) + index[rank - 1]! * bColumn;
      let sum = 0;
      for (let k = 0; k < inner; k++, i += aInner, j += bInner) sum += a!.data[i]! * b!.data[j]!;
      out.data[flat] = alpha * sum;
    });
    return [out];
  },
});

/**
 * α · A · B over the last two axes, with the axes before them broadcast.
 *
 * A `[…, M, K]` (or `[…, K, M]` when `transposeA`), B `[…, K, N]` (or `[…, N, K]` when `transposeB`) give `[…, M, N]`.
 * A shared matrix B `[K, N]` under a batched A is one large product: A's leading axes count as rows, so its gradient is
 * one product too, not a sum over a batch of them.
 */
export function matmul(a: Tensor, b: Tensor, options: ProductOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, alpha = 1 } = options;
  if (a.shape.length > 2 && b.shape.length === 2 && !transposeA) {
    const flat = reshape(a, [sizeOf(a.shape.slice(0, -1)), a.shape.at(-1)!]);
    const product = apply1(matmulOperator, [flat, b], { transposeA, transposeB, alpha });
    return reshape(product, [...a.shape.slice(0, -1), product.shape[1]!]);
  }
  return apply1(matmulOperator, [a, b], { transposeA, transposeB, alpha });
}
