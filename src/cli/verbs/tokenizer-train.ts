/** `cpm tokenizer train`: a vocabulary file from a corpus. */
import { z } from "zod";
import { DataError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { note, print, printJson, say } from "../context.ts";
import { tokenizerTrainMessages as messages } from "../messages/tokenizer-train.ts";
import { startProgress } from "../progress.ts";
import { formatInteger, formatPercent } from "../quantity.ts";

/** More bad lines than these are only counted. */
const shownBadLines = 10;

export default defineCommand({
  name: "tokenizer train",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: "tokenizer train corpus/ --size 8192 --output vocab.txt", ...messages.example }],
  schema: z.object({
    corpus: z
      .array(z.string())
      .min(1)
      .describe(messages.corpus.en)
      .meta({ zh: messages.corpus.zh, positional: true, placeholder: "PATH" }),
    output: z.string().describe(messages.output.en).meta({ zh: messages.output.zh, placeholder: "FILE", alias: "o" }),
    size: z.int().min(1).default(8192).describe(messages.size.en).meta({ zh: messages.size.zh }),
    fallback: z
      .enum(["byte", "character"])
      .default("byte")
      .describe(messages.fallback.en)
      .meta({ zh: messages.fallback.zh }),
    characterCoverage: z
      .number()
      .min(0)
      .max(1)
      .default(0.995)
      .describe(messages.coverage.en)
      .meta({ zh: messages.coverage.zh }),
    minFrequency: z.int().min(1).default(2).describe(messages.minFrequency.en).meta({ zh: messages.minFrequency.zh }),
    format: z
      .enum(["auto", "jsonl", "lines", "blocks", "file"])
      .default("auto")
      .describe(messages.format.en)
      .meta({ zh: messages.format.zh }),
    field: z.string().default("text").describe(messages.field.en).meta({ zh: messages.field.zh }),
    encoding: z
      .enum(["utf-8", "gb18030"])
      .default("utf-8")
      .describe(messages.encoding.en)
      .meta({ zh: messages.encoding.zh }),
    strict: z.boolean().default(false).describe(messages.strict.en).meta({ zh: messages.strict.zh }),
  }),
  async run({ corpus, output, size, fallback, characterCoverage, minFrequency, ...reading }, context) {
    const [{ expandPaths, readDocuments }, { createVocabularyTrainer }, { writeFileAtomic }] = await Promise.all([
      import("../../data/index.ts"),
      import("../../tokenizer/index.ts"),
      import("../../util/atomic-file.ts"),
    ]);
    const trainer = createVocabularyTrainer({ size, fallback, characterCoverage, minFrequency });
    const progress = startProgress(context);
    let badLines = 0;
    const onBadLine = ({ source, line, reason }: { source: string; line: number; reason: string }) => {
      if (++badLines > shownBadLines) return;
      progress.note(say(context, messages.badLine, { where: `${source}:${line}`, reason }));
    };
    const files = await expandPaths(corpus);
    let documents = 0;
    for await (const { text } of readDocuments(files, { ...reading, onBadLine })) {
      context.signal.throwIfAborted();
      trainer.add(text);
      documents++;
      progress.update({ extra: [say(context, messages.documents, { count: formatInteger(documents) })] });
    }
    progress.finish();
    if (badLines > shownBadLines) note(context, say(context, messages.badLines, { count: badLines }));
    if (documents === 0) {
      throw new DataError("CPM_CLI_NO_TEXT", say(context, messages.noText), { where: corpus.join(", ") });
    }
    const trained = trainer.finish();
    await writeFileAtomic(output, trained.text);
    const { vocabulary, characterCount, wordCount, tokensPerCharacter } = trained;
    if (context.json) {
      printJson(context, {
        output,
        size: vocabulary.size,
        characters: characterCount,
        words: wordCount,
        characterCoverage: trained.characterCoverage,
        tokensPerCharacter,
        documents,
        badLines,
      });
      return;
    }
    print(
      context,
      say(context, messages.result, {
        path: output,
        size: formatInteger(vocabulary.size),
        characters: formatInteger(characterCount),
        words: formatInteger(wordCount),
        coverage: formatPercent(trained.characterCoverage),
        rate: tokensPerCharacter.toFixed(3),
      }),
    );
  },
});
