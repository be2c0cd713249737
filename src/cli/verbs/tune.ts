/** `cpm tune`: a delta on a model, trained on a task; what would be trained; a grid of such runs. */
import { z } from "zod";
import { presetNames } from "../../model/presets.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { inspectMachine } from "../machine.ts";
import { memoryLines } from "../memory-table.ts";
import { tuneMessages as messages } from "../messages/tune.ts";
import { durationSchema } from "../quantity.ts";
import { type TuneRecipe, tuneFields } from "../tune-recipe.ts";
import { sweep } from "../tune-sweep.ts";
import { treeLines } from "../tune-tree.ts";
import { deltaSpecs, resumeTuning, startTuning } from "../tuning.ts";
import { baseInPrecision, baseOnDisk, planTuning, tuningShape } from "../tuning-plan.ts";

export default defineCommand({
  name: "tune",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "tune --dry-run --preset 10b -c recipes/tune/ccpm.yaml", ...messages.exampleDry },
    {
      line: "tune model/ --task headline --train train.jsonl.gz --dev dev.jsonl.gz --run runs/title",
      ...messages.exampleTask,
    },
    { line: "tune --resume runs/title", ...messages.exampleResume },
  ],
  schema: z.object({
    ...tuneFields,
    for: durationSchema()
      .optional()
      .describe(tuneFields.for.description ?? "")
      .meta({ zh: tuneFields.for.meta()?.zh as string }),
    output: z
      .string()
      .min(1)
      .optional()
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, placeholder: "DIR", alias: "o" }),
    dryRun: z.boolean().default(false).describe(messages.dryRun.en).meta({ zh: messages.dryRun.zh }),
    preset: z.enum(presetNames).optional().describe(messages.preset.en).meta({ zh: messages.preset.zh }),
    sweep: z
      .record(z.string(), z.array(z.unknown()).min(1).max(100))
      .default({})
      .describe(messages.sweep.en)
      .meta({ zh: messages.sweep.zh, flag: false }),
  }),
  async run({ output, dryRun, preset, sweep: grid, ...recipe }, context) {
    if (dryRun) await showTree(recipe, preset, context);
    else if (preset !== undefined)
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.presetAlone), { where: "preset" });
    else if (recipe.resume !== undefined) await resumeTuning(recipe.resume, output, context);
    else if (Object.keys(grid).length > 0)
      await sweep(recipe, grid, z.object(tuneFields).extend({ for: z.number().optional() }), context);
    else await startTuning(recipe, output, context);
    context.signal.throwIfAborted();
  },
});

/** What the recipe would train and the memory that it would take, without a weight being read. */
async function showTree(
  recipe: TuneRecipe,
  preset: (typeof presetNames)[number] | undefined,
  context: CommandContext,
): Promise<void> {
  const [{ attachDelta, trainableTree }, models] = await Promise.all([
    import("../../delta/index.ts"),
    import("../../model/index.ts"),
  ]);
  if (preset === undefined && recipe.model === undefined)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needModel), { where: "model" });
  const found = preset === undefined ? await baseOnDisk(recipe.model!) : undefined;
  const config = { ...(found?.config ?? models.preset(preset!)), dropout: recipe.dropout };
  const attached = attachDelta(config, deltaSpecs(recipe));
  const tree = trainableTree(attached);
  const base = found?.base ?? (await baseInPrecision(config, { precision: "float32", group: 128 }));
  const shape = await tuningShape(recipe, attached);
  const memory = await planTuning(attached, base, recipe, shape);
  if (context.json) {
    const { trained, delta, base, share, root } = tree;
    printJson(context, { trained, delta, base, share, tree: root, memory });
    return;
  }
  const { memoryBytes } = inspectMachine();
  print(
    context,
    [
      ...treeLines(tree, context),
      "",
      say(context, messages.memoryLine, { rows: recipe.rows, columns: shape.columns }),
      ...memoryLines(memory, memoryBytes, recipe.recompute, context),
    ].join("\n"),
  );
}
