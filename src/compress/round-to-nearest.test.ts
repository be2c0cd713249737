import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { unpackWeight } from "../checkpoint/index.ts";
import { expandScales } from "../checkpoint/packed-weight.ts";
import { createRandom, fillNormal } from "../util/random.ts";
import { drawPacked } from "./draw-packed.ts";
import { fittingGroup, type RoundingOptions, roundToNearest } from "./round-to-nearest.ts";

function restored(w: Float32Array, shape: readonly [number, number], options: RoundingOptions) {
  const { values, error } = roundToNearest(w, shape, options);
  return { w: unpackWeight(values, options, shape), values, error };
}

const shape = [5, 96] as const;
const formats = ([4, 8] as const).flatMap((bits) =>
  [true, false].flatMap((symmetric) =>
    [false, true].map((perChannel): RoundingOptions => ({ bits, groupSize: 32, symmetric, perChannel })),
  ),
);

suite("rounding to the nearest level", () => {
  for (const options of formats) {
    const name = `${options.bits} bits, ${options.symmetric ? "symmetric" : "asymmetric"}${options.perChannel ? ", by row" : ""}`;

    test(`${name}: nothing is further off than half a step, but for what the outermost level cuts`, () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 0, max: 2 ** 31 }),
          fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
          (seed, size) => {
            const w = new Float32Array(shape[0] * shape[1]);
            fillNormal(w, seed, "w", size / 3, size);
            const { w: back, values } = restored(w, shape, options);
            const groups = shape[1] / options.groupSize;
            w.forEach((value, i) => {
              const row = Math.floor(i / shape[1]);
              const step = Math.abs(values.scales[row * groups + Math.floor((i % shape[1]) / options.groupSize)]!);
              // At 4 bits, symmetric, the end without level −8 is half a step short; a zero off its level moves both ends.
              const cut = options.bits === 4 && options.symmetric ? 1 : 0.5;
              assert.ok(Math.abs(value - back[i]!) <= step * (cut + (options.symmetric ? 0 : 0.5)) + 1e-6 * size);
            });
          },
        ),
        { numRuns: 20 },
      );
    });

    test(`${name}: zeros stay zeros, and a group of zeros is no trouble`, () => {
      const w = new Float32Array(shape[0] * shape[1]);
      for (let i = 0; i < 40; i++) w[i] = i % 3 === 0 ? 0 : i - 12.5;
      const { w: back } = restored(w, shape, options);
      w.forEach((value, i) => {
        if (value === 0) assert.equal(Math.abs(back[i]!), 0);
      });
      assert.ok(back.every(Number.isFinite));
    });
  }

  test("scales of 8 bits: at most 1/510 of their range off, and the weights are rounded on what they come back as", () => {
    const [N, K] = [80, 128];
    const w = new Float32Array(N * K);
    fillNormal(w, 11, "w");
    // Rows of sizes far apart, one of zeros.
    w.forEach((value, i) => {
      w[i] = value * (Math.floor(i / K) === 7 ? 0 : 1 + (Math.floor(i / K) % 9));
    });
    for (const options of formats.filter(({ perChannel }) => !perChannel)) {
      const plain = roundToNearest(w, [N, K], options);
      const { values, doubled, error } = roundToNearest(w, [N, K], { ...options, doubled: true });
      assert.deepEqual(values.scales, expandScales(doubled!, values.scales.length));
      assert.equal(doubled!.ranges.length, 2 * Math.ceil(plain.values.scales.length / 256));
      for (let from = 0; from < plain.values.scales.length; from += 256) {
        const own = plain.values.scales.subarray(from, from + 256);
        const range = Math.max(...own) - Math.min(...own);
        own.forEach((scale, i) => {
          assert.ok(Math.abs(scale - values.scales[from + i]!) <= range / 509);
        });
      }
      assert.ok(error.relative < 1.1 * plain.error.relative, `${error.relative} beside ${plain.error.relative}`);
      assert.ok(
        unpackWeight(values, options, [N, K])
          .subarray(7 * K, 8 * K)
          .every((value) => value === 0),
      );
    }
  });

  test("the stated error is that of the weights that come back", () => {
    const w = new Float32Array(shape[0] * shape[1]);
    fillNormal(w, 3, "w");
    for (const options of formats) {
      const { w: back, error } = restored(w, shape, options);
      let [wrong, squares, largest] = [0, 0, 0];
      w.forEach((value, i) => {
        wrong += (value - back[i]!) ** 2;
        squares += value ** 2;
        largest = Math.max(largest, Math.abs(value - back[i]!));
      });
      assert.ok(Math.abs(error.relative - Math.sqrt(wrong / squares)) < 1e-6);
      assert.ok(Math.abs(error.largest - largest) < 1e-6);
    }
  });

  test("weights on the levels come back as they are", () => {
    const random = createRandom(5);
    const levels = Float32Array.from({ length: 64 }, () => (random.integer(16) - 8) * 0.25);
    levels[0] = -2;
    levels[32] = -2;
    assert.deepEqual(restored(levels, [1, 64], { bits: 4, groupSize: 32, symmetric: true }).w, levels);
  });

  test("groups are the largest power of two that divides a row", () => {
    assert.deepEqual(
      [1408, 3735, 350, 700, 4096, 10240, 48].map((K) => fittingGroup(K, 128)),
      [128, undefined, undefined, undefined, 128, 128, 16],
    );
    assert.throws(() => fittingGroup(96, 96), { code: "CPM_QUANTIZE_GROUP" });
  });
});

suite("weights drawn on their levels", () => {
  for (const bits of [4, 8] as const) {
    test(`${bits} bits: normal numbers, the same in any piece, of the deviation that was asked for`, () => {
      const size = [64, 4096] as const;
      const settings = { seed: 9, stream: "w", deviation: 0.5 };
      const drawn = drawPacked(size, { bits, groupSize: 128 }, settings);
      const w = unpackWeight(drawn, { bits, groupSize: 128 }, size);
      const mean = w.reduce((sum, value) => sum + value, 0) / w.length;
      const deviation = Math.sqrt(w.reduce((sum, value) => sum + (value - mean) ** 2, 0) / w.length);
      assert.ok(Math.abs(mean) < 0.005, `mean ${mean}`);
      assert.ok(Math.abs(deviation - 0.5) < 0.01, `deviation ${deviation}`);
      const inside = w.filter((value) => Math.abs(value) < 0.5).length / w.length;
      // At 4 bits that is up to level 2 of a grid of 0.335: P(|z| < 2.5 · 0.335).
      assert.ok(Math.abs(inside - (bits === 4 ? 0.5977 : 0.6827)) < 0.01, `${inside} within one deviation`);
      const part = drawPacked([8, 4096], { bits, groupSize: 128 }, settings);
      assert.deepEqual(part.packed, drawn.packed.subarray(0, part.packed.length));
    });
  }
});
