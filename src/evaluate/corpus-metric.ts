/**
 * A metric of a whole set of samples, which can be taken of any draw from it too: what intervals and tests need. Most are
 * a function of sums of a few numbers of each sample.
 */

/** Names as reports and files write them; how many digits they have is the report's matter. */
export interface CorpusMetric {
  readonly name: string;
  readonly higherIsBetter: boolean;
  /** Samples. */
  readonly count: number;
  /** Of the samples of these numbers, repeats counting as often as they come; of all where there are none. */
  value(drawn?: ArrayLike<number>): number;
}

/**
 * finish(Σ over samples of their `width` numbers).
 *
 * @param rows a row of `width` numbers for each sample
 */
export function sumMetric(
  name: string,
  rows: readonly (readonly number[])[],
  finish: (sums: Float64Array) => number,
  { higherIsBetter = true }: { readonly higherIsBetter?: boolean } = {},
): CorpusMetric {
  const width = rows[0]?.length ?? 0;
  const numbers = Float64Array.from(rows.flat());
  if (numbers.length !== width * rows.length) throw new Error(`internal: rows of ${name} differ in length`);
  return {
    name,
    higherIsBetter,
    count: rows.length,
    value(drawn) {
      const sums = new Float64Array(width);
      const count = drawn?.length ?? rows.length;
      for (let i = 0; i < count; i++) {
        const from = (drawn === undefined ? i : drawn[i]!) * width;
        for (let k = 0; k < width; k++) sums[k]! += numbers[from + k]!;
      }
      return finish(sums);
    },
  };
}

/** The mean of one number a sample. */
export function meanMetric(
  name: string,
  values: readonly number[],
  options?: { readonly higherIsBetter?: boolean },
): CorpusMetric {
  return sumMetric(
    name,
    values.map((value) => [value, 1]),
    ([sum, count]) => sum! / count!,
    options,
  );
}
