/** `cpm plan`: its arithmetic against the traced programs, its memory against a real process, the original's run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Device, deviceNamed, deviceTable } from "../src/live/device-table.ts";
import type { RunPlan } from "../src/live/run-plan.ts";
import { preset } from "../src/model/presets.ts";
import { checkMemory, planMemory } from "../src/train/memory-plan.ts";
import { runCli } from "./support/cli-world.ts";
import { runCpm, smallDataset, smallRun } from "./support/small-run.ts";
import { writeTinyDataset } from "./support/tiny-dataset.ts";

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

test("tuning: the predicted memory is within 15 % of a process's, packed bases and adapters too", {
  skip: process.platform !== "linux",
}, async () => {
  const bench = fileURLToPath(new URL("../bench/memory.ts", import.meta.url));
  const { stdout } = await run(process.execPath, [bench, "--only", "25m 2 256 none lora int8"]);
  const rows = [...stdout.matchAll(/measured +(\d+) MiB, +(-?[\d.]+) %; tensors +\d+ MiB \((\w+)/g)];
  assert.equal(rows.length, 1, stdout);
  for (const [, , off, tensors] of rows) {
    assert.ok(Math.abs(Number(off)) < 15, stdout);
    assert.equal(tensors, "exact");
  }
});

test("tuning: a base of 4 bits takes less, the delta alone has gradients; plan and dry run agree", async () => {
  const words = ["plan", "--preset", "mini", "--method", "lora", "--rows", "2", "--length", "128", "--json"];
  const planned = async (...more: string[]) => {
    const { code, stdout, stderr } = await runCli([...words, ...more]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const [plain, packed] = [await planned(), await planned("--base", "int4")];
  assert.equal(plain.memory.bytes.gradients, plain.trained * 4);
  assert.ok(plain.memory.bytes.weights > 4 * plain.memory.parameters);
  assert.ok(packed.memory.bytes.weights < 0.25 * plain.memory.bytes.weights);
  const whole = await planMemory(preset("mini"), { rows: 2, columns: 128, recompute: "none" });
  assert.ok(plain.memory.totalBytes < 0.6 * whole.totalBytes);
  const dry = await runCli([
    "tune",
    "--dry-run",
    "--preset",
    "mini",
    "--method",
    "lora",
    "--rows",
    "2",
    "--length",
    "128",
    "--json",
  ]);
  const { memory, trained } = JSON.parse(dry.stdout);
  assert.equal(trained, plain.trained);
  assert.equal(memory.tensorBytes, plain.memory.tensorBytes);
});

test("a run that does not fit is refused, one that barely fits is tight", async () => {
  const plan = await planMemory(preset("tiny"), { rows: 8, columns: 128, recompute: "none" });
  assert.equal(checkMemory(plan, 2 * plan.totalBytes), "fits");
  assert.equal(checkMemory(plan, 1.05 * plan.totalBytes), "tight");
  assert.throws(() => checkMemory(plan, plan.totalBytes - 1), { code: "CPM_TRAIN_MEMORY" });
});

test("the original's run, planned: published GPU hours and money within 6 %", async () => {
  const words =
    "plan --json --preset 10b --rows 64 --length 1024 --tokens 2e11 --machine a100-40 --devices 32 --sharded --set recompute=block --grid mlco2-default --price a100-cn-2022";
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
    "plan --preset tiny --tokens 3600000 --tokens-per-second 1000 --watts 100 --price-per-hour 2 --rows 8 --grid-kg 0.5".split(
      " ",
    );
  const { stdout } = await runCli([...words, "--json"]);
  const { run: planned, memory } = JSON.parse(stdout);
  assert.deepEqual(planned, { tokensPerSecond: 1000, hours: 1, deviceHours: 1, energyKwh: 0.1, kgCo2e: 0.05, cost: 2 });
  const ramped = await runCli([...words, "--json", "--set", "ramp=[{fromStep: 10, length: 256}]"]);
  assert.ok(JSON.parse(ramped.stdout).memory.totalBytes > memory.totalBytes);
  // 10 updates of 8 × 128 tokens, the others of 8 × 256; and back: as many tokens as 300 updates have are 300 updates.
  assert.equal(JSON.parse(ramped.stdout).steps, 10 + Math.ceil((3_600_000 - 10 * 1024) / 2048));
  const shapes = "[{fromTokens: 20000, rows: 2}, {fromStep: 150, length: 64, accumulate: 3}]";
  const stepped = await runCli([
    "plan",
    "--preset",
    "tiny",
    "--steps",
    "300",
    "--rows",
    "8",
    ...words.slice(5, 7),
    "--json",
    "--set",
    `ramp=${shapes}`,
  ]);
  const { steps, tokens } = JSON.parse(stepped.stdout);
  assert.deepEqual([steps, tokens], [300, 20 * 1024 + 130 * 256 + 150 * 384]);
  const english = await runCli([...words, "--lang", "en"]);
  assert.match(english.stdout, /optimizer moments[\s\S]*2 CNY/);
  const chinese = await runCli([...words, "--lang", "zh"]);
  assert.match(chinese.stdout, /优化器动量[\s\S]*设备小时[\s\S]*由使用者给出/);
});

test("a mixture's weights and epochs say what is read of each source", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cpm-plan-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const document = Array.from({ length: 100 }, (_, i) => 10 + i);
  await writeTinyDataset(join(folder, "news"), [{ source: "a", documents: Array(30).fill(document) }]);
  await writeTinyDataset(join(folder, "books"), [{ source: "b", documents: Array(10).fill(document) }]);
  const mixture = join(folder, "mixture.yaml");
  const planned = async (sources: string, ...words: string[]) => {
    writeFileSync(mixture, `sources:\n${sources}`);
    const rest = ["--tokens-per-second", "1000", "--json", "--set", `mixtureFile=${mixture}`, ...words];
    const { code, stdout, stderr } = await runCli(["plan", "--preset", "tiny", ...rest]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as RunPlan;
  };
  const byWeight = await planned("  - data: news\n    weight: 1\n  - data: books\n    weight: 3\n", "--tokens", "8000");
  const [news, books] = byWeight.sources;
  assert.deepEqual([news!.label, news!.read, books!.label, books!.read], ["news/a", 2000, "books/b", 6000]);
  assert.equal(books!.epochs, 6000 / books!.tokens);
  // The books are over after two passes, the news after one: there the run ends.
  const ends = await planned("  - data: news\n    epochs: 1\n  - data: books\n    epochs: 2\n", "--steps", "100000");
  const all = ends.sources.map(({ tokens }) => tokens);
  assert.equal(ends.tokens, all[0]! + 2 * all[1]!);
  assert.ok(Math.abs(ends.run.hours - ends.tokens / 3.6e6) < 1e-9);
  const passes = await planned("  - data: news\n  - data: books\n", "--epochs", "3");
  assert.ok(passes.sources.every(({ epochs }) => Math.abs(epochs - 3) < 1e-9));
  const { code } = await runCli(["plan", "--preset", "tiny", "--epochs", "3", "--tokens-per-second", "1"]);
  assert.equal(code, 2);
});

test("every device of the table: rates, memory and power that belong together, with their sources", async () => {
  for (const [name, device] of Object.entries<Device>(deviceTable)) {
    const { peak, memoryBytes, watts, source, utilisationSource } = device;
    assert.ok(peak.float32! > 0 && memoryBytes >= 16e9 && watts > 0, name);
    assert.ok(peak.float16 === undefined || peak.float16 >= 1.9 * peak.float32!, name);
    assert.ok(peak.bfloat16 === undefined || peak.bfloat16 === peak.float16, name);
    for (const { zh, en } of [source, utilisationSource])
      assert.ok(/\p{Script=Han}/u.test(zh) && !/\p{Script=Han}/u.test(en));
    const given = "--tokens 1e9 --json --calibration-steps 0".split(" ");
    const { code, stdout, stderr } = await runCli(["plan", "--preset", "tiny", "--machine", name, ...given]);
    assert.equal(code, 0, stderr);
    const { rate, run: planned } = JSON.parse(stdout) as RunPlan;
    assert.equal(rate.productFlopsPerSecond, Math.max(...Object.values(peak)), name);
    assert.ok(Math.abs(planned.energyKwh - (planned.deviceHours * watts) / 1000) < 1e-9, name);
  }
  assert.equal(deviceNamed("Tesla V100-SXM2-32GB")?.watts, 300);
  assert.equal(deviceNamed("NVIDIA H100 80GB HBM3")?.watts, 700);
  assert.equal(deviceNamed("NVIDIA GeForce RTX 4090")?.watts, 450);
  assert.equal(deviceNamed("Apple M1 Max")?.watts, 115);
  const absent = await runCli("plan --preset tiny --machine v100 --arithmetic bfloat16".split(" "));
  assert.equal(absent.code, 2);
  assert.match(absent.stderr, /float16/);
});

test("a run keeps its whole plan", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cpm-plan-run-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const kept = join(folder, "run");
  const { code, stderr } = await runCpm(smallRun(await smallDataset(folder), kept, 2, ["every.validation=0"]));
  assert.equal(code, 0, stderr);
  const { plan } = JSON.parse(readFileSync(join(kept, "run.json"), "utf8")) as { plan: RunPlan };
  assert.equal(plan.tokens, 2 * 2 * 64);
  assert.equal(plan.steps, 2);
  assert.equal(plan.sources.length, 3);
  assert.ok(Math.abs(plan.sources.reduce((sum, { read }) => sum + read, 0) - plan.tokens) < 1e-6);
  assert.ok(plan.rate.tokensPerSecond > 0 && plan.run.hours > 0 && plan.run.energyKwh > 0);
  assert.equal(plan.verdict, "fits");
  assert.ok(plan.checkpoints.bytes > plan.memory.parameters * 4);
});
