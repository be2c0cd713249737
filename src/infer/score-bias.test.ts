import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { tinyConfig as config } from "../../test/support/tiny-model.ts";
import { positionBuckets } from "../model/position-buckets.ts";
import { createDecodeBias } from "./score-bias.ts";

const { heads: H, promptLength: P } = config;
const tableRows = config.positionBuckets + config.segmentTypes ** 2;
/** Every entry is its own index: a wrong row or head cannot go unseen. */
const table = Float32Array.from({ length: tableRows * H }, (_, i) => i);

suite("decode bias", () => {
  test("is the table's entry for each slot and head, as the model's own rule finds it", () => {
    const capacity = 40;
    const slots = P + capacity;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: P, max: slots - 1 }), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: config.segmentTypes - 1 }),
        (newest, segment) => {
          const bias = createDecodeBias(config, table, slots, segment);
          const out = new Float32Array(newest.length * H * slots).fill(-7);
          bias.fill(out, Int32Array.from(newest));
          newest.forEach((slot, row) => {
            const columns = slot + 1;
            const segments = new Int32Array(columns).fill(segment).fill(0, 0, P);
            const rows = positionBuckets(segments, 1, columns, config, slot);
            for (let head = 0; head < H; head++) {
              const line = out.subarray((row * H + head) * slots, (row * H + head + 1) * slots);
              const expected = Array.from(rows, (tableRow) => table[tableRow * H + head]!);
              assert.deepEqual(Array.from(line.subarray(0, columns)), expected, `slot ${slot}, head ${head}`);
              assert.ok(
                line.subarray(columns).every((value) => value === -7),
                "slots after the newest are left alone",
              );
            }
          });
        },
      ),
      { numRuns: 50 },
    );
  });

  test("rows of a model without soft prompt", () => {
    const plain = { ...config, promptLength: 0 };
    const bias = createDecodeBias(plain, table, 3, 1);
    const out = new Float32Array(H * 3);
    bias.fill(out, Int32Array.of(2));
    const rows = positionBuckets(Int32Array.of(1, 1, 1), 1, 3, plain, 2);
    assert.deepEqual(
      Array.from(out.subarray(0, 3)),
      Array.from(rows, (row) => row * H),
    );
  });
});
