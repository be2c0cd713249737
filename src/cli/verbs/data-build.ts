/** `cpm data build`: text files in, a data set's folder out. */

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { z } from "zod";
import { type BuildOptions, buildOptionsSchema, type SourceInput } from "../../data/build/build-options.ts";
import { ConfigError, FileError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { dataBuildMessages as messages } from "../messages/data-build.ts";
import { startProgress } from "../progress.ts";
import { formatInteger, formatPercent } from "../quantity.ts";
import { renderTable } from "../table.ts";

const shownBadLines = 10;

export default defineCommand({
  name: "data build",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    {
      line: "data build news.jsonl.gz poems.txt --vocab vocab.txt --evaluation tasks/*.jsonl -o data/zh",
      ...messages.example,
    },
  ],
  schema: z.object({
    inputs: z
      .array(z.string())
      .default([])
      .describe(messages.inputs.en)
      .meta({ zh: messages.inputs.zh, positional: true, placeholder: "PATH" }),
    output: z.string().describe(messages.output.en).meta({ zh: messages.output.zh, placeholder: "FOLDER", alias: "o" }),
    sources: z
      .array(
        z.strictObject({
          name: z.string().regex(/^[\p{L}\p{N}_.-]{1,64}$/u),
          paths: z.array(z.string()).min(1),
          licence: z.string().optional(),
          url: z.string().optional(),
          field: z.string().optional(),
        }),
      )
      .default([])
      .describe(messages.sources.en)
      .meta({ zh: messages.sources.zh, flag: false }),
    vocab: z.string().optional().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
    vocabSize: z.int().min(360).default(8192).describe(messages.vocabSize.en).meta({ zh: messages.vocabSize.zh }),
    vocabCharacters: z
      .int()
      .min(1000)
      .default(20_000_000)
      .describe(messages.vocabCharacters.en)
      .meta({ zh: messages.vocabCharacters.zh, flag: false }),
    workers: z.int().min(0).max(512).optional().describe(messages.workers.en).meta({ zh: messages.workers.zh }),
    field: z.string().default("text").describe(messages.field.en).meta({ zh: messages.field.zh }),
    evaluation: z
      .array(z.string())
      .default([])
      .describe(messages.evaluation.en)
      .meta({ zh: messages.evaluation.zh, placeholder: "FILE" }),
    append: z.boolean().default(false).describe(messages.append.en).meta({ zh: messages.append.zh }),
    strict: z.boolean().default(false).describe(messages.strict.en).meta({ zh: messages.strict.zh }),
    options: buildOptionsSchema.prefault({}).describe(messages.options.en).meta({ zh: messages.options.zh }),
  }),
  async run(
    { inputs, output, sources: named, vocab, vocabSize, vocabCharacters, field, evaluation, ...rest },
    context,
  ) {
    const { buildDataset, readDescription, readVocabularyText } = await import("../../data/index.ts");
    const sources = await sourcesOf(inputs, named, field, context);
    const options = { ...rest.options, leakage: { ...rest.options.leakage } };
    options.leakage.files = [...options.leakage.files, ...evaluation];
    const vocabulary = await vocabularyText();
    const buildStartedMs = context.now();
    const progress = startProgress(context);
    let badLines = 0;
    let leaks = 0;
    let kept = 0;
    const built = await buildDataset({
      sources,
      output,
      vocabulary,
      options,
      workers: rest.workers ?? availableParallelism(),
      append: rest.append,
      strict: rest.strict,
      stdin: context.stdin,
      signal: context.signal,
      onBadLine: ({ source, line, reason }) => {
        if (++badLines > shownBadLines) return;
        progress.note(say(context, messages.badLine, { where: `${source}:${line}`, reason }));
      },
      onLeak: ({ file, line }) => {
        if (++leaks <= shownBadLines) progress.note(say(context, messages.leak, { where: `${file}:${line}` }));
      },
      onHashesAlone: (documents) =>
        progress.note(say(context, messages.hashesAlone, { count: formatInteger(documents) })),
      onProgress: (state) => {
        kept = state.kept;
        progress.update({
          done: state.done,
          extra: [state.source, `${formatInteger(state.documents)} ${say(context, messages.columnDocuments)}`],
          tokensPerSecond: (1000 * state.newTokens) / Math.max(1, context.now() - buildStartedMs),
        });
      },
    }).finally(() => progress.finish());
    if (leaks > shownBadLines) note(context, say(context, messages.leaks, { count: formatInteger(leaks) }));
    if (badLines > shownBadLines) note(context, say(context, messages.badLines, { count: badLines }));
    if (kept > 0) note(context, say(context, messages.kept, { count: formatInteger(kept) }));
    const seconds = Math.max(0.001, (context.now() - buildStartedMs) / 1000);

    async function vocabularyText(): Promise<string> {
      if (rest.append) {
        if (vocab !== undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.appendVocabulary));
        return readVocabularyText(output, await readDescription(output));
      }
      if (vocab === undefined) return trainedVocabulary(sources, vocabSize, vocabCharacters, options, context);
      return readFile(vocab, "utf8").catch((cause) => {
        throw new FileError("CPM_DATA_FILE", "The vocabulary cannot be read", { where: vocab, cause });
      });
    }

    if (context.json) {
      printJson(context, { output, seconds, badLines, ...built });
      return;
    }
    const { statistics } = built;
    print(
      context,
      renderTable(
        [
          { title: say(context, messages.columnSource) },
          { title: say(context, messages.columnLicence) },
          ...[
            messages.columnDocuments,
            messages.columnCharacters,
            messages.columnTokens,
            messages.columnRate,
            messages.columnUnknown,
          ].map((column) => ({ title: say(context, column), align: "end" as const })),
        ],
        built.sources.map((source) => [
          source.name,
          source.licence ?? "",
          formatInteger(source.statistics.documents),
          formatInteger(source.statistics.characters),
          formatInteger(source.statistics.tokens),
          source.statistics.tokensPerCharacter.toFixed(3),
          formatPercent(source.statistics.unknownShare),
        ]),
      ),
    );
    const reasons = Object.entries(statistics.removed).map(([reason, count]) => `${reason} ${formatInteger(count)}`);
    if (reasons.length > 0) print(context, say(context, messages.removed, { reasons: reasons.join(", ") }));
    print(
      context,
      say(context, messages.result, {
        path: output,
        documents: formatInteger(statistics.documents),
        characters: formatInteger(statistics.characters),
        tokens: formatInteger(statistics.tokens),
        shards: formatInteger(built.shards.length),
        rate: (statistics.characters / 1e6 / seconds).toFixed(2),
      }),
    );
  },
});

/** Files on the command line become sources by their names; two files of one name are one source. */
async function sourcesOf(
  inputs: readonly string[],
  named: readonly SourceInput[],
  field: string,
  context: CommandContext,
): Promise<SourceInput[]> {
  if (inputs.length > 0 && named.length > 0) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.bothInputs), { where: "sources" });
  }
  if (named.length > 0) return named.map((source) => ({ field, ...source }));
  if (inputs.length === 0) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.noInput), { where: "inputs" });
  const { expandPaths } = await import("../../data/index.ts");
  const groups = new Map<string, string[]>();
  for (const path of await expandPaths(inputs)) {
    const name =
      path === "-"
        ? "stdin"
        : basename(path)
            .replace(/\.(gz|zst)$/i, "")
            .replace(/\.\w+$/, "");
    groups.set(name, [...(groups.get(name) ?? []), path]);
  }
  return [...groups].map(([name, paths]) => ({ name, paths, field }));
}

async function trainedVocabulary(
  sources: readonly SourceInput[],
  size: number,
  characters: number,
  { normalize, format, encoding }: BuildOptions,
  context: CommandContext,
): Promise<string> {
  const [{ expandPaths, normalizeText, readDocuments }, { createVocabularyTrainer }] = await Promise.all([
    import("../../data/index.ts"),
    import("../../tokenizer/index.ts"),
  ]);
  if (sources.some(({ paths }) => paths.includes("-"))) {
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.stdinVocabulary), { where: "vocab" });
  }
  note(context, say(context, messages.vocabulary));
  const trainer = createVocabularyTrainer({ size });
  for (const { paths, field } of sources) {
    let taken = 0;
    const reading = { format, encoding, ...(field === undefined ? {} : { field }) };
    for await (const document of readDocuments(await expandPaths(paths), reading)) {
      context.signal.throwIfAborted();
      const text = normalizeText(document.text, normalize);
      trainer.add(text);
      taken += text.length;
      if (taken >= characters / sources.length) break;
    }
  }
  const { text, vocabulary } = trainer.finish();
  note(context, say(context, messages.vocabularyDone, { size: formatInteger(vocabulary.size) }));
  return text;
}
