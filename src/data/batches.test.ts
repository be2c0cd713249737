import assert from "node:assert/strict";
import { before, test } from "node:test";
import { checkBatch, countTargets, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import { CpmError } from "../util/error.ts";
import { createBatchSource, evaluationBatches, paddingShare } from "./batches.ts";
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

for (const columnMultiple of [undefined, 8]) {
  const shape = columnMultiple === undefined ? "whole rows" : "rows sorted by length";
  const options = (seed = 1) => ({ rows: 4, seed, ...(columnMultiple === undefined ? {} : { columnMultiple }) });

  test(`${shape}: batches are valid and counted`, () => {
    const source = createBatchSource(corpus, options());
    let tokens = 0;
    let targets = 0;
    for (let i = 0; i < 300; i++) {
      const batch = source.next();
      checkBatch(batch, limits);
      assert.equal(batch.columns % (columnMultiple ?? 32), 0);
      for (const length of batch.length) tokens += length - promptLength;
      targets += countTargets(batch);
    }
    assert.deepEqual([source.batches, source.tokens, source.targets], [300, tokens, targets]);
    assert.equal(source.epoch, 24);
    assert.ok(Math.abs(targets / tokens - 0.5) < 0.05);
  });

  test(`${shape}: the same seed gives the same batches, another seed others`, () => {
    const [one, same, other] = [1, 1, 2].map((seed) => createBatchSource(corpus, options(seed)));
    const batches = Array.from({ length: 5 }, () => one!.next());
    assert.deepEqual(
      batches,
      Array.from({ length: 5 }, () => same!.next()),
    );
    assert.notDeepEqual(
      batches,
      Array.from({ length: 5 }, () => other!.next()),
    );
  });

  test(`${shape}: a restored source goes on exactly, at any point`, () => {
    const source = createBatchSource(corpus, options());
    for (const skip of [0, 1, 12, 13, 70]) {
      for (let i = 0; i < skip; i++) source.next();
      const state = JSON.parse(JSON.stringify(source.state()));
      const resumed = createBatchSource(corpus, options());
      resumed.restore(state);
      assert.deepEqual(resumed.state(), source.state());
      assert.deepEqual(resumed.next(), source.next());
      assert.deepEqual(resumed.state(), source.state());
    }
  });
}

test("every epoch has every piece once, in another order, also where batches run over its end", () => {
  const source = createBatchSource(corpus, { rows: 4, seed: 5 });
  const order = Array.from({ length: 25 }, () => piecesOf(source.next())).flat();
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

test("sorting by length keeps the samples of a window and saves most of the padding", () => {
  const sorted = createBatchSource(corpus, { rows: 4, seed: 5, columnMultiple: 4 });
  const whole = createBatchSource(corpus, { rows: 4, seed: 5 });
  const take = (source: typeof sorted) => Array.from({ length: 64 }, () => source.next());
  const [a, b] = [take(sorted), take(whole)];
  const ascending = (x: number, y: number) => x - y;
  assert.deepEqual(a.flatMap(piecesOf).sort(ascending), b.flatMap(piecesOf).sort(ascending));
  const mean = (batches: ModelBatch[]) => batches.reduce((sum, batch) => sum + paddingShare(batch), 0) / batches.length;
  assert.ok(mean(a) < 0.12 && mean(b) > 0.3, `${mean(a)} ${mean(b)}`);
  const widths = a.map((batch) => batch.columns);
  assert.notDeepEqual(widths, widths.toSorted(ascending));
});

test("the share of fill chooses prompt and segment", () => {
  for (const [fillShare, prompt, segment] of [
    [1, 4, 1],
    [0, 8, 2],
  ] as const) {
    const source = createBatchSource(corpus, { rows: 8, seed: 1, fillShare });
    for (let i = 0; i < 5; i++) {
      const batch = source.next();
      for (let row = 0; row < 8; row++) {
        assert.equal(batch.input[row * batch.columns], prompt);
        assert.equal(batch.segment[row * batch.columns + promptLength], segment);
      }
    }
  }
  const source = createBatchSource(corpus, { rows: 100, seed: 1 });
  const batch = source.next();
  let fills = 0;
  for (let row = 0; row < 100; row++) if (batch.input[row * batch.columns] === 4) fills++;
  assert.ok(fills > 30 && fills < 70, `${fills}`);
});

test("a piece is drawn anew in each epoch", () => {
  const source = createBatchSource(corpus, { rows: 50, seed: 1 });
  const targetsOf = (batch: ModelBatch, piece: number) => {
    const row = piecesOf(batch).indexOf(piece);
    return [...batch.target.subarray(row * batch.columns, (row + 1) * batch.columns)].join();
  };
  const epochs = [source.next(), source.next()];
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

test("evaluation: drawn targets, fewer pieces, narrow rows", () => {
  const options = { rows: 4, objective: "fill", maxPieces: 5, columnMultiple: 8 } as const;
  const batches = [...evaluationBatches(corpus, options)];
  assert.deepEqual(batches.flatMap(piecesOf), [0, 1, 2, 3, 4, -100, -100, -100]);
  assert.deepEqual(batches, [...evaluationBatches(corpus, options)]);
  for (const batch of batches) checkBatch(batch, limits);
});

test("a state of other data or options, and options out of range, are refused", () => {
  const code = (expected: string) => (error: unknown) => error instanceof CpmError && error.code === expected;
  const source = createBatchSource(corpus, { rows: 4, seed: 1 });
  const state = source.state();
  for (const other of [
    { rows: 8, seed: 1 },
    { rows: 4, seed: 2 },
    { rows: 4, seed: 1, fillShare: 0.2 },
  ]) {
    assert.throws(() => createBatchSource(corpus, other).restore(state), code("CPM_DATA_STATE"));
  }
  const changed = { ...corpus, ids: corpus.ids.map((id, i) => (i === 9 ? id + 1 : id)) } as TokenCorpus;
  assert.throws(() => createBatchSource(changed, { rows: 4, seed: 1 }).restore(state), code("CPM_DATA_STATE"));
  for (const bad of [{}, null, { ...state, batches: -1 }, { ...state, batches: 0.5 }, { ...state, version: 2 }]) {
    assert.throws(() => source.restore(bad as never), code("CPM_DATA_STATE"));
  }
  for (const bad of [{ rows: 0 }, { rows: 1.5 }, { fillShare: 2 }, { columnMultiple: 0 }]) {
    assert.throws(() => createBatchSource(corpus, { rows: 4, seed: 1, ...bad }), code("CPM_DATA_BATCH_OPTIONS"));
  }
  assert.throws(
    () => [...evaluationBatches(corpus, { rows: 1, objective: "fill", targets: "all" })],
    code("CPM_DATA_BATCH_OPTIONS"),
  );
  const empty = { ...corpus, pieces: 0 };
  assert.throws(() => createBatchSource(empty, { rows: 4, seed: 1 }), code("CPM_DATA_EMPTY"));
});
