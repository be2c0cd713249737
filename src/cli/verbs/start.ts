/** `cpm start`: the main job in one command, from text to a model that writes. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, say } from "../context.ts";
import { pretrainMessages } from "../messages/pretrain.ts";
import { trainMessages as messages } from "../messages/train.ts";
import { runBeside } from "../run-paths.ts";
import { pretrainFields } from "../run-recipe.ts";
import { trainOnTexts } from "../text-run.ts";
import { trainingFields } from "../training.ts";

/** The text that comes along. */
const corpus = fileURLToPath(new URL("../../../corpus", import.meta.url));
/** Continued where no other beginning is given. */
const prompts = ["春天来了，", "从前有一只", "妈妈说："];

export default defineCommand({
  name: "start",
  summary: messages.startSummary,
  description: messages.startDescription,
  examples: [{ line: "start data/*.jsonl.gz", ...messages.startExample }],
  schema: z.object({
    files: z
      .array(z.string())
      .default([])
      .describe(messages.startFiles.en)
      .meta({ zh: messages.startFiles.zh, positional: true, placeholder: "PATH" }),
    output: z
      .string()
      .min(1)
      .optional()
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, placeholder: "DIR", alias: "o" }),
    prompt: z.array(z.string()).default([]).describe(messages.startPrompt.en).meta({ zh: messages.startPrompt.zh }),
    ...trainingFields,
    every: pretrainFields.every
      .unwrap()
      .prefault({ validation: 200 })
      .describe(pretrainMessages.every.en)
      .meta({ zh: pretrainMessages.every.zh }),
    for: trainingFields.for.unwrap().default(140_000),
    keep: trainingFields.keep.removeDefault().optional(),
  }),
  async run({ files, output, prompt, ...options }, context) {
    const folder = output ?? freeFolder();
    const own = files.length === 0;
    if (own) note(context, say(context, messages.smallCorpus));
    const keep = options.keep ?? (own ? "last" : "best");
    const recipe = z.object(pretrainFields).parse({});
    const training = {
      ...recipe,
      ...options,
      keep,
      output: folder,
      retention: { ...recipe.retention, best: keep === "best" },
    };
    await trainOnTexts(own ? [corpus] : files, training, context);
    if (!context.signal.aborted) await write(folder, prompt.length === 0 ? prompts : prompt, context);
    context.signal.throwIfAborted();
  },
});

/** The first of runs/start, runs/start-2, … that is free. */
function freeFolder(): string {
  for (let number = 1; ; number++) {
    const folder = number === 1 ? "runs/start" : `runs/start-${number}`;
    if (!existsSync(folder) && !existsSync(runBeside(folder))) return folder;
  }
}

/** Lets the model continue the prompts. */
async function write(folder: string, beginnings: readonly string[], context: CommandContext): Promise<void> {
  const [{ createNativeRuntime }, { createTextGenerator, openTextModel }] = await Promise.all([
    import("../../runtime/index.ts"),
    import("../../infer/index.ts"),
  ]);
  using runtime = createNativeRuntime();
  const model = await openTextModel(runtime, folder);
  const generator = createTextGenerator(runtime, model);
  try {
    note(context, say(context, messages.writes));
    const settings = {
      forbiddenIds: [model.tokenizer.bosId, model.tokenizer.padId, model.tokenizer.unkId],
      maxTokens: 48,
      temperature: 0.7,
      topP: 0.9,
      repetitionPenalty: 1.1,
      seed: 1,
    };
    const events = generator.stream(beginnings, settings, { signal: context.signal });
    for (;;) {
      const next = await events.next();
      if (!next.done) continue;
      for (const { row, text } of next.value.texts) print(context, `  ${beginnings[row]}${text.replaceAll("\n", "")}`);
      break;
    }
    note(context, say(context, messages.again, { path: folder, prompt: beginnings[0] ?? "" }));
  } finally {
    generator.dispose();
    model.dispose();
  }
}
