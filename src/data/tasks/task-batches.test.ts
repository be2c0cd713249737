import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ignoredTarget } from "../../model/batch.ts";
import type { Tokenizer } from "../../tokenizer/index.ts";
import { createTaskBatches } from "./task-batches.ts";
import type { TaskExample } from "./task-rows.ts";

const tokenizer = { eosId: 1, decode: (ids: readonly number[]) => "字".repeat(ids.length) } as unknown as Tokenizer;
const P = 3;

/** Example i: i % 4 + 2 tokens of input and two of answer, all of them `10 + i`. */
function examples(count: number): TaskExample[] {
  return Array.from({ length: count }, (_, i) => {
    const input = (i % 4) + 2;
    const ids = new Int32Array(input + 2).fill(10 + i);
    return { id: `s${i}`, rows: [{ ids, firstTarget: input, promptTask: 1, segment: 2 }] };
  });
}

const make = (options = {}) =>
  createTaskBatches({
    name: "task",
    train: examples(11),
    dev: examples(5),
    tokenizer,
    promptLength: P,
    seed: 4,
    ...options,
  });
const geometry = { rows: 2, columns: 24 };

suite("task batches", () => {
  test("a pass gives each row once; the next pass in another order", async () => {
    const source = make({ epochs: 2 });
    const orders: string[][] = [[], []];
    for (let next = await source.next(geometry); next; next = await source.next(geometry)) {
      for (const { origin, epoch } of next.samples) orders[epoch]!.push(origin);
    }
    for (const order of orders)
      assert.deepEqual(
        [...order].sort(),
        examples(11)
          .map(({ id }) => id)
          .sort(),
      );
    assert.notDeepEqual(orders[0], orders[1]);
    assert.equal(source.epoch, 2);
  });

  test("samples stand side by side with their prompts, apart in span, answers as targets", async () => {
    const { batch, samples, targets } = (await make().next(geometry))!;
    assert.ok(samples.length > 2, "several share a row");
    let counted = 0;
    for (const { row, start, length, origin } of samples) {
      const at = row * geometry.columns + start;
      const id = 10 + Number(origin.slice(1));
      assert.deepEqual([...batch.input.subarray(at, at + P)], [P, P + 1, P + 2]);
      assert.deepEqual(
        [...batch.prompt!.subarray(at, at + length)].map(Boolean),
        Array.from({ length }, (_, i) => i < P),
      );
      assert.ok(batch.input.subarray(at + P, at + length).every((token) => token === id));
      assert.equal(new Set(batch.span.subarray(at, at + length)).size, 1);
      const own = [...batch.target.subarray(at, at + length)];
      assert.deepEqual(own, [...Array(length - 3).fill(ignoredTarget), id, id, ignoredTarget]);
      counted += 2;
      const isContext = [...batch.context.subarray(at, at + length)];
      assert.deepEqual(
        isContext,
        Array.from({ length }, (_, i) => (i < length - 2 ? 1 : 0)),
      );
    }
    assert.equal(targets, counted);
    const spans = samples.map(({ row, start }) => `${row} ${batch.span[row * geometry.columns + start]}`);
    assert.equal(new Set(spans).size, samples.length);
  });

  test("one a row, where that is asked for", async () => {
    const { samples } = (await make({ onePerRow: true }).next({ rows: 3, columns: 24 }))!;
    assert.deepEqual(
      samples.map(({ row, start }) => [row, start]),
      [
        [0, 0],
        [1, 0],
        [2, 0],
      ],
    );
  });

  test("a position is gone on from exactly", async () => {
    const source = make();
    for (let i = 0; i < 4; i++) await source.next(geometry);
    const other = make();
    await other.restore(JSON.parse(JSON.stringify(source.state())));
    for (let i = 0; i < 4; i++) assert.deepEqual(await other.next(geometry), await source.next(geometry));
    await assert.rejects(make({ train: examples(3) }).restore(source.state()), { code: "CPM_DATA_STATE" });
  });

  test("what is held out comes whole and in order", () => {
    const found = [...make().heldOut(geometry, 100)];
    assert.ok(found.length >= 1);
    assert.ok(found.every(({ tokensPerCharacter }) => tokensPerCharacter === 1));
    const targets = found.flatMap(({ batch }) => [...batch.target].filter((id) => id !== ignoredTarget));
    assert.equal(targets.length, 10);
  });

  test("a row that fits nowhere, and nothing to train on", async () => {
    await assert.rejects(make().next({ rows: 2, columns: 6 }), { code: "CPM_TASK_LENGTH" });
    assert.throws(() => make({ train: [] }), { code: "CPM_TASK_EMPTY" });
  });
});
