/** Where each stage of a schedule begins and ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { rampSchema } from "./ramp.ts";
import { parseSchedule } from "./schedule.ts";
import { scheduleStage, stageName } from "./stages.ts";

/** [first update, stage] of each stage up to update 100. */
function stagesOf(settings: unknown): [number, string][] {
  const schedule = parseSchedule(settings);
  const found: [number, string][] = [];
  for (let step = 0; step <= 100; step++) {
    const stage = scheduleStage(schedule, step);
    if (found.at(-1)?.[1] !== stage) found.push([step, stage]);
  }
  return found;
}

test("stages of every schedule", () => {
  const peak = 1;
  assert.deepEqual(stagesOf({ kind: "wsd", peak, warmup: 5, total: 60, decay: 20 }), [
    [0, "warmup"],
    [5, "stable"],
    [40, "decay"],
    [60, "floor"],
  ]);
  for (const kind of ["cosine", "linear"]) {
    assert.deepEqual(stagesOf({ kind, peak, warmup: 5, total: 60 }), [
      [0, "warmup"],
      [5, "decay"],
      [60, "floor"],
    ]);
  }
  assert.deepEqual(stagesOf({ kind: "noam", start: 1, warmup: 7 }), [
    [0, "warmup"],
    [7, "decay"],
  ]);
  assert.deepEqual(stagesOf({ kind: "constant", peak }), [[0, "stable"]]);
});

test("with a ramp the shape in force is part of the name, or what the ramp calls it", () => {
  const schedule = parseSchedule({ kind: "constant", peak: 1 });
  const ramp = rampSchema.parse([
    { fromStep: 10, length: 64 },
    { fromTokens: 5000, accumulate: 4, name: "large batches" },
  ]);
  const at = (step: number, tokens: number) =>
    stageName(schedule, ramp, { rows: 2, columns: 32, accumulate: 1 }, { step, tokens, updates: step });
  assert.equal(at(9, 0), "stable · 2 × 32");
  assert.equal(at(10, 0), "stable · 2 × 64");
  assert.equal(at(30, 5000), "stable · large batches");
});
