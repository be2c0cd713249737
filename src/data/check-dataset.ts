/**
 * Whether a data set is whole: every file, checksum, count and id of it, what stands twice in it, and how full rows of a
 * training run would be. Reads everything once, one shard at a time. Whatever is wrong is listed, not thrown: a reader wants to
 * know all of it.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { CpmError } from "../util/error.ts";
import { readPrints } from "./build/prints-file.ts";
import { type DatasetShard, readDescription, readVocabularyText, shardFolder } from "./dataset.ts";
import { openMixture } from "./mixture.ts";
import type { packingKinds } from "./packing.ts";
import { openShard } from "./token-shard.ts";

export interface DatasetProblem {
  readonly where: string;
  readonly what: string;
}

/** How full the rows are that a packing makes, and which share of their text bears a loss. */
export interface PackingEstimate {
  readonly kind: (typeof packingKinds)[number];
  readonly join: boolean;
  readonly fill: number;
  readonly targets: number;
  readonly samplesPerRow: number;
}

export interface DatasetReport {
  readonly folder: string;
  readonly shards: number;
  readonly documents: number;
  readonly tokens: number;
  readonly characters: number;
  /** Documents whose text stands in the data set before. */
  readonly duplicates: number;
  /** Documents without a token. */
  readonly empty: number;
  readonly problems: readonly DatasetProblem[];
  /** Empty where a shard is not as it must be. */
  readonly packing: readonly PackingEstimate[];
}

export interface CheckOptions {
  readonly rows: number;
  readonly columns: number;
  readonly promptLength: number;
  readonly signal?: AbortSignal;
  onShard?(done: number, all: number): void;
}

/** Batches that an estimate is taken over. */
const estimatedBatches = 64;

/** @throws DataError CPM_DATA_SET where there is no description to check by */
export async function checkDataset(folder: string, options: CheckOptions): Promise<DatasetReport> {
  const description = await readDescription(folder);
  const problems: DatasetProblem[] = [];
  const report = async (where: string, check: () => unknown): Promise<void> => {
    try {
      await check();
    } catch (error) {
      if (!(error instanceof CpmError)) throw error;
      problems.push({ where, what: error.message });
    }
  };
  await report(folder, () => readVocabularyText(folder, description));

  const hashes = new Set<bigint>();
  const counts = { documents: 0, tokens: 0, characters: 0, duplicates: 0, empty: 0 };
  for (const [done, entry] of description.shards.entries()) {
    options.signal?.throwIfAborted();
    const path = join(folder, shardFolder, entry.file);
    await report(path, async () => {
      const what = await checkShard(path, entry, description.tokenizer.vocabSize, (document) => {
        counts.documents++;
        counts.tokens += document.tokens;
        counts.characters += document.characters;
        if (document.tokens === 0) counts.empty++;
        if (hashes.has(document.hash)) counts.duplicates++;
        else hashes.add(document.hash);
      });
      for (const each of what) problems.push({ where: path, what: each });
      if (entry.prints !== undefined) await readPrints(folder, entry);
    });
    options.onShard?.(done + 1, description.shards.length);
  }
  const known = new Set(description.shards.map(({ file }) => file));
  for (const file of await readdir(join(folder, shardFolder)).catch(() => [])) {
    if (!known.has(file))
      problems.push({ where: join(folder, shardFolder, file), what: "dataset.json does not name it" });
  }
  for (const name of ["documents", "tokens", "characters"] as const) {
    if (problems.length > 0 || counts[name] === description.statistics[name]) continue;
    problems.push({
      where: folder,
      what: `statistics.${name} is ${description.statistics[name]}, there are ${counts[name]}`,
    });
  }
  const canRead = problems.length === 0 && counts.tokens > 0;
  const packing = canRead ? await estimatePacking(folder, options) : [];
  return { folder, shards: description.shards.length, ...counts, problems, packing };
}

/** What is wrong with a shard that can be opened. */
async function checkShard(
  path: string,
  entry: DatasetShard,
  vocabSize: number,
  onDocument: (document: { readonly tokens: number; readonly characters: number; readonly hash: bigint }) => void,
): Promise<string[]> {
  const problems: string[] = [];
  const shard = openShard(path);
  try {
    shard.verify();
    for (const name of ["documents", "tokens", "characters"] as const) {
      if (shard[name] !== entry[name]) problems.push(`${name}: ${shard[name]}, in dataset.json ${entry[name]}`);
    }
    if (shard.vocabSize !== vocabSize) problems.push(`vocabulary: ${shard.vocabSize}, in dataset.json ${vocabSize}`);
    for (let document = 0; document < shard.documents; document++) {
      const { length } = shard.ids(document);
      onDocument({ tokens: length, characters: shard.charactersOf(document), hash: shard.hashOf(document) });
    }
  } finally {
    shard.close();
  }
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer);
  if (digest.digest("hex") !== entry.sha256) problems.push("its SHA-256 is not the one in dataset.json");
  return problems;
}

async function estimatePacking(
  folder: string,
  { rows, columns, promptLength }: CheckOptions,
): Promise<PackingEstimate[]> {
  const estimates: PackingEstimate[] = [];
  for (const [kind, join] of [
    ["none", false],
    ["none", true],
    ["firstFit", false],
    ["bestFit", false],
  ] as const) {
    const source = await openMixture(
      { sources: [{ data: folder, epochs: 1 }] },
      { seed: 1, promptLength, fillShare: 0.5, heldOutShare: 0, packing: { kind, join } },
    );
    const sum = { batches: 0, used: 0, samples: 0, tokens: 0, targets: 0 };
    for (; sum.batches < estimatedBatches; sum.batches++) {
      const next = await source.next({ rows, columns });
      if (next === undefined) break;
      for (const length of next.batch.length) sum.used += length;
      sum.samples += next.samples.length;
      sum.tokens += next.tokens;
      sum.targets += next.targets;
    }
    source.dispose();
    const allRows = Math.max(1, sum.batches * rows);
    estimates.push({
      kind,
      join,
      fill: sum.used / (allRows * columns),
      targets: sum.targets / Math.max(1, sum.tokens),
      samplesPerRow: sum.samples / allRows,
    });
  }
  return estimates;
}
