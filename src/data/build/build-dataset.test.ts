import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { jsonLines, madeTexts as texts } from "../../../test/support/made-texts.ts";
import { parquetFile } from "../../../test/support/parquet-writer.ts";
import { smallVocabulary, temporaryFolder } from "../../../test/support/text-model.ts";
import { createAntTokenizer } from "../../tokenizer/index.ts";
import { CpmError } from "../../util/error.ts";
import { checkDataset } from "../check-dataset.ts";
import { type DatasetDescription, openDataset } from "../dataset.ts";
import type { BadLine } from "../read-documents.ts";
import { openShard } from "../token-shard.ts";
import { type BuildInput, buildDataset } from "./build-dataset.ts";
import { buildOptionsSchema } from "./build-options.ts";
import { printsPath, readPrints } from "./prints-file.ts";

const root = temporaryFolder("cpm-build-");
const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
const { text: vocabulary, vocabulary: parsed } = await smallVocabulary();

function file(name: string, content: string | Uint8Array): string {
  const path = join(root, name);
  writeFileSync(path, content);
  return path;
}

let counter = 0;
const newFolder = () => join(root, `data-${counter++}`);

async function build(
  sources: BuildInput["sources"],
  { options = {}, ...rest }: Partial<Omit<BuildInput, "options">> & { options?: object } = {},
): Promise<{ folder: string; description: DatasetDescription }> {
  const folder = rest.output ?? newFolder();
  const description = await buildDataset({
    sources,
    output: folder,
    vocabulary,
    options: buildOptionsSchema.parse({ shardTokens: 16_384, ...options }),
    workers: 0,
    ...rest,
  });
  return { folder, description };
}

/** Every file of a folder by its bytes. */
function bytesOf(folder: string): Record<string, string> {
  const all = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    all
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path.slice(folder.length), createHash("sha256").update(readFileSync(path)).digest("hex")]),
  );
}

const two = [
  { name: "甲", paths: [file("one.jsonl", jsonLines(texts(400)))], licence: "CC0-1.0", url: "https://example.org/" },
  { name: "b", paths: [file("two.txt", texts(150, 400).join("\n\n"))] },
];

test("documents, provenance and statistics", async () => {
  const { folder, description } = await build(two);
  const dataset = await openDataset(folder, { verify: true });
  const tokenizer = createAntTokenizer(parsed);
  const all = texts(550);
  let at = 0;
  const sums = { characters: 0, tokens: 0 };
  for (const shard of dataset.shards) {
    for (let i = 0; i < shard.documents; i++, at++) {
      const text = all[at]!;
      const expected = tokenizer.encode(text).ids;
      assert.deepEqual(shard.ids(i), expected);
      assert.equal(shard.charactersOf(i), [...text].length);
      assert.equal(shard.hashOf(i), createHash("sha256").update(text).digest().readBigUInt64BE(0));
      sums.characters += [...text].length;
      sums.tokens += expected.length;
    }
  }
  assert.equal(at, 550);
  assert.equal(dataset.shards[0]!.originOf(7), "one.jsonl:8");
  assert.equal(dataset.shards.at(-1)!.source, "b");
  assert.ok(dataset.shards.length >= 4);
  for (const shard of dataset.shards.slice(0, 2)) assert.ok(shard.tokens >= 16_384 && shard.tokens < 17_000);
  const { statistics, sources, tokenizer: described } = description;
  assert.deepEqual(
    [statistics.documents, statistics.characters, statistics.tokens],
    [550, sums.characters, sums.tokens],
  );
  assert.equal(statistics.tokensPerCharacter, sums.tokens / sums.characters);
  assert.equal(
    statistics.lengthHistogram.reduce((a, b) => a + b),
    550,
  );
  assert.deepEqual(
    sources.map(({ name, licence, url, statistics }) => [name, licence, url, statistics.documents]),
    [
      ["甲", "CC0-1.0", "https://example.org/", 400],
      ["b", undefined, undefined, 150],
    ],
  );
  const bytes = readFileSync(two[0]!.paths[0]!);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  assert.deepEqual(sources[0]!.files, [{ name: "one.jsonl", bytes: bytes.length, sha256 }]);
  assert.equal(described.vocabSize, parsed.size);
  assert.deepEqual(readdirSync(folder).sort(), ["dataset.json", "prints", "shards", "vocab.txt"]);
  dataset.close();
});

test("the number of workers changes no byte", async () => {
  const expected = bytesOf((await build(two)).folder);
  for (const workers of [1, 3]) assert.deepEqual(bytesOf((await build(two, { workers })).folder), expected);
});

test("the same texts from every kind of file give the same tokens", async () => {
  const all = texts(60);
  const lines = jsonLines(all);
  const inputs = {
    "k.jsonl": lines,
    "k.jsonl.gz": gzipSync(lines),
    "k.jsonl.zst": zstdCompressSync(lines),
    "k.parquet": parquetFile([all.slice(0, 40), all.slice(40)], { codec: "zstd" }),
    "k.txt": all.map((text) => text.replaceAll("\n", "<n>")).join("\n"),
    "k2.txt": all.join("\n\n"),
  };
  const idsOf = (folder: string) =>
    readdirSync(join(folder, "shards")).flatMap((name) => {
      const shard = openShard(join(folder, "shards", name));
      const ids = Array.from({ length: shard.documents }, (_, i) => [...shard.ids(i)]);
      shard.close();
      return ids;
    });
  const results = [];
  for (const [name, content] of Object.entries(inputs)) {
    results.push(idsOf((await build([{ name: "k", paths: [file(name, content)] }])).folder));
  }
  const chunks = [lines.slice(0, 1000), lines.slice(1000)].map((part) => Buffer.from(part));
  const stdin = (async function* () {
    yield* chunks;
  })();
  const piped = await build([{ name: "stdin", paths: ["-"] }], { stdin, options: { format: "jsonl" } });
  results.push(idsOf(piped.folder));
  for (const result of results) assert.deepEqual(result, results[0]);
  assert.equal(results[0]!.length, 60);
  const sha256 = createHash("sha256").update(lines).digest("hex");
  assert.deepEqual(piped.description.sources[0]!.files, [{ name: "-", bytes: Buffer.byteLength(lines), sha256 }]);
});

test("what is left out is counted by reason; bad lines are told with file, line and reason", async () => {
  const [a, b, c] = texts(3) as [string, string, string];
  const content = [
    JSON.stringify({ text: a }),
    "{",
    JSON.stringify({ text: a }),
    JSON.stringify({ text: "短" }),
    JSON.stringify({ text: "Nothing but English in this line of text." }),
    JSON.stringify({ text: b }),
    JSON.stringify({ body: b }),
    JSON.stringify({ text: `${c}这一句也在评测题目里面，长到足够让人认出来它是从哪里来的。` }),
  ].join("\n");
  const path = file("bad.jsonl", content);
  const evaluation = file(
    "eval.jsonl",
    JSON.stringify({ q: "这一句也在评测题目里面，长到足够让人认出来它是从哪里来的。" }),
  );
  const bad: BadLine[] = [];
  const leaks: object[] = [];
  const run = (leakage: object) =>
    build([{ name: "s", paths: [path] }], {
      options: { leakage: { files: [evaluation], letters: 16, ...leakage } },
      onBadLine: (line) => bad.push(line),
      onLeak: (leak) => leaks.push(leak),
    });
  const { statistics } = (await run({})).description;
  assert.equal(statistics.documents, 2);
  assert.deepEqual(statistics.removed, { duplicate: 1, short: 1, language: 1, leakage: 1 });
  assert.deepEqual([statistics.badLines, statistics.leaking], [2, 1]);
  assert.deepEqual(
    bad.map(({ source, line }) => [source, line]),
    [
      [path, 2],
      [path, 7],
    ],
  );
  assert.deepEqual(leaks, [{ file: "bad.jsonl", line: 8 }]);
  const reported = (await run({ action: "report" })).description.statistics;
  assert.deepEqual([reported.documents, reported.removed.leakage, reported.leaking], [3, undefined, 1]);
  await assert.rejects(build([{ name: "s", paths: [path] }], { strict: true }), code("CPM_DATA_LINE"));
});

test("unknown text: dropped or kept, counted as the tokenizer does", async () => {
  const path = file("unknown.jsonl", jsonLines(["河边住着几户人家，他们说：\u{1F600}\u{20000}！"]));
  for (const unknown of ["drop", "keep"] as const) {
    const { folder, description } = await build([{ name: "u", paths: [path] }], { options: { unknown } });
    const { ids, unknownCount } = createAntTokenizer(parsed).encode("河边住着几户人家，他们说：\u{1F600}\u{20000}！", {
      unknown,
    });
    const dataset = await openDataset(folder);
    assert.deepEqual(dataset.shards[0]!.ids(0), ids);
    dataset.close();
    const pieces = ids.length + (unknown === "drop" ? unknownCount : 0);
    assert.equal(description.statistics.unknown, unknownCount);
    assert.equal(description.statistics.unknownShare, unknownCount / pieces);
  }
});

test("interrupted anywhere and run again, the data set is the same to the byte", async () => {
  const long = [{ name: "甲", paths: [file("long.jsonl", jsonLines(texts(2500)))] }, two[1]!];
  const options = { shardTokens: 65_536 };
  const whole = bytesOf((await build(long, { options })).folder);
  for (const stop of [1, 3, 5]) {
    const folder = newFolder();
    let seen = 0;
    const controller = new AbortController();
    const started = build(long, {
      output: folder,
      options,
      workers: stop === 3 ? 1 : 0,
      signal: controller.signal,
      onProgress: ({ done }) => {
        assert.ok(done >= 0 && done <= 1);
        if (++seen === stop) controller.abort(new Error("stopped"));
      },
    });
    await assert.rejects(started, /stopped/);
    let kept = 0;
    await build(long, { output: folder, options, onProgress: (progress) => (kept = progress.kept) });
    if (stop > 2) assert.ok(kept > 0);
    assert.deepEqual(bytesOf(folder), whole);
  }
});

/** A build left as a kill would leave it: with so many shards finished, and a file half written. */
async function interrupted(shards: number): Promise<string> {
  const folder = newFolder();
  const { description } = await build(two, { output: folder });
  const { key } = await keyOf();
  for (const { file: name } of description.shards.slice(shards)) rmSync(join(folder, "shards", name));
  rmSync(join(folder, "dataset.json"));
  writeFileSync(join(folder, "build.json"), JSON.stringify({ key, shards: description.shards.slice(0, shards) }));
  writeFileSync(join(folder, "shards", ".00009-x.cpmtok.partial-1-1"), "half");
  return folder;
}

let key: string | undefined;
/** The key of `two`'s builds, out of one that was stopped at once. */
async function keyOf(): Promise<{ key: string }> {
  if (key === undefined) {
    const folder = newFolder();
    const signal = AbortSignal.abort(new Error("stopped"));
    await assert.rejects(build(two, { output: folder, signal }), /stopped/);
    key = JSON.parse(readFileSync(join(folder, "build.json"), "utf8")).key as string;
  }
  return { key };
}

test("a build goes on after any of its shards; damaged and lost shards are made anew", async () => {
  const { folder: fresh, description } = await build(two);
  const expected = bytesOf(fresh);
  for (let shards = 0; shards <= description.shards.length; shards++) {
    const folder = await interrupted(shards);
    await build(two, { output: folder });
    assert.deepEqual(bytesOf(folder), expected, `${shards} shards`);
  }
  const shardOf = (folder: string, i: number) => join(folder, "shards", description.shards[i]!.file);
  const cut = await interrupted(4);
  truncateSync(shardOf(cut, 1), 100);
  await build(two, { output: cut });
  assert.deepEqual(bytesOf(cut), expected);
  const lost = await interrupted(4);
  rmSync(shardOf(lost, 2));
  await build(two, { output: lost });
  assert.deepEqual(bytesOf(lost), expected);
});

test("a build does not go on with other input or options, nor into a folder with something else", async () => {
  const folder = await interrupted(2);
  await assert.rejects(build(two, { output: folder, options: { unknown: "keep" } }), code("CPM_DATA_BUILD_OUTPUT"));
  await assert.rejects(build([two[0]!], { output: folder }), code("CPM_DATA_BUILD_OUTPUT"));
  await build(two, { output: folder });
  await assert.rejects(build(two, { output: folder }), code("CPM_DATA_BUILD_OUTPUT")); // finished
  const other = newFolder();
  mkdirSync(other);
  writeFileSync(join(other, "diary.txt"), "x");
  await assert.rejects(build(two, { output: other }), code("CPM_DATA_BUILD_OUTPUT"));
  assert.deepEqual(readdirSync(other), ["diary.txt"]);
  const garbled = await interrupted(2);
  writeFileSync(join(garbled, "build.json"), "{");
  await assert.rejects(build(two, { output: garbled }), code("CPM_DATA_BUILD_OUTPUT"));
  await assert.rejects(build(two, { output: file("a-file", "x") }), CpmError);
});

/** Texts of which every third is new, the others nearly or by paragraphs what `texts(200)` has. */
function repeating(): string[] {
  return texts(260).map((text, i) => {
    if (i >= 200 || i % 3 === 0) return `${text}此处另有一段没有见过的话，编号${i * 7919}。`.repeat(i >= 200 ? 1 : 3);
    return i % 3 === 1 ? `${text}。` : text;
  });
}

test("what is appended is compared as if all had been built at once: the same bytes, also when interrupted", async () => {
  const first = { name: "甲", paths: [file("first.jsonl", jsonLines(texts(200)))] };
  const second = { name: "乙", paths: [file("second.jsonl", jsonLines(repeating()))] };
  const third = { name: "丙", paths: [file("third.jsonl", jsonLines(texts(300).slice(250)))] };
  const { folder: whole, description } = await build([first, second, third]);
  const { removed } = description.sources[1]!.statistics;
  assert.ok(removed.nearDuplicate! + removed.paragraphs! > 20, JSON.stringify(removed));
  const expected = bytesOf(whole);
  const { folder } = await build([first]);
  await build([second, third], { output: folder, append: true, onHashesAlone: () => assert.fail("prints are there") });
  assert.deepEqual(bytesOf(folder), expected);

  const { folder: stopped } = await build([first]);
  const controller = new AbortController();
  const onProgress = () => controller.abort(new Error("stopped"));
  const again = { output: stopped, append: true };
  await assert.rejects(build([second, third], { ...again, signal: controller.signal, onProgress }), /stopped/);
  await build([second, third], again);
  assert.deepEqual(bytesOf(stopped), expected);
});

test("prints are kept within their bound; without them only equal texts are found, which is told", async () => {
  const first = { name: "甲", paths: [file("bound.jsonl", jsonLines(texts(400)))] };
  const near = { name: "乙", paths: [file("near.jsonl", jsonLines(texts(400).map((text) => `${text}。`)))] };
  const bytesKept = ({ shards }: DatasetDescription) =>
    shards.reduce((sum, { prints }) => sum + (prints?.bytes ?? 0), 0);
  const full = bytesKept((await build([first])).description);
  const keptBytes = Math.floor(full / 2);
  const { folder, description } = await build([first], { options: { duplicates: { keptBytes } } });
  assert.ok(bytesKept(description) > 0 && bytesKept(description) <= keptBytes);
  const without = description.shards.filter(({ prints }) => prints === undefined);
  let told = 0;
  const added = await build([near], { output: folder, append: true, onHashesAlone: (documents) => (told = documents) });
  assert.equal(
    told,
    without.reduce((sum, { documents }) => sum + documents, 0),
  );
  assert.equal(added.description.sources[1]!.statistics.documents, told);
  const none = await build([first], { options: { duplicates: { keptBytes: 0 } } });
  assert.deepEqual(readdirSync(none.folder).sort(), ["dataset.json", "shards", "vocab.txt"]);
});

test("damaged prints are told, by a build that needs them and by the check", async () => {
  const more = [{ name: "more", paths: [file("more.jsonl", jsonLines(texts(410).slice(400)))] }];
  const damages: ((path: string, other: string) => void)[] = [
    (path) => truncateSync(path, 100),
    (path) => rmSync(path),
    (path, other) => writeFileSync(path, readFileSync(other)),
  ];
  for (const damage of damages) {
    const { folder, description } = await build([two[0]!]);
    const [path, other] = description.shards.map(({ file: name }) => printsPath(folder, name));
    damage(path!, other!);
    await assert.rejects(build(more, { output: folder, append: true }), code("CPM_DATA_PRINTS"));
    const { problems } = await checkDataset(folder, { rows: 1, columns: 64, promptLength: 0 });
    assert.deepEqual(
      problems.map(({ where }) => where),
      [join(folder, "shards", description.shards[0]!.file)],
    );
  }
  // Whoever wrote a file with its sum: it must fit the shard all the same.
  const { folder, description } = await build([two[0]!]);
  const [one, another] = description.shards;
  await assert.rejects(readPrints(folder, { ...one!, documents: another!.documents + 1 }), code("CPM_DATA_PRINTS"));
});
