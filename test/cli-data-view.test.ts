/** `cpm data view` on data sets, texts, mixtures and recipes; what strangers wrote is shown and does nothing. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { runCli } from "./support/cli-world.ts";
import { tinyDocuments, writeTinyDataset } from "./support/tiny-dataset.ts";

const esc = "\u001b";
const hostile = new Map([
  [100, `${esc}]0;title\u0007`],
  [101, "\u202egnp"],
  [102, "<img/src=x/onerror=alert(1)>"],
  [103, "\"&'</span>"],
]);

suite("cpm data view", () => {
  let folder: string;
  let data: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "view-"));
    data = join(folder, "set");
    const documents = tinyDocuments(100, [5, 6, 7, 8, 30, 50, 12]);
    await writeTinyDataset(data, [{ source: "news", documents }], hostile);
  });
  after(() => rmSync(folder, { recursive: true }));

  const json = async (...argv: string[]) => {
    const { code, stdout, stderr } = await runCli(["data", "view", ...argv, "--json"]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };

  test("JSON: rows, samples, tokens with their roles, masks", async () => {
    const view = await json(data, "--rows", "2", "--length", "64", "--prompt-length", "4", "--mask");
    assert.deepEqual([view.columns, view.rows.length, view.batch], [64, 2, 1]);
    let tokens = 0;
    let targets = 0;
    for (const { samples, used } of view.rows) {
      assert.equal(
        samples.reduce((sum: number, sample: { length: number }) => sum + sample.length, 0),
        used,
      );
      for (const sample of samples) {
        const roles = sample.tokens.map(({ role }: { role: string }) => role);
        assert.deepEqual(roles.slice(0, 5), ["prompt", "prompt", "prompt", "prompt", "context"]);
        assert.equal(sample.tokens[0].text, sample.objective === "fill" ? "1·0" : "2·0");
        assert.equal(roles.filter((role: string) => role === "target").length, sample.targets);
        const { text } = sample.tokens[5];
        assert.match(sample.origin, /^news\.txt:[1-7]$/);
        assert.equal(text, hostile.get(100 + sample.document) ?? `t${100 + sample.document}`);
        tokens += sample.length - 4;
        targets += sample.targets;
      }
    }
    assert.deepEqual([view.tokens, view.targets], [tokens, targets]);
    const [mask] = view.masks;
    const { used, samples } = view.rows[0];
    assert.equal(mask.length, used);
    assert.ok(samples.length > 1);
    assert.equal(mask[0][0], 1);
    assert.equal(mask[used - 1][0], 0, "the last sample does not see the first");
  });

  test("another batch, seed or packing gives other samples; the same words the same", async () => {
    const shown = (...argv: string[]) => json(data, "--length", "48", "--rows", "1", ...argv);
    const one = await shown();
    assert.deepEqual(await shown(), one);
    for (const argv of [
      ["--batch", "2"],
      ["--seed", "9"],
      ["--packing", "none"],
    ]) {
      assert.notDeepEqual((await shown(...argv)).rows, one.rows);
    }
    assert.equal((await shown("--packing", "none")).rows[0].samples.length, 1);
    const fills = await shown("--fill-share", "1");
    assert.ok(fills.rows[0].samples.every(({ objective }: { objective: string }) => objective === "fill"));
    // The original's packer: the second prompt are token ids.
    const compat = (await shown("--compat")).rows[0].samples;
    assert.match(compat[0].tokens[0].text, /^[12]·0$/);
    assert.match(compat[1].tokens[0].text, /^(<d>|t16)$/);
  });

  test("a terminal: colours where it is one, brackets where not, nothing that steers it", async () => {
    const argv = ["data", "view", data, "--rows", "8", "--length", "64", "--mask", "--fill-share", "0"];
    const plain = await runCli(argv, { columns: 60 });
    assert.match(plain.stdout, /⟦/);
    assert.match(plain.stdout, /␛\]0;title␇/);
    assert.match(plain.stdout, /⟨U\+202E⟩gnp/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that there is none is what is tested
    assert.doesNotMatch(plain.stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    const colored = await runCli(argv, { isTTY: true });
    assert.ok(colored.stdout.includes(`${esc}[30;46m`));
    assert.ok(!colored.stdout.includes("⟦") && !colored.stdout.includes(`${esc}]`));
    const quiet = await runCli(argv, { isTTY: true, env: { NO_COLOR: "1" } });
    assert.ok(!quiet.stdout.includes(esc));
  });

  test("HTML: escaped, without scripts, in the reader's language", async () => {
    const path = join(folder, "batch.html");
    const { code, stdout, stderr } = await runCli(["data", "view", data, "--html", path, "--mask", "--lang", "zh"]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "");
    const page = readFileSync(path, "utf8");
    assert.match(page, /<html lang="zh-CN">[\s\S]*训练样本[\s\S]*<svg[\s\S]*<path d="M0 0h/);
    assert.match(page, /default-src 'none'/);
    assert.match(page, /&lt;img\/src=x\/onerror=alert\(1\)&gt;/);
    assert.match(page, /&quot;&amp;&#39;&lt;\/span&gt;/);
    assert.doesNotMatch(page, /<img|<script|\u202e/);
    assert.ok(!page.includes(esc));
  });

  test("texts, a mixture's file and recipes", async () => {
    const corpus = fileURLToPath(new URL("../corpus/gushi.txt", import.meta.url));
    const texts = await json(corpus, "--rows", "2", "--length", "64");
    assert.equal(texts.rows[0].samples[0].source, "text");
    const mixture = join(folder, "mixture.yaml");
    writeFileSync(mixture, "sources: [{ data: set, name: other, fillShare: 1 }]");
    const mixed = await json(mixture, "--length", "64");
    assert.equal(mixed.rows[0].samples[0].source, "other/news");
    const recipe = join(folder, "recipe.yaml");
    writeFileSync(
      recipe,
      "data: [set]\nrows: 3\nlength: 80\nfillShare: 0\nmodel: { promptLength: 6 }\npacking: { kind: none }",
    );
    const view = await json(recipe);
    assert.deepEqual([view.rows.length, view.columns, view.promptLength], [3, 80, 6]);
    assert.ok(view.rows.every(({ samples }: { samples: unknown[] }) => samples.length === 1));
    assert.deepEqual((await json(recipe, "--rows", "1")).rows.length, 1);
  });

  test("samples of a task: what tuning learns and what evaluation asks", async () => {
    const file = join(folder, "c3.jsonl");
    const row = {
      id: "a",
      passage: "春天来了，<b>花开了</b>。",
      question: "什么来了？",
      options: ["春天", "冬天"],
      target: 0,
    };
    writeFileSync(file, `${JSON.stringify(row)}\n${JSON.stringify({ ...row, id: "b", target: 1 })}\n`);
    const view = await json(file, "--task", "c3", "--rows", "1");
    assert.deepEqual([view.task.length, view.task[0].id, view.task[0].answer], [1, "a", 0]);
    assert.deepEqual(
      view.task[0].prompts.map(({ answers }: { answers: string[] }) => answers),
      [["是"], ["是"]],
    );
    assert.deepEqual([view.rows.length, view.targets], [2, 2]);
    const plain = await runCli(["data", "view", file, "--task", "c3", "--rows", "1", "--batch", "2", "--lang", "zh"]);
    assert.equal(plain.code, 0, plain.stderr);
    assert.match(plain.stdout, /^b：选择，方式 yes，正确答案：冬天\n/);
    assert.match(plain.stdout, /\] → 否\n[\s\S]*\] → 是/);
    const letter = await runCli(["data", "view", file, "--task", "c3", "--template", "letter", "--lang", "en"]);
    assert.match(letter.stdout, /⟦A<\/s>⟧/);
    const page = join(folder, "task.html");
    await runCli(["data", "view", file, "--task", "c3", "--html", page, "--mask"]);
    assert.match(readFileSync(page, "utf8"), /正确答案：春天|right: 春天/);
    assert.match(readFileSync(page, "utf8"), / → <span class="t lm">是</);
    assert.doesNotMatch(readFileSync(page, "utf8"), /<b>/);
    for (const [argv, expected] of [
      [["--template", "none"], /CPM_TASK_TEMPLATE[\s\S]*original, likelihood, letter/],
      [["--batch", "3", "--rows", "1"], /CPM_DATA_EMPTY/],
      [["--compat"], /CPM_CLI_USAGE[\s\S]*--task/],
    ] as const) {
      const { code, stderr } = await runCli(["data", "view", file, "--task", "c3", ...argv, "--lang", "en"]);
      assert.notEqual(code, 0);
      assert.match(stderr, expected);
    }
  });

  test("what cannot be shown says why", async () => {
    const fails = async (expected: RegExp, ...argv: string[]) => {
      const { code, stderr } = await runCli(["data", "view", ...argv, "--lang", "en"]);
      assert.notEqual(code, 0);
      assert.match(stderr, expected);
    };
    await fails(/CPM_CLI_USAGE[\s\S]*folders of data sets/);
    await fails(/CPM_CLI_USAGE[\s\S]*cannot be mixed/, data, join(folder, "recipe.yaml").replace("yaml", "txt"));
    await fails(/CPM_DATA_FILE/, join(folder, "nothing.txt"));
    const bad = join(folder, "bad.yaml");
    writeFileSync(bad, "rows: many");
    await fails(/CPM_CLI_RECIPE[\s\S]*rows/, data, bad);
    const short = join(folder, "short.yaml");
    writeFileSync(short, "sources: [{ data: set, epochs: 1 }]");
    await fails(/CPM_DATA_EMPTY[\s\S]*end before batch 99/, short, "--batch", "99");
  });
});
