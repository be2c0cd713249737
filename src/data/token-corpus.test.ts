import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CpmError } from "../util/error.ts";
import type { Document } from "./read-documents.ts";
import {
  bitsPerCharacter,
  buildTokenCorpus,
  type CorpusTokenizer,
  entropyNats,
  type TokenCorpus,
} from "./token-corpus.ts";

/** One id a character: its code, below 1000; anything above is unknown, 0 where kept. */
const tokenizer: CorpusTokenizer = {
  vocabSize: 1000,
  bosId: 1,
  eosId: 2,
  encode(text, options) {
    const ids = [...text].map((c) => c.codePointAt(0)!);
    const known = ids.filter((id) => id < 1000);
    const unknownCount = ids.length - known.length;
    const kept = options?.unknown === "keep" ? ids.map((id) => (id < 1000 ? id : 0)) : known;
    return { ids: Int32Array.from(kept), unknownCount };
  },
};

const documents = (texts: readonly string[]): Document[] =>
  texts.map((text, i) => ({ text, source: "test", line: i + 1 }));

const pieces = (corpus: TokenCorpus): string[] =>
  Array.from({ length: corpus.pieces }, (_, p) =>
    [...corpus.ids.subarray(corpus.offsets[p], corpus.offsets[p + 1])]
      .map((id) => (id === 1 ? "[" : id === 2 ? "]" : String.fromCharCode(id)))
      .join(""),
  );

/** A row of 20 with a prompt of 8 holds 10 ids beside <s> and </s>. */
const sizes = { maxLength: 20, promptLength: 8, minimumTokens: 3 };

test("the original's cut: full pieces, then the rest unless it is shorter than the minimum", async () => {
  const texts = ["abcdefghijklmnopqrstuvwxyz", "0123456789AB", "0123456789ABC", "xy", ""];
  const { train, heldOut } = await buildTokenCorpus(documents(texts), tokenizer, { ...sizes, join: false });
  assert.deepEqual(pieces(train), ["abcdefghij", "klmnopqrst", "uvwxyz", "0123456789", "0123456789", "ABC"]);
  assert.equal(heldOut.pieces, 0);
  assert.equal(train.statistics.tokens, 53);
  assert.equal(train.statistics.keptTokens, 49);
});

test("joined: short documents share a piece with </s><s> between, and none is lost for being short", async () => {
  const texts = ["xy", "abcdefghijklmno", "uvw", "0123456789AB"];
  const { train } = await buildTokenCorpus(documents(texts), tokenizer, sizes);
  assert.deepEqual(pieces(train).sort(), ["0123456789", "abcdefghij", "uvw", "xy][klmno"].sort());
});

test("joined pieces keep every document whole, never exceed the row, and lose nothing but short tails", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 30 })), async (texts) => {
      const all = [...texts, "abcdefgh"];
      const { train } = await buildTokenCorpus(documents(all), tokenizer, sizes);
      const expected: string[] = [];
      for (const text of all) {
        for (let from = 0; from < text.length; from += 10) {
          const piece = text.slice(from, from + 10);
          if (from === 0 || piece.length >= 3) expected.push(piece);
        }
      }
      const found = pieces(train);
      assert.ok(found.every((piece) => piece.length <= 10));
      assert.deepEqual(found.flatMap((piece) => piece.split("][")).sort(), expected.sort());
    }),
  );
});

test("held-out documents are chosen by their text alone, about as many as asked", async () => {
  const texts = Array.from({ length: 2000 }, (_, i) => `document ${i}`);
  const build = (order: readonly string[]) =>
    buildTokenCorpus(documents(order), tokenizer, { ...sizes, maxLength: 40, heldOutShare: 0.1, join: false });
  const forward = await build(texts);
  const backward = await build(texts.toReversed());
  assert.ok(Math.abs(forward.heldOut.pieces - 200) < 50, `${forward.heldOut.pieces}`);
  assert.equal(forward.heldOut.pieces + forward.train.pieces, 2000);
  assert.deepEqual(pieces(forward.heldOut), pieces(backward.heldOut).toReversed());
});

test("statistics: characters are code points, unknown pieces a share of the tokens, entropy of the pieces", async () => {
  const { train } = await buildTokenCorpus(documents(["ababab春😀"]), tokenizer, sizes);
  const { statistics } = train;
  assert.equal(statistics.characters, 8);
  assert.equal(statistics.tokens, 6);
  assert.equal(statistics.tokensPerCharacter, 0.75);
  assert.equal(statistics.unknownShare, 2 / 8);
  const kept = await buildTokenCorpus(documents(["ababab春😀"]), tokenizer, { ...sizes, unknown: "keep" });
  assert.equal(kept.train.statistics.tokens, 8);
  assert.equal(kept.train.statistics.unknownShare, 2 / 8);
  const expected = -(2 * (3 / 7) * Math.log(3 / 7) + (1 / 7) * Math.log(1 / 7)); // a, b and one </s>
  assert.ok(Math.abs(statistics.unigramNatsPerToken - expected) < 1e-12);
  assert.ok(Math.abs(statistics.unigramBitsPerCharacter - (expected / Math.LN2) * 0.75) < 1e-12);
});

test("entropy: uniform is ln n, one symbol is 0, nothing is 0", () => {
  assert.ok(Math.abs(entropyNats([5, 5, 0, 5, 5]) - Math.log(4)) < 1e-12);
  assert.ok(Math.abs(entropyNats([0, 9])) < 1e-12);
  assert.equal(entropyNats([]), 0);
  assert.ok(Math.abs(bitsPerCharacter(Math.LN2, 1.5) - 1.5) < 1e-12);
});

test("a large vocabulary takes four bytes an id", async () => {
  const wide = { ...tokenizer, vocabSize: 70000, encode: () => ({ ids: Int32Array.of(69999, 5, 6), unknownCount: 0 }) };
  const { train } = await buildTokenCorpus(documents(["x"]), wide, sizes);
  assert.ok(train.ids instanceof Uint32Array);
  assert.deepEqual([...train.ids], [69999, 5, 6]);
});

test("no text to train on, and lengths without room for text, are errors", async () => {
  const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
  await assert.rejects(buildTokenCorpus([], tokenizer, sizes), code("CPM_DATA_EMPTY"));
  await assert.rejects(buildTokenCorpus(documents([""]), tokenizer, sizes), code("CPM_DATA_EMPTY"));
  await assert.rejects(buildTokenCorpus([], tokenizer, { ...sizes, maxLength: 10 }), code("CPM_DATA_CORPUS_OPTIONS"));
  await assert.rejects(buildTokenCorpus([], tokenizer, { ...sizes, heldOutShare: 1 }), code("CPM_DATA_CORPUS_OPTIONS"));
});
