/**
 * A data set: a folder of token shards with a description of what is in them.
 *
 *     dataset.json    this file's schema: tokenizer, sources with licence and files, shards with checksums, statistics
 *     vocab.txt       the vocabulary that the ids are of
 *     shards/         *.cpmtok, see token-shard.ts
 *     prints/         what later additions are compared with, see build/prints-file.ts
 *
 * `dataset.json` is replaced atomically and shards never change, so a data set may grow while a run reads it: entries are
 * appended, and those that a reader knows must stay as they are.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../util/atomic-file.ts";
import { DataError } from "../util/error.ts";
import { openShard, type TokenShard } from "./token-shard.ts";

export const datasetFile = "dataset.json";
export const vocabularyFile = "vocab.txt";
export const shardFolder = "shards";
export const printsFolder = "prints";

const count = z.int().min(0);
const statisticsSchema = z.object({
  documents: count,
  characters: count,
  tokens: count,
  tokensPerCharacter: z.number().min(0),
  /** Of the tokens, with those without an id counted as one each: the share that stands for text without one. */
  unknownShare: z.number().min(0),
  /** Pieces of text without an id. */
  unknown: count.default(0),
  /** Documents by token count: bucket i holds lengths from 2^i to 2^(i+1) − 1, bucket 0 also 0. */
  lengthHistogram: z.array(count),
  /** Documents that were left out, by reason. */
  removed: z.record(z.string(), count),
  badLines: count,
  /** Documents that share text with the evaluation files, whether they were left out or only reported. */
  leaking: count.default(0),
});
export type DatasetStatistics = z.output<typeof statisticsSchema>;

const sourceSchema = z.object({
  name: z.string().min(1),
  licence: z.string().optional(),
  url: z.string().optional(),
  files: z.array(z.object({ name: z.string(), bytes: count, sha256: z.string() })),
  /** The objective that its documents were cut for, where an imported data set has fixed one. */
  objective: z.enum(["fill", "lm"]).optional(),
  statistics: statisticsSchema,
});
export type DatasetSource = z.output<typeof sourceSchema>;

export const shardSchema = z.object({
  file: z.string().regex(/^\w[\w.-]*$/),
  source: z.string(),
  bytes: count,
  sha256: z.string(),
  documents: count,
  tokens: count,
  characters: count,
  /** Pieces of text that the vocabulary could not spell. */
  unknown: count,
  /** Its file of prints; none: of its texts only the hashes are known. */
  prints: z.object({ bytes: count, sha256: z.string() }).optional(),
});
export type DatasetShard = z.output<typeof shardSchema>;

export const datasetSchema = z.object({
  format: z.literal(1),
  tokenizer: z.object({ kind: z.literal("cpm-ant"), vocabSize: count, sha256: z.string(), bosId: count, eosId: count }),
  /** How the data set was made. */
  options: z.record(z.string(), z.unknown()),
  sources: z.array(sourceSchema),
  shards: z.array(shardSchema),
  statistics: statisticsSchema,
});
export type DatasetDescription = z.output<typeof datasetSchema>;

export interface Dataset {
  readonly folder: string;
  readonly description: DatasetDescription;
  /** In the order of `description.shards`. */
  readonly shards: readonly TokenShard[];
  close(): void;
}

const maxDescriptionBytes = 256 * 1024 * 1024;

/** Whether a path is a data set's folder. */
export function isDataset(path: string): boolean {
  return existsSync(join(path, datasetFile));
}

/**
 * Reads a data set's description.
 *
 * @throws DataError CPM_DATA_SET where it is absent or not as it must be
 */
export async function readDescription(folder: string): Promise<DatasetDescription> {
  const path = join(folder, datasetFile);
  const bad = (what: string, got?: string, cause?: unknown) =>
    new DataError("CPM_DATA_SET", what, {
      where: path,
      got,
      expected: "a folder that cpm data build has written",
      hint: "Build it with: cpm data build FILE… --output FOLDER",
      cause,
    });
  const absent = (cause: NodeJS.ErrnoException) => {
    throw bad("There is no data set here", String(cause.code ?? cause), cause);
  };
  const { size } = await stat(path).catch(absent);
  if (size > maxDescriptionBytes) throw bad("The description of a data set is too long", `${size} bytes`);
  const text = await readFile(path, "utf8").catch(absent);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw bad("The description of a data set is not JSON", undefined, cause);
  }
  const parsed = datasetSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw bad("The description of a data set is not as it must be", `${issue?.path.join(".")}: ${issue?.message}`);
}

export async function writeDescription(folder: string, description: DatasetDescription): Promise<void> {
  await writeFileAtomic(join(folder, datasetFile), `${JSON.stringify(description, undefined, 1)}\n`);
}

/**
 * Opens a data set and all its shards; `verify` also compares every checksum, which reads everything.
 *
 * @throws DataError CPM_DATA_SET, CPM_DATA_SHARD; FileError CPM_DATA_FILE; nothing stays open then
 */
export async function openDataset(folder: string, { verify = false } = {}): Promise<Dataset> {
  const description = await readDescription(folder);
  const shards: TokenShard[] = [];
  try {
    for (const entry of description.shards) {
      const shard = openShard(join(folder, shardFolder, entry.file));
      shards.push(shard);
      if (verify) shard.verify();
      const { documents, tokens, vocabSize } = shard;
      if (documents !== entry.documents || tokens !== entry.tokens || vocabSize !== description.tokenizer.vocabSize) {
        throw new DataError("CPM_DATA_SHARD", "A token shard is not the one that dataset.json describes", {
          where: shard.path,
          got: `${documents} documents, ${tokens} tokens, vocabulary ${vocabSize}`,
          expected: `${entry.documents} documents, ${entry.tokens} tokens, vocabulary ${description.tokenizer.vocabSize}`,
        });
      }
    }
  } catch (error) {
    for (const shard of shards) shard.close();
    throw error;
  }
  return {
    folder,
    description,
    shards,
    close() {
      for (const shard of shards) shard.close();
    },
  };
}

/**
 * The vocabulary file's text.
 *
 * @throws DataError CPM_DATA_SET where there is none, or another one
 */
export async function readVocabularyText(folder: string, description: DatasetDescription): Promise<string> {
  const path = join(folder, vocabularyFile);
  const bytes = await readFile(path).catch((cause) => {
    throw new DataError("CPM_DATA_SET", "The data set has no vocabulary", { where: path, cause });
  });
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  if (sha256 !== description.tokenizer.sha256) {
    throw new DataError("CPM_DATA_SET", "The vocabulary is not the one that the data set was built with", {
      where: path,
      got: `SHA-256 ${sha256.slice(0, 12)}…`,
      expected: `SHA-256 ${description.tokenizer.sha256.slice(0, 12)}…`,
    });
  }
  return bytes.toString("utf8");
}

/** Statistics of nothing, to add to. */
export function emptyStatistics(): DatasetStatistics {
  return {
    documents: 0,
    characters: 0,
    tokens: 0,
    tokensPerCharacter: 0,
    unknownShare: 0,
    unknown: 0,
    lengthHistogram: [],
    removed: {},
    badLines: 0,
    leaking: 0,
  };
}

/** Of several parts together. */
export function sumStatistics(parts: readonly DatasetStatistics[]): DatasetStatistics {
  const sum = emptyStatistics();
  let pieces = 0;
  for (const part of parts) {
    sum.documents += part.documents;
    sum.characters += part.characters;
    sum.tokens += part.tokens;
    sum.unknown += part.unknown;
    sum.badLines += part.badLines;
    sum.leaking += part.leaking;
    // Tokens with what was dropped: unknown text has an id of its own where it was kept.
    pieces += part.unknownShare > 0 && part.unknown > 0 ? part.unknown / part.unknownShare : part.tokens;
    for (const [bucket, documents] of part.lengthHistogram.entries()) addTo(sum.lengthHistogram, bucket, documents);
    for (const [reason, documents] of Object.entries(part.removed)) {
      sum.removed[reason] = (sum.removed[reason] ?? 0) + documents;
    }
  }
  sum.tokensPerCharacter = sum.characters === 0 ? 0 : sum.tokens / sum.characters;
  sum.unknownShare = pieces === 0 ? 0 : sum.unknown / pieces;
  return sum;
}

/** Counts a document of so many tokens in a histogram. */
export function countLength(histogram: number[], tokens: number): void {
  addTo(histogram, tokens < 2 ? 0 : Math.floor(Math.log2(tokens)), 1);
}

function addTo(histogram: number[], bucket: number, documents: number): void {
  while (histogram.length <= bucket) histogram.push(0);
  histogram[bucket]! += documents;
}
