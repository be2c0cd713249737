/** `cpm inspect`: a model's config, layout, parameters and memory, from headers alone. */
import { z } from "zod";
import type { Checkpoint } from "../../checkpoint/index.ts";
import { configToJson, type ModelConfig } from "../../model/config.ts";
import { memoryByPrecisionBytes, type Parameter, parameterElements, parameterTable } from "../../model/parameters.ts";
import { preset, presetNames } from "../../model/presets.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { inspectMessages as messages } from "../messages/inspect.ts";
import { modelFields } from "../model-options.ts";
import { formatBytes, formatInteger, formatPercent } from "../quantity.ts";
import { renderFacts, renderTable } from "../table.ts";

/** A row of the parameter table: one parameter, or the same one of several equal layers. */
interface Row {
  /** With `{0-47}` where layers were collapsed. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  /** Of all the layers together. */
  readonly elements: number;
}

const bytesPerFloat32 = 4;
const shownNames = 8;

export default defineCommand({
  name: "inspect",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "inspect model/", ...messages.exampleFile },
    { line: "inspect --preset 10b", ...messages.examplePreset },
  ],
  schema: z.object({
    path: z
      .string()
      .optional()
      .describe(messages.path.en)
      .meta({ zh: messages.path.zh, positional: true, placeholder: "PATH" }),
    config: modelFields.config,
    preset: z.enum(presetNames).optional().describe(messages.preset.en).meta({ zh: messages.preset.zh }),
    allLayers: z.boolean().default(false).describe(messages.allLayers.en).meta({ zh: messages.allLayers.zh }),
  }),
  async run(options, context) {
    const isPreset = options.preset !== undefined;
    if ((options.path === undefined) !== isPreset || (isPreset && options.config !== undefined)) {
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.pathOrPreset));
    }
    if (options.preset !== undefined) {
      show(preset(options.preset), undefined, options.allLayers, context);
      return;
    }
    const { openCheckpoint } = await import("../../checkpoint/index.ts");
    const opening = options.config === undefined ? {} : { configPath: options.config };
    await using checkpoint = await openCheckpoint(options.path!, opening);
    show(checkpoint.config, checkpoint, options.allLayers, context);
  },
});

function show(
  config: ModelConfig,
  checkpoint: Checkpoint | undefined,
  allLayers: boolean,
  context: CommandContext,
): void {
  const dtypeOf = (name: string) => checkpoint?.tensor(name).dtype ?? (config.half ? "float16" : "float32");
  const rows = parameterRows(parameterTable(config), dtypeOf, allLayers);
  const memory = memoryByPrecisionBytes(config);
  // Keys and values of every layer that has attention.
  const attentionLayers = config.layers - (config.maskModules?.filter(([absent]) => absent).length ?? 0);
  const cacheBytes = 2 * attentionLayers * config.heads * config.dimHead * bytesPerFloat32;
  const parameters = rows.reduce((sum, { elements }) => sum + elements, 0);
  if (context.json) {
    const file = checkpoint && {
      format: checkpoint.format,
      layout: checkpoint.layout,
      layoutEvidence: checkpoint.layoutEvidence,
      configPath: checkpoint.configPath ?? null,
      assumptions: checkpoint.assumptions,
      files: checkpoint.files,
      metadata: checkpoint.metadata,
      unknownNames: checkpoint.unknownNames,
    };
    const memoryBytes = { ...memory, cachePerToken: cacheBytes };
    printJson(context, { ...file, config: configToJson(config), parameters, memoryBytes, table: rows });
    return;
  }
  const sections: string[] = [];
  if (checkpoint !== undefined) sections.push(fileSection(checkpoint, context));
  const facts = Object.entries(configToJson(config)).map(([key, value]) => [key, JSON.stringify(value)] as const);
  sections.push(`${say(context, messages.configTitle)}\n${renderFacts(facts, "  ")}`);
  sections.push(`${say(context, messages.parametersTitle)}\n${indent(parameterSection(rows, parameters, context))}`);
  const sizes = Object.entries(memory).map(([precision, bytes]) => [precision, formatBytes(bytes)]);
  const table = renderTable(
    [{ title: say(context, messages.precision) }, { title: say(context, messages.bytes), align: "end" }],
    sizes,
  );
  const notes = [
    say(context, messages.quantisedNote),
    say(context, messages.cacheNote, { bytes: formatBytes(cacheBytes) }),
  ];
  sections.push(`${say(context, messages.memoryTitle)}\n${indent([table, ...notes].join("\n"))}`);
  print(context, sections.join("\n\n"));
}

function fileSection(checkpoint: Checkpoint, context: CommandContext): string {
  const { layout, layoutEvidence: evidence, assumptions, unknownNames, files } = checkpoint;
  const facts: [string, string][] = [
    [say(context, messages.weights), listed(files, context)],
    [say(context, messages.format), checkpoint.format],
    [say(context, messages.layout), say(context, messages.layoutValue, { layout, evidence })],
    [say(context, messages.configFrom), checkpoint.configPath ?? say(context, messages.inferred)],
  ];
  if (assumptions.length > 0) facts.push([say(context, messages.assumed), assumptions.join("\n")]);
  if (unknownNames.length > 0) facts.push([say(context, messages.unknownNames), listed(unknownNames, context)]);
  return `${say(context, messages.fileTitle)}\n${renderFacts(facts, "  ")}`;
}

function listed(names: readonly string[], context: CommandContext): string {
  if (names.length <= shownNames) return names.join("\n");
  return [...names.slice(0, shownNames), say(context, messages.more, { count: names.length })].join("\n");
}

function parameterSection(rows: readonly Row[], total: number, context: CommandContext): string {
  const columns = [
    { title: say(context, messages.name) },
    { title: say(context, messages.shape) },
    { title: say(context, messages.dtype) },
    { title: say(context, messages.elements), align: "end" as const },
    { title: say(context, messages.share), align: "end" as const },
  ];
  const lines = rows.map(({ name, shape, dtype, elements }) => [
    name,
    `[${shape.join(", ")}]`,
    dtype,
    formatInteger(elements),
    formatPercent(elements / total),
  ]);
  return renderTable(columns, [...lines, [say(context, messages.total), "", "", formatInteger(total), ""]]);
}

/**
 * One row a parameter; of consecutive layers whose parameters agree in name, shape and dtype, one row for all, with the
 * layers as `{first-last}` in the name.
 */
export function parameterRows(
  table: readonly Parameter[],
  dtypeOf: (name: string) => string,
  allLayers: boolean,
): readonly Row[] {
  const rows: Row[] = [];
  const single = (parameter: Parameter): Row => {
    const { name, shape } = parameter;
    return { name, shape, dtype: dtypeOf(name), elements: parameterElements(parameter) };
  };
  for (let start = 0; start < table.length; ) {
    const first = table[start]!.layer;
    let end = start + 1;
    if (first === undefined || allLayers) {
      rows.push(single(table[start]!));
      start = end;
      continue;
    }
    while (table[end]?.layer === first) end++;
    const block = table.slice(start, end);
    const likeness = (parameters: readonly Parameter[]) =>
      JSON.stringify(
        parameters.map(({ name, shape, layer }) => [withoutLayer(name, layer!, "*"), shape, dtypeOf(name)]),
      );
    const likeFirst = likeness(block);
    let last = first;
    while (likeness(table.slice(end, end + block.length).filter(({ layer }) => layer === last + 1)) === likeFirst) {
      // A longer layer would begin alike.
      if (table[end + block.length]?.layer === last + 1) break;
      end += block.length;
      last++;
    }
    const layers = last === first ? String(first) : `{${first}-${last}}`;
    for (const parameter of block) {
      const row = single(parameter);
      const name = withoutLayer(parameter.name, first, layers);
      rows.push({ ...row, name, elements: row.elements * (last - first + 1) });
    }
    start = end;
  }
  return rows;
}

function withoutLayer(name: string, layer: number, replacement: string): string {
  return name.replace(`.${layer}.`, `.${replacement}.`);
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}
