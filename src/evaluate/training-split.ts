/**
 * What a training split says without a model: the answer to give always, and how frequent each token is. Baselines that were
 * counted on the evaluated samples know their answers, and flatter themselves.
 */
import { type Document, renderAnswer, type Task, type TaskSample, type TaskTemplate } from "../data/index.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import { evaluateEquation } from "./arithmetic.ts";
import type { Majority } from "./records.ts";
import { rougeF } from "./rouge.ts";
import { unitsOf } from "./text-units.ts";

/** Answers that are compared with each other to find the most usual one. */
const comparedAnswers = 400;

/** −Σ ln of the share that each token has. */
export type TokenNats = (ids: ArrayLike<number>) => number;

/** What is right most often: a place among the options, or a text. Nothing for rankings, whose baseline is the file's order. */
export function majorityOf(task: Pick<Task, "name" | "kind">, samples: readonly TaskSample[]): Majority {
  const counted = { samples: samples.length };
  if (task.kind === "ranking") return counted;
  if (task.kind === "choice") {
    const places = samples.map((sample) => (sample.kind === "choice" ? sample.answer : 0));
    return { ...counted, option: mostFrequent(places)! };
  }
  const references = samples.map((sample) => (sample.kind === "generation" ? sample.references : []));
  return { ...counted, answer: usualAnswer(references, task.name) };
}

/**
 * The text to answer with whatever the question: of equations the value that occurs most often, else of (at most 400, evenly
 * taken) answers the one most like the others, by ROUGE-1 of characters.
 */
export function usualAnswer(references: readonly (readonly string[])[], task: string): string {
  if (task === "math23k") return mostFrequent(references.map((own) => String(evaluateEquation(own.at(-1)!) ?? "")))!;
  const every = Math.max(1, references.length / comparedAnswers);
  const taken = Array.from({ length: Math.min(references.length, comparedAnswers) }, (_, i) => Math.floor(i * every));
  const answers = taken.map((index) => references[index]![0]!);
  const units = answers.map((answer) => unitsOf(answer, "characters"));
  const likeness = units.map((own) => units.reduce((sum, other) => sum + rougeF(own, other, "1"), 0));
  return answers[likeness.indexOf(Math.max(...likeness))]!;
}

/** The first of those that occur most often. */
function mostFrequent<T>(values: readonly T[]): T | undefined {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  let most: T | undefined;
  for (const [value, count] of counts) if (most === undefined || count > counts.get(most)!) most = value;
  return most;
}

/** Token frequencies of right answers, each with `</s>`, as they are taught. */
export function answerFrequencies(
  samples: readonly TaskSample[],
  template: TaskTemplate,
  tokenizer: Tokenizer,
  answerTokens: number,
): TokenNats {
  const counts = new Float64Array(tokenizer.vocabSize);
  for (const sample of samples) {
    const { ids } = tokenizer.encode(renderAnswer(sample, template), { unknown: "drop" });
    for (const id of ids.subarray(0, answerTokens)) counts[id]!++;
    if (ids.length <= answerTokens) counts[tokenizer.eosId]!++;
  }
  return natsBy(counts);
}

/** Token frequencies of texts. */
export function textFrequencies(texts: readonly Document[], tokenizer: Tokenizer): TokenNats {
  const counts = new Float64Array(tokenizer.vocabSize);
  for (const { text } of texts) for (const id of tokenizer.encode(text, { unknown: "drop" }).ids) counts[id]!++;
  return natsBy(counts);
}

/** Each token is counted once more than it occurred, so none is impossible. */
function natsBy(counts: Float64Array): TokenNats {
  const total = counts.reduce((sum, count) => sum + count + 1, 0);
  return (ids) => {
    let nats = 0;
    for (let i = 0; i < ids.length; i++) nats -= Math.log((counts[ids[i]!]! + 1) / total);
    return nats;
  };
}
