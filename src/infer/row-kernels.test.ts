import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { loadRow } from "./row-kernels.ts";

/** Logits with ties, infinities below and wide ranges. */
const logit = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.float({ min: -60, max: 60, noNaN: true }),
  fc.constant(-Infinity),
);

describe("a loaded row", () => {
  test("has the exponentials of Math.exp to (1 + y) · 1e-7 down to 44 nats below the maximum, and zero beyond", () => {
    const row = Float32Array.from({ length: 20_001 }, (_, i) => -i / 400);
    const loaded = loadRow(row);
    for (const scale of [1, 1 / 0.9, 0.37]) {
      const sum = loaded.exponentials(0, scale);
      assert.equal(loaded.gather(0), row.length);
      let expectedSum = 0;
      for (const [i, value] of row.entries()) {
        const y = -value * scale;
        if (Math.abs(y - 64 * Math.LN2) < 0.05) continue; // the border lies here
        const expected = y < 64 * Math.LN2 ? Math.exp(-y) : 0;
        expectedSum += expected;
        const off = Math.abs(loaded.weights[i]! - expected);
        assert.ok(off <= (1 + y) * 1.2e-7 * expected, `exp(${-y}) is not ${loaded.weights[i]}`);
      }
      assert.ok(Math.abs(sum / expectedSum - 1) < 1e-7, `${sum} for ${expectedSum}`);
    }
  });

  test("tells the largest, and gathers in order what is not below a bar", () => {
    const rows = fc.array(logit, { minLength: 1, maxLength: 60 }).map((values) => Float32Array.from(values));
    fc.assert(
      fc.property(rows, fc.double({ min: 0, max: 1, noNaN: true }), (row, bar) => {
        fc.pre(row.some((value) => value > -Infinity));
        const loaded = loadRow(row);
        // 0 and −0 are equal: either may be the largest.
        assert.ok(loaded.largest() === Math.max(...row), `${loaded.largest()}`);
        loaded.exponentials(loaded.largest(), 1);
        const all = loaded.weights.slice(0, loaded.gather(0));
        const expected = [...all.keys()].filter((id) => all[id]! >= bar);
        const count = loaded.gather(bar);
        assert.deepEqual([...loaded.ids.subarray(0, count)], expected);
        assert.deepEqual(
          [...loaded.weights.subarray(0, count)],
          expected.map((id) => all[id]),
        );
      }),
      { numRuns: 300 },
    );
  });

  test("NaN, infinity and nothing but −∞ show in the sum, wherever they are", () => {
    for (const bad of [Number.NaN, Infinity]) {
      for (let at = 0; at < 40; at++) {
        const row = new Float32Array(40);
        row[at] = bad;
        const loaded = loadRow(row);
        assert.ok(Number.isNaN(loaded.exponentials(loaded.largest(), 1)), `${bad} at ${at}`);
      }
    }
    const none = loadRow(new Float32Array(3).fill(-Infinity));
    assert.ok(Number.isNaN(none.exponentials(none.largest(), 1)));
  });

  test("is not that of a longer row before it", () => {
    loadRow(new Float32Array(100).fill(7));
    const loaded = loadRow(Float32Array.of(1, 2, 3));
    assert.equal(loaded.largest(), 3);
    assert.ok(Math.abs(loaded.exponentials(3, 1) - (1 + Math.exp(-1) + Math.exp(-2))) < 1e-6);
    assert.equal(loaded.gather(0), 3);
  });
});
