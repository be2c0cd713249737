/** `cpm merge`: base and delta into a plain model, or a delta out of one. */
import { z } from "zod";
import { defineCommand } from "../command.ts";
import { note, print, say } from "../context.ts";
import { tuneMessages as messages } from "../messages/tune.ts";
import { requireNewFolder } from "../model-output.ts";
import { formatInteger } from "../quantity.ts";

export default defineCommand({
  name: "merge",
  summary: messages.mergeSummary,
  description: messages.mergeDescription,
  json: true,
  examples: [{ line: "merge model/ --delta runs/title/delta -o model-title", ...messages.exampleMerge }],
  schema: z.object({
    model: z
      .string()
      .min(1)
      .describe(messages.model.en)
      .meta({ zh: messages.model.zh, positional: true, placeholder: "MODEL" }),
    delta: z.string().min(1).describe(messages.mergeDelta.en).meta({ zh: messages.mergeDelta.zh, placeholder: "PATH" }),
    output: z
      .string()
      .min(1)
      .describe(messages.mergeOutput.en)
      .meta({ zh: messages.mergeOutput.zh, placeholder: "DIR", alias: "o" }),
    undo: z.boolean().default(false).describe(messages.mergeUndo.en).meta({ zh: messages.mergeUndo.zh }),
    alpha: z.number().positive().optional().describe(messages.alpha.en).meta({ zh: messages.alpha.zh }),
    layout: z
      .enum(["cpm-live", "hf-cpmant"])
      .default("cpm-live")
      .describe(messages.layout.en)
      .meta({ zh: messages.layout.zh }),
  }),
  async run({ model, delta: path, output, undo, alpha, layout }, context) {
    requireNewFolder(output, context);
    const [checkpoints, deltas, { parameterTable }] = await Promise.all([
      import("../../checkpoint/index.ts"),
      import("../../delta/index.ts"),
      import("../../model/index.ts"),
    ]);
    const checkpoint = await checkpoints.openCheckpoint(model);
    try {
      const { config } = checkpoint;
      const read = (name: string) => checkpoint.tensor(name).readFloat32();
      const delta = await deltas.openDelta(path, config, { alpha });
      if (!undo && delta.baseSha256 !== undefined) {
        deltas.checkBase(delta, await deltas.baseHash(config, read), path);
      }
      const made = undo ? { config, ...deltas.unmergeDelta(delta, read) } : deltas.mergeDelta(delta, read);
      const tensors = parameterTable(made.config).map(({ name, shape }) => ({
        name,
        dtype: "float32" as const,
        shape,
        read: () => made.read(name),
      }));
      const files = await vocabularyBeside(model);
      await checkpoints.saveCheckpoint(output, { ...made.config, half: false }, tensors, { layout, files });
      note(context, say(context, messages.merged, { path: output, count: formatInteger(made.changed.size) }));
      if (context.json) print(context, JSON.stringify({ output, changed: [...made.changed] }));
    } finally {
      await checkpoint.close();
    }
  },
});

/** The vocabulary goes along, where there is one. */
async function vocabularyBeside(model: string): Promise<Record<string, string>> {
  const [{ findWeights }, { vocabularyNames }, { existsSync, readFileSync }, { join }] = await Promise.all([
    import("../../checkpoint/index.ts"),
    import("../../infer/index.ts"),
    import("node:fs"),
    import("node:path"),
  ]);
  const { folder } = await findWeights(model);
  const found = vocabularyNames.map((name) => join(folder, name)).find((path) => existsSync(path));
  return found === undefined ? {} : { "vocab.txt": readFileSync(found, "utf8") };
}
