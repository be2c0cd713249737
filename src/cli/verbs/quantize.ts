/** `cpm quantize`: a model's weights in 8 or 4 bits, with the error of every layer. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { QuantizedParameter } from "../../compress/index.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, print, printJson, say } from "../context.ts";
import { quantizeMessages as messages } from "../messages/quantize.ts";
import { modelFields } from "../model-options.ts";
import { startProgress } from "../progress.ts";
import { formatBytes, formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { renderTable } from "../table.ts";

const groups = ["32", "64", "128", "channel"] as const;

export default defineCommand({
  name: "quantize",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "quantize runs/zh/model model-int4 --precision int4", ...messages.example }],
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
    precision: z
      .enum(["int8", "int4"])
      .default("int4")
      .describe(messages.precision.en)
      .meta({ zh: messages.precision.zh }),
    group: z.enum(groups).default("128").describe(messages.group.en).meta({ zh: messages.group.zh }),
    asymmetric: z.boolean().default(false).describe(messages.asymmetric.en).meta({ zh: messages.asymmetric.zh }),
    doubleScales: z.boolean().default(false).describe(messages.doubleScales.en).meta({ zh: messages.doubleScales.zh }),
    embedding: z.boolean().default(true).describe(messages.embedding.en).meta({ zh: messages.embedding.zh }),
    overwrite: z.boolean().default(false).describe(messages.overwrite.en).meta({ zh: messages.overwrite.zh }),
  }),
  async run({ source, target, config, precision, group, asymmetric, doubleScales, embedding, overwrite }, context) {
    if (doubleScales && group === "channel")
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.doubledNeedsGroups), { where: "--double-scales" });
    const { openCheckpoint, saveCheckpoint } = await import("../../checkpoint/index.ts");
    const { quantizeCheckpoint } = await import("../../compress/index.ts");
    const { findVocabulary } = await import("../../infer/index.ts");
    await using checkpoint = await openCheckpoint(source, config === undefined ? {} : { configPath: config });
    const progress = startProgress(context);
    const count = checkpoint.names().length;
    const done: QuantizedParameter[] = [];
    const options = {
      bits: precision === "int4" ? 4 : 8,
      group: group === "channel" ? group : Number(group),
      symmetric: !asymmetric,
      ...(doubleScales && { doubled: true }),
      embedding,
    } as const;
    const tensors = quantizeCheckpoint(checkpoint, options, (parameter) => {
      context.signal.throwIfAborted();
      done.push(parameter);
      const extra = `${say(context, messages.tensors)} ${done.length}/${count}`;
      progress.update({ done: done.length / count, extra: [extra] });
    });
    const vocabulary = await findVocabulary(source);
    const files = vocabulary === undefined ? {} : { "vocab.txt": await readFile(vocabulary) };
    await saveCheckpoint(target, checkpoint.config, tensors, {
      overwrite,
      files,
      metadata: { quantization: JSON.stringify(options) },
    });
    progress.finish();
    report(done, target, context);
  },
});

interface Sum {
  squares: number;
  elements: number;
}

/** √ of the mean of squares, weights counted: errors of matrices of one layer together. */
function together(parameters: readonly QuantizedParameter[]): number | undefined {
  const sum: Sum = { squares: 0, elements: 0 };
  for (const { error, elements } of parameters) {
    if (!error) continue;
    sum.squares += error.relative ** 2 * elements;
    sum.elements += elements;
  }
  return sum.elements === 0 ? undefined : Math.sqrt(sum.squares / sum.elements);
}

function report(done: readonly QuantizedParameter[], folder: string, context: CommandContext): void {
  const packed = done.filter(({ error }) => error !== undefined);
  const kept = done.filter(({ error }) => error === undefined);
  const bytes = done.reduce((sum, parameter) => sum + parameter.bytes, 0);
  const parameters = done.reduce((sum, { elements }) => sum + elements, 0);
  const error = together(packed) ?? 0;
  if (context.json) {
    printJson(context, { folder, parameters, bytes, bitsPerParameter: (8 * bytes) / parameters, error, tensors: done });
    return;
  }
  const layerOf = (name: string) => /\.layers\.(\d+)\./.exec(name)?.[1];
  const layers = [...new Set(packed.map(({ name }) => layerOf(name)))].filter((layer) => layer !== undefined);
  const percent = (value: number | undefined) => (value === undefined ? "" : formatPercent(value));
  const rowOf = (title: string, own: readonly QuantizedParameter[]) => {
    const worst = own.toSorted((a, b) => b.error!.relative - a.error!.relative)[0]!;
    return [
      title,
      percent(together(own.filter(({ name }) => name.includes("self_att")))),
      percent(together(own.filter(({ name }) => name.includes(".ffn.")))),
      `${worst.name.split(".").at(-2)} ${percent(worst.error!.relative)}`,
      formatBytes(own.reduce((sum, parameter) => sum + parameter.bytes, 0)),
    ];
  };
  const rows = layers
    .toSorted((a, b) => Number(a) - Number(b))
    .map((layer) =>
      rowOf(
        layer,
        packed.filter(({ name }) => layerOf(name) === layer),
      ),
    );
  const tables = packed.filter(({ name }) => layerOf(name) === undefined);
  if (tables.length > 0) rows.push(rowOf(say(context, messages.table), tables));
  const title = (text: { zh: string; en: string }, align: "start" | "end" = "start") => ({
    title: say(context, text),
    align,
  });
  const columns = [
    title(messages.layer, "end"),
    title(messages.attention, "end"),
    title(messages.ffn, "end"),
    title(messages.worst),
    title(messages.bytes, "end"),
  ];
  print(context, renderTable(columns, rows));
  print(
    context,
    say(context, messages.total, {
      parameters: formatInteger(parameters),
      bytes: formatBytes(bytes),
      bits: formatNumber((8 * bytes) / parameters),
      error: formatPercent(error),
    }),
  );
  if (kept.length > 0) {
    const keptBytes = formatBytes(kept.reduce((sum, parameter) => sum + parameter.bytes, 0));
    print(context, say(context, messages.kept, { count: kept.length, bytes: keptBytes }));
  }
  print(context, say(context, messages.written, { folder }));
}
