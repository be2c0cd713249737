/**
 * How contexts and what may follow them share rows. Continuations of one context stand behind each other in one row, and none
 * sees another: the context is computed once.
 *
 *     prompt │ context              │ a₁ a₂ … │ b₁ …          columns of the row
 *     0…P−1  │ P…P+C−1              │ P+C …   │ P+C …         positions, as if each followed the context alone
 *
 * Context sees the context, as in training; a token of a continuation sees the context and what is before it in its own. The
 * last token of a continuation predicts nothing, so it takes no column; one of a single token takes none at all.
 */
import { blockedScore } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { distanceTable } from "../model/position-buckets.ts";

export interface ScoreRequest {
  /** `<s>` first. */
  readonly context: Int32Array;
  /** Of each at least one token. */
  readonly continuations: readonly Int32Array[];
  readonly promptTask: number;
  readonly segment: number;
}

/** Columns that a request takes, the soft prompt's included. */
export function requestColumns({ context, continuations }: ScoreRequest, promptLength: number): number {
  return promptLength + context.length + continuations.reduce((sum, { length }) => sum + length - 1, 0);
}

/** The arrays of some requests as a batch, a row each; and where to read the scores off. */
export interface ScoreLayout {
  readonly rows: number;
  readonly columns: number;
  readonly promptIds: Int32Array;
  /** [B, T − P] */
  readonly tokens: Int32Array;
  readonly segment: Int32Array;
  /** [B, T, T]: rows of the position bias table. */
  readonly buckets: Int32Array;
  /** [B, T, T]: 0 or `blockedScore`. */
  readonly blocked: Float32Array;
  /** [B, T]: 1 where the column holds something. */
  readonly seen: Float32Array;
  /** Request by request, continuation by continuation, token by token: where its prediction stands, and the token. */
  readonly positions: Int32Array;
  readonly targets: Int32Array;
}

export function layOut(requests: readonly ScoreRequest[], config: ModelConfig): ScoreLayout {
  const { promptLength: P, segmentTypes, positionBuckets: inSegment } = config;
  const rows = requests.length;
  const columns = Math.max(...requests.map((request) => requestColumns(request, P)));
  const promptIds = new Int32Array(rows * P);
  const tokens = new Int32Array(rows * (columns - P));
  const segment = new Int32Array(rows * columns);
  const seen = new Float32Array(rows * columns);
  const buckets = new Int32Array(rows * columns * columns);
  const blocked = new Float32Array(rows * columns * columns).fill(blockedScore);
  const positions: number[] = [];
  const targets: number[] = [];
  const { columns: reach, buckets: byDistance } = distanceTable(config, columns);
  const place = new Int32Array(columns);

  for (const [row, request] of requests.entries()) {
    const { context, continuations } = request;
    const start = row * columns;
    for (let i = 0; i < P; i++) promptIds[row * P + i] = request.promptTask * P + i;
    tokens.set(context, row * (columns - P));
    const contextEnd = P + context.length;
    for (let column = 0; column < contextEnd; column++) place[column] = column;
    // Where each continuation's columns begin; one of a single token has none.
    let end = contextEnd;
    const branches = continuations.map((ids) => {
      const from = end;
      end += ids.length - 1;
      tokens.set(ids.subarray(0, -1), row * (columns - P) + from - P);
      for (const [index, id] of ids.entries()) {
        positions.push(start + (index === 0 ? contextEnd - 1 : from + index - 1));
        targets.push(id);
      }
      for (let column = from; column < end; column++) place[column] = contextEnd + column - from;
      return from;
    });
    segment.fill(request.segment, start + P, start + end);
    seen.fill(1, start, start + end);
    let branch = -1;
    for (let query = 0; query < end; query++) {
      while (branch + 1 < branches.length && query >= branches[branch + 1]! && query >= contextEnd) branch++;
      const from = (start + query) * columns;
      blocked.fill(0, from, from + contextEnd);
      if (query >= contextEnd) blocked.fill(0, from + branches[branch]!, from + query + 1);
      const own = query < P ? 0 : request.segment;
      const zero = reach - 1 - place[query]!;
      for (let key = 0; key < end; key++) {
        const other = key < P ? 0 : request.segment;
        buckets[from + key] = own === other ? byDistance[zero + place[key]!]! : inSegment + own * segmentTypes + other;
      }
    }
  }
  return {
    rows,
    columns,
    promptIds,
    tokens,
    segment,
    buckets,
    blocked,
    seen,
    positions: Int32Array.from(positions),
    targets: Int32Array.from(targets),
  };
}
