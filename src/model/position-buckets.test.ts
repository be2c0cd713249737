import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { distanceBucket, type PositionBucketConfig, positionBuckets } from "./position-buckets.ts";

const ant: PositionBucketConfig = { positionBuckets: 512, positionMaxDistance: 2048, segmentTypes: 32 };
const golden: PositionBucketConfig = { positionBuckets: 32, positionMaxDistance: 64, segmentTypes: 8 };

/** The rule of the 10B model as it is written down, with its numbers, in float64. */
function antBucket(r: number): number {
  const base = r > 0 ? 256 : 0;
  const n = Math.abs(r);
  if (n < 128) return base + n;
  return base + Math.min(255, 128 + Math.trunc((Math.log(n / 128) / Math.log(2048 / 128)) * 128));
}

test("distances of the 10B model: short ones exactly, long ones by logarithm, the last bucket for all beyond", () => {
  assert.equal(distanceBucket(0, ant), 0);
  assert.equal(distanceBucket(-1, ant), 1);
  assert.equal(distanceBucket(1, ant), 257);
  assert.equal(distanceBucket(-127, ant), 127);
  assert.equal(distanceBucket(127, ant), 383);
  // ln 2 / ln 16 is exactly a quarter, also in fp32: 128 + 32, 64, 96.
  assert.deepEqual(
    [128, 256, 512, 1024].map((n) => distanceBucket(-n, ant)),
    [128, 160, 192, 224],
  );
  assert.deepEqual(
    [2047, 2048, 2049, 100_000].map((n) => [distanceBucket(-n, ant), distanceBucket(n, ant)]),
    [
      [255, 511],
      [255, 511],
      [255, 511],
      [255, 511],
    ],
  );
  for (let r = -4096; r <= 4096; r++) assert.equal(distanceBucket(r, ant), antBucket(r), `distance ${r}`);
});

test("distances of the small reference model", () => {
  // 16 a direction, 8 exact; 8 + trunc(8·ln(n/8)/ln 8)
  assert.deepEqual(
    [7, 8, 9, 10, 11, 16, 31, 32, 63, 64, 1000].map((n) => distanceBucket(-n, golden)),
    [7, 8, 8, 8, 9, 10, 13, 13, 15, 15, 15],
  );
  assert.equal(distanceBucket(64, golden), 31);
});

test("buckets never shrink with distance and stay in their half", () => {
  fc.assert(
    fc.property(fc.integer({ min: 4, max: 1024 }), fc.integer({ min: 1, max: 4096 }), (buckets, extra) => {
      const config = {
        positionBuckets: buckets,
        positionMaxDistance: Math.floor(buckets / 4) + extra,
        segmentTypes: 1,
      };
      const half = Math.floor(buckets / 2);
      let last = 0;
      for (let n = 0; n < 300; n++) {
        const bucket = distanceBucket(-n, config);
        assert.ok(bucket >= last && bucket < half);
        if (n > 0) assert.equal(distanceBucket(n, config), half + bucket);
        last = bucket;
      }
    }),
  );
});

test("the whole array equals the rule pair by pair, for any segments and any first query", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 24 }),
      fc.nat(),
      fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 72, maxLength: 72 }),
      (rows, columns, first, pool) => {
        const segment = Int32Array.from(pool.slice(0, rows * columns));
        const firstQuery = first % (columns + 1);
        const actual = positionBuckets(segment, rows, columns, golden, firstQuery);
        const expected: number[] = [];
        for (let b = 0; b < rows; b++) {
          for (let q = firstQuery; q < columns; q++) {
            for (let k = 0; k < columns; k++) {
              const [own, other] = [segment[b * columns + q]!, segment[b * columns + k]!];
              expected.push(own === other ? distanceBucket(k - q, golden) : 32 + own * 8 + other);
            }
          }
        }
        assert.deepEqual([...actual], expected);
      },
    ),
  );
});

test("a longer row after a shorter one, and a given output", () => {
  const config = { ...golden };
  positionBuckets(new Int32Array(3), 1, 3, config);
  const out = new Int32Array(100);
  assert.equal(positionBuckets(new Int32Array(100), 1, 100, config, 99, out), out);
  assert.equal(out[99], 0);
  assert.equal(out[0], 15);
  assert.equal(positionBuckets(new Int32Array(2), 1, 2, config)[1], 17);
});
