/** Tasks put to a model: scores, texts, metrics with intervals, comparisons. */
export { evaluateEquation, sameValue } from "./arithmetic.ts";
export { type Baselines, baselinesOf } from "./baselines.ts";
export { compareRecords, type EvaluationComparison, type MetricComparison } from "./compare.ts";
export type { CorpusMetric } from "./corpus-metric.ts";
export { type EvaluationHooks, type EvaluationOutcome, evaluationName, runEvaluation, templateOf } from "./evaluate.ts";
export { type EvaluatedModel, evaluatedModel, weightsDigest } from "./model.ts";
export {
  type EvaluationName,
  type EvaluationSettings,
  evaluationNames,
  evaluationSchema,
  type Normalization,
  normalizations,
  resamplingSchema,
} from "./options.ts";
export { type EvaluationRecord, type RecordFile, readRecords } from "./records.ts";
export { type EvaluationReport, type GroupReport, type MetricReport, reportOf } from "./report.ts";
export { createScorer, type ScoreRequest, type Scorer } from "./scorer.ts";
export { bootstrapInterval, pairedDifference, type ResamplingOptions, randomisationTest } from "./significance.ts";
export { type MetricOptions, metricsOf } from "./task-metrics.ts";
