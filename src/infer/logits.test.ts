import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { argmax, createLogitEditor, type LogitRules, rowStatistics, topEntries } from "./logits.ts";

const origin = { row: 2, step: 7 };
const noRules: LogitRules = {
  repetitionPenalty: 1,
  repetitionWindow: 0,
  bias: [],
  forbidden: [],
  forbiddenFirst: [],
  ends: [],
  minTokens: 0,
};
/** Logits with ties, infinities below and wide ranges. */
const logit = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.float({ min: -60, max: 60, noNaN: true }),
  fc.constant(-Infinity),
);
const logitRow = fc.array(logit, { minLength: 1, maxLength: 60 }).map((values) => Float32Array.from(values));

describe("rowStatistics", () => {
  test("is maximum and log-sum-exp", () => {
    fc.assert(
      fc.property(logitRow, (row) => {
        fc.pre(row.some((value) => value > -Infinity));
        const { max, logSumExp } = rowStatistics(row, origin);
        assert.equal(max, Math.max(...row));
        const expected = max + Math.log(row.reduce((sum, value) => sum + Math.exp(value - max), 0));
        assert.ok(Math.abs(logSumExp - expected) < 2e-7);
      }),
    );
  });

  test("names row, step and token of a logit that is not finite", () => {
    for (const bad of [Number.NaN, Infinity]) {
      for (const row of [[bad], [1, 2, bad], [-Infinity, bad, 3]]) {
        assert.throws(
          () => rowStatistics(Float32Array.from(row), origin),
          (error: Error & { code: string }) =>
            error.code === "CPM_INFER_NAN" &&
            error.message.includes("row 2, step 7") &&
            error.message.includes(`token ${row.findIndex((value) => Object.is(value, bad))}`),
        );
      }
    }
  });

  test("says when nothing is left; one finite logit is enough", () => {
    const none = Float32Array.of(-Infinity, -Infinity);
    assert.throws(() => rowStatistics(none, origin), { code: "CPM_INFER_NO_TOKEN" });
    const one = Float32Array.of(-Infinity, -5, -Infinity);
    const { max, sum, logSumExp } = rowStatistics(one, origin);
    assert.deepEqual({ max, sum, logSumExp }, { max: -5, sum: 1, logSumExp: -5 });
  });
});

describe("topEntries", () => {
  test("equals the head of a full sort, equal values by id", () => {
    fc.assert(
      fc.property(logitRow, fc.nat(70), (row, count) => {
        const { ids, values } = topEntries(row, count);
        const sorted = [...row.keys()].sort((a, b) => (row[a] === row[b] ? a - b : row[a]! < row[b]! ? 1 : -1));
        assert.deepEqual([...ids], sorted.slice(0, count));
        assert.deepEqual(
          [...values],
          [...ids].map((id) => row[id]),
        );
        if (count > 0) {
          assert.equal(argmax(row), ids[0]);
        }
      }),
      { numRuns: 500, examples: [[Float32Array.of(-0, 0), 1]] },
    );
  });
});

describe("createLogitEditor", () => {
  test("penalises generated tokens once each, within the window", () => {
    const row = Float32Array.of(4, -4, 4, -4, 0);
    const editor = createLogitEditor(5, { ...noRules, repetitionPenalty: 2, repetitionWindow: 3 });
    assert.equal(editor.apply(row, [2, 0, 1, 0]), true);
    assert.deepEqual([...row], [2, -8, 4, -4, 0]);
    editor.restore(row);
    assert.deepEqual([...row], [4, -4, 4, -4, 0]);
    editor.apply(row, [3]);
    assert.deepEqual([...row], [4, -4, 4, -8, 0]);
  });

  test("subtracts for presence once and for frequency each time, behind the repetition penalty", () => {
    const row = Float32Array.of(4, -4, 4, 0);
    const rules = { ...noRules, repetitionPenalty: 2, presencePenalty: 0.5, frequencyPenalty: 0.25 };
    const editor = createLogitEditor(4, rules);
    assert.equal(editor.apply(row, [0, 1, 0, 0]), true);
    assert.deepEqual([...row], [2 - 0.5 - 0.75, -8 - 0.5 - 0.25, 4, 0]);
    editor.restore(row);
    assert.deepEqual([...row], [4, -4, 4, 0]);
  });

  test("forbids at the first step, before minTokens, and always, whatever the bias", () => {
    const rules = {
      ...noRules,
      bias: [[0, 3] as const, [3, 100] as const],
      forbidden: [3],
      forbiddenFirst: [1],
      ends: [2],
    };
    const editor = createLogitEditor(4, { ...rules, minTokens: 2 });
    const edited = (generated: number[]) => {
      const row = new Float32Array(4);
      editor.apply(row, generated);
      return [...row];
    };
    assert.deepEqual(edited([]), [3, -Infinity, -Infinity, -Infinity]);
    assert.deepEqual(edited([0]), [3, 0, -Infinity, -Infinity]);
    assert.deepEqual(edited([0, 0]), [3, 0, 0, -Infinity]);
  });

  test("restores the row exactly, whatever overlaps", () => {
    const id = fc.nat(5);
    const rules = fc.record({
      repetitionPenalty: fc.constantFrom(1, 1.3, 5),
      repetitionWindow: fc.nat(4),
      presencePenalty: fc.constantFrom(0, 0.5),
      frequencyPenalty: fc.constantFrom(0, -1),
      bias: fc.array(fc.tuple(id, fc.integer({ min: -9, max: 9 })), { maxLength: 4 }),
      forbidden: fc.array(id, { maxLength: 3 }),
      forbiddenFirst: fc.array(id, { maxLength: 3 }),
      ends: fc.array(id, { maxLength: 3 }),
      minTokens: fc.nat(3),
    });
    const values = fc.array(logit, { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(rules, values, fc.array(id, { maxLength: 8 }), (given, row, generated) => {
        const editor = createLogitEditor(6, given);
        const logits = Float32Array.from(row);
        const before = logits.slice();
        const touched = editor.apply(logits, generated);
        if (!touched) assert.deepEqual(logits, before);
        editor.restore(logits);
        assert.deepEqual(logits, before);
      }),
    );
  });
});
