/** `cpm data check`: a whole data set, and every way in which one is not. */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { runCli } from "./support/cli-world.ts";
import { tinyDocuments, writeTinyDataset } from "./support/tiny-dataset.ts";

suite("cpm data check", () => {
  let folder: string;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "check-"));
    await writeTinyDataset(folder, [
      { source: "news", documents: tinyDocuments(100, [5, 40, 17, 0]) },
      { source: "news", documents: tinyDocuments(200, [9, 30]) },
    ]);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const check = async () => {
    const { code, stdout, stderr } = await runCli(["data", "check", folder, "--length", "64", "--json"]);
    assert.equal(stderr.includes("CPM_"), false, stderr);
    return { code, report: JSON.parse(stdout)[0] };
  };
  const shard = (i: number) => join(folder, "shards", `news-${i}.cpmtok`);

  test("a whole one: counts, and how full rows get", async () => {
    const { code, report } = await check();
    const { problems, packing, ...counts } = report;
    assert.equal(code, 0);
    assert.deepEqual(problems, []);
    const expected = { shards: 2, documents: 6, tokens: 101, characters: 202, duplicates: 0, empty: 1 };
    assert.deepEqual(counts, { folder, ...expected });
    assert.equal(packing.length, 4);
    for (const { fill, targets } of packing) assert.ok(fill > 0 && fill <= 1 && targets > 0 && targets < 1);
    const { stdout } = await runCli(["data", "check", folder, "--lang", "en"]);
    assert.match(stdout, /2 shards, 6 documents \(0 duplicates, 1 empty\), 101 tokens[\s\S]*Whole[\s\S]*bestFit/);
  });

  const damages: readonly [string, () => void, RegExp][] = [
    ["an id is another one", () => flip(shard(0), -9), /news-0[\s\S]*checksum of its ids/],
    ["a shard is cut off", () => writeFileSync(shard(1), readFileSync(shard(1)).subarray(0, -8)), /news-1[\s\S]*size/],
    ["a shard is gone", () => rmSync(shard(0)), /news-0[\s\S]*CPM_DATA_FILE/],
    ["a shard is another one", () => copyFileSync(shard(0), shard(1)), /news-1[\s\S]*documents: 4[\s\S]*SHA-256/],
    ["a file that nothing names", () => copyFileSync(shard(0), join(folder, "shards", "x.cpmtok")), /x\.cpmtok/],
    ["another vocabulary", () => writeFileSync(join(folder, "vocab.txt"), "<s>\n"), /vocabulary/],
    ["statistics that do not add up", () => edit(/"tokens": 101/, '"tokens": 102'), /statistics\.tokens is 102/],
  ];
  for (const [name, damage, message] of damages) {
    test(name, async () => {
      damage();
      const { code, report } = await check();
      assert.equal(code, 4);
      assert.match(
        report.problems.map(({ where, what }: Record<string, string>) => `${where} ${what}`).join("\n"),
        message,
      );
      assert.deepEqual(report.packing, []);
    });
  }

  test("no data set at all is an error", async () => {
    rmSync(join(folder, "dataset.json"));
    const { code, stderr } = await runCli(["data", "check", folder]);
    assert.equal(code, 4);
    assert.match(stderr, /CPM_DATA_SET/);
  });

  function flip(path: string, at: number): void {
    const bytes = readFileSync(path);
    bytes[bytes.length + at]! ^= 1;
    writeFileSync(path, bytes);
  }
  function edit(what: RegExp, by: string): void {
    const path = join(folder, "dataset.json");
    const text = readFileSync(path, "utf8");
    assert.match(text, what);
    writeFileSync(path, text.replace(what, by));
  }
});
