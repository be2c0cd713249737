/**
 * From the tokens of one row to text that may be shown: a streaming detokeniser (which holds back half characters) and,
 * behind it, stop strings, which may begin in one token and end in another. Text from a stop string on is never shown,
 * so text that could still become one is held back until the next token decides.
 */

import type { Piece } from "../tokenizer/index.ts";

/** Turns ids into text piece by piece; the tokenizer layer makes them. */
export interface StreamingDetokenizer {
  /** The text that this token completes, possibly empty. */
  push(id: number): string;
  /** What was held back, at the end. */
  flush(): string;
}

/** What generation needs to know of a tokenizer. */
export interface GenerationTokenizer {
  /** `</s>`. */
  readonly eosId: number;
  /** `</n>` or whatever stands for a newline; forbidden as the first token, like the end. Absent: no such token. */
  readonly newlineId?: number | undefined;
  createDetokenizer(): StreamingDetokenizer;
  /** What a token stands for: needed where texts must keep to a format. One function for the tokenizer's life. */
  readonly pieceOf?: ((id: number) => Piece) | undefined;
}

export interface RowText {
  /** Takes a token. `stopped` is true once a stop string is complete; later tokens are ignored. */
  push(id: number): { readonly text: string; readonly stopped: boolean };
  /** Releases what is held back, unless the row was stopped by a string. `stopped` tells whether this last text ran into one. */
  finish(): { readonly text: string; readonly stopped: boolean };
}

/** Text of one row. `stops` are non-empty; the first to be complete counts, of several at once the one that starts first. */
export function createRowText(detokenizer: StreamingDetokenizer, stops: readonly string[]): RowText {
  let held = "";
  let stopped = false;

  function release(added: string, final: boolean): { text: string; stopped: boolean } {
    if (stopped) return { text: "", stopped };
    const text = held + added;
    let cut = -1;
    for (const stop of stops) {
      const at = text.indexOf(stop);
      if (at >= 0 && (cut < 0 || at < cut)) cut = at;
    }
    if (cut >= 0) {
      stopped = true;
      held = "";
      return { text: text.slice(0, cut), stopped };
    }
    const end = final ? text.length : text.length - longestStart(text, stops);
    held = text.slice(end);
    return { text: text.slice(0, end), stopped };
  }

  return {
    push: (id) => release(stopped ? "" : detokenizer.push(id), false),
    finish: () => release(stopped ? "" : detokenizer.flush(), true),
  };
}

/** Length of the longest end of `text` with which some stop string begins. */
function longestStart(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
