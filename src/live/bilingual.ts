/** Texts that a record carries for its readers, such as where a figure is from: in both languages, or in one as it was given. */
import { z } from "zod";

const text = z.string().max(1024);

export const textSchema = z.union([text, z.object({ zh: text, en: text })]);
/** One text for everybody, or one for each language. */
export type Text = z.output<typeof textSchema>;

export interface Bilingual {
  readonly zh: string;
  readonly en: string;
}

export function inBoth(given: Text): Bilingual {
  return typeof given === "string" ? { zh: given, en: given } : given;
}
