/** Two systems on the same samples: differences with intervals and tests. */
import { DataError } from "../util/error.ts";
import type { EvaluationName, Normalization } from "./options.ts";
import type { EvaluationRecord, RecordFile } from "./records.ts";
import {
  type Interval,
  mcnemarTest,
  pairedDifference,
  type ResamplingOptions,
  randomisationTest,
} from "./significance.ts";
import { metricsOf, optionScore } from "./task-metrics.ts";

export interface MetricComparison extends Interval {
  readonly name: string;
  readonly higherIsBetter: boolean;
  readonly first: number;
  readonly second: number;
  /** second − first; `low` and `high` are its interval. */
  readonly difference: number;
  /** Two-sided. */
  readonly p: number;
  readonly test: "mcnemar" | "randomisation";
}

export interface EvaluationComparison {
  readonly name: string;
  readonly task: EvaluationName;
  /** Samples that both have. */
  readonly count: number;
  /** Samples that only one of them has. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  readonly metrics: readonly MetricComparison[];
}

/**
 * Compares the samples that both files have, paired by id.
 *
 * @throws DataError CPM_EVAL_COMPARE where the files are of different tasks, have no sample in common, or what is right
 * differs in one
 */
export function compareRecords(
  first: RecordFile,
  second: RecordFile,
  { normalize, ...resampling }: ResamplingOptions & { readonly normalize: Normalization },
): EvaluationComparison {
  const { name, task } = first.header;
  if (second.header.task !== task) throw unlike(`${task} and ${second.header.task}`, "one task");
  const others = new Map(second.records.map((record) => [record.id, record]));
  const pairs = first.records.flatMap((record) => {
    const other = others.get(record.id);
    return other === undefined ? [] : [[record, other] as const];
  });
  if (pairs.length === 0) throw unlike("no sample of the same id", "results on the same data");
  for (const [a, b] of pairs) {
    if (whatIsRight(a) !== whatIsRight(b)) throw unlike(`another answer to ${a.id}`, "results on the same data");
  }
  const count = pairs.length;
  const numbers = Int32Array.from({ length: count }, (_, index) => index);
  const behind = numbers.map((index) => index + count);
  // Each file's options are judged by its own method; then one rule reads all.
  const records = [
    ...pairs.map(([a]) => settled(a, first, normalize)),
    ...pairs.map(([, b]) => settled(b, second, normalize)),
  ];
  const joint = metricsOf(records, { task, method: "yes", normalize });
  return {
    name,
    task,
    count,
    onlyFirst: first.records.length - count,
    onlySecond: second.records.length - count,
    metrics: joint.map((metric): MetricComparison => {
      const [a, b] = [metric.value(numbers), metric.value(behind)];
      const shared = {
        name: metric.name,
        higherIsBetter: metric.higherIsBetter,
        first: a,
        second: b,
        difference: b - a,
      };
      const interval = pairedDifference(metric, resampling);
      if (metric.name !== "accuracy" && metric.name !== "answerAccuracy") {
        return { ...shared, ...interval, p: randomisationTest(metric, resampling), test: "randomisation" };
      }
      let [onlyA, onlyB] = [0, 0];
      for (let i = 0; i < count; i++) {
        const [x, y] = [metric.value([i]), metric.value([i + count])];
        if (x > y) onlyA++;
        else if (y > x) onlyB++;
      }
      return { ...shared, ...interval, p: mcnemarTest(onlyA, onlyB), test: "mcnemar" };
    }),
  };
}

/** A record whose options' logits are the figures that its own method goes by, so that one rule reads all. */
function settled(
  record: EvaluationRecord,
  { header: { method, task } }: RecordFile,
  normalize: Normalization,
): EvaluationRecord {
  if (record.kind !== "choice" && record.kind !== "ranking") return record;
  const options = record.options.map((option) => ({
    ...option,
    logit: optionScore(option, { method, task, normalize }),
  }));
  return { ...record, options };
}

function whatIsRight(record: EvaluationRecord): string {
  switch (record.kind) {
    case "choice":
      return `choice ${record.answer} of ${record.options.length}`;
    case "ranking":
      return `ranking ${record.relevance.join()}`;
    case "text":
      return `text ${record.characters + record.unknown}`;
    default:
      return `generation ${JSON.stringify(record.references)}`;
  }
}

function unlike(got: string, expected: string): DataError {
  return new DataError("CPM_EVAL_COMPARE", "these results cannot be compared", {
    got,
    expected,
    hint: "Evaluate both on the same file with the same limit and seed.",
  });
}
