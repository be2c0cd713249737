import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DataError } from "../util/error.ts";
import { attentionAllowed, attentionBias, checkBatch, countTargets, createBatch, type ModelBatch } from "./batch.ts";

const limits = { vocabSize: 320, promptTypes: 4, promptLength: 8, segmentTypes: 8 };

/** One row with a prompt of task 1 and five text tokens, the last two targets, one column of padding. */
function sample(): ModelBatch {
  const batch = createBatch(1, 14);
  for (let i = 0; i < 8; i++) batch.input[i] = 8 + i;
  for (let i = 8; i < 13; i++) {
    batch.input[i] = 300 + i;
    batch.segment[i] = 1;
  }
  batch.context.fill(1, 0, 11);
  batch.length[0] = 13;
  batch.target[10] = 311;
  batch.target[11] = 312;
  return batch;
}

test("a good batch passes", () => {
  checkBatch(sample(), limits);
  assert.equal(countTargets(sample()), 2);
});

const faults: readonly [string, (batch: ModelBatch) => void, RegExp][] = [
  ["a prompt id of another table", (b) => (b.input[3] = 32), /input, row 0, column 3[\s\S]*prompt id 32[\s\S]*0 to 31/],
  ["a token id beyond the vocabulary", (b) => (b.input[9] = 320), /input, row 0, column 9[\s\S]*token id 320/],
  ["a negative token id, even on padding", (b) => (b.input[13] = -1), /input, row 0, column 13/],
  ["a segment beyond the types", (b) => (b.segment[12] = 8), /segment, row 0, column 12[\s\S]*0 to 7/],
  ["a context flag that is no flag", (b) => (b.context[2] = 2), /context, row 0, column 2/],
  ["a negative span", (b) => (b.span[5] = -1), /span, row 0, column 5/],
  ["a length beyond the row", (b) => (b.length[0] = 15), /length, row 0/],
  ["a target beyond the vocabulary", (b) => (b.target[10] = 320), /target, row 0, column 10/],
  ["a negative target", (b) => (b.target[10] = -1), /target, row 0, column 10/],
  ["a loss on padding", (b) => (b.target[13] = 5), /target, row 0, column 13[\s\S]*padding/],
];
for (const [name, spoil, message] of faults) {
  test(`refused: ${name}`, () => {
    const batch = sample();
    spoil(batch);
    assert.throws(
      () => checkBatch(batch, limits),
      (error) => error instanceof DataError && error.code === "CPM_DATA_BATCH" && message.test(error.message),
    );
  });
}

test("packed rows: flags say which ids are prompts, at any column", () => {
  const packed = { ...sample(), prompt: new Uint8Array(14).fill(1, 0, 8) };
  checkBatch(packed, limits);
  packed.input[12] = 31;
  packed.prompt[12] = 1;
  checkBatch(packed, limits);
  packed.input[12] = 32;
  assert.throws(() => checkBatch(packed, limits), /input, row 0, column 12[\s\S]*prompt id 32/);
  packed.prompt[12] = 0;
  packed.prompt[2] = 0;
  packed.input[2] = 320;
  assert.throws(() => checkBatch(packed, limits), /input, row 0, column 2[\s\S]*token id 320/);
  assert.throws(() => checkBatch({ ...sample(), prompt: new Uint8Array(13) }, limits), /prompt[\s\S]*13 numbers/);
  const strange = { ...sample(), prompt: new Uint8Array(14).fill(2) };
  assert.throws(() => checkBatch(strange, limits), /prompt, row 0, column 0[\s\S]*0 or 1/);
});

test("refused: arrays that do not have rows · columns numbers, rows without text", () => {
  assert.throws(() => checkBatch({ ...sample(), span: new Int32Array(13) }, limits), /span[\s\S]*13 numbers/);
  assert.throws(() => checkBatch({ ...sample(), length: new Int32Array(2) }, limits), /length[\s\S]*one a row/);
  assert.throws(() => checkBatch(createBatch(1, 8), limits), /columns[\s\S]*more than the prompt's 8/);
});

test("masks equal the rule pair by pair, for both paddings and any first query", () => {
  const row = fc.record({
    length: fc.nat(12),
    context: fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
    span: fc.array(fc.nat(2), { minLength: 12, maxLength: 12 }),
  });
  const padding = fc.oneof(fc.constant("right" as const), fc.record({ left: fc.nat(6) }));
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 3 }), padding, fc.nat(12), (parts, pad, firstQuery) => {
      const columns = 12;
      const rows = parts.length;
      const input = {
        rows,
        columns,
        length: Int32Array.from(parts.map((part) => part.length)),
        context: Uint8Array.from(parts.flatMap((part) => part.context.map(Number))),
        span: Int32Array.from(parts.flatMap((part) => part.span)),
      };
      const expected: number[] = [];
      for (let b = 0; b < rows; b++) {
        const at = (i: number) => b * columns + i;
        const real = (i: number) => {
          if (pad === "right") return i < input.length[b]!;
          const text = i - pad.left;
          return text < 0 || columns - pad.left - 1 - text < input.length[b]!;
        };
        for (let q = firstQuery; q < columns; q++) {
          for (let k = 0; k < columns; k++) {
            const seen = input.context[at(k)] === 1 || (input.context[at(q)] === 0 && k <= q);
            expected.push(Number(seen && input.span[at(q)] === input.span[at(k)] && real(q) && real(k)));
          }
        }
      }
      assert.deepEqual([...attentionAllowed(input, pad, firstQuery)], expected);
      const bias = attentionBias(input, pad, firstQuery, -500);
      assert.deepEqual(
        [...bias],
        expected.map((allowed) => (allowed ? 0 : -500)),
      );
    }),
  );
});

test("targets see the context and the targets before them; the context never sees a target", () => {
  const batch = sample();
  const allowed = attentionAllowed(batch);
  const row = (query: number) => [...allowed.subarray(query * 14, query * 14 + 14)].join("");
  assert.equal(row(0), "11111111111000");
  assert.equal(row(10), "11111111111000");
  assert.equal(row(11), "11111111111100");
  assert.equal(row(12), "11111111111110");
  assert.equal(row(13), "00000000000000");
});
