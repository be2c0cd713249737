/** `cpm train`: texts in, a model's folder out; or data sets in and a recorded run that can be resumed. */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { say } from "../context.ts";
import { pretrainMessages } from "../messages/pretrain.ts";
import { trainMessages as messages } from "../messages/train.ts";
import { pretrainFields, resumeRun, startRun } from "../pretraining.ts";
import { trainFromFiles, trainingFields } from "../training.ts";

export default defineCommand({
  name: "train",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "train corpus/ -c recipes/tiny.yaml --output runs/tiny", ...messages.exampleTiny },
    { line: "train data/*.jsonl.gz -c recipes/mini.yaml --for 10m --output runs/mini", ...messages.exampleMini },
    { line: "train --data data/zh -c recipes/pretrain-15m.yaml --run runs/zh", ...pretrainMessages.example },
    { line: "train --resume runs/zh", ...pretrainMessages.exampleResume },
  ],
  schema: z.object({
    files: z
      .array(z.string())
      .default([])
      .describe(messages.files.en)
      .meta({ zh: messages.files.zh, positional: true, placeholder: "PATH" }),
    output: z
      .string()
      .min(1)
      .optional()
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, placeholder: "DIR", alias: "o" }),
    ...trainingFields,
    ...pretrainFields,
  }),
  async run({ files, output, ...options }, context) {
    if (options.resume !== undefined) await resumeRun(options.resume, context);
    else if (options.data.length > 0 || options.mixture !== undefined || options.mixtureFile !== undefined)
      await startRun(options, context);
    else if (files.length > 0 && output !== undefined) await trainFromFiles(files, output, options, context);
    else throw new ConfigError("CPM_CLI_USAGE", say(context, pretrainMessages.needRun), { where: "files" });
    // The model is saved; the exit code still says that it was cut off.
    context.signal.throwIfAborted();
  },
});
