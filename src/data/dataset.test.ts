import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/text-model.ts";
import { CpmError } from "../util/error.ts";
import {
  countLength,
  type DatasetDescription,
  type DatasetShard,
  emptyStatistics,
  isDataset,
  openDataset,
  readDescription,
  readVocabularyText,
  sumStatistics,
  writeDescription,
} from "./dataset.ts";
import { createShardWriter } from "./token-shard.ts";

const root = temporaryFolder("cpm-dataset-");
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
const vocabulary = "a\nb\n";

async function writeShard(folder: string, file: string, lengths: readonly number[]): Promise<DatasetShard> {
  const writer = createShardWriter("s", 50);
  for (const [i, length] of lengths.entries()) {
    writer.add({ ids: new Int32Array(length).fill(i), hash: BigInt(i), characters: length, file: "f", line: i + 1 });
  }
  const path = join(folder, "shards", file);
  const summary = await writer.finish(path);
  return { file, source: "s", ...summary, unknown: 0, sha256: hash("sha256", readFileSync(path)) };
}

async function make(name: string, shards: readonly (readonly number[])[]): Promise<string> {
  const folder = join(root, name);
  mkdirSync(join(folder, "shards"), { recursive: true });
  writeFileSync(join(folder, "vocab.txt"), vocabulary);
  const entries: DatasetShard[] = [];
  for (const [i, lengths] of shards.entries()) entries.push(await writeShard(folder, `${i}.cpmtok`, lengths));
  await writeDescription(folder, {
    format: 1,
    tokenizer: { kind: "cpm-ant", vocabSize: 50, sha256: hash("sha256", vocabulary), bosId: 0, eosId: 1 },
    options: {},
    sources: [{ name: "s", files: [], statistics: emptyStatistics() }],
    shards: entries,
    statistics: emptyStatistics(),
  });
  return folder;
}

async function change(folder: string, edit: (description: DatasetDescription) => unknown): Promise<void> {
  const description = await readDescription(folder);
  edit(description);
  writeFileSync(join(folder, "dataset.json"), JSON.stringify(description));
}

test("a data set opens with its shards and vocabulary, whole and verified", async () => {
  const folder = await make("sound", [[3, 4], [5]]);
  assert.ok(isDataset(folder));
  assert.ok(!isDataset(root));
  const dataset = await openDataset(folder, { verify: true });
  assert.deepEqual(
    dataset.shards.map((shard) => [shard.documents, shard.tokens]),
    [
      [2, 7],
      [1, 5],
    ],
  );
  assert.equal(await readVocabularyText(folder, dataset.description), vocabulary);
  dataset.close();
});

test("hostile or damaged descriptions are typed errors", async () => {
  const folder = await make("hostile", [[3]]);
  const original = readFileSync(join(folder, "dataset.json"));
  for (const text of ["", "{", "[]", "null", '{"format":2}', '{"__proto__":{"format":1}}']) {
    writeFileSync(join(folder, "dataset.json"), text);
    await assert.rejects(openDataset(folder), code("CPM_DATA_SET"), text);
  }
  for (const file of ["../../etc/passwd", "..", ".", "a/b", "", "a\0b"]) {
    writeFileSync(join(folder, "dataset.json"), original);
    await change(folder, ({ shards }) => ((shards[0] as { file: string }).file = file));
    await assert.rejects(openDataset(folder), code("CPM_DATA_SET"), file);
  }
  for (const [key, value] of [
    ["documents", 2],
    ["tokens", 4],
  ] as const) {
    writeFileSync(join(folder, "dataset.json"), original);
    await change(folder, ({ shards }) => ((shards[0] as unknown as Record<string, number>)[key] = value));
    await assert.rejects(openDataset(folder), code("CPM_DATA_SHARD"), key);
  }
  writeFileSync(join(folder, "dataset.json"), original);
  await change(folder, ({ tokenizer }) => ((tokenizer as { vocabSize: number }).vocabSize = 49));
  await assert.rejects(openDataset(folder), code("CPM_DATA_SHARD"));
  await assert.rejects(openDataset(join(root, "nowhere")), code("CPM_DATA_SET"));
});

test("another vocabulary, and ids that were changed on the disk, are found", async () => {
  const folder = await make("vocabulary", [[3]]);
  const dataset = await openDataset(folder);
  writeFileSync(join(folder, "vocab.txt"), "b\na\n");
  await assert.rejects(readVocabularyText(folder, dataset.description), code("CPM_DATA_SET"));
  dataset.close();
  const path = join(folder, "shards", "0.cpmtok");
  const bytes = readFileSync(path);
  bytes[bytes.length - 8]! ^= 1;
  copyFileSync(path, `${path}.old`);
  writeFileSync(path, bytes);
  (await openDataset(folder)).close(); // only verifying reads the ids
  await assert.rejects(openDataset(folder, { verify: true }), code("CPM_DATA_SHARD"));
});

test("statistics of parts together: shares are weighed by what they are shares of", () => {
  const histogram: number[] = [];
  for (const tokens of [0, 1, 2, 3, 4, 1023, 1024]) countLength(histogram, tokens);
  assert.deepEqual(histogram, [2, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
  const one = { ...emptyStatistics(), documents: 1, characters: 100, tokens: 90, unknown: 10, unknownShare: 0.1 };
  const two = { ...emptyStatistics(), documents: 2, characters: 50, tokens: 100, unknown: 0, lengthHistogram: [0, 2] };
  const sum = sumStatistics([
    { ...one, removed: { short: 1 }, badLines: 3 },
    { ...two, removed: { short: 2, leakage: 1 }, leaking: 1 },
  ]);
  assert.deepEqual(sum, {
    documents: 3,
    characters: 150,
    tokens: 190,
    tokensPerCharacter: 190 / 150,
    unknown: 10,
    unknownShare: 10 / 200,
    lengthHistogram: [0, 2],
    removed: { short: 3, leakage: 1 },
    badLines: 3,
    leaking: 1,
  });
});
