/**
 * Tensors of the reference runtime: host memory with the ownership rules that every runtime keeps, and nothing of
 * anybody's address space to crash.
 */
import { byteLength, type DType, elementCount, type HostArray, hostArray, newHostArray } from "../runtime/dtype.ts";
import type { DeviceTensor } from "../runtime/runtime.ts";
import { RuntimeError, ShapeError } from "../util/error.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "../util/float16.ts";
import { newArray, type Precision } from "./ndarray.ts";
import type { NdArray } from "./operator.ts";

/** Memory that several tensors may lie over; freed with the last. */
interface Storage {
  readonly buffer: ArrayBuffer;
  owners: number;
}

/** The accounts of one runtime. */
export interface Ledger {
  readonly tensors: Set<ReferenceTensor>;
  tensorBytes: number;
  peakTensorBytes: number;
}

export interface ReferenceTensor extends DeviceTensor {
  readonly ledger: Ledger;
  /** Names of the programs that have it as a constant. */
  readonly constantOf: string[];
}

/** Such as `float32[2, 3]`. */
export function describeMemory(tensor: {
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}): string {
  return `${tensor.dtype}[${tensor.shape.join(", ")}]`;
}

/** A tensor over new, zeroed memory. Errors: `CPM_RUNTIME_SHAPE`. */
export function allocateTensor(ledger: Ledger, dtype: DType, shape: readonly number[]): ReferenceTensor {
  checkShape(dtype, shape);
  return createTensor(ledger, { buffer: new ArrayBuffer(byteLength(dtype, shape)), owners: 0 }, dtype, shape, 0);
}

export function checkShape(dtype: DType, shape: readonly number[]): void {
  if (shape.every((size) => Number.isInteger(size) && size >= 0)) return;
  throw new ShapeError("CPM_RUNTIME_SHAPE", "a shape has a size that is no whole number", {
    got: describeMemory({ dtype, shape }),
    expected: "sizes of 0 or more",
  });
}

function createTensor(
  ledger: Ledger,
  storage: Storage,
  dtype: DType,
  shape: readonly number[],
  byteOffset: number,
): ReferenceTensor {
  let disposed = false;
  const bytes = byteLength(dtype, shape);
  const assertAlive = (action: string) => {
    if (!disposed) return;
    throw new RuntimeError("CPM_RUNTIME_DISPOSED", `a tensor was used after it was disposed (${action})`, {
      got: describeMemory(tensor),
    });
  };
  const tensor: ReferenceTensor = {
    ledger,
    constantOf: [],
    dtype,
    shape: Object.freeze([...shape]),
    byteLength: bytes,
    get disposed() {
      return disposed;
    },
    view() {
      assertAlive("view");
      return hostArray(dtype, storage.buffer, byteOffset, bytes);
    },
    alias(newShape, offset = 0, newDType = dtype) {
      assertAlive("alias");
      checkShape(newDType, newShape);
      const newBytes = byteLength(newDType, newShape);
      const width = byteLength(newDType, [1]);
      if (!(offset >= 0 && offset + newBytes <= bytes && (byteOffset + offset) % width === 0)) {
        throw new ShapeError(
          "CPM_RUNTIME_ALIAS",
          "an alias reaches outside of its tensor or begins inside an element",
          {
            got: `${describeMemory({ dtype: newDType, shape: newShape })} from byte ${offset}`,
            expected: `within the ${bytes} bytes of ${describeMemory(tensor)}, from a multiple of ${width}`,
          },
        );
      }
      return createTensor(ledger, storage, newDType, newShape, byteOffset + offset);
    },
    dispose() {
      assertAlive("dispose");
      if (tensor.constantOf.length > 0) {
        throw new RuntimeError("CPM_RUNTIME_IN_USE", "a tensor cannot be disposed while it is a program's constant", {
          where: `program "${tensor.constantOf[0]}"`,
          got: describeMemory(tensor),
          hint: "Dispose the program first.",
        });
      }
      disposed = true;
      ledger.tensors.delete(tensor);
      if (--storage.owners > 0) return;
      ledger.tensorBytes -= storage.buffer.byteLength;
      storage.buffer.transfer(0);
    },
    [Symbol.dispose]() {
      if (!disposed) tensor.dispose();
    },
  };
  if (storage.owners++ === 0) {
    ledger.tensorBytes += storage.buffer.byteLength;
    ledger.peakTensorBytes = Math.max(ledger.peakTensorBytes, ledger.tensorBytes);
  }
  ledger.tensors.add(tensor);
  return tensor;
}

/** A tensor's elements as numbers. */
export function toNdArray(tensor: DeviceTensor, precision: Precision): NdArray {
  const { dtype, shape } = tensor;
  const view = tensor.view();
  const data = newArray(dtype, elementCount(shape), precision);
  for (let i = 0; i < data.length; i++) {
    const value = Number(view[i]!);
    data[i] = dtype === "float16" ? float16ToNumber(value) : dtype === "bfloat16" ? bfloat16ToNumber(value) : value;
  }
  return { dtype, shape, data };
}

/** Writes numbers into a tensor of as many elements, rounded to its dtype. */
export function fromNdArray({ data }: NdArray, tensor: DeviceTensor): void {
  writeNumbers(data, tensor.dtype, tensor.view());
}

/** Plain numbers as a host array of a dtype: rounded to narrow floats, truncated towards integers. */
export function hostArrayFrom(values: ArrayLike<number>, dtype: DType): HostArray {
  const out = newHostArray(dtype, [values.length]);
  writeNumbers(values, dtype, out);
  return out;
}

function writeNumbers(values: ArrayLike<number>, dtype: DType, out: HostArray): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (out instanceof BigInt64Array) out[i] = BigInt(Math.trunc(value));
    else if (dtype === "float16") out[i] = numberToFloat16(value);
    else if (dtype === "bfloat16") out[i] = numberToBfloat16(value);
    else out[i] = value;
  }
}
