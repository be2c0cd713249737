import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { sharedPath, skipWithoutShared } from "../../test/support/shared.ts";
import { createAntTokenizer } from "./ant-tokenizer.ts";
import { createJieba } from "./jieba.ts";
import { antSpecials, byteSpelling, parseVocabulary } from "./vocabulary.ts";

const bytes = Array.from({ length: 256 }, (_, byte) => byteSpelling(byte));
const words = ["中国", "中", "人工", "人工智能", "智", "，", "。", "a", "ab", "1", "1.5", "<", ">", "s", "😀"];
const make = (...lines: string[]) =>
  createAntTokenizer(parseVocabulary(new TextEncoder().encode([...antSpecials, ...lines].join("\n"))));
const plain = make(...words);
const withBytes = make(...bytes, ...words);

test("ids and decoded text of all reference texts equal the original's", {
  skip: skipWithoutShared("golden"),
}, () => {
  const tokenizer = createAntTokenizer(parseVocabulary(readFileSync(sharedPath("vocab/ant.txt"))));
  const rows = readFileSync(sharedPath("golden/tokenizer.ant.jsonl"), "utf8").trimEnd().split("\n");
  let unknownTotal = 0;
  for (const row of rows) {
    const { text, ids, decoded } = JSON.parse(row) as { text: string; ids: number[]; decoded: string };
    const kept = tokenizer.encode(text, { unknown: "keep" });
    assert.deepEqual(Array.from(kept.ids), ids);
    assert.equal(tokenizer.decode(ids), decoded);
    const dropped = tokenizer.encode(text);
    assert.deepEqual(
      Array.from(dropped.ids),
      ids.filter((id) => id !== 1),
    );
    assert.equal(kept.unknownCount, ids.length - dropped.ids.length);
    assert.equal(dropped.unknownCount, kept.unknownCount);
    unknownTotal += kept.unknownCount;
  }
  assert.ok(unknownTotal > 0);
});

/** The original's matcher, said plainly: the longest token that the rest of the word begins with, by code points. */
function plainIds(text: string): number[] {
  const ids: number[] = [];
  for (const word of createJieba().cut(text)) {
    const characters = [...word];
    if (characters.length > 200) {
      ids.push(plain.unkId);
      continue;
    }
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      const idHere = () => plain.idOf(characters.slice(start, end).join(""));
      while (end > start && idHere() === undefined) end--;
      ids.push(end === start ? plain.unkId : idHere()!);
      start = Math.max(end, start + 1);
    }
  }
  return ids;
}

const text = fc
  .array(
    fc.oneof(
      fc.constantFrom(...words, ..."国能\n 　\t<>/_ns012.😀🙂".split("")),
      fc.constantFrom("🙂", "<s>", "</n>", "<0x41>", "<unk>", "a".repeat(199), "b".repeat(201), "\r\n", "\ufeff"),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
    { maxLength: 25 },
  )
  .map((parts) => parts.join("").toWellFormed());

test("the trie matches as the plain matcher does", () => {
  fc.assert(
    fc.property(text, (given) => {
      assert.deepEqual(Array.from(plain.encode(given, { unknown: "keep" }).ids), plainIds(given));
    }),
  );
});

test("with byte fallback nothing is lost", () => {
  fc.assert(
    fc.property(text, (given) => {
      const { ids, unknownCount } = withBytes.encode(given);
      assert.equal(unknownCount, 0);
      assert.equal(withBytes.decode(ids), given);
    }),
  );
});

test("some bytes only: characters that they spell are kept, others are unknown", () => {
  const tokenizer = make(byteSpelling(0xe3), byteSpelling(0x80));
  const { ids, unknownCount } = tokenizer.encode("\u3000，", { unknown: "keep" });
  assert.deepEqual(Array.from(ids), [10, 11, 11, tokenizer.unkId]);
  assert.equal(unknownCount, 1);
  assert.equal(tokenizer.decode(ids), "\u3000<unk>");
});

test("a word of more than 200 code points is one unknown, without bytes", () => {
  assert.deepEqual(Array.from(plain.encode("a".repeat(200)).ids), Array(200).fill(plain.idOf("a")));
  const long = plain.encode("a".repeat(201), { unknown: "keep" });
  assert.deepEqual([Array.from(long.ids), long.unknownCount], [[plain.unkId], 1]);
  assert.equal(withBytes.encode("a".repeat(201)).ids.length, 201);
});

test("specials in a text are text", () => {
  const { ids, unknownCount } = plain.encode("<s><s>");
  assert.equal(unknownCount, 0);
  assert.equal(plain.decode(ids), "<s><s>");
  assert.equal(ids.length, 6);
  assert.ok(!ids.includes(plain.bosId));
});

test("a lone surrogate is U+FFFD with bytes, unknown without", () => {
  assert.equal(withBytes.decode(withBytes.encode("中\ud800国").ids), "中\ufffd国");
  assert.equal(plain.encode("中\ud800").unknownCount, 1);
});

test("decode: negative ids are skipped, specials kept or left out, others refused", () => {
  const ids = [plain.bosId, plain.idOf("中国")!, -1, plain.newlineId, plain.eosId, plain.padId];
  assert.equal(plain.decode(ids), "<s>中国\n</s><pad>");
  assert.equal(plain.decode(ids, { specials: "drop" }), "中国\n");
  for (const id of [plain.vocabSize, 1.5, Number.NaN])
    assert.throws(() => plain.decode([id]), { code: "CPM_TOKEN_ID" });
  assert.throws(() => plain.tokenOf(-1), { code: "CPM_TOKEN_ID" });
});

test("ids of specials are found by name", () => {
  const { padId, unkId, newlineId, bosId, eosId, vocabSize } = plain;
  assert.deepEqual(
    { padId, unkId, newlineId, bosId, eosId, vocabSize },
    {
      padId: 0,
      unkId: 1,
      newlineId: 4,
      bosId: 6,
      eosId: 7,
      vocabSize: 25,
    },
  );
  assert.equal(plain.tokenOf(5), " ");
  assert.equal(withBytes.tokenOf(10 + 0xe4), "<0xE4>");
});

test("a vocabulary of another kind is refused", () => {
  const other = parseVocabulary(new TextEncoder().encode("<pad>\n<unk>\n<s>\n"));
  assert.throws(() => createAntTokenizer(other), { code: "CPM_VOCABULARY_SPECIALS" });
});
