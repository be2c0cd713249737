import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { sharedPath, skipWithoutShared } from "../../test/support/shared.ts";
import { createJieba } from "./jieba.ts";
import { parseJiebaData, readPackedJieba } from "./jieba-data.ts";

const jieba = createJieba();

/** Text of the kinds that trouble a segmenter: words, letters, digits, marks, white space, emoji, lone surrogates. */
const mixedText = fc
  .array(
    fc.oneof(
      fc.constantFrom("中国", "人工智能", "的", "B超", "c++", "AT&T", "卡拉OK", "1.5%", "2018-2019", "test-90", "\r\n"),
      fc.constantFrom(..."aZ09+#&._%- \t\n\r\u3000，。！“😀𠮷éＡ１".split("")),
      fc.string({ unit: "binary", maxLength: 4 }),
      fc.integer({ min: 0x4e00, max: 0x9fff }).map((code) => String.fromCharCode(code)),
    ),
    { maxLength: 30 },
  )
  .map((parts) => parts.join(""));

test("words of all reference texts equal Python's", { skip: skipWithoutShared("golden") }, () => {
  const rows = readFileSync(sharedPath("golden/tokenizer.ant.jsonl"), "utf8").trimEnd().split("\n");
  assert.equal(rows.length, 324);
  for (const row of rows) {
    const { text, words } = JSON.parse(row) as { text: string; words: string[] };
    assert.deepEqual(jieba.cut(text), words);
  }
});

// Expected words of this table: list(jieba.cut(text)) of Python's jieba 0.42.1.
const cases: [string, string[]][] = [
  ["", []],
  ["我来到北京清华大学", ["我", "来到", "北京", "清华大学"]],
  ["他来到了网易杭研大厦", ["他", "来到", "了", "网易", "杭研", "大厦"]],
  ["嗡嗡嗡", ["嗡嗡", "嗡"]], // a tie: the longer first word wins
  ["test-90", ["test", "-", "90"]],
  ["24+63+52", ["24", "+", "63", "+", "52"]],
  ["v1.2.3的-+-_x", ["v1.2", ".", "3", "的", "-+-_", "x"]],
  ["1.5%%a%.5", ["1.5%", "%", "a%", ".", "5"]],
  ["a.b 3.x", ["a", ".", "b", " ", "3", ".", "x"]],
  ["做B超和C++", ["做", "B超", "和", "C++"]],
  ["\r\n\r\r\n\n", ["\r\n", "\r", "\r\n", "\n"]],
  ["a😀𠮷b", ["a", "😀", "𠮷", "b"]],
  ["龥龦鿕鿖㐀", ["龥", "龦", "鿕", "鿖", "㐀"]],
  ["\ud800中\udc00", ["\ud800", "中", "\udc00"]],
];
for (const [text, words] of cases)
  test(`cuts ${JSON.stringify(text)}`, () => {
    assert.deepEqual(jieba.cut(text), words);
  });

test("words joined are the text, and no pair of surrogates is torn", () => {
  fc.assert(
    fc.property(mixedText, (text) => {
      const words = jieba.cut(text);
      assert.equal(words.join(""), text);
      assert.ok(words.every((word) => word.length > 0));
      if (text.isWellFormed()) assert.ok(words.every((word) => word.isWellFormed()));
    }),
  );
});

test("what surrounds a block does not change its words", () => {
  fc.assert(
    fc.property(mixedText, mixedText, (a, b) => {
      assert.deepEqual(jieba.cut(`${a}。${b}`), [...jieba.cut(a), "。", ...jieba.cut(b)]);
    }),
  );
});

test("a block much longer than the first buffers", () => {
  const text = "北京清华大学".repeat(20_000);
  const words = jieba.cut(text);
  assert.equal(words.join(""), text);
  assert.deepEqual(words.slice(-2), ["北京", "清华大学"]);
  const letters = "x".repeat(100_000);
  assert.deepEqual(jieba.cut(letters), [letters]);
  // None of these is a word, so the model of unknown words sees the whole run.
  assert.equal(jieba.cut("龥".repeat(50_000)).join(""), "龥".repeat(50_000));
});

test("the dictionary is complete", () => {
  const unpacked = gunzipSync(readPackedJieba());
  assert.equal(
    createHash("sha256").update(unpacked).digest("hex"),
    "576cdd8edebb028d44d5156a240430c380e1511753c5e2ce508f9afa8be8f934",
  );
  const data = parseJiebaData(readPackedJieba());
  assert.equal(data.wordCount, 349_044);
  assert.equal(data.weights[0], -Math.log(60_101_967));
});

test("a damaged dictionary is an error with a code, never a crash", () => {
  const unpacked = gunzipSync(readPackedJieba());
  const code = { code: "CPM_JIEBA_DATA" };
  assert.throws(() => parseJiebaData(new Uint8Array()), code);
  assert.throws(() => parseJiebaData(readPackedJieba().subarray(0, 5000)), code);
  assert.throws(() => parseJiebaData(gzipSync("CPMJIEBA")), code);
  assert.throws(() => parseJiebaData(gzipSync(unpacked.subarray(0, -1), { level: 1 })), code);
  const small = smallDictionary();
  assert.deepEqual(parseJiebaData(gzipSync(small)).wordCount, 2);
  fc.assert(
    fc.property(fc.nat(small.length - 1), fc.nat(255), (at, byte) => {
      const bytes = Buffer.from(small);
      bytes[at] = byte;
      try {
        createJieba(gzipSync(bytes, { level: 1 })).cut("一丁a");
      } catch (error) {
        assert.equal((error as { code?: string }).code, "CPM_JIEBA_DATA");
      }
    }),
    { numRuns: 500 },
  );
});

/** Two words (一, 一丁), two Han characters, one weight more than the unknown one. */
function smallDictionary(): Buffer {
  const header = Buffer.alloc(40);
  header.write("CPMJIEBA", "latin1");
  const counts = [1, 2, 2, 2, 2, 0x4e00, 2, 0];
  for (const [i, count] of counts.entries()) header.writeUInt32LE(count, 8 + 4 * i);
  const doubles = new Float64Array(2 + 4 + 16 + 2).fill(-1);
  const shorts = new Uint16Array([...Array(8).fill(1), 1, 1, 0x4e00, 0x4e01]);
  const lengths = Buffer.from([0, 1, 1, 1]);
  return Buffer.concat([header, Buffer.from(doubles.buffer), Buffer.from(shorts.buffer), lengths]);
}
