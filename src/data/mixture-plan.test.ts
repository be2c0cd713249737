import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type PlannedSource, spendTokens } from "./mixture-plan.ts";

const source = (label: string, tokens: number, weight: number, epochs = Number.POSITIVE_INFINITY): PlannedSource => ({
  label,
  tokens,
  weight,
  epochs,
});

test("tokens go by weight; where a source's epochs are over the others go on", () => {
  const free = spendTokens([source("a", 100, 1), source("b", 400, 3)], 800);
  assert.deepEqual(
    free.map(({ read, epochs }) => [read, epochs]),
    [
      [200, 2],
      [600, 1.5],
    ],
  );
  const limited = spendTokens([source("a", 100, 1, 1), source("b", 400, 2), source("c", 100, 1)], 800);
  assert.deepEqual(
    limited.map(({ read }) => Math.round(read)),
    [100, 467, 233],
  );
  const over = spendTokens([source("a", 100, 1, 1), source("b", 100, 1, 2)], 800);
  assert.deepEqual(
    over.map(({ read }) => read),
    [100, 200],
  );
});

test("for any mixture: no more than asked for, none beyond its epochs, all of it where nothing ends", () => {
  const sources = fc.array(
    fc.record({
      label: fc.string(),
      tokens: fc.integer({ min: 0, max: 1e9 }),
      weight: fc.double({ min: 0.001, max: 1000, noNaN: true }),
      epochs: fc.constantFrom(0.5, 1, 3, Number.POSITIVE_INFINITY),
    }),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(sources, fc.integer({ min: 1, max: 1e10 }), (given, tokens) => {
      const spent = spendTokens(given, tokens);
      const sum = spent.reduce((total, { read }) => total + read, 0);
      assert.ok(sum <= tokens * (1 + 1e-9));
      for (const [i, { read }] of spent.entries()) {
        const { tokens: all, epochs } = given[i]!;
        assert.ok(read <= (all === 0 ? 0 : all * epochs) * (1 + 1e-9));
      }
      if (given.some(({ tokens: all, epochs }) => all > 0 && epochs === Number.POSITIVE_INFINITY))
        assert.ok(Math.abs(sum / tokens - 1) < 1e-9);
    }),
  );
});
