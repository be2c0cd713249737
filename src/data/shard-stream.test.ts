import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { writeTinyDataset } from "../../test/support/tiny-dataset.ts";
import { CpmError } from "../util/error.ts";
import { createRandom } from "../util/random.ts";
import { type DatasetShard, readDescription, shardFolder } from "./dataset.ts";
import { createShardCache } from "./shard-cache.ts";
import { createShardStream, groupShards, newStreamState, type StreamSource, sampleTokens } from "./shard-stream.ts";
import type { TokenShard } from "./token-shard.ts";

/** Shards of so many documents of five tokens each; `opened` records which were asked for. */
function fakeSource(documents: readonly number[], opened: number[] = []): StreamSource {
  const shards = documents.map((count, i) => ({ documents: count, sha256: `${i}` }) as DatasetShard);
  const shard = { lengthOf: () => 5, hashOf: () => 0n } as unknown as TokenShard;
  return {
    label: "fake",
    shards,
    epochs: Number.POSITIVE_INFINITY,
    open(number) {
      opened.push(number);
      return shard;
    },
  };
}

const options = { heldOutShare: 0, minimumTokens: 1, join: false };

/** "shard document" of the next samples. */
function drawn(source: StreamSource, count: number, state = newStreamState(source, 1)): string[] {
  const stream = createShardStream(source, state, options, createRandom(1));
  return Array.from({ length: count }, () => stream.draw(8)!.parts[0]!.slice(0, 2).join(" "));
}

test("an epoch has every document of every shard once, in another order than the last, in few shards at a time", () => {
  const documents = Array.from({ length: 30 }, (_, i) => (i === 7 ? 0 : 3 + (i % 5)));
  const total = documents.reduce((sum, count) => sum + count, 0);
  const opened: number[] = [];
  const order = drawn(fakeSource(documents, opened), 2 * total);
  const all = documents.flatMap((count, shard) => Array.from({ length: count }, (_, i) => `${shard} ${i}`));
  const [first, second] = [order.slice(0, total), order.slice(total)];
  assert.deepEqual(first.toSorted(), all.toSorted());
  assert.deepEqual(second.toSorted(), all.toSorted());
  assert.notDeepEqual(first, second);
  // Groups: from one to the next no shard comes back.
  const groups: Set<number>[] = [new Set()];
  for (const shard of opened.slice(0, total)) {
    let group = groups.at(-1)!;
    if (!group.has(shard) && group.size === groupShards) groups.push((group = new Set()));
    group.add(shard);
  }
  assert.equal(groups.length, 4);
  assert.equal(
    groups.reduce((sum, { size }) => sum + size, 0),
    29,
  );
  // Within a group neighbours come from different shards as often as not.
  const changes = opened.slice(1, total).filter((shard, i) => shard !== opened[i]).length;
  assert.ok(changes > 0.6 * total, `${changes} of ${total}`);
});

test("a state from the middle of an epoch goes on there, as long as documents do", () => {
  const source = fakeSource([20, 30]);
  const order = drawn(source, 120);
  const state = newStreamState(source, 1);
  drawn(source, 70, state);
  assert.deepEqual(drawn(source, 50, structuredClone(state)), order.slice(70));
});

test("joined samples: first fit into those that wait, and all is given in the end", () => {
  const lengths = [3, 9, 2, 7, 4, 4, 12, 1];
  const shard = { lengthOf: (i: number) => lengths[i]!, hashOf: () => 0n } as unknown as TokenShard;
  const entry = { documents: lengths.length, sha256: "" } as DatasetShard;
  const source: StreamSource = { label: "s", shards: [entry], epochs: 1, open: () => shard };
  const stream = createShardStream(source, newStreamState(source, 1), { ...options, join: true }, createRandom(3));
  const samples = [];
  for (let next = stream.draw(12); next !== undefined; next = stream.draw(12)) samples.push(next);
  assert.ok(samples.every((sample) => sampleTokens(sample) <= 12));
  assert.ok(samples.length < lengths.length);
  const documents = samples.flatMap(({ parts }) => parts.map(([, document]) => document));
  assert.deepEqual(documents.toSorted(), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(
    stream.state.tokens,
    samples.reduce((sum, sample) => sum + sampleTokens(sample) + 2, 0),
  );
});

test("the cache keeps no more shards open than it may, and what it opens is what is described", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cache-"));
  const shards = Array.from({ length: 6 }, (_, i) => ({ source: "s", documents: [[10 + i, 20 + i]] }));
  await writeTinyDataset(folder, shards);
  const { shards: entries, tokenizer } = await readDescription(folder);
  const cache = createShardCache();
  cache.setLimit(2);
  const open = (i: number) => cache.open(folder, entries[i]!, tokenizer.vocabSize);
  const first = open(0);
  for (const i of [1, 0, 2, 0]) open(i);
  assert.deepEqual([...first.ids(0)], [10, 20], "the one that was asked for last stays open");
  for (const i of [3, 4]) open(i);
  assert.throws(() => first.ids(0), /closed shard/);
  assert.deepEqual([...open(0).ids(0)], [10, 20]);
  const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
  assert.throws(
    () => cache.open(folder, { ...entries[5]!, documents: 2 }, tokenizer.vocabSize),
    code("CPM_DATA_SHARD"),
  );
  writeFileSync(join(folder, shardFolder, entries[5]!.file), "CPMTOK01 but no more");
  assert.throws(() => open(5), code("CPM_DATA_SHARD"));
  assert.throws(() => cache.open(folder, { ...entries[5]!, file: "." }, tokenizer.vocabSize), code("CPM_DATA_FILE"));
  cache.dispose();
  rmSync(folder, { recursive: true });
});
