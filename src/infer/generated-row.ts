/**
 * One text as it grows: takes the chosen tokens, decides when the text ends and why, and turns each into an event for
 * whoever reads along. Knows nothing of models or of how tokens are chosen.
 */
import type { GenerationTokenizer } from "./row-text.ts";
import { createRowText } from "./row-text.ts";
import type { Choice, TopLogprob } from "./sample.ts";

/**
 * Why a text ended: an end token or a stop string; `maxTokens`; no room left in the session; the caller's signal.
 */
export type FinishReason = "stop" | "length" | "capacity" | "cancelled";

/** One token of one text, or its end. The texts of a row's events, joined, are the row's text. */
export interface TokenEvent {
  /** Index of the prompt. */
  readonly row: number;
  /** Which text of that prompt, from 0. */
  readonly sample: number;
  /** Null where the event only ends the text: an end token was chosen, or the signal came. */
  readonly id: number | null;
  /** What may be shown now: often one token's text, empty while half a character or a possible stop string is held back. */
  readonly text: string;
  /**
   * ln p of the token by the model's own logits (sampling, greedy), or after penalties and forbidden tokens (beam search).
   * Null where the signal ended the text.
   */
  readonly logprob: number | null;
  /** The most probable tokens at this step, if asked for. */
  readonly top: readonly TopLogprob[];
  /** Set in the last event of a text. */
  readonly finish: FinishReason | null;
}

/** A finished text. */
export interface GeneratedText {
  readonly row: number;
  readonly sample: number;
  /** Tokens, without the end token; those of a stop string are here though the text leaves them out. */
  readonly ids: readonly number[];
  /** ln p of each of `ids`, as in `TokenEvent`. */
  readonly logprobs: readonly number[];
  readonly top: readonly (readonly TopLogprob[])[];
  readonly text: string;
  readonly finish: FinishReason;
  /** Of the beam search, else null. */
  readonly score: number | null;
}

/** When a text ends. */
export interface EndRules {
  readonly ends: ReadonlySet<number>;
  readonly stops: readonly string[];
  readonly maxTokens: number;
  /** Whether `maxTokens` is the caller's or the session's limit. */
  readonly maxTokensReason: "length" | "capacity";
}

export interface GeneratedRow {
  readonly row: number;
  readonly sample: number;
  readonly ids: readonly number[];
  readonly finish: FinishReason | null;
  /** Takes the next token. Not after the end. */
  accept(choice: Choice): TokenEvent;
  /** Ends the text from outside. */
  end(reason: FinishReason): TokenEvent;
  result(): GeneratedText;
}

export function createGeneratedRow(
  row: number,
  sample: number,
  tokenizer: GenerationTokenizer,
  { ends, stops, maxTokens, maxTokensReason }: EndRules,
  score: number | null = null,
): GeneratedRow {
  const rowText = createRowText(tokenizer.createDetokenizer(), stops);
  const ids: number[] = [];
  const logprobs: number[] = [];
  const top: (readonly TopLogprob[])[] = [];
  let shown = "";
  let finish: FinishReason | null = null;

  function event(id: number | null, text: string, logprob: number | null, best: readonly TopLogprob[]): TokenEvent {
    shown += text;
    return { row, sample, id, text, logprob, top: best, finish };
  }

  return {
    row,
    sample,
    ids,
    get finish() {
      return finish;
    },
    accept({ id, logprob, top: best }) {
      if (finish !== null) throw new Error(`internal: token ${id} for a finished text`);
      if (ends.has(id)) {
        finish = "stop";
        return event(null, rowText.finish().text, logprob, best);
      }
      ids.push(id);
      logprobs.push(logprob);
      top.push(best);
      let { text, stopped } = rowText.push(id);
      if (!stopped && ids.length >= maxTokens) {
        const rest = rowText.finish();
        text += rest.text;
        stopped = rest.stopped;
        finish = maxTokensReason;
      }
      if (stopped) finish = "stop";
      return event(id, text, logprob, best);
    },
    end(reason) {
      finish = reason;
      return event(null, rowText.finish().text, null, []);
    },
    result() {
      if (finish === null) throw new Error("internal: the text is not finished");
      return { row, sample, ids, logprobs, top, text: shown, finish, score };
    },
  };
}
