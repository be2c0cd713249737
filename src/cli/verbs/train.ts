/** `cpm train`: texts or data sets in, a recorded run that can be resumed, and a model's folder out. */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { say } from "../context.ts";
import { pretrainMessages } from "../messages/pretrain.ts";
import { trainMessages as messages } from "../messages/train.ts";
import { resumeRun, startRun } from "../pretraining.ts";
import { pretrainFields } from "../run-recipe.ts";
import { trainOnTexts } from "../text-run.ts";
import { trainingFields } from "../training.ts";

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
  async run({ files, ...options }, context) {
    const { resume, from, output, run, data, mixture, mixtureFile } = options;
    const hasData = data.length > 0 || mixture !== undefined || mixtureFile !== undefined;
    if (resume === undefined && from !== undefined)
      throw new ConfigError("CPM_CLI_USAGE", say(context, pretrainMessages.fromAlone), { where: "--from" });
    if (resume !== undefined) await resumeRun(resume, { output, from }, context);
    else if (hasData) await startRun(options, context);
    else if (files.length > 0 && (output ?? run) !== undefined) await trainOnTexts(files, options, context);
    else throw new ConfigError("CPM_CLI_USAGE", say(context, pretrainMessages.needRun), { where: "files" });
    // The model is saved; the exit code still says that it was cut off.
    context.signal.throwIfAborted();
  },
});
