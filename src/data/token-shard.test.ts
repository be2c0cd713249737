import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { temporaryFolder } from "../../test/support/text-model.ts";
import { CpmError } from "../util/error.ts";
import { createShardWriter, openShard, type ShardDocument } from "./token-shard.ts";

const folder = temporaryFolder("cpm-shard-");
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;

async function write(name: string, documents: readonly ShardDocument[], vocabSize = 1000): Promise<string> {
  const path = join(folder, name);
  const writer = createShardWriter("source", vocabSize);
  for (const document of documents) writer.add(document);
  await writer.finish(path);
  return path;
}

const sample: readonly ShardDocument[] = [
  { ids: Int32Array.of(5, 999, 7), hash: 0xfedcba9876543210n, characters: 4, file: "a.txt", line: 1 },
  { ids: Int32Array.of(), hash: 1n, characters: 1, file: "b.txt", line: 9 },
  { ids: Int32Array.of(0, 1, 2, 3, 4), hash: 2n, characters: 5, file: "a.txt", line: 3 },
];

test("documents come back as they were written", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(1000, 0x10000, 0x10001, 250_000),
      fc.array(
        fc.record({
          ids: fc.array(fc.nat(999), { maxLength: 40 }).map((ids) => Int32Array.from(ids)),
          hash: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
          characters: fc.nat(2 ** 32 - 1),
          file: fc.constantFrom("a", "文件.jsonl", "c d"),
          line: fc.nat(2 ** 32 - 1),
        }),
        { maxLength: 12 },
      ),
      async (vocabSize, documents) => {
        const shard = openShard(await write("roundtrip", documents, vocabSize));
        try {
          shard.verify();
          assert.equal(shard.documents, documents.length);
          assert.equal(
            shard.tokens,
            documents.reduce((sum, { ids }) => sum + ids.length, 0),
          );
          for (const [i, document] of documents.entries()) {
            assert.deepEqual(shard.ids(i), document.ids);
            assert.equal(shard.lengthOf(i), document.ids.length);
            assert.equal(shard.hashOf(i), document.hash);
            assert.equal(shard.charactersOf(i), document.characters);
            assert.equal(shard.originOf(i), `${document.file}:${document.line}`);
            const half = document.ids.length >> 1;
            assert.deepEqual(shard.ids(i, half), document.ids.slice(half));
            assert.deepEqual(shard.ids(i, 0, half), document.ids.slice(0, half));
          }
        } finally {
          shard.close();
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("equal documents give equal bytes; small vocabularies take two bytes an id", async () => {
  const one = readFileSync(await write("one", sample));
  assert.deepEqual(one, readFileSync(await write("two", sample)));
  const wide = readFileSync(await write("wide", sample, 0x10001));
  assert.ok(wide.length >= one.length + 16); // 8 ids of two bytes more
});

test("a shard cut anywhere is refused", async () => {
  const bytes = readFileSync(await write("whole", sample));
  const path = join(folder, "cut");
  for (let length = 0; length < bytes.length; length += 3) {
    writeFileSync(path, bytes.subarray(0, length));
    assert.throws(() => openShard(path), code("CPM_DATA_SHARD"), `${length} bytes`);
  }
  writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(8)]));
  assert.throws(() => openShard(path), code("CPM_DATA_SHARD"));
});

test("every flipped bit is found, or lies in the padding", async () => {
  const bytes = readFileSync(await write("flip-from", sample));
  const path = join(folder, "flip");
  let unseen = 0;
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1 << (at % 8);
    writeFileSync(path, changed);
    try {
      const shard = openShard(path);
      try {
        shard.verify();
        assert.deepEqual([shard.ids(0), shard.ids(2), shard.originOf(2)], [sample[0]!.ids, sample[2]!.ids, "a.txt:3"]);
        unseen++;
      } finally {
        shard.close();
      }
    } catch (error) {
      assert.ok(code("CPM_DATA_SHARD")(error), String(error));
    }
  }
  // Three sections of 12 bytes each end with 4 bytes of padding.
  assert.equal(unseen, 12);
});

/** A shard with another header; the checksum of the header is right. */
function forge(bytes: Buffer, change: (header: Record<string, unknown>) => void): Buffer {
  const length = bytes.readUInt32LE(8);
  const header = JSON.parse(bytes.toString("utf8", 16, 16 + length));
  change(header);
  const text = Buffer.from(JSON.stringify(header).padEnd(length, " "));
  const out = Buffer.concat([bytes.subarray(0, 16), text, bytes.subarray(16 + length)]);
  out.writeUInt32LE(text.length, 8);
  out.writeUInt32LE(crc32(text), 12);
  return out;
}

test("hostile headers: sizes that cannot be are refused before anything is allocated", async () => {
  const bytes = readFileSync(await write("forge-from", sample));
  const path = join(folder, "forged");
  const changes: ((header: Record<string, unknown>) => void)[] = [
    (header) => (header.documents = 2 ** 52),
    (header) => (header.tokens = 2 ** 53 - 1),
    (header) => (header.documents = -1),
    (header) => (header.tokens = 1.5),
    (header) => (header.idBytes = 3),
    (header) => (header.idBytes = 4),
    (header) => delete header.crc,
    (header) => (header.crc = { offsets: 0 }),
    (header) => (header.files = [1]),
    (header) => (header.more = true),
  ];
  for (const change of changes) {
    writeFileSync(path, forge(bytes, change));
    assert.throws(() => openShard(path), code("CPM_DATA_SHARD"), String(change));
  }
  writeFileSync(
    path,
    forge(bytes, () => {}),
  );
  openShard(path).close();
});

test("hostile sections with right checksums: offsets must ascend and cover, ids must be of the vocabulary", async () => {
  const bytes = readFileSync(await write("sections-from", sample));
  const path = join(folder, "sections");
  const start = 16 + bytes.readUInt32LE(8);
  const withOffsets = (offsets: readonly number[]) => {
    const section = Buffer.from(Float64Array.from(offsets).buffer);
    const changed = forge(bytes, (header) => ((header.crc as Record<string, number>).offsets = crc32(section)));
    section.copy(changed, 16 + changed.readUInt32LE(8));
    assert.ok(start > 0);
    return changed;
  };
  for (const offsets of [
    [0, 5, 3, 8],
    [1, 3, 3, 8],
    [0, 3, 3, 9],
    [0, Number.NaN, 3, 8],
    [0, 3.5, 4, 8],
    [0, -1, 3, 8],
  ]) {
    writeFileSync(path, withOffsets(offsets));
    assert.throws(() => openShard(path), code("CPM_DATA_SHARD"), String(offsets));
  }
  writeFileSync(
    path,
    forge(bytes, (header) => (header.vocabSize = 900)),
  );
  const shard = openShard(path);
  assert.throws(() => shard.ids(0), code("CPM_DATA_SHARD"));
  assert.deepEqual(shard.ids(2), sample[2]!.ids);
  assert.throws(() => shard.ids(0, 0, 8), /internal/);
  assert.throws(() => shard.ids(3), /internal/);
  shard.close();
  shard.close();
});

test("what is no file at all is a typed error too", () => {
  assert.throws(() => openShard(join(folder, "absent")), code("CPM_DATA_FILE"));
  assert.throws(() => openShard(folder), CpmError);
});
