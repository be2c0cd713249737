import assert from "node:assert/strict";
import { test } from "node:test";
import { geometryAt, rampSchema } from "./ramp.ts";

const initial = { rows: 8, columns: 512, accumulate: 1 };

test("the last entry that has begun counts, by step or by tokens; what it leaves out stays", () => {
  const ramp = rampSchema.parse([
    { fromStep: 100, rows: 16 },
    { fromTokens: 1_000_000, length: 1024, rows: 8 },
    { fromStep: 300, accumulate: 4 },
  ]);
  const at = (step: number, tokens: number) => Object.values(geometryAt(ramp, initial, step, tokens));
  assert.deepEqual(at(0, 0), [8, 512, 1]);
  assert.deepEqual(at(99, 0), [8, 512, 1]);
  assert.deepEqual(at(100, 999_999), [16, 512, 1]);
  assert.deepEqual(at(120, 1_000_000), [8, 1024, 1]);
  assert.deepEqual(at(300, 1_000_000), [8, 1024, 4]);
  assert.deepEqual(at(300, 10), [16, 512, 4]);
  assert.deepEqual(geometryAt([], initial, 5, 5), initial);
});

test("entries without a beginning, with two, or out of order are refused", () => {
  for (const ramp of [
    [{ rows: 2 }],
    [{ fromStep: 1, fromTokens: 1, rows: 2 }],
    [{ fromStep: 5 }, { fromStep: 4 }],
    [{ fromTokens: 5 }, { fromStep: 1 }, { fromTokens: 4 }],
    [{ fromStep: 1, columns: 4 }],
  ]) {
    assert.ok(!rampSchema.safeParse(ramp).success, JSON.stringify(ramp));
  }
});
