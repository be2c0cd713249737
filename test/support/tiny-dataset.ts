/** Data sets of a few documents in a folder: as `cpm data build` leaves them, with ids of our choice. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type DatasetDescription,
  emptyStatistics,
  readDescription,
  shardFolder,
  vocabularyFile,
  writeDescription,
} from "../../src/data/dataset.ts";
import { createShardWriter } from "../../src/data/token-shard.ts";

export const tinyVocabSize = 5000;
/** `<s>`, `</s>`, the other specials, then t10, t11, …; or other texts for ids of our choice. */
function tinyVocabulary(texts: ReadonlyMap<number, string>): string {
  const specials = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<d>", "</d>"];
  const lines = Array.from({ length: tinyVocabSize }, (_, id) => texts.get(id) ?? specials[id] ?? `t${id}`);
  return `${lines.join("\n")}\n`;
}

/** A shard: its source, and the ids of each of its documents. */
export interface TinyShard {
  readonly source: string;
  readonly documents: readonly (readonly number[])[];
}

/** Makes a data set, or appends shards to the one that is there. Every token stands for two characters. */
export async function writeTinyDataset(
  folder: string,
  shards: readonly TinyShard[],
  texts: ReadonlyMap<number, string> = new Map(),
): Promise<void> {
  const vocabularyText = tinyVocabulary(texts);
  mkdirSync(join(folder, shardFolder), { recursive: true });
  writeFileSync(join(folder, vocabularyFile), vocabularyText);
  const sha256 = createHash("sha256").update(vocabularyText).digest("hex");
  const known: DatasetDescription = await readDescription(folder).catch(() => ({
    format: 1 as const,
    tokenizer: { kind: "cpm-ant" as const, vocabSize: tinyVocabSize, sha256, bosId: 0, eosId: 1 },
    options: {},
    sources: [],
    shards: [],
    statistics: emptyStatistics(),
  }));
  const entries = [...known.shards];
  for (const { source, documents } of shards) {
    const file = `${source}-${entries.length}.cpmtok`;
    const writer = createShardWriter(source, tinyVocabSize);
    for (const [line, ids] of documents.entries()) {
      const hash = createHash("sha256").update(`${file} ${line} ${ids}`).digest().readBigUInt64LE();
      writer.add({
        ids: Int32Array.from(ids),
        hash,
        characters: 2 * ids.length,
        file: `${source}.txt`,
        line: line + 1,
      });
    }
    const path = join(folder, shardFolder, file);
    const { documents: count, tokens, characters } = await writer.finish(path);
    const { size: bytes } = await stat(path);
    const checksum = createHash("sha256").update(readFileSync(path)).digest("hex");
    entries.push({ file, source, bytes, sha256: checksum, documents: count, tokens, characters, unknown: 0 });
  }
  const names = [...new Set(entries.map(({ source }) => source))];
  const sources = names.map((name) => ({ name, files: [], statistics: emptyStatistics() }));
  const total = (name: "documents" | "tokens" | "characters") => entries.reduce((sum, entry) => sum + entry[name], 0);
  const counts = { documents: total("documents"), tokens: total("tokens"), characters: total("characters") };
  const statistics = { ...emptyStatistics(), ...counts };
  await writeDescription(folder, { ...known, sources, shards: entries, statistics });
}

/** Documents of these lengths; document i is all id `first` + i. */
export function tinyDocuments(first: number, lengths: readonly number[]): number[][] {
  return lengths.map((length, i) => new Array<number>(length).fill(first + i));
}
