/**
 * Weights rounded to the nearest of 16 or 256 levels, each group of inputs on a scale of its own.
 *
 * - symmetric: zero is the middle level. At 4 bits the largest weight by size, with its sign, becomes level 0 (−8 steps
 *   from the middle), so all 16 levels are used; at 8 bits the scale is max|w| / 127.
 * - asymmetric: levels span min(w, 0) … max(w, 0), and zero is a level, so that what is exactly 0 stays so.
 *
 * The layout is that of `checkpoint/packed-weight.ts`.
 */
import {
  type DoubledScales,
  expandScales,
  type PackedFormat,
  type PackedValues,
  scaleBlock,
} from "../checkpoint/packed-weight.ts";
import { ConfigError } from "../util/error.ts";

export interface RoundingOptions extends PackedFormat {
  readonly symmetric: boolean;
  /** All groups of a row share one scale: a scale for each output, which the kernels are given once a group. */
  readonly perChannel?: boolean;
  /** Scales are rounded to 8 bits themselves, before the weights are rounded on them. */
  readonly doubled?: boolean;
}

export interface RoundingError {
  /** √(Σ(w − w′)² / Σw²) */
  readonly relative: number;
  readonly largest: number;
}

export interface RoundedWeight {
  readonly values: PackedValues;
  /** Where they were asked for: what `values.scales` are made of. */
  readonly doubled?: DoubledScales | undefined;
  readonly error: RoundingError;
}

/** Numbers that a row's kernel takes: groups are powers of two from 16 on. */
const smallestGroup = 16;

/**
 * The group size to use for rows of K inputs: the wanted one, or the largest power of two below it that divides K.
 * Undefined where not even 16 does: such a weight stays as it is.
 */
export function fittingGroup(K: number, wanted: number): number | undefined {
  if (!Number.isInteger(Math.log2(wanted)) || wanted < smallestGroup) {
    throw new ConfigError("CPM_QUANTIZE_GROUP", "the size of a group must be a power of two", {
      got: String(wanted),
      expected: "16, 32, 64, 128 or 256",
    });
  }
  for (let size = wanted; size >= smallestGroup; size /= 2) if (K % size === 0) return size;
  return undefined;
}

/** Rounds a matrix w `[N, K]` in groups that divide K. */
export function roundToNearest(
  w: Float32Array,
  [N, K]: readonly [number, number],
  options: RoundingOptions,
): RoundedWeight {
  const { bits, groupSize, symmetric, doubled = false } = options;
  const G = K / groupSize;
  if (!Number.isInteger(G) || w.length !== N * K) throw new Error(`internal: groups of ${groupSize} in [${N}, ${K}]`);
  const top = 2 ** bits - 1;
  const packed = new Uint8Array((N * K * bits) / 8);
  const { scales: exact, zeros: zeroOf } = scalesOf(w, [N, K], options);
  const twice = doubled ? doubleScales(exact) : undefined;
  const scales = twice ? expandScales(twice, exact.length) : exact;
  const zeroBytes = Math.ceil((G * bits) / 8);
  const zeros = symmetric ? undefined : new Uint8Array(N * zeroBytes);
  let squares = 0;
  let wrong = 0;
  let largest = 0;
  for (let row = 0; row < N; row++) {
    for (let group = 0; group < G; group++) {
      const start = row * K + group * groupSize;
      const scale = scales[row * G + group]!;
      const zero = zeroOf[row * G + group]!;
      const inverse = scale === 0 ? 0 : 1 / scale;
      if (zeros && bits === 8) zeros[row * zeroBytes + group] = zero;
      else if (zeros) zeros[row * zeroBytes + (group >> 1)]! |= zero << (group % 2 === 0 ? 0 : 4);
      for (let i = start; i < start + groupSize; i++) {
        const value = w[i]!;
        let level = Math.round(value * inverse) + zero;
        if (level < 0) level = 0;
        else if (level > top) level = top;
        if (bits === 8) packed[i] = level;
        else packed[i >> 1]! |= level << (i % 2 === 0 ? 0 : 4);
        const off = value - scale * (level - zero);
        squares += value * value;
        wrong += off * off;
        const size = off < 0 ? -off : off;
        if (size > largest) largest = size;
      }
    }
  }
  return {
    values: { packed, scales, zeros },
    ...(twice && { doubled: twice }),
    error: { relative: squares === 0 ? 0 : Math.sqrt(wrong / squares), largest },
  };
}

/** Scale and zero level of every group [N, G]. */
function scalesOf(
  w: Float32Array,
  [N, K]: readonly [number, number],
  { bits, groupSize, symmetric, perChannel = false }: RoundingOptions,
): { readonly scales: Float32Array; readonly zeros: Uint8Array } {
  const G = K / groupSize;
  const scales = new Float32Array(N * G);
  const zeros = new Uint8Array(N * G);
  for (let row = 0; row < N; row++) {
    const whole = perChannel ? levels(w, row * K, K, bits, symmetric) : undefined;
    for (let group = 0; group < G; group++) {
      const { scale, zero } = whole ?? levels(w, row * K + group * groupSize, groupSize, bits, symmetric);
      scales[row * G + group] = scale;
      zeros[row * G + group] = zero;
    }
  }
  return { scales, zeros };
}

/**
 * Scales in 8 bits: 256 levels between the lowest and the highest of each 256 of them. The largest error is half a step:
 * 1/510 of that range.
 */
export function doubleScales(scales: Float32Array): DoubledScales {
  const blocks = Math.ceil(scales.length / scaleBlock);
  const levels = new Uint8Array(blocks * scaleBlock);
  const ranges = new Float32Array(blocks * 2);
  for (let from = 0, block = 0; from < scales.length; from += scaleBlock, block += 2) {
    const own = scales.subarray(from, from + scaleBlock);
    let low = own[0]!;
    let high = low;
    for (const scale of own) {
      if (scale < low) low = scale;
      if (scale > high) high = scale;
    }
    const step = Math.fround((high - low) / 255);
    ranges[block] = low;
    ranges[block + 1] = step;
    if (step === 0) continue;
    for (let i = 0; i < own.length; i++) levels[from + i] = Math.min(255, Math.round((own[i]! - low) / step));
  }
  return { levels, ranges };
}

/** Scale and zero level of `count` weights from `start` on. */
function levels(
  w: Float32Array,
  start: number,
  count: number,
  bits: 4 | 8,
  symmetric: boolean,
): { readonly scale: number; readonly zero: number } {
  let low = 0;
  let high = 0;
  for (let i = start; i < start + count; i++) {
    const value = w[i]!;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const middle = 2 ** (bits - 1);
  if (!symmetric) {
    const scale = Math.fround((high - low) / (2 ** bits - 1));
    return { scale, zero: scale === 0 ? 0 : Math.round(-low / scale) };
  }
  if (bits === 8) return { scale: Math.fround(Math.max(high, -low) / (middle - 1)), zero: middle };
  const extreme = high > -low ? high : low;
  return { scale: Math.fround(extreme / -middle), zero: middle };
}
