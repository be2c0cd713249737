/**
 * A seeded permutation of the numbers below n without a table: place by place in constant memory, for data sets whose
 * documents do not fit one.
 *
 * A four-round Feistel network over the next even number of bits, its round function Philox; values that fall outside are
 * sent through again until they fall inside (cycle walking, Black and Rogaway 2002), less than four times on average.
 */
import { philoxAt, type Random } from "./random.ts";

const rounds = 4;

/** place → number, a bijection of 0 … n − 1. The random sequence gives the key. */
export function createPermutation(n: number, random: Random): (place: number) => number {
  if (!Number.isSafeInteger(n) || n < 1 || n > 2 ** 48) throw new Error(`internal: a permutation of ${n}`);
  const halfBits = Math.max(1, Math.ceil(Math.log2(Math.max(2, n)) / 2));
  const half = 2 ** halfBits;
  const key: [number, number] = [random.uint32(), random.uint32()];
  const tweak = random.uint32();
  return (place) => {
    if (!(place >= 0 && place < n)) throw new Error(`internal: place ${place} of ${n}`);
    let value = place;
    do {
      let left = Math.floor(value / half);
      let right = value % half;
      for (let round = 0; round < rounds; round++) {
        const mixed = philoxAt(key, [right, round, tweak, 0])[0] % half;
        [left, right] = [right, (left + mixed) % half];
      }
      value = left * half + right;
    } while (value >= n);
    return value;
  };
}
