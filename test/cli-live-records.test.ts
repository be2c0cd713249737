/** Commands about recorded runs: cost, log, export. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { writeExampleRun } from "../src/live/example-run.ts";
import { runCli } from "./support/cli-world.ts";
import { writeSyntheticRun } from "./support/synthetic-run.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-records-"));
after(() => rmSync(folder, { recursive: true }));
const run = writeSyntheticRun(folder, { id: "one", steps: 120, msPerStep: 60_000 });

test("the original CPM-Ant, from its timeline: money and carbon within 2 % of what was published", async () => {
  const { code, stdout } = await runCli(["cost", "--preset", "cpm-ant-10b", "--json"]);
  assert.equal(code, 0);
  const { costCny, kgCo2e, parts, alternatives, assumptions } = JSON.parse(stdout);
  assert.ok(Math.abs(costCny / 430_000 - 1) < 0.02, `${costCny}`);
  assert.ok(Math.abs(kgCo2e / 4872 - 1) < 0.02, `${kgCo2e}`);
  assert.ok(parts.length >= 3);
  assert.equal(alternatives[0].watts, 400);
  assert.match(assumptions.gridSource.en, /ML CO2/);
  assert.match(assumptions.gridSource.zh, /作者未写明/);
});

test("other assumptions change the result in proportion, and are shown with their source", async () => {
  const at = async (...words: string[]) =>
    JSON.parse((await runCli(["cost", "--preset", "cpm-ant-10b", "--json", ...words])).stdout);
  const [plain, double] = [await at(), await at("--watts", "500", "--pue", "1.2")];
  assert.ok(Math.abs(double.kgCo2e / plain.kgCo2e - 2.4) < 1e-9);
  assert.equal(double.costCny, plain.costCny);
  const { stdout } = await runCli(["cost", "--preset", "cpm-ant-10b", "--lang", "zh"]);
  assert.match(stdout, /假设/);
});

test("any run: hours from its events; what is not known is said", async () => {
  const { code, stdout } = await runCli(["cost", run, "--json", "--watts", "100", "--price-per-hour", "3"]);
  assert.equal(code, 0);
  const { hours, energyKwh, cost } = JSON.parse(stdout);
  assert.ok(Math.abs(hours - 2) < 0.05, `${hours}`);
  assert.ok(Math.abs(energyKwh - 0.2) < 0.005);
  assert.ok(Math.abs(cost - 6) < 0.2);
  assert.equal((await runCli(["cost"])).code, 2);
  assert.equal((await runCli(["cost", folder])).code, 4);
});

test("logs of the example, with a comment that stays", async () => {
  const example = await writeExampleRun(folder);
  assert.ok(existsSync(join(example, "log", "2022-06-08.zh.md")));
  const words = ["log", example, "--day", "2022-06-08", "--comment", "换到 32 张卡。", "--lang", "zh"];
  assert.equal((await runCli(words)).code, 0);
  assert.match(readFileSync(join(example, "log", "2022-06-08.zh.md"), "utf8"), /换到 32 张卡。/);
  assert.equal(readdirSync(join(example, "log")).length, 2 * 295);
  assert.equal((await runCli(["log", example, "--day", "2021-01-01"])).code, 2);
});

test("exports: CSV with a line a step, JSON without void steps, Prometheus, TensorBoard into a folder", async () => {
  const csv = (await runCli(["export", run, "--format", "csv"])).stdout.trimEnd().split("\n");
  assert.equal(csv.length, 121);
  assert.match(csv[0]!, /^time,step,tokens,loss/);
  const json = JSON.parse((await runCli(["export", run, "--format", "json"])).stdout);
  assert.equal(json.events.filter(({ type }: { type: string }) => type === "step").length, 120);
  assert.match(
    (await runCli(["export", run, "--format", "prometheus"])).stdout,
    /cpm_step\{run="one",name="one"\} 120/,
  );
  assert.equal((await runCli(["export", run, "--format", "tensorboard"])).code, 2);
  const board = join(folder, "board");
  assert.equal((await runCli(["export", run, "--format", "tensorboard", "-o", board])).code, 0);
  assert.match(readdirSync(board)[0]!, /^events\.out\.tfevents\./);
});
