import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import fc from "fast-check";
import { everyMask, tinyConfig } from "../../test/support/tiny-model.ts";
import { createReferenceRuntime } from "../graph/index.ts";
import { createKeyValueCache, type KeyValueCache } from "./key-value-cache.ts";

const config = { ...tinyConfig, layers: everyMask.length, maskModules: everyMask };
const { heads: H } = config;
const E = 8;
const slots = 6;
const runtime = createReferenceRuntime();
after(() => runtime.dispose());

/** A number that tells layer, part, row, head and slot. */
const mark = (layer: number, part: number, row: number, head: number, slot: number) =>
  (((layer * 2 + part) * 8 + row) * 8 + head) * 64 + slot + 1;

/** Stores prompts of these lengths, padded to the longest, with their marks as contents. */
function store(cache: KeyValueCache, lengths: readonly number[]): void {
  const columns = Math.max(...lengths);
  cache.layers.forEach((layerCache, layer) => {
    if (layerCache === undefined) return;
    const tensor = (part: number) => {
      const data = new Float32Array(lengths.length * H * columns * E);
      for (let i = 0; i < data.length; i++) {
        const [slot, head, row] = [
          Math.floor(i / E) % columns,
          Math.floor(i / E / columns) % H,
          Math.floor(i / E / columns / H),
        ];
        data[i] = mark(layer, part, row, head, slot);
      }
      return runtime.upload(data, "float32", [lengths.length, H, columns, E]);
    };
    using keys = tensor(0);
    using values = tensor(1);
    cache.store(layer, { keys, values }, Int32Array.from(lengths));
  });
}

/** The marks of the first `count` slots of a row. */
function rowMarks(cache: KeyValueCache, row: number, count: number): number[] {
  return cache.layers.flatMap((layerCache) => {
    if (layerCache === undefined) return [];
    return [layerCache.keys, layerCache.values].flatMap((tensor) => {
      const data = tensor.view() as Float32Array;
      return Array.from(
        { length: H * count },
        (_, i) => data[((row * H + Math.floor(i / count)) * slots + (i % count)) * E]!,
      );
    });
  });
}

function marksOf(row: number, count: number): number[] {
  return everyMask.flatMap(([attentionAbsent], layer) =>
    attentionAbsent
      ? []
      : [0, 1].flatMap((part) =>
          Array.from({ length: H * count }, (_, i) => mark(layer, part, row, Math.floor(i / count), i % count)),
        ),
  );
}

suite("key/value cache", () => {
  test("only layers with attention have memory", () => {
    const cache = createKeyValueCache(runtime, config, 2, slots);
    assert.deepEqual(
      cache.layers.map((layer) => layer === undefined),
      everyMask.map(([attentionAbsent]) => attentionAbsent),
    );
    assert.deepEqual(cache.layers[1]!.keys.shape, [2, H, slots, E]);
    cache.dispose();
    assert.equal(runtime.memory().tensors, 0);
  });

  test("stores rows of unequal length, each from slot 0", () => {
    const cache = createKeyValueCache(runtime, config, 3, slots);
    store(cache, [2, 5, 3]);
    for (const [row, count] of [2, 5, 3].entries()) assert.deepEqual(rowMarks(cache, row, count), marksOf(row, count));
    assert.equal((cache.layers[1]!.keys.view() as Float32Array)[2 * E], 0, "beyond a row's length nothing is written");
    cache.dispose();
  });

  test("reordering is copying, however often", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: slots }), { minLength: 3, maxLength: 3 }),
        fc.array(fc.array(fc.nat(2), { minLength: 3, maxLength: 3 }), { maxLength: 4 }),
        (lengths, moves) => {
          const cache = createKeyValueCache(runtime, config, 3, slots);
          store(cache, lengths);
          let rows = [0, 1, 2];
          for (const sources of moves) {
            rows = sources.map((source) => rows[source]!);
            cache.reorder(
              Int32Array.from(sources),
              Int32Array.from(rows, (row) => lengths[row]!),
            );
          }
          for (const [at, row] of rows.entries()) {
            assert.deepEqual(rowMarks(cache, at, lengths[row]!), marksOf(row, lengths[row]!));
          }
          cache.dispose();
        },
      ),
      { numRuns: 50 },
    );
    assert.equal(runtime.memory().tensors, 0);
  });

  test("nothing moves where every row stays, nor is a second set of memory made", () => {
    const cache = createKeyValueCache(runtime, config, 2, slots);
    const before = runtime.memory().tensors;
    cache.reorder(Int32Array.of(0, 1), Int32Array.of(2, 2));
    assert.equal(cache.set, 0);
    assert.equal(runtime.memory().tensors, before);
    cache.reorder(Int32Array.of(1, 0), Int32Array.of(2, 2));
    assert.equal(cache.set, 1);
    assert.equal(runtime.memory().tensors, 2 * before);
    cache.dispose();
    assert.equal(runtime.memory().tensors, 0);
  });
});
