/** `cpm data build` through the command: options, report, vocabulary, adding, the standard input, a kill in the middle. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { openDataset } from "../src/data/index.ts";
import { runCli } from "./support/cli-world.ts";
import { jsonLines, madeTexts as texts } from "./support/made-texts.ts";
import { smallVocabulary, temporaryFolder } from "./support/text-model.ts";

const root = temporaryFolder("cpm-data-build-");
const bin = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));
const { text: vocabulary } = await smallVocabulary();

function file(name: string, content: string | Uint8Array): string {
  const path = join(root, name);
  writeFileSync(path, content);
  return path;
}

const vocab = file("vocab.txt", vocabulary);

/** Every file of a folder with its bytes. */
const bytesOf = (folder: string): [string, Buffer][] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => [path.slice(folder.length), readFileSync(path)]);

test("files become sources by their names; the report has a row for each; --json has everything", async () => {
  const one = file("news.jsonl.gz", gzipSync(jsonLines(texts(30))));
  const two = file("poems.txt", texts(20, 30).join("\n\n"));
  const words = ["data", "build", one, two, "--vocab", vocab, "--workers", "0"];
  const shown = await runCli([...words, "-o", join(root, "shown"), "--lang", "en"]);
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^news +30 /m);
  assert.match(shown.stdout, /^poems +20 /m);
  assert.match(shown.stdout, /50 documents/);
  const { code, stdout, stderr } = await runCli([...words, "-o", join(root, "json"), "--json"]);
  assert.equal(code, 0, stderr);
  const result = JSON.parse(stdout);
  assert.equal(result.statistics.documents, 50);
  assert.deepEqual(
    result.sources.map((source: { name: string }) => source.name),
    ["news", "poems"],
  );
  assert.deepEqual(bytesOf(join(root, "json")), bytesOf(join(root, "shown")));
});

test("a vocabulary is trained where none is given, on the texts as they will be stored", async () => {
  const gbk = Buffer.from([0xba, 0xd3, 0xb1, 0xdf, 0xd7, 0xa1, 0xd7, 0xc5]); // 河边住着
  const line = (i: number) => Buffer.concat([gbk, gbk, gbk, Buffer.from(`${i}\n`)]);
  const path = file("old.txt", Buffer.concat(Array.from({ length: 40 }, (_, i) => line(i))));
  const output = join(root, "trained");
  const words = ["data", "build", path, "--vocab-size", "600", "-o", output, "--workers", "0", "--json"];
  const settings = ["--set", "options.encoding=gb18030", "--set", "options.duplicates.similarity=0"];
  const { code, stdout, stderr } = await runCli([...words, ...settings]);
  assert.equal(code, 0, stderr);
  const { statistics } = JSON.parse(stdout);
  assert.deepEqual([statistics.documents, statistics.badLines, statistics.unknown], [40, 0, 0]);
  assert.ok(readFileSync(join(output, "vocab.txt"), "utf8").includes("河边"));
});

test("bad lines are shown, ten at most, and counted; --strict stops at the first", async () => {
  const path = file("bad.jsonl", `${"{\n".repeat(13)}${jsonLines(texts(3))}`);
  const words = ["data", "build", path, "--vocab", vocab, "--workers", "0", "--lang", "en"];
  const { code, stderr } = await runCli([...words, "-o", join(root, "bad")]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /left out .*bad\.jsonl:10: not JSON/);
  assert.doesNotMatch(stderr, /bad\.jsonl:11/);
  assert.match(stderr, /13 lines were left out/);
  const strict = await runCli([...words, "-o", join(root, "strict"), "--strict"]);
  assert.notEqual(strict.code, 0);
  assert.match(strict.stderr, /CPM_DATA_LINE/);
});

test("evaluation files: what leaks is shown and stays out", async () => {
  const passage = "这道题目问的是河边的人家为什么每天早上都要去打水，请用自己的话回答";
  const evaluation = file("tasks.jsonl", jsonLines([passage]));
  const path = file("leak.jsonl", jsonLines([...texts(3), `课本上说：${passage}。`]));
  const output = join(root, "leak");
  const words = ["data", "build", path, "--vocab", vocab, "--evaluation", evaluation, "-o", output, "--workers", "0"];
  const { code, stdout, stderr } = await runCli([...words, "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /shares text with the evaluation files: leak\.jsonl:4/);
  assert.match(stdout, /leakage 1/);
});

test("--append adds to a finished data set, with its vocabulary and without what it has", async () => {
  const output = join(root, "growing");
  const first = file("first.jsonl", jsonLines(texts(20)));
  const more = file("more.jsonl", jsonLines(texts(30)));
  const build = (...words: string[]) => runCli(["data", "build", ...words, "-o", output, "--workers", "0", "--json"]);
  assert.equal((await build(first, "--vocab", vocab)).code, 0);
  const before = bytesOf(output).filter(([name]) => name.includes("shards"));
  const { code, stdout, stderr } = await build(more, "--append");
  assert.equal(code, 0, stderr);
  const { statistics, sources, shards } = JSON.parse(stdout);
  assert.deepEqual([statistics.documents, statistics.removed], [30, { duplicate: 20 }]);
  assert.deepEqual(
    sources.map((source: { name: string; statistics: { documents: number } }) => [
      source.name,
      source.statistics.documents,
    ]),
    [
      ["first", 20],
      ["more", 10],
    ],
  );
  const known = new Set(before.map(([name]) => name));
  assert.deepEqual(
    bytesOf(output).filter(([name]) => known.has(name)),
    before,
  );
  assert.equal(new Set(shards.map((shard: { file: string }) => shard.file)).size, 2);
  (await openDataset(output, { verify: true })).close();
  assert.match((await build(more, "--append", "--vocab", vocab)).stderr, /CPM_CLI_USAGE/);
  assert.match((await build(more, "--append")).stderr, /CPM_DATA_EMPTY/); // nothing new
  (await openDataset(output, { verify: true })).close();
  const third = file("third.jsonl", jsonLines(texts(5, 30)));
  assert.equal((await build(third, "--append")).code, 0);
});

test("wrong input is an error with a code", async () => {
  const path = file("some.txt", texts(3).join("\n\n"));
  const output = (name: string) => ["-o", join(root, name)];
  for (const [words, expected] of [
    [output("x1"), "CPM_CLI_USAGE"],
    [[join(root, "absent.txt"), ...output("x2")], "CPM_DATA_FILE"],
    [[path, "--vocab", join(root, "absent.txt"), ...output("x3")], "CPM_DATA_FILE"],
    [["-", ...output("x4")], "CPM_CLI_USAGE"],
    [[path, "--append", ...output("x5")], "CPM_DATA_SET"],
    [[path, "--vocab", vocab, ...output("x6"), "--set", "options.filters.minCharacters=9999"], "CPM_DATA_EMPTY"],
  ] as const) {
    const { code, stderr } = await runCli(["data", "build", ...words]);
    assert.notEqual(code, 0);
    assert.match(stderr, new RegExp(expected), words.join(" "));
  }
  // A build of which nothing came does not stand in the way of the next one.
  assert.equal((await runCli(["data", "build", path, "--vocab", vocab, ...output("x6"), "--workers", "0"])).code, 0);
});

test("the recipe of a folder with sources and licences, in miniature", async () => {
  const folder = join(root, "recipe");
  mkdirSync(join(folder, "texts", "encyclopedia"), { recursive: true });
  mkdirSync(join(folder, "evaluation"));
  const passage = "请问河边的人家为什么每天早上都要走过小桥去打水，试着用自己的话说一说";
  writeFileSync(join(folder, "texts", "novels-1.jsonl.gz"), gzipSync(jsonLines(texts(30))));
  writeFileSync(join(folder, "texts", "novels-2.jsonl.gz"), gzipSync(jsonLines([...texts(20, 30), texts(1)[0]!])));
  const entries = [...texts(15, 50), `百科：${passage}。`].map((content) => JSON.stringify({ content }));
  writeFileSync(join(folder, "texts", "encyclopedia", "a.jsonl"), entries.join("\n"));
  writeFileSync(join(folder, "evaluation", "questions.jsonl"), JSON.stringify({ question: passage }));
  const recipe = fileURLToPath(new URL("../recipes/data/sources.yaml", import.meta.url));
  const before = process.cwd();
  process.chdir(folder);
  try {
    const words = ["data", "build", "-c", recipe, "--output", "data/zh", "--vocab-size", "700", "--workers", "0"];
    const { code, stdout, stderr } = await runCli([...words, "--json"]);
    assert.equal(code, 0, stderr);
    const { sources, statistics } = JSON.parse(stdout);
    assert.deepEqual(
      sources.map((source: { name: string; licence: string; statistics: { documents: number } }) => [
        source.name,
        source.licence,
        source.statistics.documents,
      ]),
      [
        ["novels", "public domain", 50],
        ["encyclopedia", "CC BY-SA 4.0", 15],
      ],
    );
    assert.deepEqual(statistics.removed, { duplicate: 1, leakage: 1 });
  } finally {
    process.chdir(before);
  }
});

test("killed with SIGKILL in the middle of its input, a build goes on from its shards", async () => {
  const lines = jsonLines(texts(2200));
  const half = lines.lastIndexOf("\n", lines.length / 2) + 1;
  const words = ["data", "build", "-", "--vocab", vocab, "--workers", "0", "--lang", "en"];
  for (const setting of ["shardTokens=30000", "format=jsonl", "duplicates.similarity=0"]) {
    words.push("--set", `options.${setting}`);
  }
  const folder = join(root, "killed");
  mkdirSync(folder);
  const killed = spawn(process.execPath, [bin, ...words, "-o", folder], { stdio: ["pipe", "ignore", "pipe"] });
  const watcher = watch(folder, (_, name) => {
    if (name !== "build.json") return;
    const { shards } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    if (shards.length > 0) killed.kill("SIGKILL");
  });
  let error = "";
  killed.stderr.on("data", (text) => (error += text));
  killed.stdin.on("error", () => {});
  killed.stdin.write(lines.slice(0, half)); // and no end: it cannot finish
  const [, signal] = await once(killed, "close");
  watcher.close();
  assert.equal(signal, "SIGKILL", error);
  assert.ok(!existsSync(join(folder, "dataset.json")));
  const again = await runCli([...words, "-o", folder], { stdin: lines });
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stderr, /finished before are kept: [\d,]+ documents/);
  assert.equal((await runCli([...words, "-o", join(root, "whole")], { stdin: lines })).code, 0);
  assert.deepEqual(bytesOf(folder), bytesOf(join(root, "whole")));
});
