import assert from "node:assert/strict";
import { before, test } from "node:test";
import { checkBatch, countTargets, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import { CpmError } from "../util/error.ts";
import type { BatchSource, SourceBatch } from "./batch-source.ts";
import { createBatchSource, evaluationBatches } from "./batches.ts";
import { buildTokenCorpus, type TokenCorpus } from "./token-corpus.ts";

const promptLength = 4;
const limits = { vocabSize: 1100, promptTypes: 3, promptLength, segmentTypes: 3 };

/** 50 pieces; piece p is 2 to 26 times the id 100 + p. */
let corpus: TokenCorpus;
before(async () => {
  const tokenizer = {
    vocabSize: 1100,
    bosId: 6,
    eosId: 7,
    encode: (text: string) => ({
      ids: new Int32Array(2 + ((Number(text) * 7) % 25)).fill(100 + Number(text)),
      unknownCount: 0,
    }),
  };
  const documents = Array.from({ length: 50 }, (_, i) => ({ text: String(i), source: "test", line: 1 }));
  const options = { maxLength: 32, promptLength, minimumTokens: 1, join: false };
  corpus = (await buildTokenCorpus(documents, tokenizer, options)).train;
  assert.equal(corpus.pieces, 50);
});

/** The pieces of a batch's rows, by the id after <s>. */
const piecesOf = (batch: ModelBatch) =>
  Array.from({ length: batch.rows }, (_, row) => batch.input[row * batch.columns + promptLength + 1]! - 100);

const geometry = (rows: number, columns = 32) => ({ rows, columns });
const take = async (source: BatchSource, count: number, rows = 4, columns = 32) => {
  const batches: SourceBatch[] = [];
  for (let i = 0; i < count; i++) batches.push((await source.next(geometry(rows, columns)))!);
  return batches;
};

test("batches are valid and counted", async () => {
  const source = createBatchSource(corpus, { seed: 1 });
  let tokens = 0;
  let targets = 0;
  for (const { batch, samples, ...counts } of await take(source, 300)) {
    checkBatch(batch, limits);
    assert.equal(counts.targets, countTargets(batch));
    targets += counts.targets;
    for (const length of batch.length) tokens += length - promptLength;
    assert.deepEqual(
      samples.map(({ row, length }) => [row, length]),
      [...batch.length.entries()],
    );
    assert.deepEqual(
      samples.map(({ document }) => document),
      piecesOf(batch),
    );
  }
  assert.deepEqual([source.batches, source.tokens], [300, tokens]);
  assert.equal(source.epoch, 24);
  assert.ok(Math.abs(targets / tokens - 0.5) < 0.05);
});

test("the same seed gives the same batches, another seed others", async () => {
  const [one, same, other] = [1, 1, 2].map((seed) => createBatchSource(corpus, { seed }));
  const batches = await take(one!, 5);
  assert.deepEqual(batches, await take(same!, 5));
  assert.notDeepEqual(batches, await take(other!, 5));
});

test("a restored source goes on exactly, at any point and where rows change their shape", async () => {
  const source = createBatchSource(corpus, { seed: 1 });
  for (const [skip, rows, columns] of [
    [0, 4, 32],
    [1, 4, 32],
    [12, 3, 16],
    [13, 5, 9],
    [70, 4, 24],
  ] as const) {
    await take(source, skip, rows, columns);
    const state = JSON.parse(JSON.stringify(source.state()));
    const resumed = createBatchSource(corpus, { seed: 1 });
    await resumed.restore(state);
    assert.deepEqual(resumed.state(), source.state());
    assert.deepEqual(await take(resumed, 1, rows, columns), await take(source, 1, rows, columns));
    assert.deepEqual(resumed.state(), source.state());
  }
});

test("where rows become shorter or longer within an epoch, every token comes once", async () => {
  const source = createBatchSource(corpus, { seed: 3 });
  const seen = new Map<number, number>();
  for (let i = 0; source.epoch < 1; i++) {
    const { batch, samples } = (await source.next(geometry(1, [32, 12, 9, 20][i % 4])))!;
    checkBatch(batch, limits);
    const { document, length } = samples[0]!;
    seen.set(document, (seen.get(document) ?? 0) + length - promptLength - 2);
  }
  const expected = Array.from({ length: 50 }, (_, p) => [p, 2 + ((p * 7) % 25)]);
  assert.deepEqual(
    [...seen].sort(([a], [b]) => a - b),
    expected,
  );
});

test("skipping leaves out what would have come", async () => {
  const [whole, skipping] = [1, 1].map((seed) => createBatchSource(corpus, { seed }));
  await take(whole!, 7, 3, 16);
  await skipping!.skip(7, geometry(3, 16));
  assert.deepEqual(await take(skipping!, 2), await take(whole!, 2));
  assert.equal(skipping!.batches, 9);
});

test("every epoch has every piece once, in another order, also where batches run over its end", async () => {
  const source = createBatchSource(corpus, { seed: 5 });
  const order = (await take(source, 25)).flatMap(({ batch }) => piecesOf(batch));
  const [first, second] = [order.slice(0, 50), order.slice(50)];
  const all = Array.from({ length: 50 }, (_, i) => i);
  assert.deepEqual(
    first.toSorted((a, b) => a - b),
    all,
  );
  assert.deepEqual(
    second.toSorted((a, b) => a - b),
    all,
  );
  assert.notDeepEqual(first, second);
  assert.notDeepEqual(first, all);
});

test("the share of fill chooses prompt and segment", async () => {
  for (const [fillShare, prompt, segment] of [
    [1, 4, 1],
    [0, 8, 2],
  ] as const) {
    const source = createBatchSource(corpus, { seed: 1, fillShare });
    for (const { batch } of await take(source, 5, 8)) {
      for (let row = 0; row < 8; row++) {
        assert.equal(batch.input[row * batch.columns], prompt);
        assert.equal(batch.segment[row * batch.columns + promptLength], segment);
      }
    }
  }
  const [{ batch }] = (await take(createBatchSource(corpus, { seed: 1 }), 1, 100)) as [SourceBatch];
  let fills = 0;
  for (let row = 0; row < 100; row++) if (batch.input[row * batch.columns] === 4) fills++;
  assert.ok(fills > 30 && fills < 70, `${fills}`);
});

test("a piece is drawn anew in each epoch", async () => {
  const source = createBatchSource(corpus, { seed: 1 });
  const targetsOf = (batch: ModelBatch, piece: number) => {
    const row = piecesOf(batch).indexOf(piece);
    return [...batch.target.subarray(row * batch.columns, (row + 1) * batch.columns)].join();
  };
  const epochs = (await take(source, 2, 50)).map(({ batch }) => batch);
  const same = Array.from({ length: 50 }, (_, p) => targetsOf(epochs[0]!, p) === targetsOf(epochs[1]!, p));
  assert.ok(same.filter(Boolean).length < 10);
});

test("evaluation: each piece once, every token a target, the same every time", () => {
  const run = () => [...evaluationBatches(corpus, { rows: 8, objective: "lm" })];
  const batches = run();
  assert.deepEqual(batches, run());
  assert.equal(batches.length, 7);
  for (const batch of batches) checkBatch(batch, limits);
  const targets = batches.reduce((sum, batch) => sum + countTargets(batch), 0);
  assert.equal(targets, corpus.ids.length + corpus.pieces);
  const last = batches.at(-1)!;
  assert.deepEqual([...last.length.subarray(2)], [0, 0, 0, 0, 0, 0]);
  assert.ok(last.target.subarray(2 * last.columns).every((id) => id === ignoredTarget));
});

test("evaluation: drawn targets, fewer pieces, shorter rows", () => {
  const options = { rows: 4, objective: "fill", maxPieces: 5, columns: 20 } as const;
  const batches = [...evaluationBatches(corpus, options)];
  assert.deepEqual(batches.flatMap(piecesOf), [0, 1, 2, 2, 3, 3, 4, -100]);
  assert.deepEqual(batches, [...evaluationBatches(corpus, options)]);
  for (const batch of batches) checkBatch(batch, limits);
});

test("a state of other data or options, and options out of range, are refused", async () => {
  const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
  const source = createBatchSource(corpus, { seed: 1 });
  const state = source.state() as object;
  for (const other of [{ seed: 2 }, { seed: 1, fillShare: 0.2 }]) {
    await assert.rejects(createBatchSource(corpus, other).restore(state), code("CPM_DATA_STATE"));
  }
  const changed = { ...corpus, ids: corpus.ids.map((id, i) => (i === 9 ? id + 1 : id)) } as TokenCorpus;
  await assert.rejects(createBatchSource(changed, { seed: 1 }).restore(state), code("CPM_DATA_STATE"));
  for (const bad of [{}, null, { ...state, batches: -1 }, { ...state, pieces: 0.5 }, { ...state, version: 1 }]) {
    await assert.rejects(source.restore(bad), code("CPM_DATA_STATE"));
  }
  assert.throws(() => createBatchSource(corpus, { seed: 1, fillShare: 2 }), code("CPM_DATA_BATCH_OPTIONS"));
  for (const bad of [geometry(0), geometry(1.5), geometry(4, promptLength + 2)]) {
    await assert.rejects(createBatchSource(corpus, { seed: 1 }).next(bad), code("CPM_DATA_BATCH_OPTIONS"));
  }
  assert.throws(
    () => [...evaluationBatches(corpus, { rows: 1, objective: "fill", targets: "all" })],
    code("CPM_DATA_BATCH_OPTIONS"),
  );
  const empty = { ...corpus, pieces: 0 };
  assert.throws(() => createBatchSource(empty, { seed: 1 }), code("CPM_DATA_EMPTY"));
});
