/** `cpm plan`: its arithmetic against the traced programs, its memory against a real process, the original's run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { preset } from "../src/model/presets.ts";
import { checkMemory, planMemory } from "../src/train/memory-plan.ts";
import { runCli } from "./support/cli-world.ts";

const run = promisify(execFile);

test("the FLOPs of a step are those of the products in its programs", async () => {
  const plan = await planMemory(preset("mini"), { rows: 2, columns: 128, recompute: "none", targets: 90 });
  // Besides them are only products with vectors, in the norms' gradients.
  const ratio = plan.flops.executed / plan.flops.model;
  assert.ok(ratio >= 1 && ratio < 1.01, `${ratio}`);
  const again = await planMemory(preset("mini"), { rows: 2, columns: 128, recompute: "block", targets: 90 });
  assert.ok(again.flops.executed / plan.flops.executed > 1.15);
  assert.ok(again.bytes.activations < 0.3 * plan.bytes.activations);
});

test("the predicted memory is within 15 % of a process's", { skip: process.platform !== "linux" }, async () => {
  const targets = (8 * 128) / 2;
  const plan = await planMemory(preset("tiny"), { rows: 8, columns: 128, recompute: "none", targets });
  const bench = fileURLToPath(new URL("../bench/memory.ts", import.meta.url));
  const { stdout } = await run(process.execPath, [bench, "tiny", "8", "128", "none"]);
  const { peak, tensors } = JSON.parse(stdout) as { peak: number; tensors: number };
  assert.ok(Math.abs(plan.tensorBytes - tensors) < 4096, `${plan.tensorBytes} planned, ${tensors} allocated`);
  assert.ok(Math.abs(plan.totalBytes / peak - 1) < 0.15, `${plan.totalBytes} planned, ${peak} measured`);
});

test("a run that does not fit is refused, one that barely fits is tight", async () => {
  const plan = await planMemory(preset("tiny"), { rows: 8, columns: 128, recompute: "none" });
  assert.equal(checkMemory(plan, 2 * plan.totalBytes), "fits");
  assert.equal(checkMemory(plan, 1.05 * plan.totalBytes), "tight");
  assert.throws(() => checkMemory(plan, plan.totalBytes - 1), { code: "CPM_TRAIN_MEMORY" });
});

test("the original's run, planned: published GPU hours and money within 6 %", async () => {
  const words =
    "plan --json --preset 10b --rows 64 --length 1024 --tokens 2e11 --machine a100-40 --devices 32 --sharded --set recompute=block --grid 0.432";
  const { code, stdout, stderr } = await runCli(words.split(" "));
  assert.equal(code, 0, stderr);
  const { run: planned, memory, verdict, remedies } = JSON.parse(stdout);
  assert.equal(memory.parameters, 9_391_624_192);
  assert.ok(Math.abs(planned.deviceHours / 45_250 - 1) < 0.06, `${planned.deviceHours} GPU hours`);
  assert.ok(Math.abs(planned.cost / 430_000 - 1) < 0.06, `${planned.cost} CNY`);
  assert.ok(Math.abs(planned.kgCo2e / 4872 - 1) < 0.06, `${planned.kgCo2e} kg`);
  assert.equal(verdict, "tooLarge");
  assert.deepEqual(
    remedies.map((remedy: { change: string }) => remedy.change),
    ["rows"],
  );
});

test("a given rate, a recipe's ramp and both languages", async () => {
  const words =
    "plan --preset tiny --tokens 3600000 --tokens-per-second 1000 --watts 100 --price 2 --rows 8 --grid 0.5".split(" ");
  const { stdout } = await runCli([...words, "--json"]);
  const { run: planned, memory } = JSON.parse(stdout);
  assert.deepEqual(planned, { tokensPerSecond: 1000, hours: 1, deviceHours: 1, kwh: 0.1, kgCo2e: 0.05, cost: 2 });
  const ramped = await runCli([...words, "--json", "--set", "ramp=[{fromStep: 10, length: 256}]"]);
  assert.ok(JSON.parse(ramped.stdout).memory.totalBytes > memory.totalBytes);
  const english = await runCli([...words, "--lang", "en"]);
  assert.match(english.stdout, /optimizer moments[\s\S]*2 CNY/);
  const chinese = await runCli([...words, "--lang", "zh"]);
  assert.match(chinese.stdout, /优化器动量[\s\S]*设备小时/);
});
