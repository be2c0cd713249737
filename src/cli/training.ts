/** Options that every training has: the model, the batches, when it ends, what text files become. A recipe's keys. */
import { z } from "zod";
import { presetNames } from "../model/presets.ts";
import { scheduleSchema } from "../train/schedule.ts";
import { trainMessages as messages } from "./messages/train.ts";
import { durationSchema } from "./quantity.ts";
import { stepFeatureFields } from "./step-features.ts";

/** Everything about a training run but its files and folder; a recipe's keys. */
export const trainingFields = {
  preset: z.enum(presetNames).default("tiny").describe(messages.preset.en).meta({ zh: messages.preset.zh }),
  vocab: z.string().min(1).optional().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
  steps: z.int().min(1).default(4000).describe(messages.steps.en).meta({ zh: messages.steps.zh }),
  for: durationSchema().optional().describe(messages.for.en).meta({ zh: messages.for.zh }),
  pace: z.enum(["steps", "time"]).optional().describe(messages.pace.en).meta({ zh: messages.pace.zh, flag: false }),
  rows: z.int().min(1).max(65536).default(8).describe(messages.rows.en).meta({ zh: messages.rows.zh }),
  length: z.int().min(8).max(65536).default(128).describe(messages.length.en).meta({ zh: messages.length.zh }),
  seed: z.int().min(0).default(1).describe(messages.seed.en).meta({ zh: messages.seed.zh }),
  threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
  recompute: z
    .enum(["none", "block", "all"])
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
