/**
 * What every weights file looks like once it is open, whatever its format: names with dtype and shape, read on demand.
 * No meaning is given to names here; `layout.ts` does that.
 */
import { byteLength, type DType, elementCount, type HostArray, hostArray } from "../runtime/dtype.ts";
import { CheckpointError, UnsupportedError } from "../util/error.ts";
import { bfloat16ToFloat32, float16ToFloat32 } from "../util/float16.ts";

/** Where a tensor's bytes lie, dense, row-major and little-endian, so that they can be mapped without being read. */
export interface TensorLocation {
  readonly file: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface RawTensor {
  readonly name: string;
  /** The file's word for the element type. */
  readonly storedDType: string;
  /** Our dtype, or undefined for one that the kit does not compute with; such a tensor is listed but not read. */
  readonly dtype: DType | undefined;
  readonly shape: readonly number[];
  /** Undefined where the elements do not lie in order. */
  readonly location: TensorLocation | undefined;
  /**
   * The elements from `start` (default 0) up to `end` (default all), counted in row-major order.
   *
   * @throws UnsupportedError `CPM_CHECKPOINT_DTYPE_UNSUPPORTED`, CheckpointError where the bytes are not there
   */
  read(start?: number, end?: number): Promise<HostArray>;
}

export interface RawCheckpoint {
  readonly format: "safetensors" | "torch";
  /** All files that hold tensors. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, RawTensor>;
  /** Strings that travel with the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Names of entries of the file that are no tensors. */
  readonly ignored: readonly string[];
  close(): Promise<void>;
}

/** Names longer than this are refused: no format needs them. */
const nameLimit = 512;

/** Refuses names that would be dangerous as a key of an object, in a terminal or in a log. */
export function checkTensorName(name: string, where: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (name !== "" && name.length <= nameLimit && name !== "__proto__" && !/[\u0000-\u001f\u007f-\u009f]/.test(name))
    return;
  throw new CheckpointError("CPM_CHECKPOINT_NAME", "a tensor has an unacceptable name", {
    where,
    got: JSON.stringify(name.slice(0, 100)),
    expected: `1 to ${nameLimit} printable characters`,
  });
}

/**
 * Elements of a shape from a stranger.
 *
 * @throws CheckpointError `CPM_CHECKPOINT_SHAPE_INVALID` for a size that is no count, more than 32 axes, or a product
 * beyond 2⁵³
 */
export function checkedElementCount(shape: unknown, name: string, where: string): number {
  const bad = (what: string): CheckpointError =>
    new CheckpointError("CPM_CHECKPOINT_SHAPE_INVALID", what, { where: `${where}: ${name}`, got: show(shape) });
  if (!Array.isArray(shape) || shape.length > 32) throw bad("a shape must be a list of at most 32 sizes");
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) throw bad("a size must be a count");
    if (size !== 0 && count > Number.MAX_SAFE_INTEGER / size)
      throw bad("a shape has more elements than can be counted");
    count *= size;
  }
  return count;
}

export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

/** The dtype of a tensor that is to be read. */
export function requireDType(tensor: Pick<RawTensor, "dtype" | "storedDType" | "name">, where: string): DType {
  if (tensor.dtype !== undefined) return tensor.dtype;
  throw new UnsupportedError("CPM_CHECKPOINT_DTYPE_UNSUPPORTED", `nothing here computes with ${tensor.storedDType}`, {
    where: `${where}: ${tensor.name}`,
    expected: "float32, float16, bfloat16, float64, int64, int32, int8, uint8 or bool",
  });
}

/** Checks a range of elements to read and fills in its ends. */
export function elementRange(shape: readonly number[], start = 0, end = elementCount(shape)): [number, number] {
  const count = elementCount(shape);
  if (!(Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end <= count)) {
    throw new Error(`internal: elements ${start} to ${end} of ${count}`);
  }
  return [start, end];
}

/** Bytes that were read, as elements. The bytes must be alone in their buffer, so that they are aligned. */
export function asElements(dtype: DType, bytes: Uint8Array<ArrayBuffer>): HostArray {
  return hostArray(dtype, bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bytes of one element; the dtypes of files have no packed elements. */
export function elementBytes(dtype: DType): number {
  return byteLength(dtype, [1]);
}

/** Float elements as float32: a view where they are float32 already. */
export function toFloat32(data: HostArray, dtype: DType, where: string): Float32Array {
  switch (dtype) {
    case "float32":
      return data as Float32Array;
    case "float16":
      return float16ToFloat32(data as Uint16Array);
    case "bfloat16":
      return bfloat16ToFloat32(data as Uint16Array);
    case "float64":
      return Float32Array.from(data as Float64Array);
    default:
      throw new CheckpointError("CPM_CHECKPOINT_DTYPE", "a parameter must hold floating-point numbers", {
        where,
        got: dtype,
      });
  }
}
