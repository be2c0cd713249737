/**
 * What the command says, in Chinese and English. A message is a pair of texts with the same `{parameters}`; the types
 * demand the parameters that the English text names. Messages live in this folder, one file per verb or concern, where
 * `messages.test.ts` finds them: it checks that both texts name the same parameters and that the Chinese typography
 * is right.
 */
import type { Locale } from "../locale.ts";

/** A text in both languages. */
export interface Bilingual {
  readonly zh: string;
  readonly en: string;
}

/** The names in braces of a text. */
type Parameters<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Parameters<Rest>
  : never;

/** The arguments after the message: none where it has no parameters. */
export type MessageArguments<M extends Bilingual> = [Parameters<M["en"]>] extends [never]
  ? []
  : string extends M["en"]
    ? [parameters?: Readonly<Record<string, string | number>>]
    : [parameters: Readonly<Record<Parameters<M["en"]>, string | number>>];

/** Declares a catalogue and keeps its texts as literal types. */
export function defineMessages<const T extends Readonly<Record<string, Bilingual>>>(catalogue: T): T {
  return catalogue;
}

/** The text of a message in a language, its parameters filled in. */
export function text<const M extends Bilingual>(
  locale: Locale,
  message: M,
  ...[parameters]: MessageArguments<M>
): string {
  const values: Readonly<Record<string, string | number>> = parameters ?? {};
  return message[locale].replaceAll(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return value === undefined ? whole : String(value);
  });
}
