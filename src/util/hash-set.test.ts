import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createHashSet } from "./hash-set.ts";

test("it is a set: the same answers as JavaScript's own, through growth", () => {
  const hash = fc.oneof(
    fc.maxSafeNat(),
    fc.nat(50),
    fc.nat(1000).map((i) => i * 2 ** 32), // one residue class of the lower bits
    fc.nat(1000).map((i) => i * 4096),
    fc.constantFrom(0, 2 ** 53 - 2),
  );
  fc.assert(
    fc.property(fc.array(hash, { maxLength: 3000 }), (hashes) => {
      const mine = createHashSet(1);
      const theirs = new Set<number>();
      for (const value of hashes) {
        assert.equal(mine.has(value), theirs.has(value));
        assert.equal(mine.add(value), !theirs.has(value));
        theirs.add(value);
      }
      assert.equal(mine.size, theirs.size);
      for (const value of theirs) assert.ok(mine.has(value));
    }),
    { numRuns: 40 },
  );
});

test("a hundred thousand hashes of one residue class stay quick", () => {
  const set = createHashSet();
  const started = performance.now();
  for (let i = 0; i < 100_000; i++) set.add(i * 2 ** 20);
  assert.equal(set.size, 100_000);
  assert.ok(performance.now() - started < 5000);
});
