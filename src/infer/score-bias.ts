/**
 * What new tokens' attention adds to its scores, filled in on the host: the position bias of their queries.
 *
 * The query is text, at slot n − 1. Prompt slots get the row of the pair (text segment, prompt segment); text slots the row
 * of their distance, which is the same for all tokens: so each head's biases by distance are laid out once, the farthest
 * first, and a step copies the end of that line.
 */
import type { ModelConfig } from "../model/config.ts";
import { positionBuckets } from "../model/position-buckets.ts";

export interface DecodeBias {
  /**
   * Fills `out` `[rows, H, Q, S]` for rows whose newest tokens, Q of them (default 1), end at slot `last[row]`. Slots after
   * a query's own stay as they are.
   */
  fill(out: Float32Array, last: Int32Array, queries?: number): void;
}

/**
 * `table` is the position bias table `[buckets + segmentTypes², H]`; S the slots of the cache, the first `prefix` of them
 * keys without a position, which get nothing, the next P prompt.
 */
export function createDecodeBias(
  config: ModelConfig,
  table: Float32Array,
  slots: number,
  segment: number,
  prefix = 0,
): DecodeBias {
  const { heads: H, promptLength, positionBuckets: inSegment, segmentTypes } = config;
  // The last query of a text as long as the cache sees every distance: slots − 1, …, 1, 0.
  const buckets = positionBuckets(new Int32Array(slots).fill(segment), 1, slots, config, slots - 1);
  const pair = inSegment + segment * segmentTypes;
  const byDistance = Array.from({ length: H }, (_, head) =>
    Float32Array.from(buckets, (row) => table[row * H + head]!),
  );
  /** Slots before the text. */
  const P = prefix + promptLength;
  const toPrompt = Array.from({ length: H }, (_, head) => table[pair * H + head]!);
  return {
    fill(out, last, queries = 1) {
      let start = 0;
      for (const newest of last) {
        for (let head = 0; head < H; head++) {
          const line = byDistance[head]!;
          for (let slot = newest - queries + 1; slot <= newest; slot++, start += slots) {
            out.fill(0, start, start + prefix);
            out.fill(toPrompt[head]!, start + prefix, start + P);
            out.set(line.subarray(slots - 1 - (slot - P)), start + P);
          }
        }
      }
    },
  };
}
