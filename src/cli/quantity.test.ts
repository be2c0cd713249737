import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bytesSchema,
  durationSchema,
  formatBytes,
  formatDuration,
  formatInteger,
  formatNumber,
  formatPercent,
  parseBytes,
  parseDuration,
} from "./quantity.ts";

test("bytes: binary and decimal prefixes are kept apart, an ambiguous one is refused", () => {
  assert.equal(parseBytes("4GiB"), 4 * 2 ** 30);
  assert.equal(parseBytes("4GB"), 4e9);
  assert.equal(parseBytes(" 1.5 KiB "), 1536);
  assert.equal(parseBytes("4096"), 4096);
  for (const wrong of ["4G", "4gib", "-1", "", "GiB", "1e3", "9999999999TiB"])
    assert.equal(parseBytes(wrong), undefined, wrong);
  assert.equal(bytesSchema().parse("2MiB"), 2 * 2 ** 20);
  assert.equal(bytesSchema().parse(7), 7);
  assert.equal(bytesSchema().safeParse("4G").success, false);
});

test("durations need units and may be composed", () => {
  assert.equal(parseDuration("3m"), 180_000);
  assert.equal(parseDuration("1h30m"), 5_400_000);
  assert.equal(parseDuration("250ms"), 250);
  assert.equal(parseDuration("1.5 s"), 1500);
  for (const wrong of ["3", "m", "", "3x", "-3m"]) assert.equal(parseDuration(wrong), undefined, wrong);
  assert.equal(durationSchema().parse("2min"), 120_000);
  assert.equal(durationSchema().safeParse(180).success, false);
});

test("numbers for people", () => {
  assert.equal(formatInteger(9391624192), "9,391,624,192");
  assert.equal(formatInteger(9391624192n), "9,391,624,192");
  assert.equal(formatNumber(12345.6), "12,346");
  assert.equal(formatNumber(5.2149), "5.21");
  assert.equal(formatNumber(0.00012345), "1.23e-4");
  assert.equal(formatNumber(Number.NaN), "NaN");
  assert.equal(formatBytes(512), "512 B");
  assert.equal(formatBytes(1024 ** 2 - 1), "1.0 MiB");
  assert.equal(formatBytes(37_566_496_768), "35.0 GiB");
  assert.equal(formatDuration(850), "850 ms");
  assert.equal(formatDuration(12_345), "12.3 s");
  assert.equal(formatDuration(245_000), "4m05s");
  assert.equal(formatDuration(59_960), "1m00s");
  assert.equal(formatDuration(3_599_800), "1h00m");
  assert.equal(formatDuration(68 * 86_400_000), "68d00h");
  assert.equal(formatPercent(0.00067), "0.067%");
  assert.equal(formatPercent(0.125), "12.5%");
  assert.equal(formatPercent(0.00005), "<0.01%");
  assert.equal(formatPercent(0), "0%");
});
