import assert from "node:assert/strict";
import { test } from "node:test";
import { typographyFaults } from "../../tools/chinese-typography.ts";
import {
  cardHoursUntil,
  cpmAntAssumptions,
  cpmAntEnd,
  cpmAntLedger,
  cpmAntTimeline,
  fromBeijing,
  timelineEvents,
} from "./cpm-ant-timeline.ts";
import { runEventSchema } from "./events.ts";
import { applyChoices } from "./ledger-assumptions.ts";

const within = (actual: number, expected: number, share: number) =>
  assert.ok(Math.abs(actual / expected - 1) <= share, `${actual} is not within ${share} of ${expected}`);

test("CPM-Ant's cost and carbon come out of the timeline within 2 % of what was published", () => {
  const { summary } = cpmAntLedger();
  within(summary.cost!, 430_000, 0.02);
  within(summary.kgCo2e!, 4872, 0.02);
  within(summary.deviceHours, 45_250, 0.01);
  assert.equal(summary.currency, "CNY");
});

test("the outages and the pause are gaps of the lengths that the logs state", () => {
  const { summary } = cpmAntLedger();
  assert.deepEqual(
    summary.gaps.map(({ kind, hours }) => [kind, Number(hours.toFixed(3))]),
    [
      ["outage", 17],
      ["pause", 34],
      ["outage", 3.7],
    ],
  );
  assert.deepEqual(
    summary.parts.map(({ devices }) => devices),
    [8, 32, 32],
  );
});

test("the ledger counts the same card-hours as the sum over the timeline, and the price follows from the milestone", () => {
  const { summary } = cpmAntLedger();
  within(summary.deviceHours, cardHoursUntil(cpmAntEnd), 1e-9);
  within(cpmAntAssumptions().devices[0]!.pricePerHour!, 9.5, 0.002);
});

test("with 400 W and a PUE of 1.1 it would be 8.6 t", () => {
  const ledger = cpmAntLedger();
  within(ledger.with(applyChoices(cpmAntAssumptions(), { watts: 400, pue: 1.1 })).kgCo2e!, 8600, 0.02);
});

test("the timeline is in order, well written, and its events are valid", () => {
  const times = cpmAntTimeline.map(({ at }) => fromBeijing(at));
  assert.deepEqual(times, times.toSorted());
  for (const { zh } of cpmAntTimeline) assert.deepEqual(typographyFaults(zh), []);
  for (const event of timelineEvents()) assert.deepEqual(runEventSchema.parse(event), event);
});
