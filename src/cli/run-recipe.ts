/**
 * The recipe of a recorded run: the options of `cpm train`, and as they are kept in the run's folder. Paths in it are
 * absolute, or start from the run's folder where what they name is inside it.
 */
import { resolve } from "node:path";
import { z } from "zod";
import { mixtureSchema } from "../data/mixture-file.ts";
import { packingSchema } from "../data/packing.ts";
import { alertSchema } from "../live/alerts.ts";
import { ledgerChoicesSchema } from "../live/ledger-assumptions.ts";
import { retentionSchema } from "../train/checkpoint.ts";
import { guardSchema } from "../train/guard.ts";
import type { PretrainSettings } from "../train/pretrain.ts";
import { rampSchema } from "../train/ramp.ts";
import { ConfigError } from "../util/error.ts";
import { pretrainMessages as messages } from "./messages/pretrain.ts";
import { trainingFields } from "./training.ts";

const size = z.int().min(1).optional();

/** What a recorded run takes beside the fields of every training; recipes only, but for where data and run are. */
export const pretrainFields = {
  data: z.array(z.string()).default([]).describe(messages.data.en).meta({ zh: messages.data.zh, placeholder: "DIR" }),
  run: z.string().min(1).optional().describe(messages.run.en).meta({ zh: messages.run.zh, placeholder: "DIR" }),
  resume: z
    .string()
    .min(1)
    .optional()
    .describe(messages.resume.en)
    .meta({ zh: messages.resume.zh, placeholder: "DIR" }),
  from: z.int().min(0).optional().describe(messages.from.en).meta({ zh: messages.from.zh, placeholder: "STEP" }),
  name: z.string().max(512).optional().describe(messages.name.en).meta({ zh: messages.name.zh, flag: false }),
  mixture: mixtureSchema.optional().describe(messages.mixture.en).meta({ zh: messages.mixture.zh }),
  model: z
    .strictObject({
      layers: size,
      dimModel: size,
      dimFf: size,
      heads: size,
      dimHead: size,
      promptLength: size,
      promptTypes: size,
      segmentTypes: size,
      positionBuckets: size,
      positionMaxDistance: size,
    })
    .prefault({})
    .describe(messages.model.en)
    .meta({ zh: messages.model.zh }),
  mixtureFile: z
    .string()
    .min(1)
    .optional()
    .describe(messages.mixtureFile.en)
    .meta({ zh: messages.mixtureFile.zh, placeholder: "FILE" }),
  packing: packingSchema
    .default({ kind: "bestFit", compat: false })
    .describe(messages.packing.en)
    .meta({ zh: messages.packing.zh }),
  wholeShare: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe(messages.wholeShare.en)
    .meta({ zh: messages.wholeShare.zh, flag: false }),
  ramp: rampSchema.describe(messages.ramp.en).meta({ zh: messages.ramp.zh, flag: false }),
  every: z
    .strictObject({
      validation: z.int().min(0).default(500),
      samples: z.int().min(0).default(1000),
      parameters: z.int().min(0).default(500),
      checkpoint: z.int().min(0).default(500),
    })
    .prefault({})
    .describe(messages.every.en)
    .meta({ zh: messages.every.zh }),
  retention: retentionSchema.prefault({}).describe(messages.retention.en).meta({ zh: messages.retention.zh }),
  guard: guardSchema.prefault({}).describe(messages.guard.en).meta({ zh: messages.guard.zh }),
  samplePrompts: z
    .array(z.string())
    .default([])
    .describe(messages.samplePrompts.en)
    .meta({ zh: messages.samplePrompts.zh, flag: false }),
  sampleTokens: z
    .int()
    .min(1)
    .max(1024)
    .default(48)
    .describe(messages.sampleTokens.en)
    .meta({ zh: messages.sampleTokens.zh, flag: false }),
  log: z
    .strictObject({ recorder: z.string().max(200).default("cpm-live"), dayEnds: z.string().default("16:00+08:00") })
    .prefault({})
    .describe(messages.log.en)
    .meta({ zh: messages.log.zh }),
  alerts: z
    .array(alertSchema)
    .max(16)
    .default([])
    .describe(messages.alerts.en)
    .meta({ zh: messages.alerts.zh, flag: false }),
  power: z
    .union([z.enum(["auto", "off"]), z.number().min(0)])
    .default("auto")
    .describe(messages.power.en)
    .meta({ zh: messages.power.zh, placeholder: "auto|off|W" }),
  ledger: ledgerChoicesSchema.optional().describe(messages.ledger.en).meta({ zh: messages.ledger.zh }),
} as const;

/** As a run's folder keeps it: what the command line read as text is a number there. */
const keptSchema = z.object({ ...trainingFields, for: z.number().optional(), ...pretrainFields });
export type Recipe = z.output<typeof keptSchema>;

/**
 * The recipe of a run's folder, in which every path is absolute.
 *
 * @throws ConfigError CPM_RUN_RECIPE; DataError CPM_RUN_FOLDER
 */
export async function readKeptRecipe(folder: string): Promise<Recipe> {
  const { readRun } = await import("../live/run-folder.ts");
  const recipe = keptSchema.safeParse(readRun(folder).recipe);
  if (recipe.success) return withPaths(recipe.data, (path) => resolve(folder, path));
  const [issue] = recipe.error.issues;
  throw new ConfigError("CPM_RUN_RECIPE", "The recipe in the run's folder is not as it must be", {
    where: `${folder}: recipe.${issue?.path.join(".")}`,
    got: issue?.message,
  });
}

/** The recipe with what names data sets and mixtures changed. */
export function withPaths(recipe: Recipe, change: (path: string) => string): Recipe {
  return {
    ...recipe,
    data: recipe.data.map(change),
    ...(recipe.mixtureFile !== undefined && { mixtureFile: change(recipe.mixtureFile) }),
    ...(recipe.mixture && {
      mixture: { sources: recipe.mixture.sources.map((source) => ({ ...source, data: change(source.data) })) },
    }),
  };
}

/** What a recipe says to the trainer, whatever is trained; shape, schedule and retention are the caller's. */
export function trainerSettings(
  recipe: Pick<
    Recipe,
    | "recompute"
    | "optimizer"
    | "accumulate"
    | "zLoss"
    | "compute"
    | "lossScale"
    | "guard"
    | "seed"
    | "steps"
    | "for"
    | "pace"
    | "patience"
    | "every"
    | "evaluatePieces"
  >,
): Omit<PretrainSettings, "geometry" | "ramp" | "schedule" | "retention"> {
  const { recompute, optimizer, accumulate, zLoss, compute, lossScale, guard, seed, steps, pace, patience, every } =
    recipe;
  return {
    ...{ recompute, optimizer, accumulate, zLoss, compute, lossScale, guard, seed, steps, pace, patience, every },
    maxMs: recipe.for ?? Number.POSITIVE_INFINITY,
    validationPieces: recipe.evaluatePieces,
  };
}
