/**
 * A model's outputs on samples: scores of options, texts, and the loss of what would have been right. Work goes by length, in
 * batches; records are handed over as soon as they are complete, in no particular order.
 */
import { type EncodedAnswer, type EncodedSample, optionsOf } from "../data/tasks/index.ts";
import { type GenerateOptionsInput, generate } from "../infer/index.ts";
import { createDetokenizer } from "../tokenizer/index.ts";
import type { EvaluatedModel } from "./model.ts";
import type { EvaluationRecord, GenerationRecord, OptionScore } from "./records.ts";
import type { ContinuationScore, ScoreRequest } from "./scorer.ts";
import type { TokenNats } from "./training-split.ts";

/** A sample, and its number among all of its file. */
export interface NumberedSample {
  readonly index: number;
  readonly encoded: EncodedSample;
}

export interface SampleRun {
  readonly signal?: AbortSignal | undefined;
  /** Takes complete records. */
  readonly onRecords: (records: readonly EvaluationRecord[]) => Promise<void>;
  /** Told how much of the work is done, 0 to 1. */
  readonly onShare?: ((share: number) => void) | undefined;
}

/** Texts that are decoded side by side; beams and samples count. */
const decodingRows = 32;

/**
 * Scores the options of choices and rankings.
 *
 * @param domain ids of an input that says nothing of a sample: options are scored behind it as well
 */
export async function scoreOptions(
  model: EvaluatedModel,
  samples: readonly NumberedSample[],
  { signal, onRecords, onShare, domain }: SampleRun & { readonly domain?: Int32Array | undefined },
): Promise<void> {
  if (samples.length === 0) return;
  const requests: ScoreRequest[] = [];
  const asked: { readonly sample: NumberedSample; readonly answers: readonly EncodedAnswer[]; isDomain: boolean }[] =
    [];
  const ask = (sample: NumberedSample, context: Int32Array, answers: readonly EncodedAnswer[], isDomain = false) => {
    requests.push(
      requestOf(
        sample,
        context,
        answers.map(({ ids }) => ids),
      ),
    );
    asked.push({ sample, answers, isDomain });
  };
  for (const sample of samples) {
    const { prompts } = sample.encoded;
    for (const { ids, answers } of prompts) ask(sample, ids, answers);
    if (domain) {
      const answers = prompts.flatMap((prompt) => prompt.answers);
      ask(sample, domain, answers, true);
    }
  }
  const pending = new Map<NumberedSample, { left: number; options: OptionScore[]; domainLogprobs: number[] }>(
    samples.map((sample) => [
      sample,
      { left: sample.encoded.prompts.length + (domain ? 1 : 0), options: [], domainLogprobs: [] },
    ]),
  );
  const scorer = await model.createScorer();
  try {
    await scorer.score(requests, {
      signal,
      async onBatch(done, scores) {
        const complete: EvaluationRecord[] = [];
        for (const [place, index] of done.entries()) {
          const { sample, answers, isDomain } = asked[index]!;
          const state = pending.get(sample)!;
          const texts = optionsOf(sample.encoded.sample);
          for (const [k, { option, ids }] of answers.entries()) {
            const score = scores[place]![k]!;
            const logprob = round(sum(score.logprobs));
            if (isDomain) state.domainLogprobs[option] = logprob;
            else
              state.options[option] = {
                text: texts[option]!,
                logprob,
                logit: round(score.logits[0]!),
                tokens: ids.length,
              };
          }
          if (--state.left === 0) {
            const options = state.options.map((own, option) =>
              domain ? { ...own, domainLogprob: state.domainLogprobs[option]! } : own,
            );
            complete.push(recordOf(sample, options));
            pending.delete(sample);
          }
        }
        await onRecords(complete);
      },
      onShare,
    });
  } finally {
    scorer.dispose();
  }
}

function recordOf({ index, encoded: { sample } }: NumberedSample, options: OptionScore[]): EvaluationRecord {
  const { id, group } = sample;
  const base = { index, id, ...(group !== undefined && { group }) };
  if (sample.kind === "choice") return { ...base, kind: "choice", answer: sample.answer, options };
  if (sample.kind === "ranking") return { ...base, kind: "ranking", relevance: [...sample.relevance], options };
  throw new Error("internal: options of a generation");
}

/** Writes texts and takes the loss of the first reference with `</s>`. */
export async function writeAnswers(
  model: EvaluatedModel,
  samples: readonly NumberedSample[],
  decoding: GenerateOptionsInput & { readonly maxTokens: number },
  run: SampleRun & { readonly withLead: boolean; readonly unigram?: TokenNats | undefined },
): Promise<void> {
  if (samples.length === 0) return;
  const losses = await answerLosses(model, samples, run);
  const order = [...samples].sort((a, b) => promptOf(b).length - promptOf(a).length || a.index - b.index);
  const { promptTask, segment } = samples[0]!.encoded.template;
  const capacityTokens = promptOf(order[0]!).length + decoding.maxTokens;
  const width = decoding.mode === "beam" ? (decoding.beamSize ?? 3) : 1;
  const rows = Math.max(1, Math.floor(decodingRows / width));
  const session = await model.createSession({
    capacityTokens,
    promptTask,
    segment,
    rowCapacity: Math.min(rows, order.length) * width,
  });
  const tokenizer = {
    eosId: model.tokenizer.eosId,
    newlineId: model.tokenizer.newlineId,
    createDetokenizer: () => createDetokenizer(model.tokenizer),
  };
  try {
    for (let from = 0; from < order.length; from += rows) {
      run.signal?.throwIfAborted();
      const batch = order.slice(from, from + rows);
      const prompts = batch.map((sample) => [...promptOf(sample)]);
      const { texts } = await generate(session, tokenizer, prompts, decoding, { signal: run.signal });
      run.signal?.throwIfAborted();
      run.onShare?.(Math.min(1, (from + rows) / order.length));
      await run.onRecords(
        texts.map(({ row, text, ids, finish }): GenerationRecord => {
          const { index, encoded } = batch[row]!;
          const { sample } = encoded;
          if (sample.kind !== "generation") throw new Error("internal: a text for options");
          const source = sample.fields.text ?? sample.fields.input!;
          return {
            kind: "generation",
            index,
            id: sample.id,
            ...(sample.group !== undefined && { group: sample.group }),
            references: [...sample.references],
            text: text.trim(),
            tokens: ids.length,
            finish,
            ...losses.get(index),
            ...(run.withLead && { lead: firstSentence(source) }),
          };
        }),
      );
    }
  } finally {
    session.dispose();
  }
}

type AnswerLoss = Pick<GenerationRecord, "answerNats" | "answerTokens" | "answerUnigramNats">;

async function answerLosses(
  model: EvaluatedModel,
  samples: readonly NumberedSample[],
  { signal, unigram }: Pick<SampleRun, "signal"> & { readonly unigram?: TokenNats | undefined },
): Promise<Map<number, AnswerLoss>> {
  const losses = new Map<number, AnswerLoss>();
  const scorer = await model.createScorer();
  try {
    const requests = samples.map((sample) => {
      const [{ ids, answers }] = sample.encoded.prompts as [EncodedSample["prompts"][number]];
      const [{ ids: answer, whole }] = answers as [(typeof answers)[number]];
      return requestOf(sample, ids, [whole ? Int32Array.of(...answer, model.tokenizer.eosId) : answer]);
    });
    await scorer.score(requests, {
      signal,
      async onBatch(done, scores) {
        for (const [place, request] of done.entries()) {
          const [{ logprobs }] = scores[place] as [ContinuationScore];
          const [answer] = requests[request]!.continuations as [Int32Array];
          losses.set(samples[request]!.index, {
            answerNats: -round(sum(logprobs)),
            answerTokens: logprobs.length,
            ...(unigram && { answerUnigramNats: round(unigram(answer)) }),
          });
        }
      },
    });
  } finally {
    scorer.dispose();
  }
  return losses;
}

function requestOf({ encoded }: NumberedSample, context: Int32Array, continuations: Int32Array[]): ScoreRequest {
  const { promptTask, segment } = encoded.template;
  return { context, continuations, promptTask, segment };
}

function promptOf({ encoded }: NumberedSample): Int32Array {
  return encoded.prompts[0]!.ids;
}

function firstSentence(text: string): string {
  return /^[^\n。！？!?]*/u.exec(text.trim())![0].trim();
}

function sum(values: Float32Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** Six digits behind the point: more is float32's noise. */
function round(value: number): number {
  return Number(value.toFixed(6));
}
