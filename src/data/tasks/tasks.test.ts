/** Rows of every task to samples, prompts, rows and batches; hostile rows; all of the shared files. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { gzipSync } from "node:zlib";
import { sharedPath, skipWithoutShared } from "../../../test/support/shared.ts";
import { smallConfig, smallVocabulary } from "../../../test/support/text-model.ts";
import { checkBatch, ignoredTarget } from "../../model/batch.ts";
import { createAntTokenizer } from "../../tokenizer/index.ts";
import { createRandom } from "../../util/random.ts";
import {
  encodeSample,
  readTaskSamples,
  renderAnswer,
  renderInput,
  type Task,
  type TaskSample,
  type TaskTemplate,
  taskBatch,
  taskNames,
  tasks,
  trainingExamples,
} from "./index.ts";
import { fillTemplate, templateSchema } from "./template.ts";

const folder = mkdtempSync(join(tmpdir(), "tasks-"));
after(() => rmSync(folder, { recursive: true }));

const { vocabulary } = await smallVocabulary();
const tokenizer = createAntTokenizer(vocabulary);
const limits = { lengthTokens: 200, answerTokens: 20 };
const ids = (text: string) => [...tokenizer.encode(text).ids];

const renderSample = (sample: TaskSample, template: TaskTemplate, option?: number) => ({
  input: renderInput(sample, template, option),
  answer: renderAnswer(sample, template, option),
});

function samplesOf(task: Task, ...rows: unknown[]): readonly TaskSample[] {
  return rows.flatMap((row, index) => task.samples(row, `rows:${index + 1}`));
}

suite("samples", () => {
  test("c3: own rows and the original's", () => {
    const [own, original] = samplesOf(
      tasks.c3,
      { id: "a", type: "mixed", passage: "春天来了。", question: "什么来了？", options: ["春天", "冬天"], target: 0 },
      { input: "春天来了。什么来了？", options: ["春天", "冬天", "秋天", "无"], target: 1 },
    );
    assert.deepEqual(own, {
      kind: "choice",
      id: "a",
      fields: { passage: "春天来了。", question: "什么来了？", input: "春天来了。\n什么来了？\n" },
      options: ["春天", "冬天"],
      answer: 0,
      group: "mixed",
    });
    assert.ok(original?.kind === "choice");
    assert.deepEqual([original.id, original.answer, original.options.length], ["rows:2", 1, 4]);
    assert.deepEqual(renderSample(own!, tasks.c3.templates.original!, 1), {
      input: "春天来了。\n什么来了？\n冬天[是否正确]",
      answer: "是",
    });
    assert.equal(
      renderSample(own!, tasks.c3.templates.letter!, 0).input,
      "春天来了。\n问题：什么来了？\nA. 春天\nB. 冬天\n答案：",
    );
    assert.throws(() => samplesOf(tasks.c3, { passage: "a", question: "b", options: ["c", "d"], target: 2 }), /index/);
  });

  test("ccpm: the data set's own names, the original's letters", () => {
    const options = ["床前明月光", "举头望明月", "低头思故乡", "疑是地上霜"];
    const samples = samplesOf(
      tasks.ccpm,
      { translation: "低下头想起家乡。", options, target: 2 },
      { translation: "低下头想起家乡。", choices: options, answer: 2 },
      { input: "低下头想起家乡。A…", target: "C" },
      { translation: "", options, target: 2 },
    );
    assert.deepEqual(
      samples.map((sample) => sample.kind === "choice" && sample.answer),
      [2, 2, 2, 2],
    );
    const { likelihood } = tasks.ccpm.templates;
    assert.equal(renderSample(samples[3]!, likelihood!, 2).input, "原诗：", "the published file has such a row");
    const { input, answer } = renderSample(samples[0]!, tasks.ccpm.templates.original!, 2);
    assert.equal(input.split("\n").at(-2), "D. 疑是地上霜");
    assert.deepEqual([input.split("\n").at(-1), answer], ["答案：", "C"]);
  });

  test("kdconv: each turn after the first, with its triples and what was said", () => {
    const turns = [
      { speaker: "A", text: "看过这部电影吗？" },
      { speaker: "B", text: "看过。", kb: [["电影", "上映时间", "2004年"]] },
      { speaker: "A", text: "好看吗？" },
    ];
    const samples = samplesOf(tasks.kdconv, { id: "d", domain: "film", topic: "电影", turns });
    assert.deepEqual(
      samples.map(({ id, group }) => [id, group]),
      [
        ["d#2", "film"],
        ["d#3", "film"],
      ],
    );
    const inputs = samples.map((sample) => renderSample(sample, tasks.kdconv.templates.dialogue!).input);
    assert.equal(inputs[0], "电影，上映时间，2004年\nA：看过这部电影吗？\nB：");
    assert.equal(inputs[1], "A：看过这部电影吗？\nB：看过。\nA：", "no triples, no line for them");
    assert.equal(renderSample(samples[1]!, tasks.kdconv.templates.original!).answer, "好看吗？");
  });

  test("math23k, headline, lcsts, sogou", () => {
    const [problem] = samplesOf(tasks.math23k, { question: "一加二是多少？", equation: "x=1+2", answer: "3" });
    assert.deepEqual(problem?.kind === "generation" && problem.references, ["x=1+2", "3"]);
    for (const task of [tasks.headline, tasks.lcsts]) {
      const [article] = samplesOf(task, { title: "春天来了", text: "昨日立春。", source: "news", score: 4 });
      assert.deepEqual(renderSample(article!, task.templates.title!), {
        input: "昨日立春。\n标题：",
        answer: "春天来了",
      });
      assert.equal(article!.group, "news");
    }
    const [query] = samplesOf(tasks.sogou, { query: "明月", titles: ["明月几时有", "大江东去"], labels: [1, 0] });
    assert.ok(query?.kind === "ranking");
    assert.deepEqual(renderSample(query, tasks.sogou.templates.likelihood!, 1), {
      input: "大江东去\n搜索：",
      answer: "明月",
    });
    assert.throws(() => samplesOf(tasks.sogou, { query: "明月", titles: ["a"], labels: [1, 0] }), /as many as titles/);
  });
});

suite("templates", () => {
  test("places, braces, lines of empty places", () => {
    assert.equal(fillTemplate("{{{a}}} {b}", { a: "x", b: "{a}" }), "{x} {a}", "values are not templates");
    assert.equal(fillTemplate("{a}\n{b}c\n\nd", { a: "", b: "" }), "\nd", "blank lines of the template stay");
    assert.throws(() => fillTemplate("{a", {}), /CPM_TASK_TEMPLATE[\s\S]*no partner/);
    assert.throws(() => fillTemplate("{b}", { a: "" }), /CPM_TASK_TEMPLATE[\s\S]*\{b\}[\s\S]*\{a\}/);
    assert.throws(() => fillTemplate("{toString}", { a: "" }), /CPM_TASK_TEMPLATE/);
  });

  test("a template that does not go with the task says so", () => {
    const [sample] = samplesOf(tasks.math23k, { input: "一", target: "x=1" });
    const wrong = (template: object) => () =>
      encodeSample(
        sample!,
        templateSchema.parse({ input: "{input}", answer: "{target}", ...template }),
        tokenizer,
        limits,
      );
    assert.throws(wrong({ method: "yes" }), /CPM_TASK_TEMPLATE[\s\S]*expected: generate/);
    assert.throws(() => templateSchema.parse({ method: "generate", input: "a", answer: "b", other: 1 }), /other/);
  });
});

suite("tokens", () => {
  // The small vocabulary has no 否.
  const askC3 = { ...tasks.c3.templates.original!, wrong: "不" };
  const askSogou = { ...tasks.sogou.templates.original!, wrong: "不" };
  const [choice] = samplesOf(tasks.c3, {
    passage: "春天来了，花开了。",
    question: "什么来了？",
    options: ["春天", "冬天", "秋天"],
    target: 1,
  });

  test("likelihood: one prompt for all options; yes: one each, the right row by its number", () => {
    const shared = encodeSample(choice!, tasks.c3.templates.likelihood!, tokenizer, limits);
    assert.equal(shared.prompts.length, 1);
    assert.deepEqual(
      shared.prompts[0]!.answers.map(({ option, ids: own }) => [option, [...own]]),
      [
        [0, ids("春天")],
        [1, ids("冬天")],
        [2, ids("秋天")],
      ],
    );
    const prompt = ids("春天来了，花开了。\n问题：什么来了？\n答案：");
    assert.deepEqual([...shared.prompts[0]!.ids], [tokenizer.bosId, ...prompt]);
    const [example] = trainingExamples(shared, tokenizer, createRandom(1, "t"));
    const [row] = example!.rows;
    assert.deepEqual([...row!.ids], [tokenizer.bosId, ...prompt, ...ids("冬天"), tokenizer.eosId]);
    assert.deepEqual([row!.firstTarget, row!.promptTask, row!.segment], [prompt.length + 1, 2, 2]);

    const asked = encodeSample(choice!, askC3, tokenizer, limits);
    assert.equal(asked.prompts.length, 3);
    const [group] = trainingExamples(asked, tokenizer, createRandom(1, "t"));
    assert.equal(group!.right, 1);
    assert.deepEqual(
      group!.rows.map(({ predicts }) => predicts),
      ["不", "是", "不"].map((text) => ids(text)[0]),
    );
    assert.ok(group!.rows.every((each) => each.firstTarget === each.ids.length && each.promptTask === 1));
  });

  test("a batch: prompts, segments, targets shifted by one, what the model takes", () => {
    const rows = [tasks.c3.templates.likelihood!, askC3].flatMap((template) =>
      trainingExamples(encodeSample(choice!, template, tokenizer, limits), tokenizer, createRandom(1, "t")).flatMap(
        (example) => example.rows,
      ),
    );
    const { promptLength: P } = smallConfig;
    const batch = taskBatch(rows, P);
    checkBatch(batch, smallConfig);
    for (const [row, { ids: own, firstTarget, predicts, promptTask }] of rows.entries()) {
      const at = (column: number) => row * batch.columns + column;
      assert.deepEqual([batch.input[at(0)], batch.input[at(P)]], [promptTask * P, tokenizer.bosId]);
      for (let i = 0; i < own.length; i++) {
        assert.equal(batch.context[at(P + i)], i < firstTarget ? 1 : 0);
        const next =
          i + 1 < own.length ? (i + 1 >= firstTarget ? own[i + 1] : ignoredTarget) : (predicts ?? ignoredTarget);
        assert.equal(batch.target[at(P + i)], next);
      }
      assert.equal(batch.length[row], P + own.length);
    }
  });

  test("what is too long is cut: the named field, else the beginning; <s> stays", () => {
    const long = "春天来了，花开了。".repeat(60);
    const [sample] = samplesOf(tasks.headline, { title: "花开", text: long });
    const tight = { lengthTokens: 60, answerTokens: 10 };
    const title = encodeSample(sample!, tasks.headline.templates.title!, tokenizer, tight);
    assert.ok(title.cut);
    const [prompt] = title.prompts;
    assert.ok(prompt!.ids.length <= 49 && prompt!.ids.length >= 45, String(prompt!.ids.length));
    assert.match(prompt!.text, /^春天来了[\s\S]*\n标题：$/);
    const original = encodeSample(sample!, tasks.headline.templates.original!, tokenizer, tight).prompts[0]!;
    assert.equal(original.ids.length, 49);
    assert.deepEqual([...original.ids], [tokenizer.bosId, ...ids(long).slice(-48)]);
    const [problem] = samplesOf(tasks.math23k, { question: "一", equation: "x=1+2+3+4+5+6+7+8+9" });
    const short = encodeSample(problem!, tasks.math23k.templates.original!, tokenizer, tight);
    const [example] = trainingExamples(short, tokenizer, createRandom(1, "t"));
    assert.equal(example!.rows[0]!.ids.includes(tokenizer.eosId), false, "what is cut does not end");
    assert.throws(
      () => encodeSample(sample!, tasks.headline.templates.title!, tokenizer, { lengthTokens: 12, answerTokens: 10 }),
      /CPM_TASK_LENGTH/,
    );
  });

  test("solved examples stand before the input, with the right answers", () => {
    const shots = samplesOf(tasks.c3, { passage: "花开了。", question: "怎样？", options: ["开", "落"], target: 1 });
    const encoded = encodeSample(choice!, tasks.c3.templates.likelihood!, tokenizer, {
      ...limits,
      shots,
      separator: "\n\n",
    });
    assert.match(encoded.prompts[0]!.text, /^花开了。\n问题：怎样？\n答案：落\n\n春天来了/);
  });

  test("ranking: a relevant option beside one that is not, or the query after each relevant one", () => {
    const [query] = samplesOf(tasks.sogou, { query: "明月", titles: ["明月", "大江", "春花"], labels: [1, 0, 2] });
    const random = createRandom(3, "pairs");
    const pairs = trainingExamples(encodeSample(query!, askSogou, tokenizer, limits), tokenizer, random);
    assert.equal(pairs.length, 2);
    for (const { rows, right } of pairs) {
      assert.equal(rows.length, 2);
      assert.equal(rows[right!]!.predicts, ids("是")[0]);
      assert.equal(rows[1 - right!]!.predicts, ids("不")[0]);
    }
    const shown = trainingExamples(
      encodeSample(query!, tasks.sogou.templates.likelihood!, tokenizer, limits),
      tokenizer,
      random,
    );
    assert.equal(shown.length, 2);
    assert.deepEqual([...shown[1]!.rows[0]!.ids].slice(1, -1), ids("春花\n搜索：").concat(ids("明月")));
  });
});

suite("files", () => {
  const read = (name: string, content: string | Uint8Array, limit?: number) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return Array.fromAsync(readTaskSamples(tasks.headline, [path], { limit }));
  };

  test("JSON Lines, plain and gzip, to a limit", async () => {
    const line = JSON.stringify({ title: "甲", text: "乙" });
    assert.equal((await read("a.jsonl", `${line}\n\n${line}\n`)).length, 2);
    const packed = await read("a.jsonl.gz", gzipSync(`${line}\n`.repeat(5)), 3);
    assert.deepEqual(
      packed.map(({ id }) => id),
      ["a.jsonl.gz:1", "a.jsonl.gz:2", "a.jsonl.gz:3"],
    );
  });

  test("a line that is no row is an error with its place", async () => {
    const line = JSON.stringify({ title: "甲", text: "乙" });
    const fails = (content: string | Uint8Array, expected: RegExp) =>
      assert.rejects(read("b.jsonl", content), expected);
    await fails(`${line}\n{"title":"甲"}\n`, /CPM_TASK_ROW[\s\S]*b\.jsonl, line 2[\s\S]*text/);
    await fails(`${line}\n{"title":`, /CPM_TASK_ROW[\s\S]*line 2[\s\S]*not JSON/);
    await fails("[]", /CPM_TASK_ROW/);
    await fails(Uint8Array.of(0x22, 0xff, 0x22), /CPM_TASK_ROW[\s\S]*utf-8/);
    await fails("x".repeat(5 * 1024 * 1024), /CPM_TASK_ROW[\s\S]*longer than/);
  });

  test("the shared files are read to their last row", { skip: skipWithoutShared("data/tasks") }, async () => {
    // Rows as the files' own description counts them; KdConv's samples are the turns after the first.
    const expected = { c3: 3816, ccpm: 1345, math23k: 998, headline: 1000, lcsts: 97, sogou: 47 };
    const folders: Record<string, string> = { lcsts: "lcsts3", sogou: "sogou_qt" };
    for (const name of taskNames) {
      const path = sharedPath(`data/tasks/${folders[name] ?? name}/dev.jsonl.gz`);
      const samples = await Array.fromAsync(readTaskSamples(tasks[name], [path]));
      assert.equal(new Set(samples.map(({ id }) => id)).size, samples.length, name);
      if (name === "kdconv") assert.ok(samples.length > 60 * 10, String(samples.length));
      else assert.equal(samples.length, expected[name]);
    }
    const train = await Array.fromAsync(readTaskSamples(tasks.ccpm, [sharedPath("data/tasks/ccpm/train.jsonl.gz")]));
    assert.equal(train.length, 19_604);
  });
});
