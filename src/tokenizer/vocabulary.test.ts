import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { sharedPath, skipWithoutShared } from "../../test/support/shared.ts";
import { CpmError } from "../util/error.ts";
import { maxTokenUnits, maxVocabularyBytes, parseVocabulary, readVocabulary, tokenSpelling } from "./vocabulary.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);

test("CPM-Ant's vocabulary", { skip: skipWithoutShared("vocab") }, async () => {
  const vocabulary = await readVocabulary(sharedPath("vocab/ant.txt"));
  assert.equal(vocabulary.size, 30_720);
  assert.equal(vocabulary.tokens[4], "\n");
  assert.equal(vocabulary.tokens[5], " ");
  assert.equal(vocabulary.ids.get("<s58>"), 30_711);
  const specials = vocabulary.pieces.filter((piece) => piece.kind === "special");
  assert.equal(specials.length, 8 + 59);
  assert.ok(vocabulary.byteIds.every((id) => id === -1));
});

test("lines are stripped as Python does it, empty ones skipped, marks read", () => {
  const text = "\ufeff<pad>\r\n \x1c\u0085</n>\u3000\n\n\t\n</_>\r甲 乙\n<0xE4>\n<U+3000>\n<U+0041>\n\ufeff\n<0xe4>";
  const vocabulary = parseVocabulary(bytesOf(text));
  const expected = ["<pad>", "\n", " ", "甲 乙", "<0xE4>", "\u3000", "<U+0041>", "\ufeff", "<0xe4>"];
  assert.deepEqual(vocabulary.tokens, expected);
  assert.deepEqual(
    vocabulary.pieces.map((piece) => piece.kind),
    ["special", "text", "text", "text", "byte", "text", "text", "text", "text"],
  );
  assert.equal(vocabulary.byteIds[0xe4], 4);
});

test("every token of one character comes back from its spelling", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", minLength: 1, maxLength: 1 }), (character) => {
      assert.equal(parseVocabulary(bytesOf(`${tokenSpelling(character)}\n`)).tokens[0], character);
    }),
  );
  for (const space of "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2028\u2029\u202f\u205f\u3000")
    assert.equal(parseVocabulary(bytesOf(`x\n${tokenSpelling(space)}`)).tokens[1], space);
});

const hostile: [string, Uint8Array, string, RegExp][] = [
  ["an empty file", new Uint8Array(), "CPM_VOCABULARY_SIZE", /empty/],
  ["only white space", bytesOf(" \n\t\n\u3000"), "CPM_VOCABULARY_SIZE", /empty/],
  ["a duplicate", bytesOf("甲\n乙\n甲 \n"), "CPM_VOCABULARY_DUPLICATE", /line 3[\s\S]*id 0/],
  ["two spellings of the space", bytesOf("</_>\n<U+0020>\n"), "CPM_VOCABULARY_DUPLICATE", /line 2/],
  ["bad UTF-8", Uint8Array.of(0x61, 0x0a, 0xe4, 0xb8, 0x0a), "CPM_VOCABULARY_ENCODING", /line 2/],
  ["a surrogate in UTF-8", Uint8Array.of(0xed, 0xa0, 0x80), "CPM_VOCABULARY_ENCODING", /line 1/],
  ["a line too long", bytesOf("x".repeat(maxTokenUnits + 1)), "CPM_VOCABULARY_SIZE", /line 1/],
  ["white space that would stall a pattern", bytesOf(`a${" ".repeat(2 ** 20)}b`), "CPM_VOCABULARY_SIZE", /line 1/],
  ["too many bytes", new Uint8Array(maxVocabularyBytes + 1), "CPM_VOCABULARY_SIZE", /too large/],
];
for (const [name, bytes, code, message] of hostile)
  test(`${name} is a clear error`, () => {
    assert.throws(() => parseVocabulary(bytes), { code, message });
  });

test("any bytes give a vocabulary or an error with a code", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        const vocabulary = parseVocabulary(bytes);
        assert.equal(vocabulary.ids.size, vocabulary.size);
      } catch (error) {
        assert.ok(error instanceof CpmError, String(error));
      }
    }),
  );
});

test("a file that is absent, or far too large, is not read", async () => {
  const folder = mkdtempSync(join(tmpdir(), "vocabulary-"));
  try {
    await assert.rejects(readVocabulary(join(folder, "no.txt")), { code: "CPM_FILE_NOT_FOUND" });
    const large = join(folder, "large.txt");
    writeFileSync(large, "");
    truncateSync(large, 2 ** 33);
    await assert.rejects(readVocabulary(large), { code: "CPM_VOCABULARY_SIZE" });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
