/**
 * A data set straight out of text files, for whoever begins with `cpm train FILE…`: a vocabulary is trained where none is
 * given, and of too much text about as much is taken from every file. Nothing is filtered and nothing counts as a duplicate:
 * what is in the files is trained on. `buildDataset` is for everything else.
 *
 * The files are read twice, first to find out how many documents of each are wanted and what the vocabulary is, then to
 * build; memory holds neither.
 */
import { basename } from "node:path";
import { createVocabularyTrainer } from "../../tokenizer/index.ts";
import type { DatasetDescription } from "../dataset.ts";
import { type BadLine, expandPaths } from "../read-documents.ts";
import { readEvenly } from "../read-evenly.ts";
import { isHeldOut } from "../token-corpus.ts";
import { type BuildProgress, buildDataset } from "./build-dataset.ts";
import { buildOptionsSchema, type SourceInput } from "./build-options.ts";
import { normalizeText } from "./normalize.ts";

export interface TextBuildInput {
  /** Files, folders or patterns: each is a source. */
  readonly paths: readonly string[];
  readonly output: string;
  /** The vocabulary file's text; without it one is trained. */
  readonly vocabulary?: string | undefined;
  /** Of a vocabulary that is trained; little text may give fewer tokens. */
  readonly vocabSize: number;
  /** Documents that training holds out are held out of the vocabulary too. */
  readonly heldOutShare: number;
  /** Reading ends with the document that reaches this. */
  readonly maxCharacters: number;
  readonly field: string;
  readonly encoding: "utf-8" | "gb18030";
  /** Threads beside this one. */
  readonly workers: number;
  readonly signal?: AbortSignal | undefined;
  onBadLine?(bad: BadLine): void;
  onProgress?(progress: BuildProgress): void;
}

export interface TextBuild {
  readonly dataset: DatasetDescription;
  readonly vocabularyText: string;
  /** Whether reading ended at `maxCharacters`. */
  readonly cut: boolean;
}

/** Nothing is left out. */
const keepAll = {
  filters: { minCharacters: 0, minHanShare: 0, maxSymbolShare: 1, maxRepeatedShare: 1 },
  duplicates: { exact: false, paragraphShare: 0, similarity: 0 },
} as const;

/** @throws those of `expandPaths`, the readers, the tokenizer and `buildDataset` */
export async function buildFromTexts(input: TextBuildInput): Promise<TextBuild> {
  const { field, output, vocabulary, workers, signal, onProgress } = input;
  const options = buildOptionsSchema.parse({ ...keepAll, encoding: input.encoding });
  const sources = await sourcesOf(input.paths);
  const files = sources.flatMap(({ paths }) => paths);
  const trainer = vocabulary === undefined ? createVocabularyTrainer({ size: input.vocabSize }) : undefined;
  const { documentsOf, cut } = await survey(files, input, (text) => {
    const normal = normalizeText(text, options.normalize);
    if (trainer && !isHeldOut(normal, input.heldOutShare)) trainer.add(normal);
  });
  const vocabularyText = vocabulary ?? trainer!.finish().text;
  const dataset = await buildDataset({
    sources: sources.map((source) => ({ ...source, field, documentsOf })),
    output,
    vocabulary: vocabularyText,
    options,
    workers,
    signal,
    ...(onProgress && { onProgress }),
  });
  return { dataset, vocabularyText, cut };
}

/** One source for each path, named after it; paths of one name are one source, a file is in the first that has it. */
async function sourcesOf(paths: readonly string[]): Promise<SourceInput[]> {
  const taken = new Set<string>();
  const groups = new Map<string, string[]>();
  for (const path of paths) {
    const stem = basename(path)
      .replace(/(\.\w+)?(\.gz|\.zst)?$/i, "")
      .replaceAll(/[^\p{L}\p{N}_.-]+/gu, "_")
      .replace(/^[_.-]+$/, "");
    const name = stem === "" ? "text" : stem;
    const own = (await expandPaths([path])).filter((file) => !taken.has(file));
    for (const file of own) taken.add(file);
    if (own.length > 0) groups.set(name, [...(groups.get(name) ?? []), ...own]);
  }
  return [...groups].map(([name, files]) => ({ name, paths: files }));
}

/** What is read, about as much text from every file: how many documents of each, and whether there was more. */
async function survey(
  files: readonly string[],
  { maxCharacters, field, encoding, signal, onBadLine }: TextBuildInput,
  use: (text: string) => void,
): Promise<{ documentsOf: Map<string, number>; cut: boolean }> {
  const documentsOf = new Map(files.map((file) => [file, 0]));
  const reading = readEvenly(files, { field, encoding, maxCharacters, signal, ...(onBadLine && { onBadLine }) });
  for (;;) {
    const next = await reading.next();
    if (next.done) return { documentsOf, cut: next.value };
    const { file, document } = next.value;
    use(document.text);
    documentsOf.set(file, documentsOf.get(file)! + 1);
  }
}
