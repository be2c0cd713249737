/**
 * Choosing the next token of one row: greedy, or a draw after temperature, top-k and top-p (nucleus, Holtzman et al. 2020),
 * in that order, as the original does.
 *
 * The nucleus is found without sorting: tokens lighter than (1 − p)/n of the total weigh less than 1 − p together and
 * so lie outside of it, whatever their order. The few thousand that are left are summed up by the first bits of their
 * weights, which tells among which of them the nucleus ends, and a weighted quickselect finds where. The draw walks the kept tokens by id, so that logits which differ in the last bits (another
 * batch, another device) still give the same text for the same random number, except exactly at a border.
 */
import { type LogitEditor, type LogitsOrigin, rowStatistics, type TopEntries, topEntries } from "./logits.ts";
import { type LoadedRow, loadRow } from "./row-kernels.ts";

export interface SamplingSettings {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 0 is all. Tokens as probable as the k-th are kept with it. */
  readonly topK: number;
  /** The most probable tokens until their sum exceeds it, the one that passes it included; 1 is all. */
  readonly topP: number;
}

/** Tokens that may be drawn, by ascending id, and their weights (not normalised). Views into memory that samplers share. */
export interface Kept {
  readonly ids: Int32Array;
  readonly weights: Float64Array;
  readonly total: number;
}

export interface TopLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** A chosen token. Log probabilities are natural, of the model's own logits: before any rule, at temperature 1. */
export interface Choice {
  readonly id: number;
  readonly logprob: number;
  /** The most probable tokens by the model's own logits, from the best; empty unless asked for. */
  readonly top: readonly TopLogprob[];
}

/** What a token is drawn from. */
export interface Prepared {
  /** What all rules leave; one token where the choice is greedy. Valid until the next call of any sampler. */
  readonly kept: Kept;
  /** Of the model's own logits: ln p(id) = row[id] − logSumExp. */
  readonly logSumExp: number;
  readonly top: readonly TopLogprob[];
}

export interface Sampler {
  /** The tokens that temperature, top-k and top-p leave of a row. Valid until the next call of any sampler. */
  keep(row: Float32Array): Kept;
  /** `choose` without the draw: what there is to draw from after `generated`. The row is as before afterwards. */
  prepare(row: Float32Array, generated: readonly number[], origin: LogitsOrigin): Prepared;
  /**
   * Chooses a token. `uniform` gives a number in [0, 1) and is asked once, unless greedy. The row is as before afterwards.
   * Throws CPM_INFER_NAN or CPM_INFER_NO_TOKEN.
   */
  choose(row: Float32Array, generated: readonly number[], uniform: () => number, origin: LogitsOrigin): Choice;
}

/** Memory that a sampler works in. Samplers that are not called at the same time may share it. */
export interface SamplerMemory {
  /** [V] */
  readonly scratch: Float64Array;
  /** Sums of weights by their first bits. */
  readonly sums: Float64Array;
}

/**
 * The first bits of a weight: sign, exponent and six more, so that weights of one class differ by less than 2 %. Weights are
 * at most 1, and those below 2^−64 are 0.
 */
const classShift = 14;
const heaviestClass = classOf(1);
const classes = heaviestClass - classOf(2 ** -64) + 2;

function classOf(weight: number): number {
  return new Uint32Array(Float64Array.of(weight).buffer)[1]! >>> classShift;
}

export function createSamplerMemory(vocabSize: number): SamplerMemory {
  return { scratch: new Float64Array(vocabSize), sums: new Float64Array(classes) };
}

/** A sampler for rows of `vocabSize` logits; `topLogprobs` tokens are reported with each choice. */
export function createSampler(
  vocabSize: number,
  settings: SamplingSettings,
  editor: LogitEditor,
  topLogprobs = 0,
  { scratch, sums }: SamplerMemory = createSamplerMemory(vocabSize),
): Sampler {
  const { temperature, topK, topP } = settings;
  const scale = 1 / temperature;

  /** `sum` is known where the loaded weights are those of this scale already. */
  function keepLoaded(row: Float32Array, loaded: LoadedRow, max: number, sum?: number): Kept {
    const { ids, weights } = loaded;
    let total = sum ?? loaded.exponentials(max, scale);
    let count: number;
    if (topK > 0 && topK < row.length) {
      // What is as heavy as the k-th may be as heavy as others by rounding alone: logits decide.
      const { values } = topEntries(row, topK);
      const bar = values[values.length - 1]!;
      const all = loaded.gather(0);
      count = 0;
      total = 0;
      for (let i = 0; i < all; i++) {
        if (row[i]! < bar) continue;
        ids[count] = i;
        weights[count] = weights[i]!;
        total += weights[count++]!;
      }
    } else {
      count = loaded.gather(topP < 1 ? ((1 - topP) * total) / row.length : 0);
    }
    if (topP < 1) return nucleus(ids, weights, count, topP * total);
    return { ids: ids.subarray(0, count), weights: weights.subarray(0, count), total };
  }

  /** The heaviest of the first `count` that exceed `target` together. */
  function nucleus(ids: Int32Array, weights: Float64Array, count: number, target: number): Kept {
    const { weight: last, above } = crossing(weights, count, target);
    // Of equal weights at the end, the lowest ids are kept, as many as it takes to exceed the target.
    let equals = last > 0 ? Math.floor((target - above) / last) + 1 : count;
    let size = 0;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const weight = weights[i]!;
      if (weight < last || (weight === last && equals-- <= 0)) continue;
      ids[size] = ids[i]!;
      weights[size++] = weight;
      sum += weight;
    }
    return { ids: ids.subarray(0, size), weights: weights.subarray(0, size), total: sum };
  }

  /**
   * Going through `weights[0..count)` from the heaviest: the weight at which the running sum first exceeds `target`, and the
   * sum of all heavier ones. Weight 0 where it never does.
   */
  function crossing(weights: Float64Array, count: number, target: number): { weight: number; above: number } {
    const bits = new Uint32Array(weights.buffer, weights.byteOffset, 2 * count);
    /** 0 is the heaviest. */
    const classAt = (i: number) => Math.min(heaviestClass - (bits[2 * i + 1]! >>> classShift), classes - 1);
    sums.fill(0);
    for (let i = 0; i < count; i++) sums[classAt(i)]! += weights[i]!;
    let above = 0;
    let last = 0;
    while (last < classes - 1 && above + sums[last]! <= target) above += sums[last++]!;
    let members = 0;
    for (let i = 0; i < count; i++) if (classAt(i) === last) scratch[members++] = weights[i]!;
    const found = select(scratch, members, target, above);
    if (found.weight > 0) return found;
    // The class's sum exceeds the target, yet in another order its weights do not: by rounding. All of them are kept.
    return { weight: scratch.subarray(0, members).reduce((a, b) => Math.min(a, b), 1), above: 0 };
  }

  function keep(row: Float32Array): Kept {
    const loaded = loadRow(row);
    return keepLoaded(row, loaded, loaded.largest());
  }

  function prepare(row: Float32Array, generated: readonly number[], origin: LogitsOrigin): Prepared {
    const own = rowStatistics(row, origin);
    const { logSumExp } = own;
    const best = topLogprobs > 0 ? topEntries(row, topLogprobs) : undefined;
    const edited = editor.apply(row, generated);
    try {
      let { loaded, max } = own;
      let sum: number | undefined = temperature === 1 ? own.sum : undefined;
      if (edited) {
        loaded = loadRow(row);
        max = loaded.largest();
        sum = undefined;
        // The rules make no NaN out of finite logits, but they may leave nothing.
        if (max === -Infinity) rowStatistics(row, origin);
      }
      const left = temperature === 0 ? single(row.indexOf(max)) : keepLoaded(row, loaded, max, sum);
      return { kept: left, logSumExp, top: best === undefined ? [] : withLogprobs(best, logSumExp) };
    } finally {
      editor.restore(row);
    }
  }

  function choose(
    row: Float32Array,
    generated: readonly number[],
    uniform: () => number,
    origin: LogitsOrigin,
  ): Choice {
    const { kept: left, logSumExp, top } = prepare(row, generated, origin);
    const id = temperature === 0 ? left.ids[0]! : draw(left, uniform());
    return { id, logprob: row[id]! - logSumExp, top };
  }

  return { keep, prepare, choose };
}

/** The id at `uniform` (in [0, 1)) of the way through the kept weights, in order of ids. */
export function draw({ ids, weights, total }: Kept, uniform: number): number {
  const target = uniform * total;
  let sum = 0;
  let last = 0;
  for (let i = 0; i < ids.length; i++) {
    const weight = weights[i]!;
    if (weight === 0) continue;
    sum += weight;
    last = i;
    if (sum > target) break;
  }
  // Rounding may leave the sum at or below the target: then it is the last token that can be drawn.
  return ids[last]!;
}

function single(id: number): Kept {
  return { ids: Int32Array.of(id), weights: Float64Array.of(1), total: 1 };
}

/**
 * Going through `weights[0..count)` from the largest, with `above` before them: the weight at which the running sum first
 * exceeds `target`, and the sum of all larger ones. Weight 0 where it never does. Reorders the array; expected time O(count).
 */
function select(
  weights: Float64Array,
  count: number,
  target: number,
  above: number,
): { weight: number; above: number } {
  let low = 0;
  let high = count;
  while (low < high) {
    const pivot = median(weights[low]!, weights[(low + high) >> 1]!, weights[high - 1]!);
    // Three-way partition of [low, high): larger than the pivot, equal, smaller.
    let larger = low;
    let smaller = high;
    let largerSum = 0;
    let at = low;
    while (at < smaller) {
      const weight = weights[at]!;
      if (weight > pivot) {
        largerSum += weight;
        weights[at++] = weights[larger]!;
        weights[larger++] = weight;
      } else if (weight < pivot) {
        weights[at] = weights[--smaller]!;
        weights[smaller] = weight;
      } else {
        at++;
      }
    }
    const equalSum = (smaller - larger) * pivot;
    if (above + largerSum > target) {
      high = larger;
    } else if (above + largerSum + equalSum > target) {
      return { weight: pivot, above: above + largerSum };
    } else {
      above += largerSum + equalSum;
      low = smaller;
    }
  }
  return { weight: 0, above };
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

function withLogprobs({ ids, values }: TopEntries, logSumExp: number): TopLogprob[] {
  return Array.from(ids, (id, i) => ({ id, logprob: values[i]! - logSumExp }));
}
