/**
 * What passes over rows are read for: log probabilities of given text, vectors of texts, and blanks.
 *
 * A blank is filled as it was trained (objective "fill"): its tokens are targets that see the context on both sides and
 * the targets before them, and the position before each predicts it. The row is `<s>` text `</s>` under the soft prompt
 * of task 1 and in segment 1. How many tokens a blank has is fixed by the row, so several lengths are tried and the one
 * with the highest mean log probability is the best.
 */
import type { ModelConfig } from "../model/config.ts";
import type { Engine } from "./engine.ts";
import { editorOf, randomOf } from "./generate.ts";
import { rowStatistics, topEntries } from "./logits.ts";
import type { GenerateOptions } from "./options.ts";
import type { GenerationTokenizer } from "./row-text.ts";
import { createSampler, createSamplerMemory, type TopLogprob } from "./sample.ts";

/** Logits of this many positions are held at a time. */
const positionsAtOnce = 64;
/** Tokens, padding included, of one pass over several texts. */
const passTokens = 2048;

/** What all of a request's passes have in common. */
export interface RowChoices {
  readonly signal?: AbortSignal | undefined;
  /** Where several deltas share the base: the weight of each. */
  readonly mix?: readonly number[] | undefined;
}

export interface TokenScores {
  /** ln p of ids[from], ids[from + 1], … */
  readonly logprobs: readonly number[];
  /** The most probable tokens at each of these places, if asked for. */
  readonly top: readonly (readonly TopLogprob[])[];
  readonly computeMs: number;
}

/**
 * ln p(ids[i] | ids[0 … i − 1]) for i ≥ `from` ≥ 1. The first `from` tokens are a prompt (they see each other in both
 * directions, as a prompt's do when it is continued); each later one sees what stands before it. One pass.
 */
export async function scoreTokens(
  engine: Engine,
  config: ModelConfig,
  ids: readonly number[],
  from: number,
  { top = 0, signal, mix }: RowChoices & { readonly top?: number } = {},
): Promise<TokenScores> {
  const { vocabSize: V, promptLength: P } = config;
  const isTarget = Uint8Array.from(ids, (_, at) => (at < from ? 0 : 1));
  const { value, computeMs } = await engine.pass(
    [{ ids, isTarget, mix }],
    async (pass) => {
      const logprobs: number[] = [];
      const best: TopLogprob[][] = [];
      for (let start = from; start < ids.length; start += positionsAtOnce) {
        const count = Math.min(positionsAtOnce, ids.length - start);
        // The position before a token predicts it.
        const logits = await pass.logits(Int32Array.from({ length: count }, (_, i) => P + start + i - 1));
        for (let i = 0; i < count; i++) {
          const row = logits.subarray(i * V, (i + 1) * V);
          const { logSumExp } = rowStatistics(row, { row: 0, step: start + i });
          logprobs.push(row[ids[start + i]!]! - logSumExp);
          const { ids: bestIds, values } = topEntries(row, top);
          best.push(Array.from(bestIds, (id, at) => ({ id, logprob: values[at]! - logSumExp })));
        }
      }
      return { logprobs, top: best };
    },
    { signal },
  );
  return { ...value, computeMs };
}

/**
 * A vector of D numbers for each text: the model's normalised output, of the last token or the mean over the tokens
 * after `<s>`, scaled to length 1. All tokens of a text see each other.
 */
export async function embedTexts(
  engine: Engine,
  config: ModelConfig,
  texts: readonly (readonly number[])[],
  pooling: "mean" | "last",
  { signal, mix }: RowChoices = {},
): Promise<{ readonly vectors: readonly Float32Array[]; readonly computeMs: number }> {
  const { dimModel: D, promptLength: P } = config;
  const vectors: Float32Array[] = [];
  let computeMs = 0;
  for (let first = 0; first < texts.length; ) {
    let end = first;
    let longest = 0;
    do {
      longest = Math.max(longest, texts[end++]!.length);
    } while (end < texts.length && Math.max(longest, texts[end]!.length) * (end - first + 1) <= passTokens);
    const group = texts.slice(first, end);
    const done = await engine.pass(
      group.map((ids) => ({ ids, mix })),
      async (pass) => {
        for (const [row, ids] of group.entries()) {
          // `<s>` alone is all there is of an empty text.
          const from = pooling === "last" || ids.length === 1 ? ids.length - 1 : 1;
          const start = row * pass.columns + P;
          const hidden = await pass.hidden(Int32Array.from({ length: ids.length - from }, (_, i) => start + from + i));
          const sum = new Float64Array(D);
          for (let i = 0; i < hidden.length; i++) sum[i % D]! += hidden[i]!;
          const norm = Math.hypot(...sum) || 1;
          vectors.push(Float32Array.from(sum, (value) => value / norm));
        }
      },
      { signal },
    );
    computeMs += done.computeMs;
    first = end;
  }
  return { vectors, computeMs };
}

export interface FilledBlanks {
  /** The ids of each blank. */
  readonly blanks: readonly (readonly number[])[];
  /** Mean ln p of the filled tokens, by the model's own logits. */
  readonly score: number;
}

/** A row whose blanks are being filled. */
interface FillingRow {
  readonly ids: number[];
  readonly isTarget: Uint8Array;
  /** Places of the blanks' tokens, in order. */
  readonly places: readonly number[];
  readonly lengths: number;
  readonly uniform: () => number;
  sum: number;
}

/**
 * Fills the blanks between `pieces` (ids without `<s>` and `</s>`; n + 1 pieces have n blanks): for each of `lengths`
 * tokens a blank and each sample one candidate, from the best. The end token and newlines are never filled in.
 */
export async function fillBlanks(
  engine: Engine,
  { vocabSize: V, promptLength: P }: ModelConfig,
  tokenizer: GenerationTokenizer & { readonly bosId: number },
  pieces: readonly (readonly number[])[],
  lengths: readonly number[],
  settings: GenerateOptions,
  { signal, mix }: RowChoices = {},
): Promise<{ readonly fills: readonly FilledBlanks[]; readonly computeMs: number }> {
  const temperature = settings.mode === "greedy" ? 0 : settings.temperature;
  const ends = tokenizer.newlineId === undefined ? [tokenizer.eosId] : [tokenizer.eosId, tokenizer.newlineId];
  const editor = editorOf(
    { ...settings, forbiddenIds: [...settings.forbiddenIds, ...ends], allowEmpty: true },
    tokenizer,
    V,
  );
  const sampler = createSampler(V, { ...settings, temperature }, editor, 0, createSamplerMemory(V));
  const rows = lengths.flatMap((tokens) => {
    const random = randomOf(settings.seed, [tokens, ...pieces.flat()]);
    return Array.from({ length: settings.samples }, (_, sample): FillingRow => {
      const ids = [tokenizer.bosId];
      const places: number[] = [];
      pieces.forEach((piece, at) => {
        for (let i = 0; at > 0 && i < tokens; i++) places.push(ids.push(tokenizer.eosId) - 1);
        ids.push(...piece);
      });
      ids.push(tokenizer.eosId);
      const isTarget = new Uint8Array(ids.length);
      for (const place of places) isTarget[place] = 1;
      return { ids, isTarget, places, lengths: tokens, uniform: random.fork(sample).uniform, sum: 0 };
    });
  });
  let computeMs = 0;
  const longest = Math.max(...rows.map(({ places }) => places.length));
  for (let next = 0; next < longest; next++) {
    const open = rows.filter(({ places }) => next < places.length);
    const done = await engine.pass(
      open.map(({ ids, isTarget }) => ({ ids, isTarget, mix })),
      async (pass) => {
        const before = open.map(({ places }, row) => row * pass.columns + P + places[next]! - 1);
        const logits = await pass.logits(Int32Array.from(before));
        for (const [at, row] of open.entries()) {
          const filled = row.places.slice(0, next).map((place) => row.ids[place]!);
          const own = logits.subarray(at * V, (at + 1) * V);
          const { id, logprob } = sampler.choose(own, filled, row.uniform, { row: at, step: next });
          row.ids[row.places[next]!] = id;
          row.sum += logprob;
        }
      },
      { promptTask: 1, segment: 1, signal },
    );
    computeMs += done.computeMs;
  }
  const fills = rows.map(({ ids, places, lengths: tokens, sum }) => ({
    blanks: Array.from({ length: places.length / tokens }, (_, blank) =>
      places.slice(blank * tokens, (blank + 1) * tokens).map((place) => ids[place]!),
    ),
    score: sum / places.length,
  }));
  return { fills: fills.sort((a, b) => b.score - a.score), computeMs };
}
