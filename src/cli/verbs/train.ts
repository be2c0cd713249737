/** `cpm train`: text in, a model's folder out. */
import { z } from "zod";
import { defineCommand } from "../command.ts";
import { trainMessages as messages } from "../messages/train.ts";
import { trainFromFiles, trainingFields } from "../training.ts";

export default defineCommand({
  name: "train",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "train corpus/ -c recipes/tiny.yaml --output runs/tiny", ...messages.exampleTiny },
    { line: "train data/*.jsonl.gz -c recipes/mini.yaml --for 10m --output runs/mini", ...messages.exampleMini },
  ],
  schema: z.object({
    files: z
      .array(z.string())
      .min(1)
      .describe(messages.files.en)
      .meta({ zh: messages.files.zh, positional: true, placeholder: "PATH" }),
    output: z
      .string()
      .min(1)
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, placeholder: "DIR", alias: "o" }),
    ...trainingFields,
  }),
  async run({ files, output, ...options }, context) {
    await trainFromFiles(files, output, options, context);
    // The model is saved; the exit code still says that it was cut off.
    context.signal.throwIfAborted();
  },
});
