/** Which metrics a task has, computed from its records; the first is the one that stands for it. */

import { DataError } from "../util/error.ts";
import { createRandom } from "../util/random.ts";
import { evaluateEquation, sameValue } from "./arithmetic.ts";
import { bleuMetrics } from "./bleu.ts";
import { type CorpusMetric, meanMetric, sumMetric } from "./corpus-metric.ts";
import { distinctMetric } from "./distinct.ts";
import type { EvaluationName, Normalization } from "./options.ts";
import { averagePrecision, ndcg, rankBy, reciprocalRank } from "./ranking.ts";
import type {
  ChoiceRecord,
  EvaluationRecord,
  GenerationRecord,
  OptionScore,
  RankingRecord,
  TextRecord,
} from "./records.ts";
import { rougeMetrics } from "./rouge.ts";

export interface MetricOptions {
  readonly task: EvaluationName;
  /** The template's; `yes` and `letter` compare logits. */
  readonly method?: string | undefined;
  readonly normalize: Normalization;
}

/** The figure by which options are compared. */
export function optionScore(option: OptionScore, { method, normalize }: MetricOptions): number {
  if (method === "yes" || method === "letter") return option.logit;
  if (normalize === "sum") return option.logprob;
  if (normalize === "pmi") return option.logprob - domainOf(option);
  return option.logprob / (normalize === "tokens" ? option.tokens : Math.max(1, [...option.text].length));
}

function domainOf({ text, domainLogprob }: OptionScore): number {
  if (domainLogprob !== undefined) return domainLogprob;
  throw new DataError("CPM_EVAL_DOMAIN", "these outputs do not say how likely options are without their sample", {
    got: `nothing for ${JSON.stringify(text)}`,
    hint: "Run the evaluation with normalize: pmi, or compare likelihoods otherwise.",
  });
}

/** The option with the highest score, the first of equals. */
export function chosenOption(options: readonly OptionScore[], by: MetricOptions): number {
  const scores = options.map((option) => optionScore(option, by));
  return scores.indexOf(Math.max(...scores));
}

/** All records are of the task's kind: see `readRecords`. */
export function metricsOf(records: readonly EvaluationRecord[], options: MetricOptions): CorpusMetric[] {
  if (records.length === 0) return [];
  switch (records[0]!.kind) {
    case "choice":
      return [
        meanMetric(
          "accuracy",
          (records as readonly ChoiceRecord[]).map((record) =>
            Number(chosenOption(record.options, options) === record.answer),
          ),
        ),
      ];
    case "ranking":
      return rankingMetrics(
        (records as readonly RankingRecord[]).map(({ id, options: candidates, relevance }) => {
          const scores = candidates.map((candidate) => optionScore(candidate, options));
          return rankBy(scores, relevance, tieOrder(id, scores.length));
        }),
      );
    case "text":
      return textMetrics(records as readonly TextRecord[]);
    default:
      return generationMetrics(records as readonly GenerationRecord[], options.task);
  }
}

/** An order for equal scores that knows nothing of where the relevant ones stand. */
function tieOrder(id: string, length: number): ArrayLike<number> {
  return createRandom(1, `ties ${id}`).shuffle(Int32Array.from({ length }, (_, index) => index));
}

/** @param ranked the grades of each query in the order that is judged */
export function rankingMetrics(ranked: readonly (readonly number[])[]): CorpusMetric[] {
  return [
    meanMetric("mrr", ranked.map(reciprocalRank)),
    meanMetric(
      "ndcg",
      ranked.map((grades) => ndcg(grades)),
    ),
    meanMetric(
      "ndcg@5",
      ranked.map((grades) => ndcg(grades, 5)),
    ),
    meanMetric("map", ranked.map(averagePrecision)),
  ];
}

/** Bits a character, and nats a token: Σ / Σ over texts, so long texts weigh more. */
function textMetrics(records: readonly TextRecord[]): CorpusMetric[] {
  const lower = { higherIsBetter: false };
  const rows = records.map(({ nats, characters, tokens }) => [nats, characters, tokens]);
  return [
    sumMetric("bitsPerCharacter", rows, ([nats, characters]) => nats! / Math.LN2 / characters!, lower),
    sumMetric("natsPerToken", rows, ([nats, , tokens]) => nats! / tokens!, lower),
    sumMetric("perplexity", rows, ([nats, , tokens]) => Math.exp(nats! / tokens!), lower),
  ];
}

function generationMetrics(records: readonly GenerationRecord[], task: EvaluationName): CorpusMetric[] {
  const texts = records.map(({ text }) => text);
  const references = records.map((record) => record.references);
  const metrics: CorpusMetric[] = [];
  if (task === "math23k") metrics.push(...equationMetrics(records));
  else if (task === "kdconv") {
    for (const unit of ["characters", "words"] as const) {
      metrics.push(...bleuMetrics(texts, references, unit));
      for (const order of [1, 2]) metrics.push(distinctMetric(texts, order, unit));
    }
  } else {
    metrics.push(...rougeMetrics(texts, references, "characters"), ...rougeMetrics(texts, references, "words"));
  }
  if (records.every(({ answerNats }) => answerNats !== undefined)) {
    const rows = records.map(({ answerNats, answerTokens }) => [answerNats!, answerTokens!]);
    metrics.push(sumMetric("answerLoss", rows, ([nats, tokens]) => nats! / tokens!, { higherIsBetter: false }));
  }
  return metrics;
}

/**
 * Math23K: the share of equations with the right value, and of those that have a value at all. The right value is that of the
 * row's answer, where it has one, else of its equation.
 */
function equationMetrics(records: readonly GenerationRecord[]): CorpusMetric[] {
  const values = records.map(({ text }) => evaluateEquation(text));
  const right = records.map(({ references }, index) => {
    const expected = evaluateEquation(references.at(-1)!);
    const value = values[index];
    return Number(value !== undefined && expected !== undefined && sameValue(value, expected));
  });
  return [
    meanMetric("answerAccuracy", right),
    meanMetric(
      "hasValue",
      values.map((value) => Number(value !== undefined)),
    ),
  ];
}
