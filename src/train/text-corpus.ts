/**
 * From text files to what a trainer needs: a vocabulary (given, or trained on these texts) and the texts as token pieces,
 * some of them held out.
 */
import {
  buildTokenCorpus,
  type Document,
  isHeldOut,
  type ReadOptions,
  readEvenly,
  type TokenCorpus,
} from "../data/index.ts";
import { createAntTokenizer, parseVocabulary, type Tokenizer, trainVocabulary } from "../tokenizer/index.ts";

export interface TextCorpusOptions extends ReadOptions {
  /** Row length, the soft prompt included. */
  readonly length: number;
  readonly promptLength: number;
  /** The vocabulary file's text; without it one is trained. */
  readonly vocabulary?: string | undefined;
  /** Size of a vocabulary that is trained; a small corpus may give fewer tokens. */
  readonly vocabSize: number;
  readonly heldOutShare: number;
  /** Reads no further than this, taking about as much from every file. */
  readonly maxCharacters: number;
  readonly signal?: AbortSignal | undefined;
}

export interface TextCorpus {
  readonly tokenizer: Tokenizer;
  /** The vocabulary in its file format. */
  readonly vocabularyText: string;
  readonly train: TokenCorpus;
  readonly heldOut: TokenCorpus;
  /** Whether reading stopped at `maxCharacters`. */
  readonly cut: boolean;
}

/** Reads the files and cuts them up. Errors are those of the readers, the tokenizer and `buildTokenCorpus`. */
export async function readTextCorpus(files: readonly string[], options: TextCorpusOptions): Promise<TextCorpus> {
  const { documents, cut } = await collect(files, options);
  const vocabularyText = options.vocabulary ?? (await trainedVocabulary(documents, options));
  const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabularyText)));
  const { train, heldOut } = await buildTokenCorpus(documents, tokenizer, {
    maxLength: options.length,
    promptLength: options.promptLength,
    heldOutShare: options.heldOutShare,
    unknown: "drop",
  });
  return { tokenizer, vocabularyText, train, heldOut, cut };
}

/** What is held out is held out of the vocabulary too. */
async function trainedVocabulary(
  documents: readonly Document[],
  { vocabSize, heldOutShare }: TextCorpusOptions,
): Promise<string> {
  const texts = documents.map((document) => document.text).filter((text) => !isHeldOut(text, heldOutShare));
  return (await trainVocabulary(texts, { size: vocabSize })).text;
}

/** Documents until there is enough, about as much text from every file. */
async function collect(
  files: readonly string[],
  options: TextCorpusOptions,
): Promise<{ documents: Document[]; cut: boolean }> {
  const documents: Document[] = [];
  const reading = readEvenly(files, options);
  for (;;) {
    const next = await reading.next();
    if (next.done) return { documents, cut: next.value };
    documents.push(next.value.document);
  }
}
