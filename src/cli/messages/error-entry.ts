/** What the catalogue says of an error code. */
import type { Bilingual } from "./message.ts";

export interface ErrorEntry extends Bilingual {
  /** The next step, as an imperative sentence. */
  readonly remedy: Bilingual;
}

export type ErrorEntries = Readonly<Record<string, ErrorEntry>>;
