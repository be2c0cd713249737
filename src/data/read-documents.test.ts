import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { CpmError } from "../util/error.ts";
import { type BadLine, type Document, expandPaths, type ReadOptions, readDocuments } from "./read-documents.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-read-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

async function read(
  path: string,
  options: ReadOptions = {},
): Promise<{ texts: string[]; lines: number[]; bad: BadLine[] }> {
  const bad: BadLine[] = [];
  const documents: Document[] = await Array.fromAsync(
    readDocuments([path], { onBadLine: (line) => bad.push(line), ...options }),
  );
  for (const document of documents) assert.equal(document.source, path);
  return { texts: documents.map((d) => d.text), lines: documents.map((d) => d.line), bad };
}

const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;

test("JSON Lines: texts with their lines, blank lines passed over, also gzip and zstd", async () => {
  const content = '{"text": "春天\\n来了"}\n\n{"id": 1, "text": "夏天"}\r\n{"text": "秋天"}';
  for (const [name, bytes] of [
    ["a.jsonl", Buffer.from(content)],
    ["a.jsonl.gz", gzipSync(content)],
    ["a.jsonl.zst", zstdCompressSync(content)],
  ] as const) {
    const { texts, lines, bad } = await read(file(name, bytes));
    assert.deepEqual(texts, ["春天\n来了", "夏天", "秋天"]);
    assert.deepEqual(lines, [1, 3, 4]);
    assert.deepEqual(bad, []);
  }
});

test("JSON Lines: another field", async () => {
  assert.deepEqual((await read(file("f.jsonl", '{"content":"甲"}'), { field: "content" })).texts, ["甲"]);
});

test("JSON Lines: bad lines are named and left out, in strict mode the first one is an error", async () => {
  const lines = [
    '{"text":"一"}',
    "{",
    "[1]",
    '{"body":"x"}',
    '{"text":3}',
    '{"text":" "}',
    '{"text":"\\ud800"}',
    '{"text":"二"}',
  ];
  const path = file("bad.jsonl", lines.join("\n"));
  const { texts, bad } = await read(path);
  assert.deepEqual(texts, ["一", "二"]);
  assert.deepEqual(
    bad.map((line) => line.line),
    [2, 3, 4, 5, 6, 7],
  );
  const reasons = [
    /not JSON/,
    /not a JSON object/,
    /no text in field "text" \(fields: body\)/,
    /no text/,
    /empty/,
    /surrogate/,
  ];
  for (const [i, reason] of reasons.entries()) assert.match(bad[i]!.reason, reason);
  await assert.rejects(
    read(path, { strict: true }),
    (error) => code("CPM_DATA_LINE")(error) && /line 2/.test(String(error)),
  );
});

test("a field of the prototype is no text", async () => {
  assert.equal((await read(file("proto.jsonl", "{}"), { field: "constructor" })).bad.length, 1);
});

test("bytes that are not UTF-8 are a bad line, and GB18030 can be asked for", async () => {
  const gbk = Buffer.from([0xb4, 0xba, 0xcc, 0xec, 0x0a, 0xcf, 0xc4, 0xcc, 0xec]); // 春天, 夏天
  const path = file("gbk.txt", gbk);
  const { texts, bad } = await read(path);
  assert.deepEqual(texts, []);
  assert.match(bad[0]!.reason, /gb18030/);
  assert.deepEqual((await read(path, { encoding: "gb18030" })).texts, ["春天", "夏天"]);
});

test("plain text, one document a line with <n> as line break", async () => {
  const { texts, lines } = await read(file("lines.txt", "\uFEFF一\n二<n>三\r\n\n四<n>\n"));
  assert.deepEqual(texts, ["一", "二\n三", "四"]);
  assert.deepEqual(lines, [1, 2, 4]);
});

test("plain text in blocks between blank lines", async () => {
  const path = file("blocks.txt", "\n题目\n第一段。\r\n第二段。\n \n\n另一篇\n正文。\n");
  const { texts, lines } = await read(path);
  assert.deepEqual(texts, ["题目\n第一段。\n第二段。", "另一篇\n正文。"]);
  assert.deepEqual(lines, [2, 7]);
  assert.equal((await read(path, { format: "lines" })).texts.length, 5);
  assert.deepEqual((await read(path, { format: "file" })).texts.length, 1);
});

test("a text without blank lines is read line by line; Markdown is one document", async () => {
  assert.equal((await read(file("c.txt", "甲\n乙\n"))).texts.length, 2);
  assert.deepEqual((await read(file("d.md", "# 甲\n\n乙\n"))).texts, ["# 甲\n\n乙"]);
});

test("whether a long text has blank lines is decided by its beginning", async () => {
  const long = `${"字".repeat(400)}\n`.repeat(100);
  assert.equal((await read(file("long.txt", `${long}\n${long}`))).texts.length, 200);
  assert.equal((await read(file("long2.txt", `甲\n\n${long}`))).texts.length, 2);
});

test("too long lines, blocks and files are refused and cost no memory", async () => {
  const path = file(
    "bomb.jsonl.gz",
    gzipSync(Buffer.concat([Buffer.alloc(64 << 20, 0x20), Buffer.from('\n{"text":"好"}\n')])),
  );
  const { texts, bad } = await read(path, { maxDocumentBytes: 1 << 16 });
  assert.deepEqual(texts, ["好"]);
  assert.deepEqual(
    bad.map(({ line, reason }) => [line, reason]),
    [[1, "longer than 65536 bytes"]],
  );
  const blocks = await read(file("big.txt", `${"甲乙\n".repeat(20)}\n短\n`), { maxDocumentBytes: 50 });
  assert.deepEqual(blocks.texts, ["短"]);
  assert.equal(blocks.bad.length, 1);
  const line = await read(file("bigline.txt", `前\n${"甲".repeat(50)}\n后\n\n短\n`), { maxDocumentBytes: 50 });
  assert.deepEqual(line.texts, ["短"], "a block with a line that cannot be held is left out whole");
});

test("a compressed file that breaks off gives what it had and a report", async () => {
  const noise = Array.from({ length: 20000 }, (_, i) => `{"text":"${(i * 2654435761) % 4294967296}"}`).join("\n");
  const whole = gzipSync(noise);
  const { texts, bad } = await read(file("cut.jsonl.gz", whole.subarray(0, whole.length >> 1)));
  assert.ok(texts.length > 1000 && texts.length < 19999, `${texts.length}`);
  assert.match(bad.at(-1)!.reason, /breaks off/);
  const { bad: notGzip } = await read(file("not.jsonl.gz", "plain"));
  assert.match(notGzip[0]!.reason, /breaks off/);
});

test("a missing file is an error with its name", async () => {
  await assert.rejects(
    read(join(folder, "absent.txt")),
    (e) => code("CPM_DATA_FILE")(e) && /absent\.txt/.test(String(e)),
  );
  await assert.rejects(read(join(folder, "absent.txt.gz")), code("CPM_DATA_FILE"));
});

test("reading may stop early", async () => {
  const path = file("early.jsonl.gz", gzipSync('{"text":"一"}\n'.repeat(100000)));
  for await (const document of readDocuments([path, path])) {
    assert.equal(document.text, "一");
    break;
  }
});

test("folders and patterns give their files, sorted, once, without README", async () => {
  for (const name of ["set/b.txt", "set/a.jsonl.gz", "set/deep/c.md", "set/README.md", "set/picture.png"])
    file(name, "x");
  const below = (paths: string[]) => paths.map((path) => path.slice(folder.length + 1));
  const set = join(folder, "set");
  assert.deepEqual(below(await expandPaths([set])), ["set/a.jsonl.gz", "set/b.txt", "set/deep/c.md"]);
  assert.deepEqual(below(await expandPaths([join(set, "*.txt"), join(set, "b.txt")])), ["set/b.txt"]);
  await assert.rejects(expandPaths([join(set, "*.csv")]), code("CPM_DATA_FILE"));
  await assert.rejects(expandPaths([join(set, "none.txt")]), code("CPM_DATA_FILE"));
});

test("arbitrary bytes never fail but in a CpmError", async () => {
  const formats = ["auto", "jsonl", "lines", "blocks", "file"] as const;
  const names = ["fuzz.txt", "fuzz.jsonl", "fuzz.md", "fuzz.txt.gz", "fuzz.txt.zst"];
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(...formats),
      fc.constantFrom(...names),
      fc.integer({ min: 1, max: 100 }),
      async (bytes, format, name, maxDocumentBytes) => {
        const { texts } = await read(file(name, bytes), { format, maxDocumentBytes });
        for (const text of texts) assert.ok(text.trim() === text && text !== "");
      },
    ),
    { numRuns: 300 },
  );
});

test("the text that comes with the project: every piece with its title, in Chinese typography", async () => {
  const files = await expandPaths([fileURLToPath(new URL("../../corpus", import.meta.url))]);
  assert.equal(files.length, 6);
  const documents = await Array.fromAsync(readDocuments(files, { strict: true }));
  assert.equal(documents.length, 139);
  let bytes = 0;
  for (const { text, source, line } of documents) {
    const place = `${source}:${line}`;
    bytes += Buffer.byteLength(text);
    const [title, ...paragraphs] = text.split("\n");
    assert.match(title!, /^[\p{sc=Han}，]{1,12}$/u, place);
    assert.ok(paragraphs.length >= 2, place);
    assert.doesNotMatch(text, /[a-zA-Z,.!?;:"'() \u3000]/, place);
    for (const paragraph of paragraphs) assert.equal(paragraph.split("“").length, paragraph.split("”").length, place);
  }
  assert.ok(bytes > 60_000 && bytes < 90_000, `${bytes} bytes`);
});
