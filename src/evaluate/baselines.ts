/**
 * What needs no model: figures to hold a model's against, on the very samples that are evaluated. What is usual is counted on a
 * training split where the evaluation had one, else on these samples as well.
 *
 * - random: an option drawn at random (the exact expectation), a random order (the mean of many), another sample's answer,
 *   every token of the vocabulary as likely
 * - majority: the place where the right option stands most often, the file's own order, the most usual answer, tokens as
 *   likely as they are frequent in the text
 * - lead: a text's first sentence, for headlines
 */
import { createRandom } from "../util/random.ts";
import type {
  ChoiceRecord,
  EvaluationRecord,
  GenerationRecord,
  Majority,
  RankingRecord,
  TextRecord,
} from "./records.ts";
import { type MetricOptions, metricsOf, rankingMetrics } from "./task-metrics.ts";
import { usualAnswer } from "./training-split.ts";

/** Values by metric; a metric for which a baseline makes no sense is not there. */
export interface Baselines {
  readonly random: Readonly<Record<string, number>>;
  readonly majority: Readonly<Record<string, number>>;
  readonly lead?: Readonly<Record<string, number>> | undefined;
}

/** Random orders of each query. */
const orders = 200;

export interface BaselineOptions extends MetricOptions {
  readonly vocabSize: number;
  readonly majority?: Majority | undefined;
}

export function baselinesOf(records: readonly EvaluationRecord[], options: BaselineOptions): Baselines {
  if (records.length === 0) return { random: {}, majority: {} };
  switch (records[0]!.kind) {
    case "choice":
      return choiceBaselines(records as readonly ChoiceRecord[], options.majority);
    case "ranking":
      return rankingBaselines(records as readonly RankingRecord[]);
    case "text":
      return textBaselines(records as readonly TextRecord[], options.vocabSize);
    default:
      return generationBaselines(records as readonly GenerationRecord[], options);
  }
}

function choiceBaselines(records: readonly ChoiceRecord[], majority: Majority | undefined): Baselines {
  const counts = new Map<number, number>();
  let random = 0;
  for (const { answer, options } of records) {
    random += 1 / options.length;
    counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  const right = majority?.option === undefined ? Math.max(...counts.values()) : (counts.get(majority.option) ?? 0);
  return { random: { accuracy: random / records.length }, majority: { accuracy: right / records.length } };
}

function rankingBaselines(records: readonly RankingRecord[]): Baselines {
  const random = createRandom(1, "random order");
  const sums: Record<string, number> = {};
  for (let draw = 0; draw < orders; draw++) {
    const ranked = records.map(({ relevance }) => [...random.shuffle(Int32Array.from(relevance))]);
    for (const metric of rankingMetrics(ranked)) sums[metric.name] = (sums[metric.name] ?? 0) + metric.value() / orders;
  }
  return { random: sums, majority: valuesOf(rankingMetrics(records.map(({ relevance }) => relevance))) };
}

function textBaselines(records: readonly TextRecord[], vocabSize: number): Baselines {
  const uniform = records.map((record) => ({ ...record, nats: record.tokens * Math.log(vocabSize) }));
  const options = { task: "perplexity", normalize: "sum" } as const;
  const majority = records.every(({ unigramNats }) => unigramNats !== undefined)
    ? valuesOf(
        metricsOf(
          records.map((record) => ({ ...record, nats: record.unigramNats! })),
          options,
        ),
      )
    : {};
  return { random: valuesOf(metricsOf(uniform, options)), majority };
}

function generationBaselines(records: readonly GenerationRecord[], options: BaselineOptions): Baselines {
  // What the model made of the references says nothing about these texts.
  const saying = (text: (record: GenerationRecord, index: number) => string) =>
    valuesOf(
      metricsOf(
        records.map(({ answerNats: _nats, answerTokens: _tokens, ...record }, index) => ({
          ...record,
          text: text(record, index),
        })),
        options,
      ),
    );
  const count = records.length;
  const shift = count === 1 ? 0 : 1 + createRandom(1, "another answer").integer(count - 1);
  const references = records.map((record) => record.references);
  const usual = options.majority?.answer ?? usualAnswer(references, options.task);
  return {
    random: {
      ...saying((_, index) => records[(index + shift) % count]!.references[0]!),
      answerLoss: Math.log(options.vocabSize),
    },
    majority: { ...saying(() => usual), ...unigramLoss(records) },
    ...(records.every(({ lead }) => lead !== undefined) && { lead: saying(({ lead }) => lead!) }),
  };
}

/** Nats a token where every token is as likely as it is in the training split's answers. */
function unigramLoss(records: readonly GenerationRecord[]): { readonly answerLoss?: number } {
  let nats = 0;
  let tokens = 0;
  for (const { answerUnigramNats, answerTokens } of records) {
    if (answerUnigramNats === undefined || answerTokens === undefined) return {};
    nats += answerUnigramNats;
    tokens += answerTokens;
  }
  return { answerLoss: nats / tokens };
}

function valuesOf(metrics: readonly { readonly name: string; value(): number }[]): Record<string, number> {
  return Object.fromEntries(metrics.map((metric) => [metric.name, metric.value()]));
}
