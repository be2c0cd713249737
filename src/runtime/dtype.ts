/**
 * Element types of tensors: their widths, their host arrays and their ONNX numbers.
 *
 * 16-bit floats live on the host as `Uint16Array` bit patterns (`util/float16.ts` converts); `bool` is one byte, 0 or
 * 1; 4-bit integers are packed two to a byte, the lower nibble first.
 */

export type DType =
  | "float32"
  | "float16"
  | "bfloat16"
  | "float64"
  | "int64"
  | "int32"
  | "int8"
  | "uint8"
  | "bool"
  | "int4"
  | "uint4";

/** What holds a dtype's elements on the host. */
export type HostArray = Float32Array | Float64Array | BigInt64Array | Int32Array | Int8Array | Uint8Array | Uint16Array;

interface DTypeFacts {
  readonly bits: number;
  /** `TensorProto.DataType` of ONNX, also `ONNXTensorElementDataType` of the C API. */
  readonly onnx: number;
  readonly float: boolean;
  readonly array: new (buffer: ArrayBufferLike, byteOffset?: number, length?: number) => HostArray;
}

const facts: Record<DType, DTypeFacts> = {
  float32: { bits: 32, onnx: 1, float: true, array: Float32Array },
  uint8: { bits: 8, onnx: 2, float: false, array: Uint8Array },
  int8: { bits: 8, onnx: 3, float: false, array: Int8Array },
  int32: { bits: 32, onnx: 6, float: false, array: Int32Array },
  int64: { bits: 64, onnx: 7, float: false, array: BigInt64Array },
  bool: { bits: 8, onnx: 9, float: false, array: Uint8Array },
  float16: { bits: 16, onnx: 10, float: true, array: Uint16Array },
  float64: { bits: 64, onnx: 11, float: true, array: Float64Array },
  bfloat16: { bits: 16, onnx: 16, float: true, array: Uint16Array },
  uint4: { bits: 4, onnx: 21, float: false, array: Uint8Array },
  int4: { bits: 4, onnx: 22, float: false, array: Uint8Array },
};

export const dtypes = Object.keys(facts) as readonly DType[];

export function isFloat(dtype: DType): boolean {
  return facts[dtype].float;
}

/** ONNX's number for a dtype. */
export function onnxDType(dtype: DType): number {
  return facts[dtype].onnx;
}

/** The dtype that ONNX gives this number, if we have it. */
export function dtypeOfOnnx(number: number): DType | undefined {
  return dtypes.find((dtype) => facts[dtype].onnx === number);
}

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

/** Bytes of a dense tensor; 4-bit elements are packed, an odd last one takes a whole byte. */
export function byteLength(dtype: DType, shape: readonly number[]): number {
  return Math.ceil((elementCount(shape) * facts[dtype].bits) / 8);
}

/** A host array over existing memory. `byteOffset` must be a multiple of the element's width. */
export function hostArray(dtype: DType, buffer: ArrayBufferLike, byteOffset: number, bytes: number): HostArray {
  const { array, bits } = facts[dtype];
  return new array(buffer, byteOffset, Math.floor((bytes * 8) / Math.max(bits, 8)));
}

/** A zeroed host array for a dense tensor of this dtype and shape. */
export function newHostArray(dtype: DType, shape: readonly number[]): HostArray {
  const bytes = byteLength(dtype, shape);
  return hostArray(dtype, new ArrayBuffer(bytes), 0, bytes);
}
