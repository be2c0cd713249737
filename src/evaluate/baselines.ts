/**
 * What needs no model: figures to hold a model's against. They are computed on the very samples that are evaluated.
 *
 * - random: an option drawn at random (the exact expectation), a random order (the mean of many), another sample's answer,
 *   every token of the vocabulary as likely
 * - majority: the place where the right option stands most often, the file's own order, the most usual answer, tokens as
 *   likely as they are frequent in the text
 * - lead: a text's first sentence, for headlines
 */
import { createRandom } from "../util/random.ts";
import { evaluateEquation } from "./arithmetic.ts";
import type { ChoiceRecord, EvaluationRecord, GenerationRecord, RankingRecord, TextRecord } from "./records.ts";
import { rougeF } from "./rouge.ts";
import { type MetricOptions, metricsOf, rankingMetrics } from "./task-metrics.ts";
import { unitsOf } from "./text-units.ts";

/** Values by metric; a metric for which a baseline makes no sense is not there. */
export interface Baselines {
  readonly random: Readonly<Record<string, number>>;
  readonly majority: Readonly<Record<string, number>>;
  readonly lead?: Readonly<Record<string, number>> | undefined;
}

/** Random orders of each query. */
const orders = 200;
/** Answers that are compared with each other to find the most usual one. */
const comparedAnswers = 200;

export function baselinesOf(
  records: readonly EvaluationRecord[],
  options: MetricOptions & { readonly vocabSize: number },
): Baselines {
  if (records.length === 0) return { random: {}, majority: {} };
  switch (records[0]!.kind) {
    case "choice":
      return choiceBaselines(records as readonly ChoiceRecord[]);
    case "ranking":
      return rankingBaselines(records as readonly RankingRecord[]);
    case "text":
      return textBaselines(records as readonly TextRecord[], options.vocabSize);
    default:
      return generationBaselines(records as readonly GenerationRecord[], options);
  }
}

function choiceBaselines(records: readonly ChoiceRecord[]): Baselines {
  const counts = new Map<number, number>();
  let random = 0;
  for (const { answer, options } of records) {
    random += 1 / options.length;
    counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  return {
    random: { accuracy: random / records.length },
    majority: { accuracy: Math.max(...counts.values()) / records.length },
  };
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

function generationBaselines(
  records: readonly GenerationRecord[],
  options: MetricOptions & { readonly vocabSize: number },
): Baselines {
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
  const usual = usualAnswer(records, options);
  return {
    random: {
      ...saying((_, index) => records[(index + shift) % count]!.references[0]!),
      answerLoss: Math.log(options.vocabSize),
    },
    majority: saying(() => usual),
    ...(records.every(({ lead }) => lead !== undefined) && { lead: saying(({ lead }) => lead!) }),
  };
}

/**
 * The answer that occurs most often; where all differ, the one most like the others in its characters. For equations it is the
 * value that occurs most often.
 */
function usualAnswer(records: readonly GenerationRecord[], { task }: MetricOptions): string {
  const answers = records.map(({ references }) =>
    task === "math23k" ? String(evaluateEquation(references.at(-1)!) ?? "") : references[0]!,
  );
  const counts = new Map<string, number>();
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  const most = Math.max(...counts.values());
  if (most > 1) return [...counts].find(([, count]) => count === most)![0];
  const compared = answers.slice(0, comparedAnswers).map((answer) => unitsOf(answer, "characters"));
  const likeness = compared.map((own) => compared.reduce((sum, other) => sum + rougeF(own, other, "1"), 0));
  return answers[likeness.indexOf(Math.max(...likeness))]!;
}

function valuesOf(metrics: readonly { readonly name: string; value(): number }[]): Record<string, number> {
  return Object.fromEntries(metrics.map((metric) => [metric.name, metric.value()]));
}
