/** `cpm data import`: a binary data set of CPM-Live in, a data set's folder out. */
import { readFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { z } from "zod";
import { FileError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { note, print, printJson, say } from "../context.ts";
import { dataImportMessages as messages } from "../messages/data-import.ts";
import { startProgress } from "../progress.ts";
import { formatInteger } from "../quantity.ts";
import { renderTable } from "../table.ts";

const shownBadLines = 10;

export default defineCommand({
  name: "data import",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "data import data_bin --vocab vocab.txt -o data/ant", ...messages.example }],
  schema: z.object({
    folder: z
      .string()
      .describe(messages.folder.en)
      .meta({ zh: messages.folder.zh, positional: true, placeholder: "FOLDER" }),
    output: z.string().describe(messages.output.en).meta({ zh: messages.output.zh, placeholder: "FOLDER", alias: "o" }),
    vocab: z.string().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
    name: z
      .string()
      .regex(/^[\p{L}\p{N}_.-]{1,64}$/u)
      .optional()
      .describe(messages.name.en)
      .meta({ zh: messages.name.zh }),
    licence: z.string().optional().describe(messages.licence.en).meta({ zh: messages.licence.zh }),
    payload: z
      .enum(["auto", "pickle", "json", "int16", "int32", "utf-8"])
      .default("auto")
      .describe(messages.payload.en)
      .meta({ zh: messages.payload.zh }),
    field: z.string().default("text").describe(messages.field.en).meta({ zh: messages.field.zh }),
    shardTokens: z
      .int()
      .min(1024)
      .default(8_388_608)
      .describe(messages.shardTokens.en)
      .meta({ zh: messages.shardTokens.zh, flag: false }),
  }),
  async run({ vocab, name, ...options }, context) {
    const { importDataset } = await import("../../data/index.ts");
    const vocabulary = await readFile(vocab, "utf8").catch((cause) => {
      throw new FileError("CPM_DATA_FILE", "The vocabulary cannot be read", { where: vocab, cause });
    });
    const progress = startProgress(context);
    let badLines = 0;
    const made = await importDataset({
      ...options,
      vocabulary,
      name: name ?? (basename(resolve(options.folder)).replace(/[^\p{L}\p{N}_.-]+/gu, "_") || "data"),
      signal: context.signal,
      onBadLine: ({ source, line, reason }) => {
        if (++badLines > shownBadLines) return;
        progress.note(say(context, messages.badLine, { where: line === 0 ? source : `${source}:${line}`, reason }));
      },
      onProgress: ({ done, documents }) =>
        progress.update({ done, extra: [`${formatInteger(documents)} ${say(context, messages.columnDocuments)}`] }),
    }).finally(() => progress.finish());
    if (badLines > shownBadLines) note(context, say(context, messages.badLines, { count: formatInteger(badLines) }));
    if (context.json) {
      printJson(context, { output: options.output, ...made });
      return;
    }
    const columns = [messages.columnDocuments, messages.columnTokens];
    print(
      context,
      renderTable(
        [
          { title: say(context, messages.columnSource) },
          { title: say(context, messages.columnObjective) },
          ...columns.map((column) => ({ title: say(context, column), align: "end" as const })),
        ],
        made.sources.map(({ name, objective, statistics }) => [
          name,
          objective ?? "",
          formatInteger(statistics.documents),
          formatInteger(statistics.tokens),
        ]),
      ),
    );
    const { documents, characters, tokens } = made.statistics;
    print(
      context,
      say(context, messages.result, {
        path: options.output,
        documents: formatInteger(documents),
        characters: formatInteger(characters),
        tokens: formatInteger(tokens),
        shards: formatInteger(made.shards.length),
      }),
    );
  },
});
