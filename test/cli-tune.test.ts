/** `cpm tune`, `cpm merge` and `cpm generate --delta` on a small model of random weights, and every recipe in miniature. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openSafetensors } from "../src/checkpoint/index.ts";
import { readRun } from "../src/live/run-folder.ts";
import { runCli } from "./support/cli-world.ts";
import { assertClose } from "./support/close.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const recipes = fileURLToPath(new URL("../recipes/tune/", import.meta.url));

/** Rows of each task, in words of the corpus. */
const rows: Readonly<Record<string, readonly unknown[]>> = {
  ccpm: [{ translation: "春天的花开了", options: ["春花", "秋月", "山水", "风雨"], target: 0 }],
  c3: [{ passage: "今天下雨，我在家里看书。", question: "他在哪里？", options: ["家里", "学校", "山上"], target: 0 }],
  kdconv: [
    {
      topic: "春天",
      turns: [
        { speaker: "user", text: "你喜欢春天吗？" },
        { speaker: "system", text: "喜欢，花都开了。" },
      ],
    },
  ],
  math23k: [{ question: "小明有3本书，又买了2本，一共几本？", equation: "x=3+2", answer: "5" }],
  headline: [{ title: "春天来了", text: "春天来了，花开了，小鸟在树上唱歌，孩子们都很高兴。" }],
  lcsts: [{ title: "山里下雨", text: "昨天山里下了一场大雨，河水很高。" }],
  sogou: [{ query: "春天的花", titles: ["春天开花", "今天下雨"], labels: [1, 0] }],
};

suite("cpm tune", () => {
  const folder = temporaryFolder("cpm-tune-");
  const model = join(folder, "model");
  const at = (name: string) => join(folder, name);
  const fileHash = () =>
    createHash("sha256")
      .update(readFileSync(join(model, "model.safetensors")))
      .digest("hex");
  const data = (task: string) => at(`${task}.jsonl`);
  before(async () => {
    await writeSmallModel(model);
    for (const [task, own] of Object.entries(rows)) {
      const many = Array.from({ length: 6 }, (_, i) => own[i % own.length]);
      writeFileSync(data(task), many.map((row) => `${JSON.stringify(row)}\n`).join(""));
    }
  });
  const files = (task: string) => ["--train", data(task), "--dev", data(task)];
  const small = ["--rows", "2", "--set", "every.validation=2", "--set", "patience=0", "--set", "power=off"];
  const headline = ["--task", "headline", ...files("headline"), ...small];

  test("--dry-run shows the published recipe's 6,291,456 parameters, 0.067 %, and reads no weights", async () => {
    const args = ["tune", "--dry-run", "--preset", "10b", "-c", join(recipes, "ccpm.yaml")];
    const { code, stdout } = await runCli([...args, "--json"]);
    assert.equal(code, 0);
    const { trained, share } = JSON.parse(stdout);
    assert.equal(trained, 6_291_456);
    assert.equal((100 * share).toFixed(3), "0.067");
    const shown = await runCli(args);
    assert.match(shown.stdout, /lora_A \[8, 4096\] 32,768/);
    assert.match(shown.stdout, /6,291,456.*0\.067%/);
  });

  test("a run: events, checkpoints that are deltas, the best one saved, the base's file as it was", async () => {
    const before = fileHash();
    const run = at("run");
    const { code, stderr } = await runCli([
      ...["tune", model, ...headline, "--method", "lora", "--steps", "6", "--run", run, "-o", at("delta")],
      ...["--set", "schedule={kind: constant, peak: 0.05, warmup: 1}"],
    ]);
    assert.equal(code, 0, stderr);
    assert.equal(fileHash(), before);
    assert.equal(readRun(run).status, "ended");
    const events = readFileSync(join(run, "events.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const losses = events.filter(({ type }) => type === "validation").map(({ nats }) => nats);
    assert.ok(losses.length >= 3 && losses.at(-1) < losses[0], `${losses}`);
    assert.equal(events.at(-1).type, "end");
    assert.deepEqual(readdirSync(at("delta")).sort(), [
      "adapter_config.json",
      "adapter_model.safetensors",
      "delta.json",
    ]);
  });

  test("a run that was cut off goes on to the same weights", async () => {
    const args = ["tune", model, ...headline, "--method", "houlsby", "--set", "every.checkpoint=2"];
    const whole = await runCli([...args, "--steps", "6", "--run", at("whole")]);
    assert.equal(whole.code, 0, whole.stderr);
    const stop = new AbortController();
    let asked = 0;
    const now = () => {
      if (++asked > 60) stop.abort();
      return asked;
    };
    await runCli([...args, "--steps", "6", "--run", at("parts")], { signal: stop.signal, now });
    const done = readdirSync(at("parts/checkpoints")).sort().at(-1)!;
    assert.ok(done < "step-00000006", `it ended at ${done}`);
    const rest = await runCli(["tune", "--resume", at("parts")]);
    assert.equal(rest.code, 0, rest.stderr);
    const weights = async (run: string) => {
      const opened = await openSafetensors(at(`${run}/checkpoints/step-00000006/trained.safetensors`));
      const all = await Promise.all([...opened.tensors.values()].map(({ read }) => read()));
      await opened.close();
      return all.map((values) => [...(values as Float32Array)]);
    };
    assert.deepEqual(await weights("parts"), await weights("whole"));
  });

  test("merged, the model writes what base and delta write; with another base the delta is refused", async () => {
    const merged = await runCli(["merge", model, "--delta", at("delta"), "-o", at("merged")]);
    assert.equal(merged.code, 0, merged.stderr);
    const write = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCli([
        "generate",
        ...args,
        "春天",
        "--json",
        "--mode",
        "greedy",
        "--max-tokens",
        "6",
      ]);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout);
    };
    const beside = await write(model, "--delta", at("delta"));
    // The template was tuned under soft prompt 1, which a plain model does not know.
    const inside = await write(at("merged"), "--prompt-task", "1");
    assert.deepEqual(beside.ids, inside.ids);
    assertClose(beside.logprobs, inside.logprobs, 1e-4);
    const other = await runCli(["generate", at("merged"), "--delta", at("delta"), "春天"]);
    assert.match(other.stderr, /CPM_DELTA_BASE/);
    assert.notEqual(other.code, 0);
    const back = await runCli(["merge", at("merged"), "--delta", at("delta"), "--undo", "-o", at("back")]);
    assert.equal(back.code, 0, back.stderr);
  });

  test("a base of 8 bits per channel, multiplied in whole numbers; one of float32 is refused", async (t) => {
    const packed = await runCli(["quantize", model, at("int8"), "--precision", "int8", "--group", "channel"]);
    assert.equal(packed.code, 0, packed.stderr);
    const args = [...headline, "--products", "int8", "--steps", "4", "--json"];
    const { code, stdout, stderr } = await runCli(["tune", at("int8"), ...args, "--run", at("whole-numbers")]);
    if (/CPM_TUNE_PRODUCTS_INEXACT/.test(stderr)) return t.skip("this processor's products of 8-bit numbers overflow");
    assert.equal(code, 0, stderr);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(events.at(-1).reason, "steps");
    const refused = await runCli(["tune", model, ...args, "--run", at("refused")]);
    assert.match(refused.stderr, /CPM_TUNE_PRODUCTS/);
    assert.notEqual(refused.code, 0);
  });

  test("the delta keeps template and lengths: eval and generate use them unless others are given", async () => {
    const shape = ["--set", "lengthTokens=40", "--set", "answerTokens=8"];
    const { code, stderr } = await runCli([
      ...["tune", model, ...headline, ...shape, "--template", "title", "--method", "lora", "--steps", "2"],
      ...["--run", at("titled-run"), "-o", at("titled")],
    ]);
    assert.equal(code, 0, stderr);
    const { use } = JSON.parse(readFileSync(at("titled/delta.json"), "utf8"));
    assert.deepEqual(
      [use.task, use.template.input, use.lengthTokens, use.answerTokens],
      ["headline", "{text}\n标题：", 40, 8],
    );
    const settings = async (name: string, ...more: string[]) => {
      const argv = ["--task", "headline", "--data", data("headline"), "--mode", "greedy", "-o", at(name), ...more];
      const done = await runCli(["eval", model, "--delta", at("titled"), ...argv]);
      assert.equal(done.code, 0, done.stderr);
      return JSON.parse(readFileSync(at(`${name}/records/headline.jsonl`), "utf8").split("\n")[0]!).settings;
    };
    const own = await settings("as-tuned");
    assert.deepEqual([own.template.input, own.lengthTokens, own.answerTokens], ["{text}\n标题：", 40, 8]);
    const other = await settings("otherwise", "--template", "original", "--length", "64");
    assert.deepEqual([other.template.input, other.lengthTokens, other.answerTokens], ["{input}", 64, 8]);
    const write = async (prompt: string, ...more: string[]) => {
      const argv = [prompt, "--json", "--mode", "greedy", "--max-tokens", "4", ...more];
      const done = await runCli(["generate", model, "--delta", at("titled"), ...argv]);
      assert.equal(done.code, 0, done.stderr);
      return JSON.parse(done.stdout).logprobs;
    };
    const titled = await write("春天来了");
    assert.deepEqual(await write("春天来了\n标题：", "--template", "none"), titled);
    assert.deepEqual(await write("春天来了", "--template", "{text}\n标题："), titled);
    assert.notDeepEqual(await write("春天来了", "--template", "none"), titled);
    const two = await runCli(["generate", model, "春天", "--template", "{a}{b}"]);
    assert.match(two.stderr, /CPM_TASK_TEMPLATE/);
  });

  test("what cannot be is said: no data, no run, an unknown method, a preset without --dry-run", async () => {
    const refuses = async (args: readonly string[], pattern: RegExp) => {
      const { code, stderr } = await runCli(["tune", ...args]);
      assert.notEqual(code, 0);
      assert.match(stderr, pattern);
    };
    await refuses([model, "--run", at("none")], /--task/);
    await refuses([model, ...headline], /--run/);
    await refuses([model, ...headline, "--method", "lara", "--run", at("none")], /CPM_DELTA_METHOD/);
    await refuses([model, ...headline, "--preset", "10b", "--run", at("none")], /--preset/);
    await refuses(["--dry-run"], /基座/);
  });

  test("preferences: the loss falls below ln 2, the run is resumed by its folder", async () => {
    const file = at("pairs.jsonl");
    const pair = { prompt: "春天", chosen: "花开了", rejected: "下雨" };
    writeFileSync(file, `${JSON.stringify(pair)}\n`.repeat(4));
    const { code, stderr } = await runCli([
      ...["tune", model, "--objective", "preference", "--train", file, "--dev", file, ...small, "--steps", "6"],
      ...["--run", at("dpo"), "--set", "schedule={kind: constant, peak: 0.02, warmup: 1}", "--set", "beta=0.5"],
    ]);
    assert.equal(code, 0, stderr);
    const events = readFileSync(at("dpo/events.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const losses = events.filter(({ type }) => type === "validation").map(({ nats }) => nats);
    assert.ok(Math.abs(losses[0] - Math.LN2) < 1e-4, `${losses}`);
    assert.ok(losses.at(-1) < losses[0] - 0.01, `${losses}`);
    writeFileSync(file, '{"prompt": "春天"}\n');
    const broken = await runCli(["tune", model, "--objective", "preference", "--train", file, "--run", at("no")]);
    assert.match(broken.stderr, /CPM_TASK_ROW/);
  });

  test("a grid of runs ends with a report", async () => {
    const { code, stderr } = await runCli([
      ...["tune", model, ...headline, "--steps", "2", "--run", at("grid")],
      ...["--set", "sweep={schedule.start: [0.01, 0.1], delta: [[{method: ia3}], [{method: bitfit}]]}"],
    ]);
    assert.equal(code, 0, stderr);
    const report = JSON.parse(readFileSync(at("grid/sweep.json"), "utf8"));
    assert.equal(report.runs.length, 4);
    assert.ok(report.runs.every(({ best }: { best: number }) => best > 0));
    assert.match(readFileSync(at("grid/sweep.md"), "utf8"), /\| 4 \| 0\.1 \|/);
  });

  test("recipe sweep.yaml, in miniature: every method runs", async () => {
    const { code, stderr } = await runCli([
      ...["tune", model, "-c", join(recipes, "sweep.yaml"), ...files("headline"), ...small, "--steps", "2"],
      ...["--run", at("recipe-sweep")],
    ]);
    assert.equal(code, 0, stderr);
    const report = JSON.parse(readFileSync(at("recipe-sweep/sweep.json"), "utf8"));
    assert.equal(report.runs.length, 10);
    assert.ok(report.runs.every(({ best }: { best: number }) => best > 0));
  });

  for (const name of readdirSync(recipes).filter((file) => file !== "sweep.yaml")) {
    test(`recipe ${name}, in miniature`, async () => {
      const task = name.replace(/^small-/, "").replace(/\.yaml$/, "");
      const run = at(`recipe-${name}`);
      const { code, stderr } = await runCli([
        ...["tune", model, "-c", join(recipes, name), ...files(task), ...small, "--steps", "2", "--run", run],
        ...["--set", "accumulate=1"],
        // The small vocabulary has no 否.
        ...(readFileSync(join(recipes, name), "utf8").includes("template: original") && ["c3", "sogou"].includes(task)
          ? ["--set", 'template={method: likelihood, input: "{input}", answer: "{option}"}']
          : []),
      ]);
      assert.equal(code, 0, stderr);
      assert.equal(readRun(run).status, "ended");
    });
  }
});
