import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { planResidency, ringOf } from "./residency.ts";

suite("residency", () => {
  test("all layers stay where they fit, without buffers", () => {
    const plan = planResidency([10, 20, 30], 60);
    assert.deepEqual(plan, { resident: [true, true, true], peakBytes: 60, streamedBytes: 0 });
  });

  test("equal layers: those that stay are the limit less two buffers, evenly spread", () => {
    const { resident, peakBytes, streamedBytes } = planResidency(Array<number>(12).fill(10), 65);
    assert.equal(resident.filter(Boolean).length, 4); // 6.5 − 2
    assert.deepEqual(
      resident.flatMap((stays, layer) => (stays ? [layer] : [])),
      [2, 5, 8, 11],
    );
    assert.deepEqual([peakBytes, streamedBytes], [60, 80]);
  });

  test("any sizes: never above the limit, and no plan with one layer more of this spread would fit", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 0, max: 2500 }),
        (sizes, limit) => {
          const largest = Math.max(...sizes);
          if (limit < Math.min(2, sizes.length) * largest && limit < sizes.reduce((a, b) => a + b)) {
            try {
              assert.ok(planResidency(sizes, limit).peakBytes <= limit);
            } catch (error) {
              assert.equal((error as { code?: string }).code, "CPM_INFER_MEMORY");
            }
            return;
          }
          const { resident, peakBytes, streamedBytes } = planResidency(sizes, limit);
          assert.ok(peakBytes <= limit);
          const kept = sizes.reduce((sum, bytes, i) => sum + (resident[i] ? bytes : 0), 0);
          assert.equal(
            kept + streamedBytes,
            sizes.reduce((a, b) => a + b),
          );
        },
      ),
    );
  });

  test("the ring asks for the next layer when one begins, and lets it go behind it", () => {
    const calls: string[] = [];
    const pages = (name: string) => ({
      bytes: 1,
      prefetch: () => calls.push(`ask ${name}`),
      evict: () => calls.push(`drop ${name}`),
    });
    const ring = ringOf(["a", "b"].map((name) => ({ pages: [pages(name)] })));
    for (const index of [0, 1, 0]) {
      ring.enter(index);
      ring.leave(index);
    }
    assert.deepEqual(calls, ["ask b", "drop a", "ask a", "drop b", "ask b", "drop a"]);
  });
});
