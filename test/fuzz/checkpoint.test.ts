/** A share of the fuzzing for every run of the suite; `test/fuzz/checkpoint.ts` runs it at length. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzCheckpoints, makeInput } from "./checkpoint.ts";

test("20,000 mutated weights files, pickles and configs give nothing but clear errors", async () => {
  const report = await fuzzCheckpoints({ seed: 2, inputs: 20_000 });
  assert.deepEqual(report.defects, []);
  assert.ok(report.slowestMs < 2000, `an input took ${report.slowestMs} ms`);
  assert.ok(report.residentGrowthBytes < 256 * 1024 * 1024, `${report.residentGrowthBytes} bytes more`);
  // The mutations must reach far: past the first checks, into every format, and sometimes through all of them.
  assert.ok(report.accepted > 200, `${report.accepted} accepted`);
  const areas = ["CPM_SAFETENSORS", "CPM_ZIP", "CPM_PICKLE", "CPM_TORCH", "CPM_CHECKPOINT", "CPM_CONFIG"];
  for (const area of areas) {
    const codes = Object.keys(report.codes).filter((code) => code.startsWith(area));
    assert.ok(codes.length >= 4, `${area}: only ${codes}`);
  }
});

test("an input can be made again from its number", () => {
  assert.deepEqual(makeInput(5, 123_456), makeInput(5, 123_456));
  assert.notDeepEqual(makeInput(5, 123_456), makeInput(6, 123_456));
});
