/** `cpm cost`: the original's timeline and a run of ours, through the command. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runCli } from "./support/cli-world.ts";
import { writeSyntheticRun } from "./support/synthetic-run.ts";

test("CPM-Ant's cost and carbon from its timeline, within 2 % of what was published", async () => {
  const { code, stdout } = await runCli(["cost", "--preset", "cpm-ant-10b", "--json"]);
  assert.equal(code, 0);
  const { costCny, kgCo2e } = JSON.parse(stdout);
  assert.ok(Math.abs(costCny / 430_000 - 1) < 0.02, String(costCny));
  assert.ok(Math.abs(kgCo2e / 4872 - 1) < 0.02, String(kgCo2e));
});

test("a run: energy of its hours, what it is computed from, no price without one", async () => {
  const parent = mkdtempSync(join(tmpdir(), "cpm-cost-"));
  try {
    const folder = writeSyntheticRun(parent, { id: "one", steps: 360, msPerStep: 10_000 });
    const { code, stdout } = await runCli(["cost", folder, "--lang", "en"]);
    assert.equal(code, 0);
    assert.match(stdout, /^1\.00 hours, 1\.00 device-hours\n0\.020 kWh/);
    assert.match(stdout, /no price was stated/);
    assert.match(stdout, /- 1 × test: 20 W each \(assumed/);
    assert.equal((await runCli(["cost", parent])).code, 4);
    assert.equal((await runCli(["cost"])).code, 2);
  } finally {
    rmSync(parent, { recursive: true });
  }
});
