/** Batches that are prepared ahead: the same ones in the same order, and a position that knows nothing of what was not used. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BatchSource, SourceBatch } from "../data/index.ts";
import { createBatchFeed } from "./batch-feed.ts";

/** Counts its batches; the number of each stands in `tokens`. It ends after ten. */
function counting(failAt = 99): BatchSource & { readonly drawn: string[] } {
  let at = 0;
  const drawn: string[] = [];
  return {
    drawn,
    async next({ rows, columns }) {
      if (at + 1 === failAt) throw new Error("the disk is gone");
      if (at === 10) return undefined;
      at++;
      drawn.push(`${at}: ${rows} × ${columns}`);
      return { tokens: at, targets: 0, samples: [], changes: [], batch: {} } as unknown as SourceBatch;
    },
    async skip() {},
    heldOut: () => [],
    state: () => ({ at }),
    async restore(state) {
      ({ at } = state as { at: number });
    },
    get batches() {
      return at;
    },
    get tokens() {
      return 100 * at;
    },
    get epoch() {
      return at / 10;
    },
    packed: false,
    dispose() {},
  };
}

const shape = (rows: number, accumulate = 1) => ({ rows, columns: 8, accumulate });
const numbers = (batches: readonly SourceBatch[]) => batches.map(({ tokens }) => tokens);

test("prepared batches are those that come next; the position is that of what was handed out", async () => {
  const feed = createBatchFeed(counting());
  assert.deepEqual(numbers(await feed.next(shape(2, 2))), [1, 2]);
  const seen: number[] = [];
  feed.prepare(shape(2, 2), (batches) => void seen.push(...numbers(batches)));
  await feed.idle();
  assert.deepEqual(seen, [3, 4]);
  assert.deepEqual([feed.state(), feed.tokens, feed.epoch], [{ at: 2 }, 200, 0.2]);
  assert.deepEqual(numbers(await feed.next(shape(2, 2))), [3, 4]);
  assert.deepEqual([feed.state(), feed.tokens], [{ at: 4 }, 400]);
});

test("batches that were prepared in another shape are put back and drawn again", async () => {
  const source = counting();
  const feed = createBatchFeed(source);
  await feed.next(shape(2));
  feed.prepare(shape(2));
  assert.deepEqual(numbers(await feed.next(shape(4))), [2]);
  assert.deepEqual(source.drawn, ["1: 2 × 8", "2: 2 × 8", "2: 4 × 8"]);
});

test("a restored position forgets what was prepared", async () => {
  const feed = createBatchFeed(counting());
  for (let i = 0; i < 4; i++) await feed.next(shape(1));
  feed.prepare(shape(1));
  await feed.restore({ at: 1 });
  assert.equal(feed.tokens, 100);
  assert.deepEqual(numbers(await feed.next(shape(1))), [2]);
});

test("the end of the data and a failure come with the batches that they belong to", async () => {
  const feed = createBatchFeed(counting());
  for (let i = 0; i < 3; i++) await feed.next(shape(1, 3));
  feed.prepare(shape(1, 3));
  assert.deepEqual(numbers(await feed.next(shape(1, 3))), [10]);
  assert.deepEqual(await feed.next(shape(1, 3)), []);
  const failing = createBatchFeed(counting(2));
  await failing.next(shape(1));
  failing.prepare(shape(1));
  await failing.idle();
  await assert.rejects(failing.next(shape(1)), /disk is gone/);
});
