/** `cpm eval` with a small model: every recipe in miniature, going on, computing again, comparing, and what it refuses. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { tasks } from "../src/data/index.ts";
import { attachDelta, baseHash, saveDelta } from "../src/delta/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { runCli } from "./support/cli-world.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const recipes = fileURLToPath(new URL("../recipes/eval/", import.meta.url));
const poems = readFileSync(new URL("../corpus/gushi.txt", import.meta.url), "utf8")
  .split("\n")
  .filter((line) => line.length > 8)
  .slice(0, 40);

/** A few rows of each task, where the recipes look for them. */
function writeTasks(folder: string): void {
  const pick = (start: number, count: number) => Array.from({ length: count }, (_, k) => poems[(start * 5 + k) % 40]!);
  const rows: Record<string, (i: number) => object> = {
    c3: (i) => ({
      type: i % 2 ? "mixed" : "dialogue",
      passage: poems[i],
      question: "什么？",
      options: pick(i, 3),
      target: i % 3,
    }),
    ccpm: (i) => ({ translation: poems[i], options: pick(i, 4), target: i % 4 }),
    kdconv: (i) => ({
      domain: i % 2 ? "film" : "music",
      turns: [
        { speaker: "A", text: poems[i] },
        { speaker: "B", text: poems[i + 1], kb: [["甲", "乙", "丙"]] },
      ],
    }),
    math23k: (i) => ({ question: "一加二是多少？", equation: `x=1+${i}`, answer: String(1 + i) }),
    lcsts3: (i) => ({ text: poems[i], title: poems[i]!.slice(0, 5), score: 4 }),
    headline: (i) => ({
      text: `${poems[i]}。${poems[i + 1]}`,
      title: poems[i]!.slice(0, 6),
      source: i % 2 ? "甲" : "乙",
    }),
    sogou_qt: (i) => ({ query: poems[i]!.slice(0, 4), titles: pick(i, 4), labels: [0, 1, i % 2, 0] }),
  };
  for (const [task, row] of Object.entries(rows)) {
    for (const part of ["train", "test"]) {
      const lines = Array.from({ length: 6 }, (_, i) =>
        JSON.stringify({ id: `${task}-${part}-${i}`, ...row(part === "train" ? i + 10 : i) }),
      );
      const path = join(folder, `data/tasks/${task}/${part}.jsonl.gz`);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, gzipSync(`${lines.join("\n")}\n`));
    }
  }
  mkdirSync(join(folder, "data/held-out"), { recursive: true });
  writeFileSync(join(folder, "data/held-out/a.txt"), `${poems.slice(0, 20).join("")}\n\n${poems.slice(20).join("")}\n`);
}

suite("cpm eval", () => {
  const folder = temporaryFolder("eval-");
  const start = process.cwd();
  before(async () => {
    await writeSmallModel(join(folder, "model"));
    writeTasks(folder);
    process.chdir(folder);
  });
  after(() => process.chdir(start));

  const evaluate = async (...argv: string[]) => {
    const { code, stdout, stderr } = await runCli(["eval", ...argv, "--json"]);
    assert.equal(code, 0, stderr);
    return { value: JSON.parse(stdout), stderr };
  };

  for (const name of readdirSync(recipes)) {
    test(`recipe ${name}`, async () => {
      const output = `results-${name}`;
      const { value } = await evaluate("model", "-c", join(recipes, name), "-o", output);
      assert.ok(value.evaluations.length > 0);
      for (const { name: own, count, metrics } of value.evaluations) {
        assert.ok(count > 0 && metrics.length > 0, own);
        for (const { name: metric, value: figure, low, high, random } of metrics) {
          assert.ok(Number.isFinite(figure) && low <= high, `${own} ${metric} ${figure}`);
          assert.ok(Number.isFinite(random), `${own} ${metric} has no random baseline`);
        }
      }
      assert.deepEqual(JSON.parse(readFileSync(join(output, "report.json"), "utf8")), value);
      assert.match(readFileSync(join(output, "report.md"), "utf8"), /^# .*\n[\s\S]*\n\| .* \|\n\| --- \| ---: \|/);
      const page = readFileSync(join(output, "report.html"), "utf8");
      assert.match(page, /default-src 'none'[\s\S]*<table>/);
      assert.doesNotMatch(page, /<script/);
    });
  }

  test("what is there is not run again; a half-written record is; more samples are added", async () => {
    const argv = [
      "model",
      "--task",
      "headline",
      "--data",
      "data/tasks/headline/test.jsonl.gz",
      "-o",
      "again",
      "--mode",
      "greedy",
    ];
    const few = await evaluate(...argv, "--limit", "3");
    const path = "again/records/headline.jsonl";
    const written = readFileSync(path, "utf8");
    assert.equal(written.trim().split("\n").length, 1 + 3);
    assert.deepEqual((await evaluate(...argv, "--limit", "3")).value, few.value);
    assert.equal(readFileSync(path, "utf8"), written);
    appendFileSync(path, '{"kind":"generation","index":5,"id":"he');
    const all = await evaluate(...argv);
    assert.match(all.stderr, /3 samples have outputs already|3 个样本已有输出/);
    assert.equal(all.value.evaluations[0].count, 6);
    const anew = await evaluate(...argv.with(6, "anew"));
    assert.deepEqual(anew.value.evaluations, all.value.evaluations, "in parts or at once: the same");
  });

  test("other settings do not mix with what is there", async () => {
    const argv = [
      "eval",
      "model",
      "--task",
      "ccpm",
      "--data",
      "data/tasks/ccpm/test.jsonl.gz",
      "-o",
      "mixed",
      "--lang",
      "en",
    ];
    assert.equal((await runCli(argv)).code, 0);
    const { code, stderr } = await runCli([...argv, "--template", "likelihood"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /CPM_EVAL_SETTINGS[\s\S]*template/);
  });

  test("--rescore needs no model; --normalize changes what likelihoods are compared by", async () => {
    const argv = ["--task", "c3", "--data", "data/tasks/c3/test.jsonl.gz", "--template", "likelihood", "-o", "score"];
    const { value } = await evaluate("model", ...argv);
    const again = await evaluate("score", "--rescore");
    assert.deepEqual(again.value, value);
    const { value: sums } = await evaluate("score", "--rescore", "--normalize", "sum", "-o", "score-sum");
    assert.equal(sums.evaluations[0].normalize, "sum");
    // By hand, from the records.
    const [, ...records] = readFileSync("score/records/c3.jsonl", "utf8").trim().split("\n");
    let right = 0;
    for (const { answer, options } of records.map((line) => JSON.parse(line))) {
      const best = options.reduce(
        (a: number, o: { logprob: number }, i: number) => (o.logprob > options[a].logprob ? i : a),
        0,
      );
      if (best === answer) right++;
    }
    assert.equal(sums.evaluations[0].metrics[0].value, right / records.length);
    assert.equal(sums.evaluations[0].metrics[0].random, 1 / 3);
  });

  test("pmi: less what options are without their sample, kept in the records and remembered", async () => {
    const data = "data/tasks/ccpm/test.jsonl.gz";
    const template = "likelihood";
    const { value } = await evaluate(
      "model",
      "--task",
      "ccpm",
      "--data",
      data,
      "--template",
      template,
      ...["-o", "pmi"],
      ...["--normalize", "pmi"],
    );
    // The same by a template of the question's last line alone.
    const bare = { task: "ccpm", data, template: { method: "likelihood", input: "原诗：", answer: "{option}" } };
    writeFileSync("bare.yaml", JSON.stringify({ evaluations: [bare] }));
    await evaluate("model", "-c", "bare.yaml", "-o", "bare");
    const recordsOf = (folder: string) =>
      readFileSync(`${folder}/records/ccpm.jsonl`, "utf8")
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => JSON.parse(line))
        .sort((a, b) => a.index - b.index);
    const [own, without] = [recordsOf("pmi"), recordsOf("bare")];
    let right = 0;
    for (const [index, { answer, options }] of own.entries()) {
      const gains = options.map((option: { logprob: number; domainLogprob: number }, k: number) => {
        assert.ok(Math.abs(option.domainLogprob - without[index].options[k].logprob) < 1e-4);
        return option.logprob - option.domainLogprob;
      });
      if (gains.indexOf(Math.max(...gains)) === answer) right++;
    }
    assert.equal(value.evaluations[0].normalize, "pmi");
    assert.equal(value.evaluations[0].metrics[0].value, right / own.length);
    assert.deepEqual((await evaluate("pmi", "--rescore")).value, value);
    const { code, stderr } = await runCli(["eval", "bare", "--rescore", "--normalize", "pmi"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /CPM_EVAL_DOMAIN/);
  });

  test("--train: the majority baseline is counted on the training split, and is remembered", async () => {
    const lines = (part: string) => `data/tasks/headline/${part}.jsonl.gz`;
    const argv = ["--task", "headline", "--data", lines("test"), "--mode", "greedy"];
    const { value } = await evaluate("model", ...argv, "--train", lines("train"), "-o", "counted");
    const [own] = value.evaluations;
    assert.equal(own.majorityOf, 6);
    const figure = (name: string) => own.metrics.find((metric: { name: string }) => metric.name === name);
    assert.ok(figure("answerLoss").majority > 0, "the loss of the training titles' token frequencies");
    const { majority } = JSON.parse(readFileSync("counted/records/headline.jsonl", "utf8").split("\n")[0]!);
    const titles = poems.slice(10, 16).map((line) => line.slice(0, 6));
    assert.ok(titles.includes(majority.answer), majority.answer);
    assert.deepEqual((await evaluate("counted", "--rescore")).value, value);
    const without = await runCli(["eval", "model", ...argv, "-o", "counted", "--lang", "en"]);
    assert.match(without.stderr, /CPM_EVAL_SETTINGS[\s\S]*train/);
    writeFileSync(
      "texts.yaml",
      JSON.stringify({
        evaluations: [{ task: "perplexity", data: "data/held-out/a.txt", train: "data/held-out/a.txt" }],
      }),
    );
    const texts = await evaluate("model", "-c", "texts.yaml", "-o", "counted-texts");
    const other = await evaluate("model", "--task", "perplexity", "--data", "data/held-out/a.txt", "-o", "own-texts");
    const bits = (of: typeof texts) => of.value.evaluations[0].metrics[0].majority;
    assert.ok(bits(texts) > bits(other), "smoothed, so never as good as the texts' own shares");
    assert.ok(bits(texts) < bits(other) * 2);
  });

  test("--compare: differences of what both have, with tests; unlike results are refused", async () => {
    const argv = ["--task", "ccpm", "--data", "data/tasks/ccpm/test.jsonl.gz"];
    await evaluate("model", ...argv, "-o", "a", "--template", "likelihood");
    await evaluate("model", ...argv, "-o", "b", "--limit", "4");
    const { value } = await evaluate("--compare", "a", "b");
    const [{ count, onlyFirst, metrics }] = value.comparisons;
    assert.deepEqual([count, onlyFirst], [4, 2]);
    const [{ name, first, second, difference, p, test: kind }] = metrics;
    assert.deepEqual([name, kind], ["accuracy", "mcnemar"]);
    assert.ok(Math.abs(difference - (second - first)) < 1e-12 && p > 0 && p <= 1);
    const same = await evaluate("--compare", "a", "a", "-o", "same");
    assert.deepEqual([same.value.comparisons[0].metrics[0].difference, same.value.comparisons[0].metrics[0].p], [0, 1]);
    assert.match(readFileSync("same/report.md", "utf8"), /\[\+0\.00, \+0\.00\]|\\\[\+0\.00, \+0\.00\\\]/);
    await evaluate("model", "--task", "sogou", "--data", "data/tasks/sogou_qt/test.jsonl.gz", "-o", "c");
    const { code, stderr } = await runCli(["eval", "--compare", "a", "c"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /CPM_EVAL_COMPARE/);
  });

  test("a model of 8 bits scores nearly as its original", async () => {
    assert.equal((await runCli(["quantize", "model", "int8", "--precision", "int8", "--group", "channel"])).code, 0);
    const argv = ["--task", "ccpm", "--data", "data/tasks/ccpm/test.jsonl.gz", "--template", "likelihood"];
    await evaluate("model", ...argv, "-o", "float");
    await evaluate("int8", ...argv, "-o", "eight");
    const [float, eight] = ["float", "eight"].map((folder) =>
      readFileSync(`${folder}/records/ccpm.jsonl`, "utf8")
        .trim()
        .split("\n")
        .slice(1)
        .flatMap((line) => JSON.parse(line).options as { logprob: number; tokens: number }[]),
    ) as [{ logprob: number; tokens: number }[], { logprob: number; tokens: number }[]];
    for (const [index, { logprob, tokens }] of float.entries()) {
      const error = Math.abs(eight[index]!.logprob - logprob) / tokens;
      assert.ok(error < 0.1, `${error} nats a token`);
    }
    assert.notDeepEqual(eight, float);
  });

  test("--delta: scored with what it changes, refused on another base, its template where none is given", async () => {
    await using checkpoint = await openCheckpoint("model");
    const { config } = checkpoint;
    const delta = attachDelta(config, [{ method: "lora", rank: 2, places: ["attn.q", "ffn.out"] }]);
    const values = new Map(
      delta.parameters.map(({ name, shape }) => {
        const numbers = new Float32Array(shape.reduce((product, size) => product * size, 1));
        fillNormal(numbers, 3, name, 0, 0.5);
        return [name, numbers];
      }),
    );
    const baseSha256 = await baseHash(config, (name) => checkpoint.tensor(name).readFloat32());
    const use = { task: "ccpm", template: tasks.ccpm.templates.likelihood };
    await saveDelta("tuned", { delta, values }, { baseSha256, use });
    const argv = ["--task", "ccpm", "--data", "data/tasks/ccpm/test.jsonl.gz"];
    const tuned = await evaluate("model", ...argv, "--delta", "tuned", "-o", "with-delta");
    assert.equal(tuned.value.evaluations[0].method, "likelihood", "the template that it was tuned with");
    assert.equal(tuned.value.model, "model + tuned");
    await evaluate("model", ...argv, "--template", "likelihood", "-o", "without-delta");
    const { value } = await evaluate("--compare", "without-delta", "with-delta");
    assert.equal(value.comparisons[0].count, 6);
    const scores = (folder: string) => readFileSync(`${folder}/records/ccpm.jsonl`, "utf8").split("\n").slice(1).join();
    assert.notEqual(scores("with-delta"), scores("without-delta"));
    // Another base of the same sizes.
    await saveDelta("foreign", { delta, values }, { baseSha256: "0".repeat(64) });
    const { code, stderr } = await runCli(["eval", "model", ...argv, "--delta", "foreign", "-o", "foreign-results"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /CPM_DELTA_BASE/);
    // The same settings but for the delta are other outputs.
    const mixed = await runCli([
      "eval",
      "model",
      ...argv,
      "--template",
      "likelihood",
      "--delta",
      "tuned",
      "-o",
      "without-delta",
    ]);
    assert.match(mixed.stderr, /CPM_EVAL_SETTINGS[\s\S]*weights/);
  });

  test("a terminal's table, in Chinese; hostile text is shown and does nothing", async () => {
    const row = { id: "x", text: "春天", title: "<img src=x>|\u001b]0;t\u0007" };
    writeFileSync("hostile.jsonl", `${JSON.stringify(row)}\n`);
    const argv = ["eval", "model", "--task", "lcsts", "--data", "hostile.jsonl", "-o", "hostile", "--lang", "zh"];
    const { code, stdout, stderr } = await runCli(argv);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /指标 +值 +区间 +随机 +多数 +首句\n─/);
    const page = readFileSync("hostile/report.html", "utf8");
    assert.ok(!page.includes("<img") && !page.includes("\u001b"));
    assert.match(page, /&lt;img src=x&gt;/);
  });

  test("what cannot be evaluated says why", async () => {
    const fails = async (expected: RegExp, ...argv: string[]) => {
      const { code, stderr } = await runCli(["eval", ...argv, "--lang", "en"]);
      assert.notEqual(code, 0);
      assert.match(stderr, expected);
    };
    await fails(/CPM_CLI_USAGE[\s\S]*Give --task/, "model");
    await fails(/CPM_CLI_USAGE/, "--task", "c3", "--data", "data/tasks/c3/test.jsonl.gz");
    await fails(/CPM_EVAL_RECORDS/, "data", "--rescore");
    await fails(/CPM_CLI_USAGE/, "--compare", "a");
    writeFileSync("empty.jsonl", "\n");
    await fails(/CPM_EVAL_EMPTY/, "model", "--task", "c3", "--data", "empty.jsonl", "-o", "none");
    writeFileSync("two.yaml", "evaluations: [{task: c3, data: x}, {task: c3, data: y}]");
    await fails(/CPM_CLI_USAGE[\s\S]*c3/, "model", "-c", "two.yaml");
    writeFileSync("stride.yaml", "evaluations: [{task: perplexity, data: data/held-out/a.txt, window: 8, stride: 8}]");
    await fails(/CPM_EVAL_WINDOW/, "model", "-c", "stride.yaml", "-o", "none");
    mkdirSync("bad/records", { recursive: true });
    writeFileSync("bad/records/c3.jsonl", '{"format":1}\n');
    await fails(/CPM_EVAL_RECORDS[\s\S]*line 1/, "bad", "--rescore");
  });
});
