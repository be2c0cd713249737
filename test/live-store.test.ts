/** The pages' logic without a browser: columns, thinning out, smoothing, and events into a store. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createColumn, decimate, smooth, upperBound } from "../web/live/columns.ts";
import { formatBytes, formatCount, formatDuration, formatTick } from "../web/live/format.ts";
import { distinctLines, lineStyle } from "../web/live/line-styles.ts";
import { createRunStore } from "../web/live/run-store.ts";
import { differences, flatten } from "../web/live/settings-tree.ts";
import { viewOf, zoomText } from "../web/live/view.ts";
import { stepLine, syntheticLines } from "./support/synthetic-run.ts";

test("a column keeps what was pushed, also after growing and cutting", () => {
  const column = createColumn();
  for (let i = 0; i < 5000; i++) column.push(i);
  assert.equal(column.length, 5000);
  assert.equal(column.values[4999], 4999);
  column.truncate(10);
  column.push(-1);
  assert.deepEqual([...column.values.subarray(0, column.length)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1]);
});

test("thinning out keeps the lowest and the highest, the order, and few points", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 500 }),
      fc.integer({ min: 1, max: 40 }),
      (values, buckets) => {
        const x = Float64Array.from(values, (_, i) => i);
        const thin = decimate(x, values, 0, values.length, buckets);
        assert.ok(thin.x.length <= 2 * buckets + 1 || thin.x.length === values.length);
        assert.equal(Math.max(...thin.y), Math.max(...values));
        assert.equal(Math.min(...thin.y), Math.min(...values));
        assert.deepEqual(
          thin.x,
          thin.x.toSorted((a, b) => a - b),
        );
        for (const [i, at] of thin.x.entries()) assert.equal(thin.y[i], values[at]);
      },
    ),
  );
});

test("smoothing is right from the first value, and holes do not spread", () => {
  assert.deepEqual(
    [...smooth([4, 4, 4], 3, 0.9)].map((value) => Number(value.toFixed(9))),
    [4, 4, 4],
  );
  const out = smooth([1, Number.NaN, 3], 3, 0.5);
  assert.equal(out[1], 1);
  assert.ok(Math.abs(out[2]! - 7 / 3) < 1e-9);
  assert.deepEqual([...smooth([1, 2, 3], 3, 0)], [1, 2, 3]);
});

test("the first place above a limit", () => {
  const values = [1, 2, 2, 5];
  assert.deepEqual(
    [0, 1, 2, 4, 5].map((limit) => upperBound(values, 4, limit)),
    [0, 1, 3, 3, 4],
  );
});

test("events fill the store", () => {
  const store = createRunStore();
  for (const line of syntheticLines({ id: "x", steps: 250 })) store.addLine(line);
  assert.equal(store.length, 250);
  assert.equal(store.columns.step.values[249], 250);
  assert.deepEqual(
    store.validations.map(({ step }) => step),
    [100, 200],
  );
  assert.equal(store.samples.length, 2);
  assert.equal(store.parameters[1]!.values.get("input_embedding.weight")!.std, 1.02);
  assert.deepEqual(
    store.timeline.map(({ type }) => type),
    ["start", "checkpoint", "checkpoint"],
  );
});

test("a resume takes back the steps behind its checkpoint, once", () => {
  const store = createRunStore();
  for (const line of syntheticLines({ id: "x", steps: 250 })) store.addLine(line);
  store.addLine(JSON.stringify({ time: "2026-01-01T00:00:00.000Z", type: "start", step: 200, tokens: 1, attempt: 2 }));
  assert.equal(store.length, 200);
  for (let step = 201; step <= 260; step++) store.addLine(stepLine(step, {}));
  assert.deepEqual(
    [...store.columns.step.values.subarray(0, store.length)],
    Array.from({ length: 260 }, (_, i) => i + 1),
  );
  store.addLine(JSON.stringify({ time: "2026-01-01T00:00:00.000Z", type: "start", step: 0, tokens: 0, attempt: 3 }));
  assert.equal(store.length + store.validations.length + store.samples.length, 0);
});

test("what cannot be read is counted, what is unknown is passed over", () => {
  const store = createRunStore();
  for (const line of [
    "",
    "{",
    "null",
    "[]",
    '{"type":"step"}',
    '{"type":"parameters","parameters":7}',
    '{"type":"new"}',
  ]) {
    try {
      store.addLine(line);
    } catch {
      assert.fail(`threw for ${line}`);
    }
  }
  assert.ok(store.unreadable >= 2);
});

test("numbers as readers write them", () => {
  assert.deepEqual(
    [formatCount(9_391_624_192, "zh"), formatCount(9_391_624_192, "en"), formatCount(41_900, "zh")],
    ["93.9 亿", "9.39 B", "41,900"],
  );
  assert.deepEqual(
    [formatDuration(0, "en"), formatDuration(59, "en"), formatDuration(3600, "en"), formatDuration(90061, "zh")],
    ["0 s", "59 s", "1 h", "1 天 1 小时"],
  );
  assert.equal(formatBytes(1536), "1.50 KiB");
});

test("time in training leaves out what lies between attempts, not what a resume made void", () => {
  const store = createRunStore();
  const add = (seconds: number, event: object) =>
    store.addLine(JSON.stringify({ time: new Date(1e12 + seconds * 1000).toISOString(), ...event }));
  const step = (n: number) => ({ type: "step", step: n, tokens: 10 * n, loss: 1 });
  add(0, { type: "start", step: 0, tokens: 0, attempt: 1 });
  add(10, step(1));
  add(20, step(2));
  add(500, { type: "note", text: "while it stood still" });
  add(1000, { type: "start", step: 1, tokens: 10, attempt: 2 });
  add(1005, step(2));
  add(1006, { type: "validation", step: 2, tokens: 20, nats: 1 });
  const { elapsed, step: steps } = store.columns;
  assert.deepEqual([...steps.values.subarray(0, store.length)], [1, 2]);
  assert.deepEqual([...elapsed.values.subarray(0, store.length)], [10, 25]);
  assert.equal(store.validations[0]!.elapsed, 26);
});

test("a view's settings come from its address, whatever stands there", () => {
  const view = viewOf(new URLSearchParams("x=elapsed&smooth=0.5&log=1&zoom=100~250.5&at=0&speed=60"));
  assert.deepEqual(view, { xKind: "elapsed", smoothing: 0.5, log: true, zoom: [100, 250.5], at: 0, speed: 60 });
  const usual = { xKind: "step", smoothing: 0.9, log: false, zoom: undefined, at: undefined, speed: undefined };
  for (const query of ["", "x=furlongs&smooth=a&log=yes&zoom=3~2&at=-1&speed=0", "zoom=1~2~3&at=Infinity&speed=x"])
    assert.deepEqual(viewOf(new URLSearchParams(query)), usual);
  fc.assert(
    fc.property(
      fc.double({ min: -1e9, max: 1e12, noNaN: true }),
      fc.double({ min: 1e-3, max: 1e9, noNaN: true }),
      (from, width) => {
        const zoom = viewOf(new URLSearchParams({ zoom: zoomText([from, from + width])! })).zoom;
        if (from + width === from) return;
        assert.ok(
          zoom === undefined
            ? width < 1e-6 * Math.abs(from)
            : Math.abs(zoom[0] - from) <= 1e-3 * width + 1e-6 * Math.abs(from),
        );
      },
    ),
  );
});

test("what differs among recipes: nested keys, what one lacks, no names and places", () => {
  const first = flatten({
    rows: 4,
    name: "a",
    schedule: { kind: "cosine", peak: 0.01 },
    groups: [{ match: "x", rate: 1 }],
  });
  const second = flatten({ rows: 8, name: "b", schedule: { kind: "cosine", peak: 0.02 }, groups: [], seeds: [1, 2] });
  assert.deepEqual(differences([first, second]), [
    { key: "rows", values: ["4", "8"] },
    { key: "schedule.peak", values: ["0.01", "0.02"] },
    { key: "groups[0].match", values: ["x", undefined] },
    { key: "groups[0].rate", values: ["1", undefined] },
    { key: "groups", values: [undefined, ""] },
    { key: "seeds", values: [undefined, "1, 2"] },
  ]);
  assert.deepEqual(differences([first, first]), []);
});

test("lines can be told apart", () => {
  const styles = Array.from({ length: distinctLines }, (_, i) => JSON.stringify(lineStyle(i)));
  assert.equal(new Set(styles).size, 24);
});

test("ticks of an axis have the digits in which they differ", () => {
  const ticks = (step: number) => [0, 1, 2, 3].map((i) => formatTick(step * i, step, "en"));
  assert.deepEqual(ticks(0.25), ["0", "0.25", "0.50", "0.75"]);
  assert.deepEqual(ticks(2), ["0", "2", "4", "6"]);
  assert.deepEqual(ticks(0.0002), ["0", "0.0002", "0.0004", "0.0006"]);
  assert.deepEqual(ticks(500).at(-1), "1,500");
});
