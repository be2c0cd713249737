/** `cpm tokenize`: texts in, one line of JSON with ids and tokens out for each. */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { note, print, say } from "../context.ts";
import { tokenizeMessages as messages } from "../messages/tokenize.ts";
import { formatInteger } from "../quantity.ts";
import { jsonLineTexts, linesOf } from "../text-input.ts";

export default defineCommand({
  name: "tokenize",
  summary: messages.summary,
  description: messages.description,
  examples: [
    { line: 'tokenize --vocab vocab.txt "今天天气真不错"', ...messages.exampleArguments },
    { line: "tokenize --vocab vocab.txt --jsonl texts.jsonl --unknown drop", ...messages.exampleJsonl },
  ],
  schema: z.object({
    text: z
      .array(z.string())
      .default([])
      .describe(messages.text.en)
      .meta({ zh: messages.text.zh, positional: true, placeholder: "TEXT" }),
    vocab: z.string().min(1).describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
    jsonl: z
      .string()
      .min(1)
      .optional()
      .describe(messages.jsonl.en)
      .meta({ zh: messages.jsonl.zh, placeholder: "FILE" }),
    field: z.string().default("text").describe(messages.field.en).meta({ zh: messages.field.zh, placeholder: "NAME" }),
    unknown: z
      .enum(["drop", "keep"])
      .default("keep")
      .describe(messages.unknown.en)
      .meta({ zh: messages.unknown.zh, placeholder: "HOW" }),
  }),
  async run({ text, vocab, jsonl, field, unknown }, context) {
    if (text.length > 0 && jsonl !== undefined) {
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.bothSources), {
        hint: say(context, messages.oneSource),
      });
    }
    const { createAntTokenizer, readVocabulary } = await import("../../tokenizer/index.ts");
    const tokenizer = createAntTokenizer(await readVocabulary(vocab));
    const texts =
      text.length > 0 ? text : jsonl !== undefined ? jsonLineTexts(jsonl, field) : linesOf(context.stdin, "stdin");

    const count = { texts: 0, characters: 0, tokens: 0, unknown: 0 };
    for await (const piece of texts) {
      context.signal.throwIfAborted();
      const { ids, unknownCount } = tokenizer.encode(piece, { unknown });
      const tokens = Array.from(ids, (id) => tokenizer.tokenOf(id));
      print(context, JSON.stringify({ ids: [...ids], tokens }));
      count.texts++;
      count.characters += piece.length;
      count.tokens += ids.length;
      count.unknown += unknownCount;
      await context.stdout.flush();
    }
    note(
      context,
      say(context, messages.counted, {
        texts: formatInteger(count.texts),
        characters: formatInteger(count.characters),
        tokens: formatInteger(count.tokens),
        unknown: formatInteger(count.unknown),
      }),
    );
  },
});
