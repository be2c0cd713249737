/** Options of the training step beside its size: how an update is made up and computed. Part of every training's recipe. */
import { z } from "zod";
import { lossScaleSchema } from "../train/loss-scale.ts";
import { optimizerSchema } from "../train/optimizer-options.ts";
import { stepFeatureMessages as messages } from "./messages/step-features.ts";

export const stepFeatureFields = {
  accumulate: z
    .int()
    .min(1)
    .max(65536)
    .default(1)
    .describe(messages.accumulate.en)
    .meta({ zh: messages.accumulate.zh }),
  dropout: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe(messages.dropout.en)
    .meta({ zh: messages.dropout.zh, flag: false }),
  zLoss: z.number().min(0).default(0).describe(messages.zLoss.en).meta({ zh: messages.zLoss.zh, flag: false }),
  compute: z
    .enum(["float32", "float16"])
    .default("float32")
    .describe(messages.compute.en)
    .meta({ zh: messages.compute.zh, flag: false }),
  lossScale: lossScaleSchema.prefault({}).describe(messages.lossScale.en).meta({ zh: messages.lossScale.zh }),
  optimizer: optimizerSchema.prefault({}).describe(messages.optimizer.en).meta({ zh: messages.optimizer.zh }),
} as const;
