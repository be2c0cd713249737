/** The recipe of a tuning run: the options of `cpm tune`, and as they are kept in the run's folder. */
import { resolve } from "node:path";
import { z } from "zod";
import { taskNames } from "../data/tasks/names.ts";
import { templateSchema } from "../data/tasks/template.ts";
import { ConfigError } from "../util/error.ts";
import { pretrainMessages } from "./messages/pretrain.ts";
import { trainMessages } from "./messages/train.ts";
import { tuneMessages as messages } from "./messages/tune.ts";
import { pretrainFields } from "./run-recipe.ts";
import { trainingFields } from "./training.ts";

const { steps, for: timeLimit, pace, rows, seed, threads, recompute, evaluatePieces } = trainingFields;
const { run, resume, name, retention, guard, samplePrompts, sampleTokens, log, alerts, power, ledger } = pretrainFields;
const { optimizer, accumulate, zLoss, compute, lossScale, dropout } = trainingFields;

const files = (text: { readonly zh: string; readonly en: string }) =>
  z.array(z.string().min(1)).default([]).describe(text.en).meta({ zh: text.zh, placeholder: "FILE" });

/** What tuning takes; a recipe's keys. */
export const tuneFields = {
  model: z
    .string()
    .min(1)
    .optional()
    .describe(messages.model.en)
    .meta({ zh: messages.model.zh, positional: true, placeholder: "MODEL" }),
  objective: z
    .enum(["targets", "preference"])
    .default("targets")
    .describe(messages.objective.en)
    .meta({ zh: messages.objective.zh }),
  beta: z.number().positive().default(0.1).describe(messages.beta.en).meta({ zh: messages.beta.zh, flag: false }),
  task: z.enum(taskNames).optional().describe(messages.task.en).meta({ zh: messages.task.zh }),
  train: files(messages.train),
  dev: files(messages.dev),
  template: z
    .union([z.string().min(1), templateSchema])
    .optional()
    .describe(messages.template.en)
    .meta({ zh: messages.template.zh, placeholder: "NAME" }),
  limit: z.int().min(1).optional().describe(messages.limit.en).meta({ zh: messages.limit.zh }),
  devLimit: z.int().min(1).optional().describe(messages.devLimit.en).meta({ zh: messages.devLimit.zh, flag: false }),
  lengthTokens: z
    .int()
    .min(8)
    .max(65536)
    .optional()
    .describe(messages.lengthTokens.en)
    .meta({ zh: messages.lengthTokens.zh, flag: false }),
  answerTokens: z
    .int()
    .min(1)
    .max(4096)
    .optional()
    .describe(messages.answerTokens.en)
    .meta({ zh: messages.answerTokens.zh, flag: false }),
  method: z
    .array(z.string().min(1).max(64))
    .default([])
    .describe(messages.method.en)
    .meta({ zh: messages.method.zh, placeholder: "NAME" }),
  places: z
    .array(z.string().min(1).max(300))
    .default([])
    .describe(messages.places.en)
    .meta({ zh: messages.places.zh, placeholder: "PATTERN" }),
  delta: z
    .array(z.record(z.string(), z.unknown()))
    .max(64)
    .default([])
    .describe(messages.delta.en)
    .meta({ zh: messages.delta.zh, flag: false }),
  length: z.int().min(8).max(65536).optional().describe(messages.length.en).meta({ zh: messages.length.zh }),
  onePerRow: z
    .boolean()
    .default(false)
    .describe(messages.onePerRow.en)
    .meta({ zh: messages.onePerRow.zh, flag: false }),
  epochs: z.int().min(1).max(100_000).optional().describe(messages.epochs.en).meta({ zh: messages.epochs.zh }),
  steps: steps.removeDefault().default(1000),
  for: timeLimit,
  pace,
  rows,
  seed,
  threads,
  recompute,
  schedule: trainingFields.schedule
    .removeDefault()
    .default({ kind: "noam", start: 0.005, warmup: 50 })
    .describe(trainMessages.schedule.en)
    .meta({ zh: trainMessages.schedule.zh }),
  optimizer,
  accumulate,
  zLoss,
  compute,
  lossScale,
  products: z
    .enum(["float32", "int8"])
    .default("float32")
    .describe(messages.products.en)
    .meta({ zh: messages.products.zh }),
  dropout,
  patience: z.int().min(0).default(10).describe(messages.patience.en).meta({ zh: messages.patience.zh, flag: false }),
  evaluatePieces: evaluatePieces.removeDefault().default(512),
  every: z
    .strictObject({
      validation: z.int().min(0).default(50),
      samples: z.int().min(0).default(0),
      parameters: z.int().min(0).default(0),
      checkpoint: z.int().min(0).default(200),
    })
    .prefault({})
    .describe(pretrainMessages.every.en)
    .meta({ zh: pretrainMessages.every.zh }),
  retention,
  guard,
  samplePrompts,
  sampleTokens,
  log,
  alerts,
  power,
  ledger,
  run,
  resume,
  name,
} as const;

const keptSchema = z.object({ ...tuneFields, for: z.number().optional() });
export type TuneRecipe = z.output<typeof keptSchema>;

/** The paths of a recipe made absolute. */
export function withAbsolutePaths(recipe: TuneRecipe): TuneRecipe {
  return {
    ...recipe,
    ...(recipe.model !== undefined && { model: resolve(recipe.model) }),
    train: recipe.train.map((path) => resolve(path)),
    dev: recipe.dev.map((path) => resolve(path)),
  };
}

/**
 * The recipe of a run's folder.
 *
 * @throws ConfigError CPM_RUN_RECIPE; DataError CPM_RUN_FOLDER
 */
export async function readTuneRecipe(folder: string): Promise<TuneRecipe> {
  const { readRun } = await import("../live/run-folder.ts");
  const recipe = keptSchema.safeParse(readRun(folder).recipe);
  if (recipe.success) return recipe.data;
  const [issue] = recipe.error.issues;
  throw new ConfigError("CPM_RUN_RECIPE", "The recipe in the run's folder is not as it must be", {
    where: `${folder}: recipe.${issue?.path.join(".")}`,
    got: issue?.message,
  });
}
