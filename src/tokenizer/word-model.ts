/**
 * jieba's hidden Markov model of words: which characters of an unknown run begin (B), continue (M) or end (E) a word
 * or stand alone (S). Viterbi's algorithm, as `jieba/finalseg` has it, tie for tie.
 *
 * Ties are common, since a state that never emitted a character has the log probability −3.14e100, which swallows all
 * smaller terms. Python takes the maximum of (probability, letter): on a tie the later letter of B < E < M < S wins.
 */
import { type JiebaData, stateCount } from "./jieba-data.ts";

const B = 0;
const E = 1;
const M = 2;
const S = 3;

/** The two states that may come before each state, the one that loses a tie first. */
const previous = [
  [E, S],
  [B, M],
  [B, M],
  [E, S],
] as const;

export interface WordModel {
  /**
   * Cuts `units[from, to)`, all of them Han characters, and calls `emit` with the index after each word, in order.
   */
  cut(units: Uint16Array, from: number, to: number, emit: (end: number) => void): void;
}

export function createWordModel(data: JiebaData): WordModel {
  const { start, transition, emission, hanFirst } = data;
  let capacity = 256;
  let score = new Float64Array(capacity * stateCount);
  let back = new Uint8Array(capacity * stateCount);
  let states = new Uint8Array(capacity);

  function cut(units: Uint16Array, from: number, to: number, emit: (end: number) => void): void {
    const length = to - from;
    if (length > capacity) {
      capacity = 2 ** Math.ceil(Math.log2(length));
      score = new Float64Array(capacity * stateCount);
      back = new Uint8Array(capacity * stateCount);
      states = new Uint8Array(capacity);
    }
    const firstRow = (units[from]! - hanFirst) * stateCount;
    for (let state = 0; state < stateCount; state++) score[state] = start[state]! + emission[firstRow + state]!;
    for (let t = 1; t < length; t++) {
      const row = (units[from + t]! - hanFirst) * stateCount;
      const before = (t - 1) * stateCount;
      for (let state = 0; state < stateCount; state++) {
        const [low, high] = previous[state]!;
        const emitted = emission[row + state]!;
        // The order of the additions is Python's: it decides the last bit.
        const ofLow = score[before + low]! + transition[low * stateCount + state]! + emitted;
        const ofHigh = score[before + high]! + transition[high * stateCount + state]! + emitted;
        const highWins = ofHigh >= ofLow;
        score[t * stateCount + state] = highWins ? ofHigh : ofLow;
        back[t * stateCount + state] = highWins ? high : low;
      }
    }
    const end = (length - 1) * stateCount;
    let state: number = score[end + S]! >= score[end + E]! ? S : E;
    for (let t = length - 1; t >= 0; t--) {
      states[t] = state;
      state = back[t * stateCount + state]!;
    }
    // A run ends in E or S, and only M or E can follow B, so the words are the stretches up to each E or S.
    for (let t = 0; t < length; t++) if (states[t] === E || states[t] === S) emit(from + t + 1);
  }

  return { cut };
}
