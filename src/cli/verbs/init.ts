/** `cpm init`: a model of a preset with random weights, of any size and precision, for measuring and trying out. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { ModelConfig } from "../../model/config.ts";
import { parameterCount } from "../../model/parameters.ts";
import { preset, presetNames } from "../../model/presets.ts";
import { defineCommand } from "../command.ts";
import { print, printJson, say } from "../context.ts";
import { initMessages as messages } from "../messages/quantize.ts";
import { startProgress } from "../progress.ts";
import { formatBytes, formatDuration, formatInteger } from "../quantity.ts";

export default defineCommand({
  name: "init",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "init models/10b --preset 10b --precision int4", ...messages.example }],
  schema: z.object({
    folder: z
      .string()
      .describe(messages.folder.en)
      .meta({ zh: messages.folder.zh, positional: true, placeholder: "FOLDER" }),
    preset: z.enum(presetNames).default("tiny").describe(messages.preset.en).meta({ zh: messages.preset.zh }),
    precision: z
      .enum(["float32", "float16", "int8", "int4"])
      .default("float32")
      .describe(messages.precision.en)
      .meta({ zh: messages.precision.zh }),
    group: z
      .enum(["32", "64", "128", "channel"])
      .default("128")
      .describe(messages.group.en)
      .meta({ zh: messages.group.zh }),
    layers: z.int().min(1).optional().describe(messages.layers.en).meta({ zh: messages.layers.zh }),
    seed: z.int().min(0).default(1).describe(messages.seed.en).meta({ zh: messages.seed.zh }),
    vocab: z.string().optional().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
  }),
  async run({ folder, preset: name, precision, group, layers, seed, vocab }, context) {
    const { saveCheckpoint } = await import("../../checkpoint/index.ts");
    const { randomTensors } = await import("../../compress/index.ts");
    const { createAntTokenizer, parseVocabulary, placeholderVocabulary } = await import("../../tokenizer/index.ts");
    const startMs = context.now();
    const base = withLayers(preset(name), layers);
    const text =
      vocab === undefined ? new TextEncoder().encode(placeholderVocabulary(base.vocabSize)) : await readFile(vocab);
    const { vocabSize } = createAntTokenizer(parseVocabulary(text, vocab ?? "vocab.txt"));
    const config: ModelConfig = { ...base, vocabSize };
    const packed = precision === "int8" || precision === "int4";
    const parameters = parameterCount(config);
    const progress = startProgress(context);
    let elements = 0;
    const tensors = randomTensors(config, {
      seed,
      packed: packed
        ? { bits: precision === "int4" ? 4 : 8, group: group === "channel" ? group : Number(group) }
        : undefined,
      onDone({ shape }) {
        context.signal.throwIfAborted();
        elements += shape.reduce((count, size) => count * size, 1);
        progress.update({ done: elements / parameters });
      },
    });
    const files = await saveCheckpoint(folder, config, tensors, {
      files: { "vocab.txt": text },
      ...(precision === "float16" && { dtype: precision }),
    });
    progress.finish();
    const sizes = await Promise.all(files.map(async (file) => (await stat(join(folder, file))).size));
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (context.json) {
      printJson(context, { folder, preset: name, precision, parameters, bytes, files });
      return;
    }
    print(
      context,
      say(context, messages.written, {
        folder,
        parameters: formatInteger(parameters),
        bytes: formatBytes(bytes),
        duration: formatDuration(context.now() - startMs),
      }),
    );
  },
});

/** A config with its first layers alone. */
function withLayers(config: ModelConfig, layers: number | undefined): ModelConfig {
  if (layers === undefined || layers >= config.layers) return config;
  return { ...config, layers, maskModules: config.maskModules?.slice(0, layers) };
}
