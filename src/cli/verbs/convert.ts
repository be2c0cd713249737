/** `cpm convert`: weights of any known layout to a folder of safetensors, tensor by tensor. */
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { defineCommand } from "../command.ts";
import { print, printJson, say } from "../context.ts";
import { convertMessages as messages } from "../messages/inspect.ts";
import { modelFields } from "../model-options.ts";
import { startProgress } from "../progress.ts";
import { bytesSchema, formatBytes } from "../quantity.ts";

/** Travels with the weights where it lies beside them. */
const vocabularyFile = "vocab.txt";

export default defineCommand({
  name: "convert",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "convert cpm-ant.pt cpm-ant-hf --layout hf-cpmant --dtype float16", ...messages.example }],
  schema: z.object({
    source: z
      .string()
      .describe(messages.source.en)
      .meta({ zh: messages.source.zh, positional: true, placeholder: "PATH" }),
    target: z
      .string()
      .describe(messages.target.en)
      .meta({ zh: messages.target.zh, positional: true, placeholder: "FOLDER" }),
    config: modelFields.config,
    layout: z
      .enum(["cpm-live", "hf-cpmant"])
      .default("cpm-live")
      .describe(messages.layout.en)
      .meta({ zh: messages.layout.zh }),
    dtype: z
      .enum(["auto", "float32", "float16", "bfloat16"])
      .default("auto")
      .describe(messages.dtype.en)
      .meta({ zh: messages.dtype.zh }),
    maxShardBytes: bytesSchema()
      .default(5e9)
      .describe(messages.maxShard.en)
      .meta({ zh: messages.maxShard.zh, flag: "max-shard", placeholder: "5GB" }),
    overwrite: z.boolean().default(false).describe(messages.overwrite.en).meta({ zh: messages.overwrite.zh }),
  }),
  async run({ source, target, config, layout, dtype, maxShardBytes, overwrite }, context) {
    const { openCheckpoint, saveCheckpoint } = await import("../../checkpoint/index.ts");
    await using checkpoint = await openCheckpoint(source, config === undefined ? {} : { configPath: config });
    const progress = startProgress(context);
    const names = checkpoint.names();
    let read = 0;
    const tensors = names.map((name) => {
      const tensor = checkpoint.tensor(name);
      return {
        name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        async read() {
          context.signal.throwIfAborted();
          progress.update({
            done: Math.min(1, read++ / names.length),
            extra: [`${say(context, messages.tensors)} ${Math.min(read, names.length)}/${names.length}`],
          });
          return await tensor.read();
        },
      };
    });
    const files = await saveCheckpoint(target, checkpoint.config, tensors, {
      layout,
      maxShardBytes,
      overwrite,
      ...(dtype === "auto" ? {} : { dtype }),
      files: await vocabularyBeside(source),
    });
    progress.finish();
    if (context.json) printJson(context, { folder: target, layout, dtype, files });
    else print(context, say(context, messages.written, { folder: target, files: await sizes(target, files) }));
  },
});

async function vocabularyBeside(source: string): Promise<Record<string, Uint8Array>> {
  const path = join(source, vocabularyFile);
  return existsSync(path) ? { [vocabularyFile]: await readFile(path) } : {};
}

async function sizes(folder: string, files: readonly string[]): Promise<string> {
  const shown = files.map(async (file) => `${file} (${formatBytes((await stat(join(folder, file))).size)})`);
  return (await Promise.all(shown)).join(", ");
}
