/** Documents of several files until there is enough of them, about as much text from each. */
import { type Document, type ReadOptions, readDocuments } from "./read-documents.ts";

export interface EvenReading extends ReadOptions {
  /** Reading ends with the document that reaches this. */
  readonly maxCharacters: number;
  readonly signal?: AbortSignal | undefined;
}

/** Each document is from the file that has given the least text so far. Returns whether `maxCharacters` ended it. */
export async function* readEvenly(
  files: readonly string[],
  { maxCharacters, signal, ...reading }: EvenReading,
): AsyncGenerator<{ readonly file: string; readonly document: Document }, boolean, void> {
  let open = files.map((file) => ({ file, reader: readDocuments([file], reading), characters: 0 }));
  let characters = 0;
  try {
    while (open.length > 0) {
      signal?.throwIfAborted();
      const source = open.reduce((least, other) => (other.characters < least.characters ? other : least));
      const next = await source.reader.next();
      if (next.done) {
        open = open.filter((other) => other !== source);
        continue;
      }
      yield { file: source.file, document: next.value };
      source.characters += next.value.text.length;
      characters += next.value.text.length;
      if (characters >= maxCharacters) return true;
    }
    return false;
  } finally {
    for (const { reader } of open) await reader.return(undefined);
  }
}
