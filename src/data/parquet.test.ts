import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parquetFile } from "../../test/support/parquet-writer.ts";
import { temporaryFolder } from "../../test/support/text-model.ts";
import { CpmError } from "../util/error.ts";
import { readParquetTexts } from "./parquet.ts";
import { type BadLine, readDocuments } from "./read-documents.ts";

const folder = temporaryFolder("cpm-parquet-");
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
const file = (name: string, bytes: Uint8Array) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const groups = [
  ["春天来了", null, "  ", "夏天\n第二行"],
  ["秋天", ...Array.from({ length: 20 }, (_, i) => `第${i}篇`)],
];

test("texts of all row groups with their rows; what is missing or empty is told; every compression", async () => {
  for (const codec of ["none", "gzip", "zstd"] as const) {
    const path = file(`${codec}.parquet`, parquetFile(groups, { codec, column: "content" }));
    const bad: BadLine[] = [];
    const read: number[] = [];
    const options = {
      field: "content",
      onBadLine: (line: BadLine) => bad.push(line),
      onBytes: (n: number) => read.push(n),
    };
    const documents = await Array.fromAsync(readDocuments([path], options));
    assert.deepEqual(documents.slice(0, 4), [
      { text: "春天来了", source: path, line: 1 },
      { text: "夏天\n第二行", source: path, line: 4 },
      { text: "秋天", source: path, line: 5 },
      { text: "第0篇", source: path, line: 6 },
    ]);
    assert.equal(documents.length, 23);
    assert.deepEqual(
      bad.map(({ line, reason }) => [line, reason]),
      [
        [2, "the column has no value"],
        [3, "the text is empty"],
      ],
    );
    assert.equal(read.length, 2);
    await assert.rejects(Array.fromAsync(readDocuments([path], { ...options, strict: true })), code("CPM_DATA_LINE"));
  }
});

test("a column that is not there, and files that are none, are typed errors", async () => {
  const bytes = parquetFile(groups);
  const all = (path: string, column = "text") => Array.fromAsync(readParquetTexts(path, column));
  await assert.rejects(all(file("a.parquet", bytes), "body"), code("CPM_DATA_PARQUET"));
  await assert.rejects(all(file("b.parquet", Buffer.from("春天"))), code("CPM_DATA_PARQUET"));
  await assert.rejects(all(file("c.parquet", bytes.subarray(0, bytes.length - 9))), code("CPM_DATA_PARQUET"));
  await assert.rejects(all(join(folder, "absent.parquet")), code("CPM_DATA_FILE"));
});

test("a damaged file never ends otherwise than in a typed error or in some texts", async () => {
  const bytes = parquetFile(groups);
  for (let at = 0; at < bytes.length; at += 5) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 0xff;
    const path = file("damaged.parquet", changed);
    try {
      for await (const { row } of readParquetTexts(path, "text")) assert.ok(row >= 1);
    } catch (error) {
      assert.ok(error instanceof CpmError, `byte ${at}: ${String(error)}`);
    }
  }
});
