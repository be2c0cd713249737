/**
 * What new tokens' attention adds to its scores, filled in on the host: the position bias of their queries.
 *
 * The query is text, at slot n − 1. Prompt slots get the row of the pair (text segment, prompt segment); text slots the row
 * of their distance, which is the same for all tokens: so each head's biases by distance are laid out once, the farthest
 * first, and a step copies the end of that line.
 */
import { blockedScore } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { positionBuckets } from "../model/position-buckets.ts";

export interface DecodeBias {
  /** Fills `out` `[rows, H, 1, S]` for rows whose newest token is at slot `last[row]`. Slots after it stay as they are. */
  fill(out: Float32Array, last: Int32Array): void;
  /**
   * Fills `out` `[rows, H, Q, S + Q]` for Q new tokens after the `lengths[row]` slots in use of each row: the cache's slots,
   * then the new tokens, `blockedScore` where one does not see.
   */
  fillExtension(out: Float32Array, lengths: Int32Array, queries: number): void;
}

/** `table` is the position bias table `[buckets + segmentTypes², H]`; S the slots of the cache, P of them prompt. */
export function createDecodeBias(config: ModelConfig, table: Float32Array, slots: number, segment: number): DecodeBias {
  const { heads: H, promptLength: P, positionBuckets: inSegment, segmentTypes } = config;
  // The last query of a text as long as the cache sees every distance: slots − 1, …, 1, 0.
  const buckets = positionBuckets(new Int32Array(slots).fill(segment), 1, slots, config, slots - 1);
  const pair = inSegment + segment * segmentTypes;
  const byDistance = Array.from({ length: H }, (_, head) =>
    Float32Array.from(buckets, (row) => table[row * H + head]!),
  );
  const toPrompt = Array.from({ length: H }, (_, head) => table[pair * H + head]!);
  return {
    fill(out, last) {
      last.forEach((slot, row) => {
        for (let head = 0; head < H; head++) {
          const start = (row * H + head) * slots;
          out.fill(toPrompt[head]!, start, start + P);
          const line = byDistance[head]!;
          out.set(line.subarray(slots - 1 - (slot - P)), start + P);
        }
      });
    },
    fillExtension(out, lengths, queries) {
      let start = 0;
      for (const length of lengths) {
        for (let head = 0; head < H; head++) {
          const line = byDistance[head]!;
          for (let query = 0; query < queries; query++, start += slots + queries) {
            // `line` ends with distance 0; a query past the cache's end (padding of a full row) takes what there is.
            const distance = Math.min(length + query - P, slots - 1);
            out.fill(toPrompt[head]!, start, start + P);
            out.set(line.subarray(slots - 1 - distance, slots - 1 - distance + length - P), start + P);
            out.fill(blockedScore, start + length, start + slots);
            out.set(line.subarray(slots - 1 - query), start + slots);
            out.fill(blockedScore, start + slots + query + 1, start + slots + queries);
          }
        }
      }
    },
  };
}
