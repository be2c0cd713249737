/**
 * Bits per character of texts: −Σ log₂ p / characters.
 *
 * A window moves over a text's tokens. Of the first, all tokens are predicted, left to right behind `<s>`; of every other one
 * only what the window before did not hold, the rest is context, which the model reads in both directions, as it was trained.
 * So a token has at least window − stride tokens before it in view, where the text has as many. `</s>` is not counted.
 * Characters that the vocabulary cannot spell are neither predicted nor counted, but reported.
 */
import type { Document } from "../data/index.ts";
import type { EvaluatedModel } from "./model.ts";
import type { TextRecord } from "./records.ts";
import type { SampleRun } from "./run-samples.ts";
import type { ScoreRequest } from "./scorer.ts";
import type { TokenNats } from "./training-split.ts";

/** As for tasks that the model was pretrained on: language modelling. */
const layout = { promptTask: 2, segment: 2 } as const;

export interface WindowOptions {
  /** Text tokens in view at once, `<s>` and what is predicted included. */
  readonly window: number;
  /** Tokens that each window but the first predicts. */
  readonly stride: number;
}

/** A window: `ids[contextFrom, from)` is context, `ids[from, to)` predicted. */
export interface Window {
  readonly contextFrom: number;
  readonly from: number;
  readonly to: number;
}

/** The windows over so many tokens: what they predict is each token once, in order. */
export function windowsOver(tokens: number, { window, stride }: WindowOptions): Window[] {
  const room = window - 1; // `<s>`
  const windows: Window[] = [];
  for (let from = 0; from < tokens; ) {
    const to = Math.min(tokens, from === 0 ? room : from + Math.min(stride, room));
    windows.push({ contextFrom: Math.max(0, to - room), from, to });
    from = to;
  }
  return windows;
}

/**
 * @param texts numbered; `existing` numbers are left out, but count for the unigram baseline
 * @param unigram that baseline, where it is of other texts than these
 */
export async function scoreTexts(
  model: EvaluatedModel,
  texts: readonly Document[],
  existing: ReadonlySet<number>,
  options: WindowOptions,
  { signal, onRecords, onShare }: SampleRun,
  unigram?: TokenNats,
): Promise<void> {
  const { tokenizer } = model;
  const encoded = texts.map(({ text }) => tokenizer.encode(text, { unknown: "drop" }));
  const unigramNatsOf = unigram ?? ownFrequencies(encoded, tokenizer.vocabSize);
  const requests: ScoreRequest[] = [];
  const owners: number[] = [];
  const states = new Map<number, { left: number; nats: number }>();
  for (const [index, { ids }] of encoded.entries()) {
    if (existing.has(index)) continue;
    const windows = windowsOver(ids.length, options);
    states.set(index, { left: windows.length, nats: 0 });
    for (const { contextFrom, from, to } of windows) {
      const context = Int32Array.of(tokenizer.bosId, ...ids.subarray(contextFrom, from));
      requests.push({ context, continuations: [ids.subarray(from, to)], ...layout });
      owners.push(index);
    }
  }
  const record = (index: number, nats: number): TextRecord => {
    const { text, source, line } = texts[index]!;
    const { ids, unknownCount } = encoded[index]!;
    return {
      kind: "text",
      index,
      id: `${source.replace(/^.*[\\/]/, "").slice(-200)}:${line}`,
      nats: Number(nats.toFixed(6)),
      unigramNats: Number(unigramNatsOf(ids).toFixed(6)),
      tokens: ids.length,
      characters: [...text].length - unknownCount,
      unknown: unknownCount,
    };
  };
  const empty = [...states].filter(([, { left }]) => left === 0).map(([index]) => record(index, 0));
  await onRecords(empty);
  if (requests.length === 0) return;
  const scorer = await model.createScorer();
  try {
    await scorer.score(requests, {
      signal,
      async onBatch(done, scores) {
        const complete: TextRecord[] = [];
        for (const [place, request] of done.entries()) {
          const index = owners[request]!;
          const state = states.get(index)!;
          for (const value of scores[place]![0]!.logprobs) state.nats -= value;
          if (--state.left === 0) complete.push(record(index, state.nats));
        }
        await onRecords(complete);
      },
      onShare,
    });
  } finally {
    scorer.dispose();
  }
}

/** By the shares that tokens have of these very texts. */
function ownFrequencies(encoded: readonly { readonly ids: Int32Array }[], vocabSize: number): TokenNats {
  const counts = new Float64Array(vocabSize);
  let total = 0;
  for (const { ids } of encoded) {
    for (const id of ids) counts[id]!++;
    total += ids.length;
  }
  return (ids) => {
    let nats = 0;
    for (let i = 0; i < ids.length; i++) nats -= Math.log(counts[ids[i]!]! / total);
    return nats;
  };
}
