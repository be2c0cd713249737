import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBatch, createBatch } from "../model/batch.ts";
import { createRandom } from "../util/random.ts";
import { allTargets, drawTargets, objectiveTypes, writeSample } from "./objectives.ts";
import { buildTokenCorpus, type TokenCorpus } from "./token-corpus.ts";

async function corpusOf(text: string): Promise<TokenCorpus> {
  const tokenizer = {
    vocabSize: 200,
    bosId: 6,
    eosId: 7,
    encode: (t: string) => ({ ids: Int32Array.from(t, (c) => c.charCodeAt(0)), unknownCount: 0 }),
  };
  const document = { text, source: "test", line: 1 };
  return (await buildTokenCorpus([document], tokenizer, { maxLength: 16, promptLength: 4 })).train;
}

test("the number of targets is uniform from 1 to length − 1, and <s> is never one", () => {
  for (const objective of ["fill", "lm"] as const) {
    const random = createRandom(7, objective);
    const counts = new Array<number>(6).fill(0);
    const places = new Array<number>(6).fill(0);
    for (let i = 0; i < 20000; i++) {
      const isTarget = drawTargets(objective, 6, random);
      counts[isTarget.reduce((a, b) => a + b)]!++;
      for (const [place, flag] of isTarget.entries()) places[place]! += flag;
      if (objective === "lm") assert.deepEqual([...isTarget], [...isTarget].sort()); // targets are the end
    }
    assert.equal(counts[0], 0);
    assert.equal(places[0], 0);
    for (const count of counts.slice(1)) assert.ok(Math.abs(count - 4000) < 250, `${objective}: ${counts}`);
    // Of m uniform in 1..5: a place of fill is picked with probability 3/5, the i-th place of lm with i/5.
    for (let place = 1; place < 6; place++) {
      const expected = objective === "fill" ? 12000 : 4000 * place;
      assert.ok(Math.abs(places[place]! - expected) < 350, `${objective}: ${places}`);
    }
  }
});

test("fill picks every set of places equally often", () => {
  const random = createRandom(3);
  const seen = new Map<string, number>();
  for (let i = 0; i < 30000; i++) {
    const key = drawTargets("fill", 5, random).join("");
    if (key.split("1").length === 3) seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  assert.equal(seen.size, 6);
  for (const [key, count] of seen) assert.ok(Math.abs(count - 1250) < 160, `${key}: ${count}`);
});

test("a sample: prompt, <s>, text, </s>; each target is predicted from the position before it", async () => {
  const corpus = await corpusOf("ABCDE");
  const batch = createBatch(2, 16);
  writeSample(batch, 0, corpus, 0, "lm", Uint8Array.from([0, 0, 0, 0, 1, 1, 1]));
  writeSample(batch, 1, corpus, 0, "fill", Uint8Array.from([0, 1, 0, 0, 1, 0, 1]));
  const x = -100;
  assert.deepEqual(
    [...batch.input],
    [
      ...[8, 9, 10, 11, 6, 65, 66, 67, 68, 69, 7, 0, 0, 0, 0, 0],
      ...[4, 5, 6, 7, 6, 65, 66, 67, 68, 69, 7, 0, 0, 0, 0, 0],
    ],
  );
  assert.deepEqual(
    [...batch.target],
    [...[x, x, x, x, x, x, x, 68, 69, 7, x, x, x, x, x, x], ...[x, x, x, x, 65, x, x, 68, x, 7, x, x, x, x, x, x]],
  );
  assert.deepEqual(
    [...batch.context],
    [...[1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], ...[1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0]],
  );
  assert.deepEqual(
    [...batch.segment],
    [...[0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0], ...[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]],
  );
  assert.deepEqual([...batch.length], [11, 11]);
  assert.ok(batch.span.every((span) => span === 0));
  checkBatch(batch, { vocabSize: 200, promptTypes: objectiveTypes, promptLength: 4, segmentTypes: objectiveTypes });
});

test("all targets: everything after <s>", () => {
  assert.deepEqual([...allTargets(4)], [0, 1, 1, 1]);
});
