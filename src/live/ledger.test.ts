import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { inBoth } from "./bilingual.ts";
import { parseDayRule } from "./day.ts";
import type { NewEvent, RunEvent } from "./events.ts";
import { createLedger, type LedgerOptions, ledgerOf } from "./ledger.ts";
import {
  applyChoices,
  type LedgerAssumptions,
  ledgerAssumptionsSchema,
  machineAssumptions,
} from "./ledger-assumptions.ts";

const hour = 3_600_000;
const zero = Date.parse("2026-01-01T00:00:00Z");
const at = (hours: number, event: NewEvent): RunEvent =>
  ({ time: new Date(zero + hours * hour).toISOString(), ...event }) as RunEvent;
const start = (hours: number, attempt = 1, devices?: { name: string; count: number }[]) =>
  at(hours, { type: "start", step: 0, tokens: 0, attempt, ...(devices && { devices }) });
const step = (hours: number) => at(hours, { type: "step", step: 1, tokens: 1, loss: 1 });
const end = (hours: number, reason: "steps" | "failed" | "cancelled" = "steps") =>
  at(hours, { type: "end", step: 1, tokens: 1, reason });
const power = (hours: number, seconds: number, joules: number) =>
  at(hours, { type: "power", seconds, joules, source: "rapl", devices: ["cpu"] });

const assumptions: LedgerAssumptions = ledgerAssumptionsSchema.parse({
  devices: [{ name: "cpu", count: 2, watts: 100, pricePerHour: 3 }],
  pue: 1.5,
  gridKgCo2ePerKwh: 0.5,
});
const near = (actual: number | undefined, expected: number) =>
  assert.ok(Math.abs(actual! - expected) < 1e-9, `${actual} is not ${expected}`);
const ledger = (events: RunEvent[], options?: LedgerOptions) => ledgerOf(events, assumptions, options);

test("stated watts: hours × devices × watts × PUE × grid, hours × price", () => {
  const summary = ledger([start(0), step(4), end(10)]);
  near(summary.hours, 10);
  near(summary.deviceHours, 20);
  near(summary.energyKwh, 20 * 0.1 * 1.5);
  near(summary.kgCo2e, 20 * 0.1 * 1.5 * 0.5);
  near(summary.cost, 60);
  near(summary.measuredKwh, 0);
});

test("pauses and outages are gaps that cost nothing; work that a resume made void was paid", () => {
  const summary = ledger([
    start(0),
    step(2),
    start(3, 2),
    step(5),
    end(6),
    start(10, 3),
    end(11, "failed"),
    start(12, 4),
    step(13),
  ]);
  near(summary.hours, 2 + 3 + 1 + 1);
  assert.deepEqual(
    summary.gaps.map(({ kind, hours }) => [kind, hours]),
    [
      ["outage", 1],
      ["pause", 4],
      ["outage", 1],
    ],
  );
  near(summary.gapHours, 6);
});

test("measured energy stands in for stated watts for the time that it covers", () => {
  const summary = ledger([start(0), power(1, 3600, 7.2e6), step(2), end(2)]);
  near(summary.measuredKwh, 2 * 1.5);
  near(summary.energyKwh, (2 + 0.2) * 1.5); // the second hour: 2 devices × 100 W
});

test("a silence of a run that is sampled is a gap: the machine slept", () => {
  const summary = ledger([start(0), power(0.1, 360, 1), step(0.2), step(5), end(5.1)]);
  near(summary.hours, 0.3);
  assert.deepEqual(
    summary.gaps.map(({ kind }) => kind),
    ["silence"],
  );
  near(ledger([start(0), step(5), end(5.1)]).hours, 5.1); // without samples nothing says that it slept
});

test("devices of an attempt replace those of the description; none: not known, and not counted", () => {
  const summary = ledger([start(0, 1, [{ name: "cpu", count: 8 }]), end(1), start(1, 2, []), end(3)], {
    parts: "attempt",
  });
  near(summary.deviceHours, 8);
  near(summary.unknownHours, 2);
  near(summary.cost, 24);
  assert.deepEqual(
    summary.parts.map(({ name, devices, cost }) => [name, devices, cost]),
    [
      ["1", 8, 24],
      ["2", 0, undefined],
    ],
  );
});

test("a device without watts has device-hours of unknown energy", () => {
  const summary = ledger([start(0, 1, [{ name: "other", count: 3 }]), end(2)]);
  near(summary.unknownDeviceHours, 6);
  near(summary.energyKwh, 0);
  assert.equal(summary.cost, undefined);
});

test("stages and days: the parts add up to the whole, days are cut at their boundary", () => {
  const events = [
    start(0),
    at(1, { type: "stage", step: 0, name: "warm-up" }),
    step(3),
    at(3, { type: "stage", step: 1, name: "main" }),
    end(40),
  ];
  const stages = ledger(events);
  assert.deepEqual(
    stages.parts.map(({ name, hours }) => [name, hours]),
    [
      ["", 1],
      ["warm-up", 2],
      ["main", 37],
    ],
  );
  const days = ledger(events, { parts: "day", day: parseDayRule("06:00Z") });
  assert.deepEqual(
    days.parts.map(({ name, hours, from }) => [name, hours, from]),
    [
      ["2026-01-01", 6, "2026-01-01T00:00:00.000Z"],
      ["2026-01-02", 24, "2026-01-01T06:00:00.000Z"],
      ["2026-01-03", 10, "2026-01-02T06:00:00.000Z"],
    ],
  );
  near(days.cost, stages.cost!);
});

test("other assumptions on the same record", () => {
  const account = createLedger(assumptions);
  for (const event of [start(0), end(10)]) account.add(event);
  near(account.summary(applyChoices(assumptions, { watts: 50, pue: 1 })).energyKwh, 1);
  near(account.summary().energyKwh, 3);
});

test("electricity alone can be what is paid", () => {
  const paid = { ...assumptions, devices: [{ ...assumptions.devices[0]!, pricePerHour: undefined }], pricePerKwh: 0.6 };
  near(ledgerOf([start(0), end(10)], ledgerAssumptionsSchema.parse(paid)).cost, 3 * 0.6);
});

test("a machine's assumptions carry their sources; unknown names of the tables are refused", () => {
  const found = machineAssumptions({ cpu: "Some CPU", cores: 4 });
  assert.equal(found.devices[0]!.watts, 40);
  assert.match(inBoth(found.devices[0]!.wattsSource!).en, /assumed/);
  assert.match(inBoth(found.gridSource!).zh, /2023 年/);
  const chosen = machineAssumptions(
    { cpu: "NVIDIA A100-SXM4-80GB", cores: 1 },
    { grid: "cn-2022", price: "a100-aws-2024" },
  );
  assert.equal(chosen.devices[0]!.watts, 400);
  assert.equal(chosen.gridKgCo2ePerKwh, 0.5366);
  assert.equal(chosen.currency, "USD");
  assert.throws(() => machineAssumptions({ cpu: "", cores: 1 }, { grid: "mars" }), { code: "CPM_LEDGER_TABLE" });
});

test("for any story: parts add up, nothing is negative, order of time does not matter to what is no start", () => {
  const hours = fc.integer({ min: 0, max: 200 });
  const event = fc.oneof(
    hours.map((h) => start(h)),
    hours.map(step),
    hours.map((h) => end(h)),
    hours.map((h) => power(h, 60, 1e4)),
    hours.map((h) => at(h, { type: "stage", step: 0, name: `s${h % 3}` })),
    hours.map((h) => at(h, { type: "note", text: "x" })),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), fc.constantFrom("stage", "day", "attempt"), (events, parts) => {
      const summary = ledger(events, { parts });
      assert.ok(summary.hours >= 0 && summary.gapHours >= 0 && summary.energyKwh >= 0);
      assert.ok(summary.hours + summary.gapHours <= 200 + 1e-6);
      const sum = summary.parts.reduce((total, part) => total + part.deviceHours, 0);
      assert.ok(Math.abs(sum - summary.deviceHours) < 1e-6);
      assert.ok(Math.abs(summary.deviceHours - 2 * summary.hours) < 1e-6);
    }),
  );
});
