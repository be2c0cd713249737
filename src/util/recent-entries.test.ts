import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createRecentEntries } from "./recent-entries.ts";

test("what was not used for longest goes first; what is too large is not kept", () => {
  const recent = createRecentEntries<number>(10);
  recent.add("a", 1, 4);
  recent.add("b", 2, 4);
  assert.equal(recent.get("a"), 1);
  recent.add("c", 3, 4);
  assert.deepEqual(
    [...recent.entries()].map(([name]) => name),
    ["a", "c"],
  );
  recent.add("d", 4, 11);
  assert.ok(!recent.has("d"));
  assert.equal(recent.bytes, 8);
  recent.clear();
  assert.deepEqual([recent.bytes, recent.size], [0, 0]);
});

test("never more than the limit, and the bytes are those of what is there", () => {
  const step = fc.record({ name: fc.integer({ min: 0, max: 9 }), bytes: fc.integer({ min: 0, max: 12 }) });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const recent = createRecentEntries<number>(20);
      for (const { name, bytes } of steps) {
        if (bytes % 3 === 0) recent.get(String(name));
        else recent.add(String(name), bytes, bytes);
        assert.ok(recent.bytes <= 20);
        assert.equal(
          [...recent.entries()].reduce((sum, [, value]) => sum + value, 0),
          recent.bytes,
        );
      }
    }),
  );
});
