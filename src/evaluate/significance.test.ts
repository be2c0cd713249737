/** Intervals cover what they say they cover; tests find differences that are there and few that are not. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createRandom } from "../util/random.ts";
import { meanMetric } from "./corpus-metric.ts";
import {
  bootstrapInterval,
  mcnemarTest,
  pairedDifference,
  randomisationTest,
  resamplingDefaults,
} from "./significance.ts";

const options = { ...resamplingDefaults, draws: 400 };

function coins(count: number, share: number, seed: number): number[] {
  const random = createRandom(seed, "coins");
  return Array.from({ length: count }, () => (random.uniform() < share ? 1 : 0));
}

suite("bootstrap", () => {
  test("the width is that of the normal approximation, the same seed gives the same interval", () => {
    const metric = meanMetric("accuracy", coins(400, 0.3, 1));
    const { low, high } = bootstrapInterval(metric, { ...options, draws: 2000 });
    const share = metric.value();
    const half = 1.96 * Math.sqrt((share * (1 - share)) / 400);
    assert.ok(Math.abs(low - (share - half)) < 0.01 && Math.abs(high - (share + half)) < 0.01, `${low} ${high}`);
    assert.deepEqual(bootstrapInterval(metric, { ...options, draws: 2000 }), { low, high });
    assert.notDeepEqual(bootstrapInterval(metric, { ...options, seed: 2 }), bootstrapInterval(metric, options));
  });

  test("about 95 in 100 intervals hold the truth", () => {
    let held = 0;
    for (let trial = 0; trial < 100; trial++) {
      const { low, high } = bootstrapInterval(meanMetric("accuracy", coins(150, 0.4, 100 + trial)), options);
      if (low <= 0.4 && 0.4 <= high) held++;
    }
    assert.ok(held >= 88, `${held} of 100`);
  });
});

suite("two systems", () => {
  const paired = (first: readonly number[], second: readonly number[]) => meanMetric("accuracy", [...first, ...second]);

  test("a difference that is there is found by both ways", () => {
    const first = coins(300, 0.4, 1);
    const second = first.map((right, index) => (index % 6 === 0 ? 1 : right));
    const metric = paired(first, second);
    const { low, high } = pairedDifference(metric, options);
    const difference = metric.value(second.map((_, i) => 300 + i)) - metric.value(first.map((_, i) => i));
    assert.ok(low > 0 && low < difference && difference < high);
    assert.ok(randomisationTest(metric, options) < 0.01);
  });

  test("equal systems have p = 1; unrelated ones of one quality seldom differ", () => {
    const first = coins(200, 0.5, 3);
    assert.equal(randomisationTest(paired(first, first), options), 1);
    let found = 0;
    for (let trial = 0; trial < 60; trial++) {
      const metric = paired(coins(120, 0.5, 200 + trial), coins(120, 0.5, 900 + trial));
      if (randomisationTest(metric, { ...options, draws: 200 }) < 0.05) found++;
    }
    assert.ok(found <= 8, `${found} of 60 at the 5 % level`);
  });

  test("McNemar's exact test as scipy 1.17.1's binomtest (bench/peers/evaluation_metrics.py)", () => {
    for (const [b, c, p] of [
      [3, 12, 0.03515625],
      [0, 5, 0.0625],
      [7, 7, 1],
      [40, 65, 0.018740915408258018],
      [1, 0, 1],
      [0, 0, 1],
    ] as const) {
      assert.ok(Math.abs(mcnemarTest(b, c) - p) < 1e-12, `${b}, ${c}: ${mcnemarTest(b, c)}`);
      assert.equal(mcnemarTest(c, b), mcnemarTest(b, c));
    }
  });
});
