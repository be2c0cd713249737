/**
 * Weights of 4 or 8 bits in a file: three tensors in the place of one.
 *
 * A matrix `NAME` [N, K] is `NAME.packed` [N, G, Z] uint8, `NAME.scales` [N, G] float32 and, where zero is not in the
 * middle, `NAME.zeros` [N, ⌈G·bits/8⌉] uint8: G groups of K/G inputs, Z bytes each, two 4-bit numbers a byte with the lower
 * nibble first; w = scale · (q − zero), zero being 2^(bits−1) where it is not stored. Shapes tell bits and groups: powers of two
 * of inputs or, at 8 bits with zero in the middle, whole rows.
 *
 * Scales may be of 8 bits themselves, as in QLoRA (Dettmers et al. 2023): in the place of `NAME.scales` there are then
 * `NAME.scale_levels` [B, 256] uint8 and `NAME.scale_ranges` [B, 2] float32: B = ⌈N·G/256⌉ blocks of 256 scales in order, of
 * each the lowest and a step, scale = lowest + step · level. They are read as float32 scales.
 */
import type { DType, HostArray } from "../runtime/dtype.ts";
import { CheckpointError } from "../util/error.ts";
import type { RawTensor, TensorLocation } from "./raw.ts";

export interface PackedFormat {
  readonly bits: 4 | 8;
  /** Inputs that share a scale. */
  readonly groupSize: number;
}

/** One of the tensors that a packed weight consists of. */
export interface PackedPart {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly location: TensorLocation | undefined;
  read(): Promise<HostArray>;
}

export interface PackedWeight extends PackedFormat {
  readonly packed: PackedPart;
  readonly scales: PackedPart;
  readonly zeros: PackedPart | undefined;
}

/** Values of a packed weight in memory. */
export interface PackedValues {
  readonly packed: Uint8Array;
  readonly scales: Float32Array;
  readonly zeros?: Uint8Array | undefined;
}

/** Scales in 8 bits: whole blocks of levels, and a lowest scale and a step for each block. */
export interface DoubledScales {
  readonly levels: Uint8Array;
  readonly ranges: Float32Array;
}

/** Scales that share a range. */
export const scaleBlock = 256;

const suffixes = [".packed", ".scales", ".zeros", ".scale_levels", ".scale_ranges"] as const;

/** A file's names with those of packed weights' parts put together under the weight's own. */
export function withoutParts(names: Iterable<string>): Set<string> {
  const all = new Set(names);
  const result = new Set<string>();
  for (const name of all) {
    const suffix = suffixes.find((ending) => name.endsWith(ending));
    const own = suffix === undefined ? name : name.slice(0, -suffix.length);
    result.add(suffix !== undefined && all.has(`${own}.packed`) ? own : name);
  }
  return result;
}

/** Names of the parts that a packed weight has in a file. */
export function partNames(name: string): string[] {
  return suffixes.map((suffix) => name + suffix);
}

/**
 * The packed weight of this name and shape, or undefined where the file has none.
 *
 * @throws CheckpointError `CPM_CHECKPOINT_SHAPE` where its parts do not belong together
 */
export function packedWeight(
  tensors: ReadonlyMap<string, RawTensor>,
  name: string,
  shape: readonly number[],
  where: string,
): PackedWeight | undefined {
  const packed = tensors.get(`${name}.packed`);
  if (packed === undefined) return undefined;
  const scales = tensors.get(`${name}.scales`);
  const levels = tensors.get(`${name}.scale_levels`);
  const ranges = tensors.get(`${name}.scale_ranges`);
  const zeros = tensors.get(`${name}.zeros`);
  const [N, K] = shape as [number, number];
  const [, G, Z] = packed.shape as [number, number, number];
  const groupSize = K / G;
  const bits = (8 * Z) / groupSize;
  // Kernels go through such a row in groups of 16 or more that share its scale.
  const isWholeRow = G === 1 && bits === 8 && zeros === undefined && K % 16 === 0;
  const is = (tensor: RawTensor, dtype: DType, expected: readonly number[]) =>
    tensor.dtype === dtype && String(tensor.shape) === String(expected);
  const fits =
    shape.length === 2 &&
    packed.shape.length === 3 &&
    Number.isInteger(groupSize) &&
    groupSize >= 16 &&
    (Number.isInteger(Math.log2(groupSize)) || isWholeRow) &&
    (bits === 4 || bits === 8) &&
    is(packed, "uint8", [N, G, Z]) &&
    (scales !== undefined
      ? is(scales, "float32", [N, G])
      : levels !== undefined &&
        ranges !== undefined &&
        is(levels, "uint8", [Math.ceil((N * G) / scaleBlock), scaleBlock]) &&
        is(ranges, "float32", [Math.ceil((N * G) / scaleBlock), 2])) &&
    (zeros === undefined || is(zeros, "uint8", [N, Math.ceil((G * bits) / 8)]));
  if (!fits) {
    const show = (tensor: RawTensor | undefined) =>
      tensor === undefined ? "absent" : `${tensor.storedDType} [${tensor.shape.join(", ")}]`;
    throw new CheckpointError("CPM_CHECKPOINT_SHAPE", "the parts of a packed weight do not belong together", {
      where: `${where}: ${name}`,
      got: `packed ${show(packed)}, scales ${show(scales ?? levels)}, zeros ${show(zeros)}`,
      expected: `a matrix [${shape.join(", ")}] in groups of 16, 32, 64 … inputs at 4 or 8 bits, or of whole rows at 8`,
    });
  }
  const part = (tensor: RawTensor): PackedPart => ({
    dtype: tensor.dtype!,
    shape: tensor.shape,
    location: tensor.location,
    read: () => tensor.read(),
  });
  const float32Scales: PackedPart = scales
    ? part(scales)
    : {
        ...{ dtype: "float32", shape: [N, G], location: undefined },
        read: async () => {
          const [own, of] = await Promise.all([levels!.read(), ranges!.read()]);
          return expandScales({ levels: own as Uint8Array, ranges: of as Float32Array }, N * G);
        },
      };
  return { bits, groupSize, packed: part(packed), scales: float32Scales, zeros: zeros && part(zeros) };
}

/** So many scales in float32 from their 8 bits. */
export function expandScales({ levels, ranges }: DoubledScales, count: number): Float32Array {
  const scales = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const block = 2 * Math.floor(i / scaleBlock);
    scales[i] = ranges[block]! + ranges[block + 1]! * levels[i]!;
  }
  return scales;
}

/** The weight [N, K] in float32, from its values. */
export function unpackWeight(
  { packed, scales, zeros }: PackedValues,
  { bits, groupSize }: PackedFormat,
  [N, K]: readonly [number, number],
): Float32Array {
  const out = new Float32Array(N * K);
  const G = K / groupSize;
  const zeroBytes = Math.ceil((G * bits) / 8);
  const middle = 2 ** (bits - 1);
  for (let row = 0, at = 0; row < N; row++) {
    for (let group = 0; group < G; group++) {
      const scale = scales[row * G + group]!;
      let zero = middle;
      if (zeros && bits === 8) zero = zeros[row * zeroBytes + group]!;
      else if (zeros) zero = (zeros[row * zeroBytes + (group >> 1)]! >> (group % 2 === 0 ? 0 : 4)) & 15;
      if (bits === 8) {
        for (let i = 0; i < groupSize; i++, at++) out[at] = scale * (packed[at]! - zero);
      } else {
        for (let i = 0; i < groupSize; i += 2, at += 2) {
          const byte = packed[at >> 1]!;
          out[at] = scale * ((byte & 15) - zero);
          out[at + 1] = scale * ((byte >> 4) - zero);
        }
      }
    }
  }
  return out;
}
