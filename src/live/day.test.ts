import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../util/error.ts";
import { beijingAfternoon, dayEnd, dayOf, endOfDay, formatDayRule, parseDayRule } from "./day.ts";

const at = (text: string) => Date.parse(text);

test("the original's day ends at 16:00 in Beijing and is named for its end", () => {
  assert.equal(dayOf(at("2022-05-29T16:00:00.001+08:00"), beijingAfternoon), "2022-05-30");
  assert.equal(dayOf(at("2022-05-30T16:00:00+08:00"), beijingAfternoon), "2022-05-30");
  assert.equal(dayOf(at("2022-05-30T16:00:01+08:00"), beijingAfternoon), "2022-05-31");
  assert.equal(endOfDay("2022-05-30", beijingAfternoon), at("2022-05-30T08:00:00Z"));
});

test("a day from midnight to midnight is the plain date", () => {
  const utc = parseDayRule("00:00Z");
  assert.equal(dayOf(at("2026-03-01T00:00:00.001Z"), utc), "2026-03-01");
  assert.equal(dayOf(at("2026-03-01T23:59:59Z"), utc), "2026-03-01");
  assert.equal(endOfDay("2026-03-01", utc), at("2026-03-02T00:00:00Z"));
  const newYork = parseDayRule("00:00-05:00");
  assert.equal(dayOf(at("2026-03-01T04:00:00Z"), newYork), "2026-02-28");
});

test("rules are written as they are read; others are refused", () => {
  for (const text of ["16:00+08:00", "00:00-05:30", "23:59+14:00"])
    assert.equal(formatDayRule(parseDayRule(text)), text);
  for (const text of ["", "16:00", "24:00Z", "16:60Z", "16:00+15:00", "16:00+08:60", "4pm"]) {
    assert.throws(() => parseDayRule(text), ConfigError, text);
  }
});

test("for any moment and rule: it lies in its day, and the end belongs to it", () => {
  const rule = fc.record({
    utcOffsetMinutes: fc.integer({ min: -720, max: 840 }),
    boundaryMinutes: fc.integer({ min: 0, max: 1439 }),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4e12 }), rule, (ms, day) => {
      const end = dayEnd(ms, day);
      assert.ok(end >= ms && end - ms < 86_400_000);
      assert.equal(dayOf(end, day), dayOf(ms, day));
      assert.equal(endOfDay(dayOf(ms, day), day), end);
      assert.notEqual(dayOf(end + 1, day), dayOf(end, day));
    }),
  );
});
