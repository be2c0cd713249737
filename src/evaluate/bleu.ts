/**
 * BLEU of a corpus: Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine translation"
 * (ACL 2002).
 *
 *     BLEU-N = BP · exp(1/N · Σₙ ln pₙ),   BP = min(1, exp(1 − r/c))
 *
 * with pₙ the share of the hypotheses' runs of n units that the references have (clipped to the most that one of them
 * has), c the hypotheses' length and r that of the references nearest in length (the shorter of two). As sacrebleu counts,
 * whose "exp" smoothing is the default here as there: the k-th order in a row without any match counts 1/(2ᵏ · runs).
 */
import { type CorpusMetric, sumMetric } from "./corpus-metric.ts";
import { countRuns, type TextUnit, unitsOf } from "./text-units.ts";

const maxOrder = 4;

/** What a sample adds: matches of orders 1 to 4, runs of orders 1 to 4, length, length of the nearest reference. */
export function bleuCounts(hypothesis: readonly string[], references: readonly (readonly string[])[]): number[] {
  const matches: number[] = [];
  const runs: number[] = [];
  for (let order = 1; order <= maxOrder; order++) {
    const counts = countRuns(hypothesis, order);
    const known = references.map((reference) => countRuns(reference, order));
    let matched = 0;
    for (const [run, count] of counts) {
      matched += Math.min(count, Math.max(...known.map((reference) => reference.get(run) ?? 0)));
    }
    matches.push(matched);
    runs.push(Math.max(0, hypothesis.length - order + 1));
  }
  const own = hypothesis.length;
  const nearest = references
    .map(({ length }) => length)
    .reduce((best, length) => {
      const closer = Math.abs(length - own) - Math.abs(best - own);
      return closer < 0 || (closer === 0 && length < best) ? length : best;
    });
  return [...matches, ...runs, own, nearest];
}

/** BLEU up to an order, 0 to 1, of the sums of `bleuCounts`. */
export function bleuOf(sums: ArrayLike<number>, order: number, smoothing: "exp" | "none" = "exp"): number {
  const [length, reference] = [sums[2 * maxOrder]!, sums[2 * maxOrder + 1]!];
  let misses = 0;
  let logs = 0;
  for (let n = 0; n < order; n++) {
    const [matched, runs] = [sums[n]!, sums[maxOrder + n]!];
    if (runs === 0) return 0;
    if (matched > 0) logs += Math.log(matched / runs);
    else if (smoothing === "exp" && sums[0]! > 0) logs += Math.log(1 / (2 ** ++misses * runs));
    else return 0;
  }
  const brevity = length >= reference ? 1 : Math.exp(1 - reference / length);
  return brevity * Math.exp(logs / order);
}

/** BLEU-1 to BLEU-4 of texts. */
export function bleuMetrics(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  unit: TextUnit,
): CorpusMetric[] {
  const rows = hypotheses.map((hypothesis, index) =>
    bleuCounts(
      unitsOf(hypothesis, unit),
      references[index]!.map((reference) => unitsOf(reference, unit)),
    ),
  );
  return [1, 2, 3, 4].map((order) => sumMetric(`bleu${order}.${unit}`, rows, (sums) => bleuOf(sums, order)));
}
