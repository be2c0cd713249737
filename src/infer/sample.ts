/**
 * Choosing the next token of one row: greedy, or a draw after temperature, top-k and top-p (nucleus, Holtzman et al. 2020),
 * in that order, as the original does.
 *
 * The nucleus is found without sorting: tokens lighter than (1 − p)/n of the total weigh less than 1 − p together and
 * so lie outside of it, whatever their order; among the few thousand that are left a weighted quickselect finds the
 * weight at which it ends. The draw walks the kept tokens by id, so that logits which differ in the last bits (another
 * batch, another device) still give the same text for the same random number, except exactly at a border.
 */
import {
  argmax,
  exponentials,
  type LogitEditor,
  type LogitsOrigin,
  maximum,
  rowStatistics,
  type TopEntries,
  topEntries,
} from "./logits.ts";

export interface SamplingSettings {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 0 is all. Tokens as probable as the k-th are kept with it. */
  readonly topK: number;
  /** The most probable tokens until their sum exceeds it, the one that passes it included; 1 is all. */
  readonly topP: number;
}

/** Tokens that may be drawn, by ascending id, and their weights (not normalised). Views into the sampler's memory. */
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
  /** What all rules leave; one token where the choice is greedy. In the sampler's memory: valid until the next call. */
  readonly kept: Kept;
  /** Of the model's own logits: ln p(id) = row[id] − logSumExp. */
  readonly logSumExp: number;
  readonly top: readonly TopLogprob[];
}

export interface Sampler {
  /** The tokens that temperature, top-k and top-p leave of a row. Valid until the next call. */
  keep(row: Float32Array): Kept;
  /** `choose` without the draw: what there is to draw from after `generated`. The row is as before afterwards. */
  prepare(row: Float32Array, generated: readonly number[], origin: LogitsOrigin): Prepared;
  /**
   * Chooses a token. `uniform` gives a number in [0, 1) and is asked once, unless greedy. The row is as before afterwards.
   * Throws CPM_INFER_NAN or CPM_INFER_NO_TOKEN.
   */
  choose(row: Float32Array, generated: readonly number[], uniform: () => number, origin: LogitsOrigin): Choice;
}

/** Memory that a sampler works in, [V] each. Samplers that are not called at the same time may share it. */
export interface SamplerMemory {
  readonly weights: Float64Array;
  readonly ids: Int32Array;
  readonly scratch: Float64Array;
}

export function createSamplerMemory(vocabSize: number): SamplerMemory {
  return {
    weights: new Float64Array(vocabSize),
    ids: new Int32Array(vocabSize),
    scratch: new Float64Array(vocabSize),
  };
}

/** A sampler for rows of `vocabSize` logits; `topLogprobs` tokens are reported with each choice. */
export function createSampler(
  vocabSize: number,
  settings: SamplingSettings,
  editor: LogitEditor,
  topLogprobs = 0,
  { weights, ids, scratch }: SamplerMemory = createSamplerMemory(vocabSize),
): Sampler {
  const { temperature, topK, topP } = settings;

  function keep(row: Float32Array): Kept {
    const scale = 1 / temperature;
    const max = maximum(row);
    let count = 0;
    let total = 0;
    if (topK > 0 && topK < row.length) {
      const { values } = topEntries(row, topK);
      const bar = values[values.length - 1]!;
      for (let id = 0; id < row.length; id++) {
        if (row[id]! < bar) continue;
        const weight = Math.exp((row[id]! - max) * scale);
        ids[count] = id;
        weights[count++] = weight;
        total += weight;
      }
    } else {
      total = exponentials(row, max, scale, weights);
      count = gatherFrom(topP < 1 ? ((1 - topP) * total) / row.length : 0, row.length);
    }
    return topP < 1 ? nucleus(count, total) : kept(count, total);
  }

  /** Moves weights of at least `bar` to the front and notes their ids, which are their places so far. */
  function gatherFrom(bar: number, length: number): number {
    let count = 0;
    for (let id = 0; id < length; id++) {
      // Without a branch on the weight, which could not be predicted: the next one overwrites what is too light.
      const weight = weights[id]!;
      ids[count] = id;
      weights[count] = weight;
      count += weight < bar ? 0 : 1;
    }
    return count;
  }

  function nucleus(count: number, total: number): Kept {
    const target = topP * total;
    scratch.set(weights.subarray(0, count));
    const { weight: last, above } = crossing(scratch, count, target);
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
    return kept(size, sum);
  }

  function kept(count: number, total: number): Kept {
    return { ids: ids.subarray(0, count), weights: weights.subarray(0, count), total };
  }

  function prepare(row: Float32Array, generated: readonly number[], origin: LogitsOrigin): Prepared {
    const { logSumExp } = rowStatistics(row, weights, origin);
    const best = topLogprobs > 0 ? topEntries(row, topLogprobs) : undefined;
    const edited = editor.apply(row, generated);
    try {
      // The rules make no NaN out of finite logits, but they may leave nothing.
      if (edited && maximum(row) === -Infinity) rowStatistics(row, weights, origin);
      const left = temperature === 0 ? single(argmax(row)) : keep(row);
      return { kept: left, logSumExp, top: best === undefined ? [] : withLogprobs(best, logSumExp) };
    } finally {
      editor.restore(row);
    }
  }

  function single(id: number): Kept {
    ids[0] = id;
    weights[0] = 1;
    return kept(1, 1);
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

/**
 * Going through `weights[0..count)` from the largest: the weight at which the running sum first exceeds `target`, and
 * the sum of all larger ones. Weight 0 where it never does. Reorders the array; expected time O(count).
 */
function crossing(weights: Float64Array, count: number, target: number): { weight: number; above: number } {
  let low = 0;
  let high = count;
  let above = 0;
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
