/**
 * What a text must keep to, as settings say it, made into a constraint on a tokenizer's tokens.
 */
import { z } from "zod";
import type { Piece } from "../../tokenizer/index.ts";
import { ConfigError } from "../../util/error.ts";
import type { Grammar } from "./grammar.ts";
import { parseGrammar } from "./grammar-text.ts";
import { jsonObjectGrammar, jsonSchemaGrammar } from "./json-schema.ts";
import { parseRegularExpression } from "./regular-expression.ts";
import {
  createTokenConstraint,
  layOutVocabulary,
  type TokenConstraint,
  type VocabularyBytes,
} from "./token-constraint.ts";

export const ResponseFormatSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({ type: z.literal("json_schema"), schema: z.record(z.string(), z.unknown()) }),
  z.strictObject({ type: z.literal("grammar"), grammar: z.string().min(1) }),
  z.strictObject({ type: z.literal("regex"), regex: z.string().min(1) }),
]);

export type ResponseFormat = z.output<typeof ResponseFormatSchema>;

type PieceOf = (id: number) => Piece;

/** Vocabularies laid out, and the constraint of the last formats on each: laying out takes some tens of milliseconds. */
const vocabularies = new WeakMap<
  PieceOf,
  { readonly bytes: VocabularyBytes; readonly known: Map<string, TokenConstraint> }
>();
const maxKnown = 8;

/**
 * The constraint of a format on tokens; undefined for free text. `pieceOf` is kept as the name of its vocabulary.
 *
 * Throws CPM_INFER_OPTIONS where the tokenizer does not tell its pieces, CPM_INFER_GRAMMAR, CPM_INFER_SCHEMA and
 * CPM_INFER_UNSPELLABLE.
 */
export function constraintOf(
  format: ResponseFormat,
  pieceOf: PieceOf | undefined,
  vocabSize: number,
): TokenConstraint | undefined {
  if (format.type === "text") return undefined;
  if (pieceOf === undefined) {
    throw new ConfigError("CPM_INFER_OPTIONS", "this tokenizer does not say what its tokens stand for", {
      where: "responseFormat",
      got: format.type,
      expected: "text",
    });
  }
  let vocabulary = vocabularies.get(pieceOf);
  if (vocabulary === undefined) {
    vocabulary = { bytes: layOutVocabulary(pieceOf, vocabSize), known: new Map() };
    vocabularies.set(pieceOf, vocabulary);
  }
  const { bytes, known } = vocabulary;
  const key = JSON.stringify(format);
  const constraint = known.get(key) ?? createTokenConstraint(grammarOf(format), bytes);
  known.delete(key);
  known.set(key, constraint);
  if (known.size > maxKnown) known.delete(known.keys().next().value!);
  return constraint;
}

function grammarOf(format: Exclude<ResponseFormat, { type: "text" }>): Grammar {
  switch (format.type) {
    case "json_object":
      return jsonObjectGrammar();
    case "json_schema":
      return jsonSchemaGrammar(format.schema);
    case "grammar":
      return parseGrammar(format.grammar);
    case "regex":
      return { rules: new Map([["match", parseRegularExpression(format.regex)]]), start: "match" };
  }
}
