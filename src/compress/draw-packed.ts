/**
 * Random weights drawn on the levels of 4 or 8 bits: a model of any size for measuring, made without the float32 weights
 * that it would be rounded from.
 *
 * Each level is a standard normal number rounded to a grid of one step for all groups: 16 random bits choose it through
 * the normal distribution's quantiles, cut at the outermost levels.
 */
import type { PackedFormat, PackedValues } from "../checkpoint/packed-weight.ts";
import { fillWords, type Seed } from "../util/random.ts";

/** Steps of the grid in standard deviations: near the least mean square for 16 levels; 256 levels reach 4.2. */
const steps = { 4: 0.335, 8: 1 / 30 } as const;

const tables = new Map<4 | 8, Uint8Array>();

/** Levels by 16 random bits. */
function levelTable(bits: 4 | 8): Uint8Array {
  const known = tables.get(bits);
  if (known) return known;
  const table = new Uint8Array(2 ** 16);
  const top = 2 ** bits - 1;
  const middle = 2 ** (bits - 1);
  // Quantile by quantile: the distribution is summed up in steps much finer than 2⁻¹⁶.
  let z = -8;
  let reached = 0;
  const dz = 1 / 16384;
  for (let i = 0; i < table.length; i++) {
    const wanted = (i + 0.5) / table.length;
    while (reached < wanted && z < 8) {
      reached += (Math.exp(-((z + dz / 2) ** 2) / 2) / Math.sqrt(2 * Math.PI)) * dz;
      z += dz;
    }
    table[i] = Math.max(0, Math.min(top, Math.round(z / steps[bits]) + middle));
  }
  tables.set(bits, table);
  return table;
}

/** A packed matrix [N, K] of normal numbers with this deviation, symmetric; a pure function of seed and stream. */
export function drawPacked(
  [N, K]: readonly [number, number],
  { bits, groupSize }: PackedFormat,
  { seed, stream, deviation }: { readonly seed: Seed; readonly stream: string; readonly deviation: number },
): PackedValues {
  const table = levelTable(bits);
  const packed = new Uint8Array((N * K * bits) / 8);
  const words = new Uint32Array(2 ** 16);
  const perWord = bits === 4 ? 1 : 2;
  for (let at = 0; at < packed.length; at += words.length * perWord) {
    fillWords(words, seed, stream, at / perWord);
    const count = Math.min(words.length, (packed.length - at) / perWord);
    for (let i = 0; i < count; i++) {
      const [first, second] = [table[words[i]! & 0xffff]!, table[words[i]! >>> 16]!];
      if (bits === 4) packed[at + i] = first | (second << 4);
      else {
        packed[at + 2 * i] = first;
        packed[at + 2 * i + 1] = second;
      }
    }
  }
  return { packed, scales: new Float32Array((N * K) / groupSize).fill(deviation * steps[bits]) };
}
