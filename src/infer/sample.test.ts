import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createRandom, fillNormal } from "../util/random.ts";
import { createLogitEditor, type LogitEditor } from "./logits.ts";
import { createSampler, draw, type SamplingSettings } from "./sample.ts";

const origin = { row: 0, step: 0 };
const untouched: LogitEditor = { apply: () => false, restore: () => {} };

/** Temperature, top-k, top-p by sorting everything: the probabilities of the ids that are left. */
function slowProbabilities(row: Float32Array, { temperature, topK, topP }: SamplingSettings): Map<number, number> {
  let left = [...row.keys()].sort((a, b) => (row[a] === row[b] ? a - b : row[a]! < row[b]! ? 1 : -1));
  if (topK > 0) {
    const bar = row[left[Math.min(topK, left.length) - 1]!]!;
    left = left.filter((id) => row[id]! >= bar);
  }
  const max = row[left[0]!]!;
  const weight = (id: number) => Math.exp((row[id]! - max) / temperature);
  const total = left.reduce((sum, id) => sum + weight(id), 0);
  let before = 0;
  const nucleus = left.filter((id) => {
    const keep = topP === 1 || before <= topP * total;
    before += weight(id);
    // Less than a draw can tell from nothing.
    return keep && weight(id) > 1e-18;
  });
  const mass = nucleus.reduce((sum, id) => sum + weight(id), 0);
  return new Map(nucleus.sort((a, b) => a - b).map((id) => [id, weight(id) / mass]));
}

describe("keep", () => {
  test("equals sorting everything, with ties, infinities and one token", () => {
    const logit = fc.oneof(
      fc.integer({ min: -2, max: 2 }),
      // On a grid: logits that differ by less may give equal weights.
      fc.integer({ min: -20_000, max: 20_000 }).map((thousandths) => thousandths / 1024),
      fc.constant(-Infinity),
    );
    const settings = fc.record({
      temperature: fc.constantFrom(0.3, 0.9, 1, 2),
      topK: fc.constantFrom(0, 1, 2, 5, 100),
      // Not multiples of what equal weights add up to: there, rounding decides.
      topP: fc.constantFrom(0.0101, 0.3137, 0.7012, 0.9003, 1),
    });
    fc.assert(
      fc.property(fc.array(logit, { minLength: 1, maxLength: 50 }), settings, (values, given) => {
        const row = Float32Array.from(values);
        fc.pre(row.some((value) => value > -Infinity));
        const { ids, weights, total } = createSampler(row.length, given, untouched).keep(row);
        const expected = slowProbabilities(row, given);
        const actual = new Map(
          [...ids].map((id, i) => [id, weights[i]! / total] as const).filter(([, p]) => p > 1e-18),
        );
        assert.deepEqual([...actual.keys()], [...expected.keys()]);
        for (const [id, probability] of expected) assert.ok(Math.abs(actual.get(id)! - probability) < 1e-6);
      }),
      { numRuns: 2000 },
    );
  });

  test("finds the nucleus of a large row, peaked and flat", () => {
    for (const [spread, topP] of [
      [4, 0.9],
      [0.01, 0.9],
      [4, 0.999],
      [0, 0.4999],
    ] as const) {
      const row = new Float32Array(20_000);
      fillNormal(row, 5, "large", 0, spread);
      const settings = { temperature: 0.9, topK: 0, topP };
      const { ids } = createSampler(row.length, settings, untouched).keep(row);
      assert.deepEqual([...ids], [...slowProbabilities(row, settings).keys()], `spread ${spread}, top-p ${topP}`);
    }
  });
});

describe("choose", () => {
  test("draws with the probabilities of the kept tokens (chi-square)", () => {
    const row = new Float32Array(60);
    fillNormal(row, 3, "chi", 0, 1.5);
    const settings = { temperature: 0.8, topK: 40, topP: 0.95 };
    const sampler = createSampler(row.length, settings, untouched);
    const random = createRandom(1234);
    const draws = 40_000;
    const counts = new Map<number, number>();
    for (let i = 0; i < draws; i++) {
      const { id } = sampler.choose(row, [], random.uniform, origin);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const expected = slowProbabilities(row, settings);
    assert.deepEqual(
      [...counts.keys()].sort((a, b) => a - b),
      [...expected.keys()],
    );
    let statistic = 0;
    for (const [id, probability] of expected) {
      statistic += ((counts.get(id) ?? 0) - draws * probability) ** 2 / (draws * probability);
    }
    const freedom = expected.size - 1;
    assert.ok(freedom > 10);
    // Mean `freedom`, variance 2·freedom; beyond four standard deviations either way is no accident.
    assert.ok(Math.abs(statistic - freedom) < 4 * Math.sqrt(2 * freedom), `chi-square ${statistic} for ${freedom}`);
  });

  test("reports log probabilities of the model's own logits and leaves the row as it was", () => {
    const row = Float32Array.of(1, 3, 2, -1);
    const before = row.slice();
    const rules = { repetitionPenalty: 1.5, repetitionWindow: 0, forbiddenFirst: [], ends: [], minTokens: 0 };
    const editor = createLogitEditor(4, { ...rules, bias: [[3, 20]], forbidden: [1] });
    const sampler = createSampler(4, { temperature: 0, topK: 0, topP: 1 }, editor, 2);
    const logSumExp = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
    const choice = sampler.choose(row, [2], () => assert.fail("greedy draws nothing"), origin);
    assert.equal(choice.id, 3);
    assert.ok(Math.abs(choice.logprob - (-1 - logSumExp)) < 2e-7);
    assert.deepEqual(
      choice.top.map(({ id }) => id),
      [1, 2],
    );
    assert.ok(Math.abs(choice.top[0]!.logprob - (3 - logSumExp)) < 2e-7);
    assert.deepEqual(row, before);
  });

  test("a row of one token, or with one that is allowed, is that token at every temperature", () => {
    const only = Float32Array.of(-Infinity, -3, -Infinity);
    for (const temperature of [0, 1e-4, 1, 100]) {
      for (const topK of [0, 1, 3]) {
        for (const topP of [0.01, 0.9, 1]) {
          for (const uniform of [0, 0.5, 1 - 2 ** -53]) {
            const settings = { temperature, topK, topP };
            assert.equal(createSampler(3, settings, untouched).choose(only, [], () => uniform, origin).id, 1);
            const single = createSampler(1, settings, untouched).choose(new Float32Array(1), [], () => uniform, origin);
            assert.deepEqual([single.id, single.logprob], [0, 0]);
          }
        }
      }
    }
  });

  test("NaN is an error, and so is a row of which the rules leave nothing; the row is restored", () => {
    const sampler = createSampler(2, { temperature: 1, topK: 0, topP: 0.9 }, untouched);
    assert.throws(() => sampler.choose(Float32Array.of(0, Number.NaN), [], () => 0, { row: 4, step: 9 }), {
      code: "CPM_INFER_NAN",
      where: "row 4, step 9",
    });
    const rules = { repetitionPenalty: 1, repetitionWindow: 0, forbiddenFirst: [], ends: [], minTokens: 0, bias: [] };
    const editor = createLogitEditor(2, { ...rules, forbidden: [0, 1] });
    const row = Float32Array.of(5, 6);
    const strict = createSampler(2, { temperature: 1, topK: 0, topP: 0.9 }, editor);
    assert.throws(() => strict.choose(row, [], () => 0, origin), { code: "CPM_INFER_NO_TOKEN" });
    assert.deepEqual([...row], [5, 6]);
  });
});

test("draw never leaves the kept tokens, at either end and over zero weights", () => {
  const kept = { ids: Int32Array.of(3, 5, 8, 9), weights: Float64Array.of(0, 1, 3, 0), total: 4 };
  assert.equal(draw(kept, 0), 5);
  assert.equal(draw(kept, 0.2499), 5);
  assert.equal(draw(kept, 0.25), 8);
  assert.equal(draw({ ...kept, total: 4.0001 }, 1 - 2 ** -53), 8);
});
