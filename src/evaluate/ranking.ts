/**
 * Metrics of an order: how far in front the relevant ones stand. Each is of one query, 0 to 1; without anything relevant it
 * is 0. `ranked` holds the relevance grades in the order that is judged.
 */

/** 1 / rank of the first that is relevant. */
export function reciprocalRank(ranked: readonly number[]): number {
  const first = ranked.findIndex((grade) => grade > 0);
  return first < 0 ? 0 : 1 / (first + 1);
}

/** The mean, over the relevant ones, of the share of relevant ones up to and with each. */
export function averagePrecision(ranked: readonly number[]): number {
  let relevant = 0;
  let sum = 0;
  for (const [index, grade] of ranked.entries()) {
    if (grade > 0) sum += ++relevant / (index + 1);
  }
  return relevant === 0 ? 0 : sum / relevant;
}

/**
 * DCG / the best possible DCG, DCG = Σ (2^grade − 1) / log₂(rank + 1) over the first `depth`. Järvelin and Kekäläinen (2002),
 * with the gain of Burges and others (2005); grades 0 and 1 make no difference between the two gains.
 */
export function ndcg(ranked: readonly number[], depth = Number.POSITIVE_INFINITY): number {
  const dcg = (grades: readonly number[]) =>
    grades.slice(0, depth).reduce((sum, grade, index) => sum + (2 ** grade - 1) / Math.log2(index + 2), 0);
  const best = dcg([...ranked].sort((a, b) => b - a));
  return best === 0 ? 0 : dcg(ranked) / best;
}

/** Grades in falling order of score; equal scores stay in the order of `tieBreak`, a permutation that knows no grades. */
export function rankBy(
  scores: readonly number[],
  relevance: readonly number[],
  tieBreak: ArrayLike<number>,
): readonly number[] {
  const order = Array.from(scores, (_, index) => index);
  order.sort((a, b) => scores[b]! - scores[a]! || tieBreak[a]! - tieBreak[b]!);
  return order.map((index) => relevance[index]!);
}
