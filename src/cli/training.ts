/**
 * Training for a command: options checked by one schema, files read, progress shown, the model's folder written. `cpm
 * train` and `cpm start` are this with different options around it.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { presetNames } from "../model/presets.ts";
import type { TextCorpus, TrainResult } from "../train/index.ts";
import { scheduleSchema } from "../train/schedule.ts";
import { ConfigError } from "../util/error.ts";
import type { CommandContext } from "./context.ts";
import { note, print, say } from "./context.ts";
import { trainMessages as messages } from "./messages/train.ts";
import { type Progress, startProgress } from "./progress.ts";
import { durationSchema, formatInteger, formatNumber } from "./quantity.ts";
import { stepFeatureFields } from "./step-features.ts";

/** More bad lines than these are only counted. */
const shownBadLines = 10;

/** Everything about a training run but its files and folder; a recipe's keys. */
export const trainingFields = {
  preset: z.enum(presetNames).default("tiny").describe(messages.preset.en).meta({ zh: messages.preset.zh }),
  vocab: z.string().min(1).optional().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
  steps: z.int().min(1).default(4000).describe(messages.steps.en).meta({ zh: messages.steps.zh }),
  for: durationSchema().optional().describe(messages.for.en).meta({ zh: messages.for.zh }),
  rows: z.int().min(1).max(65536).default(8).describe(messages.rows.en).meta({ zh: messages.rows.zh }),
  length: z.int().min(8).max(65536).default(128).describe(messages.length.en).meta({ zh: messages.length.zh }),
  seed: z.int().min(0).default(1).describe(messages.seed.en).meta({ zh: messages.seed.zh }),
  threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
  recompute: z
    .enum(["none", "block"])
    .default("none")
    .describe(messages.recompute.en)
    .meta({ zh: messages.recompute.zh, flag: false }),
  fillShare: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe(messages.fillShare.en)
    .meta({ zh: messages.fillShare.zh, flag: false }),
  heldOutShare: z
    .number()
    .min(0)
    .max(0.9)
    .default(0.05)
    .describe(messages.heldOutShare.en)
    .meta({ zh: messages.heldOutShare.zh }),
  evaluateEvery: z
    .int()
    .min(1)
    .default(200)
    .describe(messages.evaluateEvery.en)
    .meta({ zh: messages.evaluateEvery.zh, flag: false }),
  evaluatePieces: z
    .int()
    .min(1)
    .default(128)
    .describe(messages.evaluatePieces.en)
    .meta({ zh: messages.evaluatePieces.zh, flag: false }),
  patience: z.int().min(0).default(0).describe(messages.patience.en).meta({ zh: messages.patience.zh, flag: false }),
  keep: z.enum(["best", "last"]).default("best").describe(messages.keep.en).meta({ zh: messages.keep.zh }),
  maxCharacters: z
    .int()
    .min(1)
    .default(20_000_000)
    .describe(messages.maxCharacters.en)
    .meta({ zh: messages.maxCharacters.zh }),
  field: z.string().default("text").describe(messages.field.en).meta({ zh: messages.field.zh, flag: false }),
  encoding: z
    .enum(["utf-8", "gb18030"])
    .default("utf-8")
    .describe(messages.encoding.en)
    .meta({ zh: messages.encoding.zh, flag: false }),
  schedule: scheduleSchema
    .default({ kind: "cosine", peak: 0.03, warmup: 40, total: 4000, floor: 0.001 })
    .describe(messages.schedule.en)
    .meta({ zh: messages.schedule.zh }),
  ...stepFeatureFields,
} as const;

const schema = z.object(trainingFields);
export type TrainingOptions = z.output<typeof schema>;

/** Refuses a folder that exists before any time is spent. */
export function requireNewFolder(path: string, context: CommandContext): void {
  if (!existsSync(path)) return;
  throw new ConfigError("CPM_TRAIN_OUTPUT", say(context, messages.exists, { path }), {
    where: "output",
    hint: say(context, messages.existsHint),
  });
}

/** Trains on the files and saves to the folder; says on stderr how it goes. */
export async function trainFromFiles(
  paths: readonly string[],
  output: string,
  options: TrainingOptions,
  context: CommandContext,
): Promise<void> {
  requireNewFolder(output, context);
  const [{ expandPaths }, { readTextCorpus, parseSchedule, train }, { preset }, { createNativeRuntime }] =
    await Promise.all([
      import("../data/index.ts"),
      import("../train/index.ts"),
      import("../model/index.ts"),
      import("../runtime/index.ts"),
    ]);
  const schedule = parseSchedule(options.schedule);
  const base = preset(options.preset);
  const files = await expandPaths(paths);
  note(context, say(context, messages.reading, { count: formatInteger(files.length) }));
  const progress = startProgress(context);
  let badLines = 0;
  const corpus = await readTextCorpus(files, {
    length: options.length,
    promptLength: base.promptLength,
    vocabulary: options.vocab === undefined ? undefined : await readFile(options.vocab, "utf8"),
    vocabSize: base.vocabSize,
    heldOutShare: options.heldOutShare,
    maxCharacters: options.maxCharacters,
    field: options.field,
    encoding: options.encoding,
    signal: context.signal,
    onBadLine: ({ source, line, reason }) => {
      if (++badLines > shownBadLines) return;
      progress.note(say(context, messages.badLine, { where: `${source}:${line}`, reason }));
    },
  });
  if (badLines > shownBadLines) note(context, say(context, messages.badLines, { count: formatInteger(badLines) }));
  const config = { ...base, vocabSize: corpus.tokenizer.vocabSize, half: false, dropout: options.dropout };
  await describe(corpus, options, config, context);

  // Threads that sleep between programs leave the cores to what runs beside them, the optimizer above all.
  using runtime = createNativeRuntime({
    spin: false,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  });
  const smoothed = createSmoothing();
  const result = await train(
    runtime,
    config,
    corpus,
    {
      ...options,
      schedule,
      maxSteps: options.steps,
      maxMs: options.for ?? Number.POSITIVE_INFINITY,
    },
    {
      now: context.now,
      signal: context.signal,
      onStep: (report) => {
        progress.update({
          done: report.done,
          step: report.step,
          ...(options.for === undefined && { steps: options.steps }),
          loss: smoothed(report.loss),
          tokensPerSecond: report.tokensPerSecond,
          extra: [`lr ${report.learningRate.toExponential(1)}`, `|g| ${report.gradientNorm.toPrecision(2)}`],
        });
        if (context.json) print(context, JSON.stringify({ event: "step", ...report }));
      },
      onEvaluation: ({ step, loss }) => {
        const shown = { step: formatInteger(step), ...lossUnits(loss, corpus) };
        progress.note(say(context, messages.evaluation, shown));
        if (context.json) print(context, JSON.stringify({ event: "heldOut", step, loss }));
      },
    },
  );
  try {
    finish(progress, result, corpus, options, context);
    await save(output, config, corpus, result, options, context);
  } finally {
    result.parameters.dispose();
  }
}

async function describe(
  corpus: TextCorpus,
  options: TrainingOptions,
  config: Parameters<typeof import("../model/index.ts").parameterCount>[0],
  context: CommandContext,
): Promise<void> {
  const { parameterCount } = await import("../model/index.ts");
  const { documents, characters, tokens } = corpus.train.statistics;
  const { unigramNatsPerToken, unigramBitsPerCharacter } = judged(corpus).statistics;
  note(
    context,
    say(context, messages.corpus, {
      documents: formatInteger(documents),
      characters: formatInteger(characters),
      tokens: formatInteger(tokens),
      heldOut: formatInteger(corpus.heldOut.statistics.documents),
      vocab: formatInteger(corpus.tokenizer.vocabSize),
      source: say(context, options.vocab === undefined ? messages.trainedVocabulary : messages.givenVocabulary),
    }),
  );
  if (corpus.cut) note(context, say(context, messages.cut, { characters: formatInteger(options.maxCharacters) }));
  note(
    context,
    say(context, messages.model, {
      preset: options.preset,
      parameters: formatInteger(parameterCount(config)),
      rows: formatInteger(options.rows),
      length: formatInteger(options.length),
    }),
  );
  note(
    context,
    say(context, messages.entropy, {
      nats: formatNumber(round(unigramNatsPerToken)),
      bits: formatNumber(round(unigramBitsPerCharacter)),
    }),
  );
  if (corpus.heldOut.pieces === 0) note(context, say(context, messages.noHeldOut));
}

const endings = {
  steps: messages.endSteps,
  time: messages.endTime,
  patience: messages.endPatience,
  cancelled: messages.endCancelled,
} as const;

function finish(
  progress: Progress,
  result: TrainResult,
  corpus: TextCorpus,
  { keep }: TrainingOptions,
  context: CommandContext,
): void {
  progress.finish();
  note(context, say(context, endings[result.reason], { steps: formatInteger(result.steps) }));
  if (!result.heldOut) return;
  const { before, best, last } = result.heldOut;
  note(
    context,
    say(context, messages.summaryLine, {
      before: formatNumber(round(before.loss)),
      best: formatNumber(round(best.loss)),
      step: formatInteger(best.step),
      bits: lossUnits(best.loss, corpus).bits,
      entropy: formatNumber(round(judged(corpus).statistics.unigramNatsPerToken)),
    }),
  );
  if (keep === "last" && last.step !== best.step) {
    note(context, say(context, messages.keptLast, { last: formatNumber(round(last.loss)) }));
  }
}

/** The text that losses and entropy are of: what is held out, or all where nothing is. */
function judged({ heldOut, train }: TextCorpus): TextCorpus["train"] {
  return heldOut.pieces > 0 ? heldOut : train;
}

async function save(
  output: string,
  config: Parameters<typeof import("../checkpoint/index.ts").saveCheckpoint>[1],
  corpus: TextCorpus,
  { parameters, heldOut, steps, tokens, lastLoss, reason }: TrainResult,
  options: TrainingOptions,
  context: CommandContext,
): Promise<void> {
  const { saveCheckpoint } = await import("../checkpoint/index.ts");
  const record = {
    options,
    corpus: { train: corpus.train.statistics, heldOut: corpus.heldOut.statistics },
    result: { steps, tokens, lastLoss, reason, ...(heldOut && { heldOut }) },
  };
  const tensors = [...parameters.tensors].map(([name, tensor]) => ({
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    read: () => tensor.view(),
  }));
  await saveCheckpoint(output, config, tensors, {
    files: { "vocab.txt": corpus.vocabularyText, "train.json": `${JSON.stringify(record, undefined, 2)}\n` },
  });
  note(context, say(context, messages.saved, { path: output }));
  if (context.json) print(context, JSON.stringify({ event: "end", output, ...record.result }));
}

function lossUnits(nats: number, corpus: TextCorpus): { nats: string; bits: string } {
  const bits = (nats / Math.LN2) * corpus.heldOut.statistics.tokensPerCharacter;
  return { nats: formatNumber(round(nats)), bits: formatNumber(round(bits)) };
}

function round(value: number): number {
  return Number(value.toFixed(3));
}

/** A running mean over some fifty steps that is right from the first. */
export function createSmoothing(): (loss: number) => number {
  let sum = 0;
  let weight = 0;
  return (loss) => {
    sum = 0.98 * sum + 0.02 * loss;
    weight = 0.98 * weight + 0.02;
    return sum / weight;
  };
}
