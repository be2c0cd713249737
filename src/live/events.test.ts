import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { currentEvents, eventTypes, parseEvent, type RunEvent } from "./events.ts";

const time = "2026-01-02T03:04:05.000Z";
const step = (at: number): RunEvent => ({ type: "step", time, step: at, tokens: at * 100, loss: 3 });
const start = (at: number, attempt: number): RunEvent => ({ type: "start", time, step: at, tokens: at * 100, attempt });

test("a line of a known type is an event; unknown keys are dropped", () => {
  const line = JSON.stringify({ ...step(3), later: "addition" });
  assert.deepEqual(parseEvent(line), step(3));
  assert.ok(eventTypes.includes("intervention"));
});

test("what is no event is undefined, never an exception", () => {
  const wrong = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '{"type":"step"}',
    '{"type":"unknown","time":"2026-01-02T03:04:05Z"}',
    JSON.stringify({ ...step(1), step: -1 }),
    JSON.stringify({ ...step(1), step: 1.5 }),
    JSON.stringify({ ...step(1), loss: "3" }),
    JSON.stringify({ ...step(1), loss: Number.NaN }),
    JSON.stringify({ ...step(1), time: "yesterday" }),
    '{"type":"power","time":"2026-01-02T03:04:05Z","seconds":1,"joules":1,"source":"guess"}',
    JSON.stringify(step(1)).slice(0, -5),
    "[".repeat(100_000),
  ];
  for (const line of wrong) assert.equal(parseEvent(line), undefined, line.slice(0, 80));
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (line) => parseEvent(line) === undefined));
});

test("a resume takes back the steps beyond its checkpoint, whatever stands between them", () => {
  const power: RunEvent = { type: "power", time, seconds: 60, joules: 600, source: "rapl" };
  const note: RunEvent = { type: "note", time, text: "warm today" };
  const kept = currentEvents([start(0, 1), step(1), step(2), power, step(3), note, start(1, 2), step(2)]);
  assert.deepEqual(kept, [start(0, 1), step(1), power, note, start(1, 2), step(2)]);
});

test("a checkpoint that was told after later steps does not hide them", () => {
  const saved: RunEvent = { type: "checkpoint", time, step: 1, tokens: 100, path: "checkpoints/a", bytes: 1, ms: 1 };
  assert.deepEqual(currentEvents([start(0, 1), step(1), step(2), saved, step(3), start(1, 2), step(2)]), [
    start(0, 1),
    step(1),
    saved,
    start(1, 2),
    step(2),
  ]);
});

test("a resume of a resume takes back both, and one at the end takes back nothing", () => {
  const twice = currentEvents([start(0, 1), step(1), step(2), start(1, 2), step(2), step(3), start(0, 3), step(1)]);
  assert.deepEqual(twice, [start(0, 1), start(1, 2), start(0, 3), step(1)]);
  const end = currentEvents([start(0, 1), step(1), start(1, 2), step(2)]);
  assert.deepEqual(end, [start(0, 1), step(1), start(1, 2), step(2)]);
});

test("the guard's rollback takes back the steps beyond where it went to, and nothing where it says nothing", () => {
  const rollback = (to?: number): RunEvent => ({
    type: "intervention",
    time,
    step: to ?? 3,
    action: "rollback",
    reason: "the loss is NaN",
    ...(to !== undefined && { details: { to } }),
  });
  assert.deepEqual(currentEvents([start(0, 1), step(1), step(2), step(3), rollback(1), step(2)]), [
    start(0, 1),
    step(1),
    rollback(1),
    step(2),
  ]);
  assert.equal(currentEvents([start(0, 1), step(1), rollback(), step(2)]).length, 4);
});

test("for any story of crashes, what is left is each step once, in order", () => {
  const attempts = fc.array(fc.record({ back: fc.nat(6), more: fc.nat(6) }), { maxLength: 8 });
  fc.assert(
    fc.property(attempts, (story) => {
      const events: RunEvent[] = [];
      let at = 0;
      for (const [index, { back, more }] of story.entries()) {
        at = Math.max(0, at - back);
        events.push(start(at, index + 1));
        for (let k = 0; k < more; k++) events.push(step(++at));
      }
      const steps = currentEvents(events).flatMap((event) => (event.type === "step" ? [event.step] : []));
      assert.deepEqual(
        steps,
        Array.from({ length: at }, (_, index) => index + 1),
      );
    }),
  );
});
