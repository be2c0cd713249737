import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createAntTokenizer } from "./ant-tokenizer.ts";
import { createDetokenizer } from "./detokenizer.ts";
import { antSpecials, byteSpelling, parseVocabulary } from "./vocabulary.ts";

const lines = [
  ...antSpecials,
  ...Array.from({ length: 256 }, (_, byte) => byteSpelling(byte)),
  ..."中国人😀a".matchAll(/./gu).map(([character]) => character),
];
const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(lines.join("\n"))));
const byteId = (byte: number) => antSpecials.length + byte;
const specials = fc.constantFrom<"keep" | "drop">("keep", "drop");
const id = fc.oneof(
  fc.integer({ min: -1, max: lines.length - 1 }),
  fc.constantFrom(0xf0, 0x9f, 0x98, 0x80, 0xe4, 0xb8, 0xad, 0xef, 0xbb, 0xbf).map(byteId),
);

test("pieces joined equal the whole, and none has half a character", () => {
  fc.assert(
    fc.property(fc.array(id, { maxLength: 40 }), specials, (ids, how) => {
      const detokenizer = createDetokenizer(tokenizer, { specials: how });
      const pieces = ids.map((each) => detokenizer.push(each));
      pieces.push(detokenizer.flush());
      assert.ok(pieces.every((piece) => piece.isWellFormed()));
      assert.equal(pieces.join(""), tokenizer.decode(ids, { specials: how }));
    }),
  );
});

test("bytes decode as the standard decoder does, byte order mark kept", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
      const expected = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
      assert.equal(tokenizer.decode(Array.from(bytes, byteId)), expected);
    }),
  );
});

test("a character appears when its last byte does", () => {
  const detokenizer = createDetokenizer(tokenizer);
  const pushed = [...new TextEncoder().encode("🙂é")].map((byte) => detokenizer.push(byteId(byte)));
  assert.deepEqual(pushed, ["", "", "", "🙂", "", "é"]);
  assert.equal(detokenizer.flush(), "");
});

test("a character that stays incomplete is U+FFFD, once, before what follows", () => {
  const detokenizer = createDetokenizer(tokenizer, { specials: "drop" });
  assert.equal(detokenizer.push(byteId(0xe4)), "");
  assert.equal(detokenizer.push(byteId(0xb8)), "");
  assert.equal(detokenizer.push(tokenizer.idOf("中")!), "\ufffd中");
  assert.equal(detokenizer.push(byteId(0xe4)), "");
  assert.equal(detokenizer.push(tokenizer.eosId), "\ufffd");
  assert.equal(detokenizer.push(byteId(0xf0)), "");
  assert.equal(detokenizer.flush(), "\ufffd");
  assert.equal(detokenizer.flush(), "");
  assert.equal(detokenizer.push(byteId(0x61)), "a");
});
