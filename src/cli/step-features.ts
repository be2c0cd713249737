/** Options of the training step beside its size: how an update is made up and computed. Part of every training's recipe. */
import { z } from "zod";
import { lossScaleSchema } from "../train/loss-scale.ts";
import { emaSchema, optimizerSchema, parameterGroupSchema } from "../train/optimizer-options.ts";
import {
  emaMessages,
  groupMessages,
  lossScaleMessages,
  stepFeatureMessages as messages,
  optimizerMessages,
} from "./messages/step-features.ts";

/** The library's schema with a text at each of its fields. */
function told<S extends z.ZodObject>(schema: S, texts: Record<keyof S["shape"], { zh: string; en: string }>): S {
  const shape = Object.entries(schema.shape).map(([name, field]) => {
    const { zh, en } = texts[name as keyof S["shape"]];
    return [name, (field as z.ZodType).describe(en).meta({ zh })];
  });
  return schema.extend(Object.fromEntries(shape)) as unknown as S;
}

const optimizer = told(
  optimizerSchema.extend({
    groups: z.array(told(parameterGroupSchema, groupMessages)).max(32).default([]),
    ema: told(emaSchema, emaMessages).optional(),
  }),
  optimizerMessages,
);

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
  lossScale: told(lossScaleSchema, lossScaleMessages)
    .prefault({})
    .describe(messages.lossScale.en)
    .meta({ zh: messages.lossScale.zh }),
  optimizer: optimizer.prefault({}).describe(messages.optimizer.en).meta({ zh: messages.optimizer.zh }),
} as const;
