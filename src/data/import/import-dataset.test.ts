import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import {
  type ArrayType,
  pickledArray,
  pickledEntries,
  pickledList,
  writeOriginal,
} from "../../../test/support/original-writer.ts";
import { smallVocabulary, temporaryFolder } from "../../../test/support/text-model.ts";
import { createAntTokenizer } from "../../tokenizer/index.ts";
import { CpmError } from "../../util/error.ts";
import { openDataset } from "../dataset.ts";
import { openMixture } from "../mixture.ts";
import type { BadLine } from "../read-documents.ts";
import { type ImportInput, importDataset } from "./import-dataset.ts";
import { readPickledIntegers } from "./numpy-pickle.ts";

const root = temporaryFolder("cpm-import-");
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
const { text: vocabulary, vocabulary: parsed } = await smallVocabulary();
const tokenizer = createAntTokenizer(parsed);
const { bosId, eosId } = tokenizer;

let counter = 0;
const fresh = () => join(root, String(counter++));

/** A record as the original's preprocessing writes it. */
const record = (task: 0 | 1, ids: readonly number[]): number[] => [
  ...(task === 0 ? [1, 1, ids.length + 2, 1, 0] : [2, 1, ids.length + 2, 2, 1]),
  ...[bosId, ...ids, eosId],
];
const pieces = ["从前有一条小河，河边住着几户人家。", "每天早上他们都去打水。", "后来下了一场大雨，河水涨了起来。"].map(
  (text) => [...tokenizer.encode(text).ids],
);

async function run(folder: string, options: Partial<ImportInput> = {}) {
  const output = fresh();
  const bad: BadLine[] = [];
  const description = await importDataset({
    folder,
    output,
    vocabulary,
    name: "旧",
    onBadLine: (line) => bad.push(line),
    ...options,
  });
  const dataset = await openDataset(output, { verify: true });
  const documents = Object.fromEntries(description.sources.map(({ name }) => [name, [] as number[][]]));
  for (const shard of dataset.shards) {
    for (let i = 0; i < shard.documents; i++) documents[shard.source]!.push([...shard.ids(i)]);
  }
  const hashes = dataset.shards.flatMap((shard) => Array.from({ length: shard.documents }, (_, i) => shard.hashOf(i)));
  dataset.close();
  return { output, description, documents, bad, hashes };
}

test("version 1: what to fill and what to continue become two sources that keep their objective", async () => {
  const records = [record(0, pieces[0]!), record(1, pieces[1]!), record(0, pieces[2]!)];
  const folder = writeOriginal(fresh(), 1, [
    { name: "part_1", records: records.map((ids) => pickledArray(ids)) },
    { name: "part_2", records: [pickledArray(record(1, pieces[2]!), { type: "i8" })] },
  ]);
  const { output, description, documents, bad, hashes } = await run(folder, { licence: "CC0-1.0" });
  assert.deepEqual(bad, []);
  assert.deepEqual(documents, { "旧-fill": [pieces[0], pieces[2]], "旧-lm": [pieces[1], pieces[2]] });
  assert.deepEqual(
    description.sources.map(({ name, objective, licence, statistics }) => [
      name,
      objective,
      licence,
      statistics.documents,
    ]),
    [
      ["旧-fill", "fill", "CC0-1.0", 2],
      ["旧-lm", "lm", "CC0-1.0", 2],
    ],
  );
  const sha256 = createHash("sha256")
    .update(readFileSync(join(folder, "part_2")))
    .digest("hex");
  assert.deepEqual(
    description.sources[0]!.files.map(({ name }) => name),
    ["meta.bin", "part_1", "part_2"],
  );
  assert.equal(description.sources[0]!.files[2]!.sha256, sha256);
  const text = tokenizer.decode(pieces[0]!);
  assert.equal(hashes[0], createHash("sha256").update(text).digest().readBigUInt64BE(0));
  assert.equal(
    description.statistics.characters,
    [0, 1, 2, 2].reduce((sum, i) => sum + [...tokenizer.decode(pieces[i]!)].length, 0),
  );

  const mixture = await openMixture(
    { sources: [{ data: output }] },
    { seed: 1, promptLength: 4, fillShare: 0.5, heldOutShare: 0, packing: { kind: "firstFit" }, minimumTokens: 1 },
  );
  const { samples } = (await mixture.next({ rows: 8, columns: 64 }))!;
  for (const { source, objective } of samples)
    assert.equal(objective, source.endsWith("-fill") ? "fill" : "lm", source);
  assert.ok(samples.length >= 4);
  await mixture.dispose();
});

test("records fill blocks: many of them, over several blocks and files", async () => {
  const all = Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: 1 + (i % 30) }, (_, j) => 100 + ((i * 31 + j) % 900)),
  );
  const folder = writeOriginal(fresh(), 1, [
    { name: "a", records: all.slice(0, 45).map((ids) => pickledArray(record(0, ids))) },
    { name: "b", records: all.slice(45).map((ids) => pickledArray(record(0, ids), { fromBuffer: true })) },
  ]);
  const { documents, bad, description } = await run(folder, { shardTokens: 300 });
  assert.deepEqual(documents, { "旧-fill": all });
  assert.deepEqual(bad, []);
  assert.ok(description.shards.length > 2);
});

test("version 2: pickles, JSON and raw integers, and texts of every kind", async () => {
  const ids = record(1, pieces[0]!);
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const int32 = Buffer.from(Int32Array.from(ids).buffer);
  const text = "每天早上他们都去打水。";
  const cases: [Buffer, ImportInput["payload"], string, number[]][] = [
    [pickledArray(ids), "auto", "旧-lm", pieces[0]!],
    [pickledList(ids), "pickle", "旧-lm", pieces[0]!],
    [json(ids), "auto", "旧-lm", pieces[0]!],
    [int32, "int32", "旧-lm", pieces[0]!],
    [Buffer.from(Uint16Array.from(ids).buffer), "int16", "旧-lm", pieces[0]!],
    [json([bosId, ...pieces[0]!, eosId]), "json", "旧", pieces[0]!],
    [json({ id: 1, text }), "auto", "旧", pieces[1]!],
    [json(text), "auto", "旧", pieces[1]!],
    [Buffer.from(`${text}\n`), "utf-8", "旧", pieces[1]!],
  ];
  for (const [payload, kind, source, expected] of cases) {
    const folder = writeOriginal(fresh(), 2, [{ name: "f", records: [payload] }]);
    const { documents, bad } = await run(folder, { payload: kind });
    assert.deepEqual(bad, []);
    assert.deepEqual(documents, { [source]: [expected] }, String(kind));
  }
});

test("records that cannot be used are told with file, number and reason; the others come through", async () => {
  const good = pickledArray(record(0, pieces[0]!));
  const records: [Buffer, RegExp][] = [
    [good, /^$/],
    [pickledArray([3, 2, 4, 1, 0, 4, 2, 1, bosId, 9, 9, eosId, bosId, 9, 9, eosId]), /2 segments/],
    [pickledArray([3, 1, 3, 1, 5, bosId, 9, eosId]), /task 5/],
    [pickledArray([1, 1, 3, 1, 0, 8, 9, eosId]), /begin with <s>/],
    [pickledArray([1, 1, 3, 1, 0, bosId, 9, 9]), /end with <\/s>/],
    [pickledArray([1, 1, 2, 1, 0, bosId, eosId]), /empty/],
    [pickledArray([1, 1, 3, 1, 0, bosId, tokenizer.vocabSize, eosId]), /not in the vocabulary/],
    [pickledArray([1, 1, 3, 1, 0, bosId, -1, eosId]), /not in the vocabulary/],
    [pickledArray([5, 6, 7]), /neither/],
    [pickledArray([]), /neither/],
    [good, /^$/],
  ];
  const folder = writeOriginal(fresh(), 1, [
    { name: "x", records: records.map(([bytes]) => bytes) },
    { name: "masked", records: [good], mask: true },
    { name: "gone", records: [good], absent: true },
  ]);
  const { documents, bad, description } = await run(folder);
  assert.deepEqual(documents, { "旧-fill": [pieces[0], pieces[0]] });
  const expected = records.flatMap(([, reason], i) => (reason.source === "^$" ? [] : [[i + 1, reason] as const]));
  for (const [i, [line, reason]] of expected.entries()) {
    assert.equal(bad[i]!.line, line);
    assert.equal(bad[i]!.source, join(folder, "x"));
    assert.match(bad[i]!.reason, reason);
  }
  assert.match(bad.at(-2)!.reason, /masked/);
  assert.match(bad.at(-1)!.reason, /not there/);
  assert.equal(bad.length, expected.length + 2);
  assert.equal(description.statistics.badLines, bad.length);
});

test("hostile pickles: names, states and sizes beyond arrays of whole numbers are refused, nothing runs", () => {
  const ids = record(0, pieces[0]!);
  const read = (bytes: Buffer) => readPickledIntegers(bytes, "test");
  for (const type of ["u1", "i2", "u2", "i4", "i8"] as ArrayType[]) {
    const small = ids.map((id) => id % 200);
    const bytes = pickledArray(small, { type });
    assert.deepEqual(read(Buffer.concat([bytes, Buffer.from("more")])), {
      ids: Int32Array.from(small),
      end: bytes.length,
    });
    assert.deepEqual(
      read(pickledArray(small, { type, fromBuffer: true, module: "numpy._core" })).ids,
      Int32Array.from(small),
    );
  }
  for (const [bytes, expected] of [
    [pickledArray(ids, { reconstruct: ["os", "system"] }), "CPM_PICKLE_GLOBAL"],
    [pickledArray(ids, { reconstruct: ["builtins", "getattr"] }), "CPM_PICKLE_GLOBAL"],
    [pickledArray(ids, { reconstruct: ["numpy", "ndarray"] }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { order: ">" }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { shape: [2, 2] }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { shape: [2 ** 30] }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { shape: [-1] }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { bytes: Buffer.alloc(3) }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { type: "f4" as ArrayType }), "CPM_PICKLE_CALL"],
    [pickledArray(ids, { type: "O8" as ArrayType, bytes: Buffer.alloc(8 * ids.length) }), "CPM_PICKLE_CALL"],
    [pickledArray(ids).subarray(0, 60), "CPM_PICKLE_MALFORMED"],
    [Buffer.alloc(0), "CPM_PICKLE_MALFORMED"],
  ] as const) {
    assert.throws(() => read(bytes), code(expected), expected);
  }
  assert.equal(read(Buffer.from([0x80, 4, 0x4e, 0x2e])).ids, undefined); // None
  const huge = pickledArray([0, 0], { type: "i8", bytes: Buffer.from(BigInt64Array.of(1n, 2n ** 40n).buffer) });
  assert.throws(() => read(huge), code("CPM_PICKLE_CALL"));
});

test("arbitrary and damaged bytes never end otherwise than in a typed error", () => {
  const whole = pickledArray(record(0, pieces[0]!));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, value]) => {
          const changed = Buffer.from(whole);
          changed[at] = value;
          return changed;
        }),
      ),
      (bytes) => {
        try {
          const { end } = readPickledIntegers(bytes, "test");
          assert.ok(end <= bytes.length);
        } catch (error) {
          assert.ok(error instanceof CpmError, String(error));
        }
      },
    ),
    { numRuns: 1500 },
  );
});

test("damaged blocks and files lose what is in them, no more", async () => {
  const records = Array.from({ length: 12 }, (_, i) => pickledArray(record(0, [200 + i, 300 + i])));
  const folder = writeOriginal(fresh(), 1, [{ name: "d", records }]);
  const path = join(folder, "d");
  const bytes = readFileSync(path);
  const damaged = Buffer.from(bytes);
  damaged[1] = 0x7f; // no pickle begins so
  writeFileSync(path, damaged);
  const lost = await run(folder);
  assert.match(lost.bad[0]!.reason, /the rest of block 0 is lost/);
  assert.ok(lost.documents["旧-fill"]!.length >= 8);
  assert.match(lost.bad.at(-1)!.reason, /the list of files says 12 records/);
  const foreign = Buffer.from(bytes);
  foreign[0] = 0x41;
  writeFileSync(path, foreign);
  assert.match((await run(folder)).bad[0]!.reason, /begins with the byte 65/);
  truncateSync(path, bytes.length - 100);
  await assert.rejects(run(folder), code("CPM_DATA_EMPTY"));

  const two = writeOriginal(fresh(), 2, [{ name: "e", records: [Buffer.from(JSON.stringify(record(0, [9])))] }]);
  const beyond = readFileSync(join(two, "e"));
  beyond.writeUInt32LE(0xffffffff, 1);
  writeFileSync(join(two, "e"), beyond);
  await assert.rejects(run(two), code("CPM_DATA_EMPTY"));
});

test("hostile lists of files are refused", async () => {
  const folder = writeOriginal(fresh(), 1, [{ name: "f", records: [pickledArray(record(0, [9]))] }]);
  const meta = join(folder, "meta.bin");
  const entry = (change: object) => ({
    ...{ file_name: "f", block_begin: 0, block_end: 1, nbytes: 1, nlines: 1, mask: false },
    ...change,
  });
  for (const [content, expected] of [
    [pickledEntries([["../../etc/passwd", 0, 1, 1, 1, false]]), "CPM_DATA_IMPORT"],
    [pickledEntries([["f", 0, 1, 1, 1, false]], "__init__"), "CPM_PICKLE_CALL"],
    [pickledEntries([["f", 3, 4, 1, 1, false]]), "CPM_DATA_IMPORT"],
    [pickledEntries([["f", 0, -1, 1, 1, false]]), "CPM_DATA_IMPORT"],
    [pickledArray([1]), "CPM_PICKLE_GLOBAL"],
    [Buffer.from([0x80, 4, 0x4e, 0x2e]), "CPM_DATA_IMPORT"],
    [JSON.stringify(entry({ file_name: ".." })), "CPM_DATA_IMPORT"],
    [JSON.stringify(entry({ file_name: "a/b" })), "CPM_DATA_IMPORT"],
    [JSON.stringify(entry({ block_size: 1e12 })), "CPM_DATA_IMPORT"],
    ["{", "CPM_DATA_IMPORT"],
    ["", "CPM_DATA_EMPTY"],
    [JSON.stringify(entry({ block_end: 1e15 })), "CPM_DATA_EMPTY"],
  ] as const) {
    writeFileSync(meta, content);
    await assert.rejects(run(folder), code(expected), String(content).slice(0, 80));
  }
  await assert.rejects(run(join(root, "nowhere")), code("CPM_DATA_IMPORT"));
});
