/**
 * The seam between decoding and a model: a batch of rows that grow by a token at a time, or by several at once. What a
 * session does inside (left padding, key/value cache, device) is its own matter; what is chosen from the logits is
 * decided above it.
 */

import type { SavedPart } from "./key-value-cache.ts";
import type { PassRow, PassSettings, RowPass } from "./row-pass.ts";

/** What a row knows of its text: opaque outside of sessions. */
export interface RowState {
  /** Slots in use, and how many of them are the prompt's. */
  readonly length: number;
  readonly promptLength: number;
  /** Of each layer with attention: its keys, then its values, `[H, length, …]`; of 8 bits, numbers and scales of each. */
  readonly parts: readonly SavedPart[];
}

/**
 * A batch of rows being decoded. Shapes: B rows now in the batch, V vocabulary.
 *
 * The array that `prefill`, `step` and `extend` return belongs to the session and is valid until the next call; the
 * caller may write into it meanwhile. Calls do not overlap: each is awaited before the next. `prefill` starts over whatever was
 * decoded before, so a session stays usable after a cancelled or failed generation.
 */
export interface DecodingSession {
  /** V: length of a row of logits; token ids are below it. */
  readonly vocabSize: number;
  /** Longest row (its prompt and its generated tokens together) that fits, whatever the other rows of the batch. */
  readonly capacityTokens: number;
  /** B: rows in the batch now. */
  readonly rows: number;
  /** Feeds the prompts; `rows` becomes `prompts.length`. Resolves to the logits of each row's last token, [B, V]. */
  prefill(
    prompts: readonly (readonly number[])[],
    /** Where several deltas share the base: of each prompt the weight of each delta, which its row keeps. */
    mixes?: readonly ArrayLike<number>[],
  ): Promise<Float32Array>;
  /** Feeds one token a row, [B]. Resolves to logits [B, V]. */
  step(tokens: Int32Array): Promise<Float32Array>;
  /**
   * Feeds each row some tokens, as so many calls of `step` would (each sees what came before it), in one pass: rows may
   * get different numbers of them, and none. Resolves to the logits after every fed token, the rows' one after the other,
   * `[Σ tokens, V]`; with "last" after each row's last one only (rows that are fed nothing are left out).
   */
  extend(tokens: readonly ArrayLike<number>[], logits?: "all" | "last"): Promise<Float32Array>;
  /** Each row forgets its last `removed[row]` tokens, which `step` or `extend` fed: a prompt cannot be cut. */
  truncate(removed: ArrayLike<number>): void;
  /** Bytes of a row's state. */
  stateBytes(row: number): number;
  /** A copy of a row's state, on the host. */
  save(row: number): RowState;
  /** The rows become what was saved; `rows` becomes `states.length`. States may be of another session of the same kind. */
  load(states: readonly RowState[]): void;
  /** Row i continues from what row `sources[i]` was; `rows` becomes `sources.length`. */
  reorder(sources: Int32Array): Promise<void> | void;
  dispose(): void;
}

/**
 * A session whose rows come and go one by one while the others keep their state. New rows stand behind those that are
 * there; where a row leaves, the last one takes its place. Calls do not overlap, but between the layers of a pass
 * there may be steps.
 */
export interface ContinuousSession extends DecodingSession {
  /** Feeds prompts that are to join the batch. Their memory is held until they join or are disposed. */
  begin(prompts: readonly (readonly number[])[], mixes?: readonly ArrayLike<number>[]): Promise<Newcomers>;
  /** A row more, the last, that goes on from a state that `save` gave. `mix`: as in `begin`. */
  resume(state: RowState, mix?: ArrayLike<number>): void;
  /** A row more, the last, that goes on as `row`. */
  fork(row: number): void;
  /** Ends a row. */
  remove(row: number): void;
  /** A pass over rows beside the batch, under a soft prompt and in a segment of their own (default: the session's). */
  pass(rows: readonly PassRow[], settings?: Partial<Pick<PassSettings, "promptTask" | "segment">>): Promise<RowPass>;
}

/** Prompts on their way into a batch. */
export interface Newcomers {
  readonly layersLeft: number;
  /** Runs the next layers, at most this many (default: all that are left). */
  advance(layers?: number): Promise<void>;
  /** After the last layer: they become the last rows, in their order. Resolves to their logits, [N, V]. Ends them. */
  join(): Promise<Float32Array>;
  /** Gives them up. After `join` it does nothing. */
  dispose(): void;
}
