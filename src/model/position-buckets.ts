/**
 * Which row of the relative-position bias table each (query, key) pair reads.
 *
 * The rule is CPM-Ant's: inside a segment the bucket of T5 (Raffel et al., 2020: exact for short distances,
 * logarithmic beyond, both directions), between segments one row for each ordered pair of segments, whatever the
 * distance. Distances are differences of array indices in the row; there is no position input. The rows are integers
 * computed here rather than in the graph, once for a batch, and shared by all layers.
 *
 * Legend: B rows of the batch, Q queries, T columns of a row (prompt included).
 */
import type { ModelConfig } from "./config.ts";

/** What the rule needs of a model's configuration; `checkConfig` has made sure that it can be laid out. */
export type PositionBucketConfig = Pick<ModelConfig, "positionBuckets" | "positionMaxDistance" | "segmentTypes">;

/**
 * The bucket of a key `relative = key index − query index` away in the same segment.
 *
 * With h = ⌊buckets/2⌋ rows a direction and e = ⌊h/2⌋ of them exact, n = |relative|, base = h where the key comes after
 * the query, else 0:
 *
 *     n < e:  base + n
 *     else:   base + min(h − 1, e + trunc(ln(n/e) / ln(maxDistance/e) · (h − e)))
 *
 * evaluated in fp32 step by step, as the reference does: only at the borders of buckets would it matter.
 */
export function distanceBucket(relative: number, config: PositionBucketConfig): number {
  const perDirection = Math.floor(config.positionBuckets / 2);
  const exact = Math.floor(perDirection / 2);
  const base = relative > 0 ? perDirection : 0;
  const distance = Math.abs(relative);
  if (distance < exact) return base + distance;
  const { fround } = Math;
  const logDistance = fround(Math.log(fround(distance / exact)));
  const logRange = fround(Math.log(config.positionMaxDistance / exact));
  const beyond = Math.trunc(fround(fround(logDistance / logRange) * (perDirection - exact)));
  return base + Math.min(perDirection - 1, exact + beyond);
}

/** Tables of `distanceBucket` already made, by configuration; replaced by a longer one when a longer row comes. */
const tables = new WeakMap<PositionBucketConfig, { readonly columns: number; readonly buckets: Int32Array }>();

/**
 * `distanceBucket` as a table, kept for later calls: buckets[reach − 1 + relative] for |relative| < reach, where the reach
 * is the `columns` of the result, at least as many as asked for.
 */
export function distanceTable(config: PositionBucketConfig, columns: number): { columns: number; buckets: Int32Array } {
  const known = tables.get(config);
  if (known !== undefined && known.columns >= columns) return known;
  const reach = Math.max(columns, 2 * (known?.columns ?? 0)); // doubling: rows that grow by one while decoding
  const buckets = new Int32Array(2 * reach - 1);
  for (let relative = 1 - reach; relative < reach; relative++) {
    buckets[reach - 1 + relative] = distanceBucket(relative, config);
  }
  const table = { columns: reach, buckets };
  tables.set(config, table);
  return table;
}

/**
 * rows_BQT: for batch row b, query column firstQuery + q and key column k, the row of the bias table:
 * `distanceBucket(k − (firstQuery + q))` where both are of one segment, else
 * `positionBuckets + segment[query]·segmentTypes + segment[key]`.
 *
 * @param segment segment_BT, each in [0, segmentTypes) (see `checkBatch`)
 * @param firstQuery the first column that is a query; Q = columns − firstQuery. With a key/value cache, the number of
 *   columns already cached.
 * @param out filled and returned where given; must hold rows·Q·columns numbers
 */
export function positionBuckets(
  segment: Int32Array,
  rows: number,
  columns: number,
  config: PositionBucketConfig,
  firstQuery = 0,
  out: Int32Array = new Int32Array(rows * (columns - firstQuery) * columns),
): Int32Array {
  const queries = columns - firstQuery;
  if (queries < 0 || segment.length !== rows * columns || out.length !== rows * queries * columns) {
    throw new Error(
      `internal: positionBuckets: segment of ${segment.length} and out of ${out.length} for ${rows} rows of ` +
        `${columns} columns from query ${firstQuery}`,
    );
  }
  if (queries === 0 || rows === 0) return out;
  const { columns: reach, buckets } = distanceTable(config, columns);
  const { positionBuckets: inSegment, segmentTypes } = config;
  let offset = 0;
  for (let row = 0; row < rows; row++) {
    const segments = segment.subarray(row * columns, (row + 1) * columns);
    for (let query = firstQuery; query < columns; query++, offset += columns) {
      const own = segments[query]!;
      const pairBase = inSegment + own * segmentTypes;
      const zero = reach - 1 - query; // index of key 0 in the table
      for (let key = 0; key < columns; key++) {
        const other = segments[key]!;
        out[offset + key] = other === own ? buckets[zero + key]! : pairBase + other;
      }
    }
  }
  return out;
}
