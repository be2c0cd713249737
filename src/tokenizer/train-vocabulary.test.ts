import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createAntTokenizer } from "./ant-tokenizer.ts";
import { createVocabularyTrainer, trainVocabulary, type VocabularyTrainingOptions } from "./train-vocabulary.ts";
import { antSpecials, parseVocabulary } from "./vocabulary.ts";

/** A text with few frequent words, some rare characters, and the white space that a stripped line cannot hold. */
const texts = [
  "人工智能改变世界，人工智能改变生活。\n\u3000\u3000我们训练中文模型，模型学习语言。\t完\r\n",
  "我们在北京训练模型，他们在上海训练模型。人工智能很有趣！😀",
  "龘靐齉爩 Hello world, hello model 2022年8月5日 100%",
];
const byteFixed = 10 + 256 + 94;
const train = (options: VocabularyTrainingOptions, given = texts) => {
  const trainer = createVocabularyTrainer(options);
  for (const text of given) trainer.add(text);
  return trainer.finish();
};

test("specials, bytes and ASCII come first, in their places", () => {
  const lines = train({ size: 400 }).text.split("\n");
  assert.deepEqual(lines.slice(0, 10), [...antSpecials]);
  assert.equal(lines[10], "<0x00>");
  assert.equal(lines[10 + 255], "<0xFF>");
  assert.deepEqual(
    lines.slice(266, byteFixed).join(""),
    String.fromCharCode(
      ...Array(94)
        .keys()
        .map((i) => 33 + i),
    ),
  );
});

test("the size is met exactly where the texts have enough, and never passed", () => {
  for (const size of [byteFixed, byteFixed + 1, 380, 400, 420])
    assert.equal(train({ size, minFrequency: 1 }).vocabulary.size, size);
  assert.ok(train({ size: 5000 }).vocabulary.size < 500);
});

test("with bytes every text comes back, whatever the size", () => {
  for (const size of [byteFixed, 400, 5000]) {
    const tokenizer = createAntTokenizer(train({ size }).vocabulary);
    fc.assert(
      fc.property(fc.oneof(fc.constantFrom(...texts), fc.string({ unit: "binary" })), (text) => {
        const { ids, unknownCount } = tokenizer.encode(text);
        assert.equal(unknownCount, 0);
        assert.equal(tokenizer.decode(ids), text);
      }),
    );
  }
});

test("with characters every character of the corpus is a token, white space too", () => {
  const { vocabulary, text, characterCoverage } = train({ size: 300, fallback: "character" });
  assert.equal(characterCoverage, 1);
  assert.ok(!text.includes("<0x"));
  assert.ok(text.includes("\n<U+3000>\n") && text.includes("\n<U+0009>\n") && text.includes("\n<U+000D>\n"));
  const tokenizer = createAntTokenizer(vocabulary);
  for (const each of texts) {
    const { ids, unknownCount } = tokenizer.encode(each);
    assert.equal(unknownCount, 0);
    assert.equal(tokenizer.decode(ids), each);
  }
  assert.equal(tokenizer.encode("鑫").unknownCount, 1);
});

test("frequent words become tokens, and the report counts what the tokenizer then does", () => {
  const { vocabulary, wordCount, characterCount, tokensPerCharacter } = train({ size: 1000 });
  for (const word of ["人工智能", "训练", "模型", "我们"]) assert.ok(vocabulary.ids.has(word), word);
  assert.equal(vocabulary.size, 10 - 2 + 256 + characterCount + wordCount);
  const tokenizer = createAntTokenizer(vocabulary);
  const tokens = texts.reduce((sum, text) => sum + tokenizer.encode(text).ids.length, 0);
  const characters = texts.reduce((sum, text) => sum + [...text].length, 0);
  assert.ok(Math.abs(tokensPerCharacter - tokens / characters) < 1e-12);
});

test("coverage decides how many characters go before words", () => {
  const few = train({ size: 400, characterCoverage: 0.2 });
  const many = train({ size: 400, characterCoverage: 1 });
  assert.ok(few.wordCount > many.wordCount, `${few.wordCount} > ${many.wordCount}`);
  assert.ok(many.characterCoverage > few.characterCoverage);
});

test("the order of the texts does not matter, nor whether they come one after another in time", async () => {
  const once = train({ size: 420 }).text;
  assert.equal(train({ size: 420 }, texts.toReversed()).text, once);
  const later = (async function* () {
    yield* texts;
  })();
  assert.equal((await trainVocabulary(later, { size: 420 })).text, once);
});

test("the file alone is enough", () => {
  const { text, vocabulary } = train({ size: 400 });
  const again = parseVocabulary(new TextEncoder().encode(text));
  assert.deepEqual(again.tokens, vocabulary.tokens);
  assert.ok(again.byteIds.every((id) => id >= 0));
});

test("an empty corpus gives the fixed tokens", () => {
  const { vocabulary, tokensPerCharacter } = train({ size: 1000 }, []);
  assert.equal(vocabulary.size, byteFixed);
  assert.equal(tokensPerCharacter, 0);
});

test("sizes and shares that cannot be are refused", () => {
  const code = { code: "CPM_VOCABULARY_TRAINING" };
  for (const size of [0, byteFixed - 1, 1000.5, Number.NaN]) assert.throws(() => train({ size }), code);
  assert.throws(() => train({ size: 400, characterCoverage: 1.01 }), code);
  assert.throws(() => train({ size: 110, fallback: "character" }), { ...code, message: /at least 1\d\d/ });
});
