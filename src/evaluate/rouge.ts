/**
 * ROUGE-1, -2 and -L of a text against references: Lin, "ROUGE: a package for automatic evaluation of summaries" (2004).
 *
 *     F = 2PR / (P + R)
 *
 * with P and R the runs in common (clipped counts), or the longest common subsequence, as shares of the hypothesis and of
 * the reference. The best of several references counts. As the package rouge-score computes, on other units.
 */
import { type CorpusMetric, meanMetric } from "./corpus-metric.ts";
import { commonCount, countRuns, type TextUnit, unitsOf } from "./text-units.ts";

export const rougeKinds = ["1", "2", "L"] as const;
export type RougeKind = (typeof rougeKinds)[number];

/** The F measure, 0 to 1. Two texts without runs of this length have 0. */
export function rougeF(hypothesis: readonly string[], reference: readonly string[], kind: RougeKind): number {
  const order = kind === "L" ? 1 : Number(kind);
  const [own, theirs] = [hypothesis.length - order + 1, reference.length - order + 1];
  if (own <= 0 || theirs <= 0) return 0;
  const common =
    kind === "L"
      ? longestCommonSubsequence(hypothesis, reference)
      : commonCount(countRuns(hypothesis, order), countRuns(reference, order));
  return (2 * common) / (own + theirs); // = 2PR/(P + R) with P = common/own, R = common/theirs
}

/** Length of the longest sequence that both have in order, not necessarily without gaps. */
export function longestCommonSubsequence(a: readonly string[], b: readonly string[]): number {
  let row = new Int32Array(b.length + 1);
  for (const unit of a) {
    const next = new Int32Array(b.length + 1);
    for (let j = 0; j < b.length; j++) next[j + 1] = unit === b[j] ? row[j]! + 1 : Math.max(row[j + 1]!, next[j]!);
    row = next;
  }
  return row[b.length]!;
}

/** The mean F measure of texts. */
export function rougeMetrics(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  unit: TextUnit,
): CorpusMetric[] {
  const units = hypotheses.map((text) => unitsOf(text, unit));
  const known = references.map((texts) => texts.map((text) => unitsOf(text, unit)));
  return rougeKinds.map((kind) =>
    meanMetric(
      `rouge${kind}.${unit}`,
      units.map((own, index) => Math.max(...known[index]!.map((reference) => rougeF(own, reference, kind)))),
    ),
  );
}
