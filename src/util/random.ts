/**
 * Seeded random numbers that are a pure function of (seed, stream, position).
 *
 * The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
 * (SC 2011): a keyed bijection of a 128-bit counter, so any number of the sequence can be computed without the ones
 * before it. That is what makes a run resumable (the state is a position), an initialisation independent of how tensors
 * are split over ranks, and a sampled row independent of the batch it is in.
 *
 * Layout of one evaluation, words from the lowest:
 *
 *     key     = [seed low, seed high]
 *     counter = [block low, block high, stream low, stream high]      one block = four 32-bit words
 *
 * A numeric stream is used as it is; a string or a fork is hashed to 64 bits with the top bit set, so that the two never
 * meet. Not for cryptography. The integers are the same on every engine; normals go through Math.log and Math.cos, which
 * two JavaScript engines may round differently in the last bit of a double.
 */
import { ConfigError } from "./error.ts";

/** 64 bits as a non-negative bigint, or a non-negative safe integer. */
export type Seed = bigint | number;
/** Which of the sequences of a seed: a non-negative safe integer or a name. */
export type Stream = number | string;

const TWO_TO_MINUS_24 = 2 ** -24;
const TWO_TO_MINUS_32 = 2 ** -32;
const TWO_TO_MINUS_53 = 2 ** -53;
const TWO_TO_32 = 2 ** 32;
const TWO_TO_53 = 2 ** 53;
const TOP_BIT = 0x80000000;

// Multipliers in halves of 16 bits (products of halves fit 32 bits) and Weyl increments of the key.
const M0 = 0xd2511f53;
const M0_LOW = 0x1f53;
const M0_HIGH = 0xd251;
const M1 = 0xcd9e8d57;
const M1_LOW = 0x8d57;
const M1_HIGH = 0xcd9e;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** Writes the four words of one block into `out` (at least four long): ten rounds. */
function philox(
  out: Uint32Array,
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
): void {
  let c0 = counter0 | 0;
  let c1 = counter1 | 0;
  let c2 = counter2 | 0;
  let c3 = counter3 | 0;
  let k0 = key0 | 0;
  let k1 = key1 | 0;
  for (let round = 0; round < 10; round++) {
    // High word of M·c by 16-bit halves; every partial sum stays below 2³².
    const l0 = c0 & 0xffff;
    const h0 = c0 >>> 16;
    const u0 = (Math.imul(M0_HIGH, l0) + (Math.imul(M0_LOW, l0) >>> 16)) | 0;
    const v0 = (Math.imul(M0_LOW, h0) + (u0 & 0xffff)) | 0;
    const high0 = (Math.imul(M0_HIGH, h0) + (u0 >>> 16) + (v0 >>> 16)) | 0;
    const l1 = c2 & 0xffff;
    const h1 = c2 >>> 16;
    const u1 = (Math.imul(M1_HIGH, l1) + (Math.imul(M1_LOW, l1) >>> 16)) | 0;
    const v1 = (Math.imul(M1_LOW, h1) + (u1 & 0xffff)) | 0;
    const high1 = (Math.imul(M1_HIGH, h1) + (u1 >>> 16) + (v1 >>> 16)) | 0;
    const low0 = Math.imul(M0, c0);
    const low1 = Math.imul(M1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The four 32-bit words of Philox4x32-10 under `key` at `counter`, words from the lowest: random access to any block. */
export function philoxAt(
  key: readonly [number, number],
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  const out = new Uint32Array(4);
  philox(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

/** What `Random.state` returns and `Random.restore` takes: plain JSON, continues exactly. */
export interface RandomState {
  readonly algorithm: "philox4x32-10";
  /** 16 hexadecimal digits. */
  readonly seed: string;
  /** 16 hexadecimal digits. */
  readonly stream: string;
  /** 32-bit words taken so far. */
  readonly position: number;
}

/** A sequence of random numbers. Each method says how many 32-bit words of the stream it takes. */
export interface Random {
  /** An integer in [0, 2³²). One word. */
  uint32(): number;
  /** A number in [0, 1) with 53 random bits. Two words. */
  uniform(): number;
  /** A number in (0, 1): odd multiples of 2⁻⁵³, 52 random bits. Two words. */
  uniformOpen(): number;
  /** An integer in [0, maxExclusive), every one equally likely; 1 ≤ maxExclusive ≤ 2⁵³. Rejects, so a varying number of words. */
  integer(maxExclusive: number): number;
  /** A standard normal by Box-Muller. Four words. */
  normal(): number;
  /** Shuffles in place, every order equally likely (Fisher-Yates), and returns the array. */
  shuffle<A extends unknown[] | Int32Array | Uint32Array | Float32Array | Float64Array>(array: A): A;
  /** A new sequence under the same seed, decided by this stream and the label alone, not by the position. */
  fork(label: Stream): Random;
  state(): RandomState;
  /** Goes on from a state that this or another sequence gave. Throws CPM_RANDOM_STATE where it is not one. */
  restore(state: RandomState): void;
}

/** A sequence of random numbers for a seed and a stream. Throws CPM_RANDOM_SEED or CPM_RANDOM_STREAM on a value outside its range. */
export function createRandom(seed: Seed, stream: Stream = 0): Random {
  return randomAt(seedWords(seed), streamWords(stream), 0);
}

/** [low, high] words of 64 bits. */
type Words = readonly [low: number, high: number];

function randomAt(initialKey: Words, initialStream: Words, initialPosition: number): Random {
  let key = initialKey;
  let stream = initialStream;
  let position = initialPosition;
  const block = new Uint32Array(4);
  let loadedBlock = -1;

  function uint32(): number {
    const index = Math.floor(position / 4);
    if (index !== loadedBlock) {
      philox(block, index, index / TWO_TO_32, stream[0], stream[1], key[0], key[1]);
      loadedBlock = index;
    }
    return block[position++ % 4]!;
  }
  // The low word first, so that the order of evaluation is not hidden in an expression.
  function bits53(): number {
    const low = uint32() >>> 6;
    return (uint32() >>> 5) * 67108864 + low;
  }
  function uniformOpen(): number {
    const low = uint32() >>> 6;
    return ((uint32() >>> 6) * 134217728 + low * 2 + 1) * TWO_TO_MINUS_53;
  }
  function integer(maxExclusive: number): number {
    if (!Number.isInteger(maxExclusive) || maxExclusive < 1 || maxExclusive > TWO_TO_53) {
      throw new ConfigError("CPM_RANDOM_RANGE", "a random integer needs a range of whole numbers", {
        got: String(maxExclusive),
        expected: "an integer from 1 to 2^53",
      });
    }
    if (maxExclusive <= TWO_TO_32) {
      const limit = TWO_TO_32 - (TWO_TO_32 % maxExclusive);
      let word = uint32();
      while (word >= limit) word = uint32();
      return word % maxExclusive;
    }
    const limit = TWO_TO_53 - (TWO_TO_53 % maxExclusive);
    let bits = bits53();
    while (bits >= limit) bits = bits53();
    return bits % maxExclusive;
  }

  return {
    uint32,
    uniform: () => bits53() * TWO_TO_MINUS_53,
    uniformOpen,
    integer,
    normal() {
      const radius = Math.sqrt(-2 * Math.log(uniformOpen()));
      return radius * Math.cos(2 * Math.PI * bits53() * TWO_TO_MINUS_53);
    },
    shuffle(array) {
      for (let last = array.length - 1; last > 0; last--) {
        const other = integer(last + 1);
        const kept = array[last];
        array[last] = array[other] as never;
        array[other] = kept as never;
      }
      return array;
    },
    fork: (label) => randomAt(key, forkWords(key, stream, streamWords(label)), 0),
    state: () => ({ algorithm: "philox4x32-10", seed: hex(key), stream: hex(stream), position }),
    restore(state) {
      const read = readState(state);
      key = read.key;
      stream = read.stream;
      position = read.position;
      loadedBlock = -1;
    },
  };
}

/**
 * out[i] = mean + std · z, where z is the standard normal number `start + i` of (seed, stream): a pure function of
 * those three, so an array filled in pieces equals the array filled at once. 32-bit uniforms, |z| ≤ 6.7. The stream is
 * the one that `createRandom` of the same name reads word by word.
 */
export function fillNormal(out: Float32Array, seed: Seed, stream: Stream, mean = 0, std = 1, start = 0): void {
  const [key0, key1] = seedWords(seed);
  const [stream0, stream1] = streamWords(stream);
  const end = checkedStart(start) + out.length;
  const words = new Uint32Array(4);
  const normals = new Float64Array(4);
  for (let block = Math.floor(start / 4); block * 4 < end; block++) {
    philox(words, block, block / TWO_TO_32, stream0, stream1, key0, key1);
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = std * Math.sqrt(-2 * Math.log((words[pair]! + 1) * TWO_TO_MINUS_32));
      const angle = 2 * Math.PI * TWO_TO_MINUS_32 * words[pair + 1]!;
      normals[pair] = mean + radius * Math.cos(angle);
      normals[pair + 1] = mean + radius * Math.sin(angle);
    }
    const first = block * 4 - start;
    for (let i = Math.max(0, -first); i < 4 && first + i < out.length; i++) out[first + i] = normals[i]!;
  }
}

/**
 * out[i] = low + (high − low) · u, where u in [0, 1) has the upper 24 bits of word `start + i` of (seed, stream): the
 * same numbers however the array is split. For a range other than [0, 1) the last float below `high` may round to it.
 */
export function fillUniform(out: Float32Array, seed: Seed, stream: Stream, low = 0, high = 1, start = 0): void {
  const [key0, key1] = seedWords(seed);
  const [stream0, stream1] = streamWords(stream);
  const end = checkedStart(start) + out.length;
  const words = new Uint32Array(4);
  const scale = (high - low) * TWO_TO_MINUS_24;
  for (let block = Math.floor(start / 4); block * 4 < end; block++) {
    philox(words, block, block / TWO_TO_32, stream0, stream1, key0, key1);
    const first = block * 4 - start;
    for (let i = Math.max(0, -first); i < 4 && first + i < out.length; i++) {
      out[first + i] = low + scale * (words[i]! >>> 8);
    }
  }
}

/** out[i] = word `start + i` of (seed, stream): the same words however the array is split. */
export function fillWords(out: Uint32Array, seed: Seed, stream: Stream, start = 0): void {
  const [key0, key1] = seedWords(seed);
  const [stream0, stream1] = streamWords(stream);
  const end = checkedStart(start) + out.length;
  const words = new Uint32Array(4);
  for (let block = Math.floor(start / 4); block * 4 < end; block++) {
    philox(words, block, block / TWO_TO_32, stream0, stream1, key0, key1);
    const first = block * 4 - start;
    for (let i = Math.max(0, -first); i < 4 && first + i < out.length; i++) out[first + i] = words[i]!;
  }
}

function seedWords(seed: Seed): Words {
  const valid = typeof seed === "bigint" ? seed >= 0n && seed < 2n ** 64n : Number.isSafeInteger(seed) && seed >= 0;
  if (!valid) {
    throw new ConfigError("CPM_RANDOM_SEED", "the seed is not a whole number in range", {
      got: String(seed),
      expected: "a bigint from 0 to 2^64 - 1, or a number from 0 to 2^53 - 1",
    });
  }
  return typeof seed === "bigint"
    ? [Number(seed & 0xffffffffn), Number(seed >> 32n)]
    : [seed >>> 0, Math.floor(seed / TWO_TO_32)];
}

function streamWords(stream: Stream): Words {
  if (typeof stream === "string") return hashName(stream);
  if (!Number.isSafeInteger(stream) || stream < 0) {
    throw new ConfigError("CPM_RANDOM_STREAM", "the stream is not a whole number in range", {
      got: String(stream),
      expected: "a number from 0 to 2^53 - 1, or a name",
    });
  }
  return [stream >>> 0, Math.floor(stream / TWO_TO_32)];
}

/** A name to 64 bits: its UTF-16 units, four words a block, chained through Philox; top bit set. */
function hashName(name: string): Words {
  const chain = new Uint32Array(4);
  // The length goes in first, so that a name and the same name with trailing zeros differ.
  let low = name.length;
  let high = 0;
  for (let at = 0; at < name.length; at += 4) {
    const first = name.charCodeAt(at) | (unit(name, at + 1) << 16);
    const second = unit(name, at + 2) | (unit(name, at + 3) << 16);
    philox(chain, first, second, low, high, 0x6e616d65, 0x73747265);
    low = chain[0]!;
    high = chain[1]!;
  }
  return [low >>> 0, (high | TOP_BIT) >>> 0];
}

function unit(name: string, at: number): number {
  return at < name.length ? name.charCodeAt(at) : 0;
}

function forkWords(key: Words, parent: Words, label: Words): Words {
  // The key is turned so that these words never show up in a sequence of the same seed.
  const [low, high] = philoxAt([~key[0], ~key[1]], [parent[0], parent[1], label[0], label[1]]);
  return [low, (high | TOP_BIT) >>> 0];
}

function hex(words: Words): string {
  return words[1].toString(16).padStart(8, "0") + words[0].toString(16).padStart(8, "0");
}

function readState(state: RandomState): { key: Words; stream: Words; position: number } {
  const digits = /^[0-9a-f]{16}$/;
  const valid =
    typeof state === "object" &&
    state !== null &&
    state.algorithm === "philox4x32-10" &&
    digits.test(state.seed) &&
    digits.test(state.stream) &&
    Number.isSafeInteger(state.position) &&
    state.position >= 0;
  if (!valid) {
    throw new ConfigError("CPM_RANDOM_STATE", "this is not a state of the random generator", {
      got: JSON.stringify(state)?.slice(0, 200),
      expected: '{"algorithm":"philox4x32-10","seed":16 hex digits,"stream":16 hex digits,"position":a whole number}',
    });
  }
  return { key: unhex(state.seed), stream: unhex(state.stream), position: state.position };
}

function unhex(digits: string): Words {
  return [Number.parseInt(digits.slice(8), 16), Number.parseInt(digits.slice(0, 8), 16)];
}

function checkedStart(start: number): number {
  if (!Number.isSafeInteger(start) || start < 0) throw new Error(`internal: fill from element ${start}`);
  return start;
}
