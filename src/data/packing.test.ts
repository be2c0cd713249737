import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fitRows, packingKinds } from "./packing.ts";

/** Samples are their own lengths. */
const own = (sample: number) => sample;
const from = (samples: number[]) => () => samples.shift();

test("first fit: each into the first row with room, until one fits nowhere", () => {
  const shape = { rows: 2, columns: 10, kind: "firstFit" } as const;
  const rest = [3, 4, 7, 1];
  const { placed, left } = fitRows([6, 8], from(rest), own, shape);
  assert.deepEqual([placed, left, rest], [[[6, 3], [8]], [4], [7, 1]]);
  assert.deepEqual(fitRows([6, 4, 10], from([]), own, shape), { placed: [[6, 4], [10]], left: [] });
  // The original left a column free wherever samples shared a row, and took a full sample alone.
  assert.deepEqual(fitRows([10, 6, 4, 3, 9], from([]), own, { ...shape, strict: true }), {
    placed: [[10], [6]],
    left: [4, 3, 9],
  });
});

test("best fit: the sample that waited longest, then the largest that fits", () => {
  const shape = { rows: 2, columns: 10, kind: "bestFit" } as const;
  const { placed, left } = fitRows([3, 2, 6, 5, 9, 1], from([]), own, shape);
  assert.deepEqual(
    [placed, left],
    [
      [
        [3, 6, 1],
        [2, 5],
      ],
      [9],
    ],
  );
});

test("no row is too full, no sample is lost or comes twice, the oldest always goes", () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      fc.constantFrom(...packingKinds),
      fc.integer({ min: 1, max: 5 }),
      lengths,
      lengths,
      (kind, rows, a, b) => {
        const label = (first: number) => (length: number, i: number) => ({ length, id: first + i });
        const [waiting, coming] = [a.map(label(0)), b.map(label(1000))];
        const drawn: { length: number; id: number }[] = [];
        const draw = () => {
          const next = coming.shift();
          if (next) drawn.push(next);
          return next;
        };
        const { placed, left } = fitRows(waiting, draw, ({ length }) => length, { rows, columns: 20, kind });
        assert.equal(placed.length, rows);
        for (const row of placed) assert.ok(row.reduce((sum, { length }) => sum + length, 0) <= 20);
        const ids = (samples: readonly { id: number }[]) => samples.map(({ id }) => id).sort((x, y) => x - y);
        assert.deepEqual(ids([...placed.flat(), ...left]), ids([...waiting, ...drawn]));
        if (waiting.length > 0) assert.equal(placed[0]![0], waiting[0]);
      },
    ),
  );
});

test("best fit fills rows of mixed lengths almost whole", () => {
  let seed = 1;
  const draw = () => {
    seed = (seed * 48271) % 2147483647;
    return 10 + (seed % 90);
  };
  let waiting: number[] = [];
  let used = 0;
  for (let i = 0; i < 50; i++) {
    const { placed, left } = fitRows(waiting, draw, own, { rows: 4, columns: 128, kind: "bestFit" });
    used += placed.flat().reduce((sum, length) => sum + length, 0);
    waiting = left;
  }
  assert.ok(used / (50 * 4 * 128) > 0.96, `${used / (50 * 4 * 128)}`);
});
