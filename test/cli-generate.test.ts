/** `cpm generate` in this process, over a small model of random weights; a signal in a process of its own. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { main } from "../src/cli/main.ts";
import { createTextGenerator, openTextModel } from "../src/infer/index.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { CancelledError } from "../src/util/error.ts";
import { type CliSetting, runCli, testWorld } from "./support/cli-world.ts";
import { smallConfig, smallVocabulary, temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-generate-");
const at = (name: string) => join(folder, name);
const model = at("model");
const bin = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));

before(async () => {
  await writeSmallModel(model);
});

interface Line {
  readonly prompt: string;
  readonly row: number;
  readonly sample: number;
  readonly text: string;
  readonly ids: readonly number[];
  readonly finish: string;
  readonly logprob: number;
  readonly logprobs: readonly number[];
  readonly score?: number;
  readonly top?: readonly (readonly { id: number; logprob: number }[])[];
  readonly usage: { promptTokens: number; unknown: number; generatedTokens: number };
  readonly timing: { prefillMs: number; steps: number };
}

/** The lines of `--json`. */
async function generated(words: readonly string[], setting: CliSetting = {}): Promise<Line[]> {
  const { code, stdout, stderr } = await runCli(["generate", model, ...words, "--json"], setting);
  assert.equal(code, 0, stderr);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** The same texts for the same prompts; probabilities may differ in their last bits, times at will. */
function assertSame(actual: readonly Line[], expected: readonly Line[]): void {
  const essence = ({ prompt, text, ids, finish }: Line) => ({ prompt, text, ids, finish });
  assert.deepEqual(actual.map(essence), expected.map(essence));
  for (const [i, { logprob }] of actual.entries()) assert.ok(Math.abs(logprob - expected[i]!.logprob) < 1e-3);
}

test("the same seed gives the same text, another seed another", async () => {
  const words = ["春天来了，", "--max-tokens", "30", "--temperature", "1"];
  const [first] = await generated([...words, "--seed", "5"]);
  const [again] = await generated([...words, "--seed", "5"]);
  const [other] = await generated([...words, "--seed", "6"]);
  // How much memory the process has had is no part of it.
  const { ids, logprobs, finish } = first!;
  assert.deepEqual({ ids: again!.ids, logprobs: again!.logprobs, finish: again!.finish }, { ids, logprobs, finish });
  assert.equal(again!.text, first!.text);
  assert.notEqual(other!.text, first!.text);
  assert.ok(first!.text.length > 5);
});

test("JSON tells prompt, ids, reason, probabilities, usage and timing", async () => {
  const words = ["小猫在院子里", "--max-tokens", "4", "--mode", "greedy", "--top-logprobs", "2"];
  let clock = 0;
  const [line] = await generated(words, { now: () => clock++ });
  const { ids, logprobs, top, usage, timing } = line!;
  assert.equal(ids.length, 4);
  assert.deepEqual([line!.prompt, line!.row, line!.sample, line!.finish], ["小猫在院子里", 0, 0, "length"]);
  assert.ok(Math.abs(line!.logprob - logprobs.reduce((a, b) => a + b)) < 1e-9);
  assert.deepEqual(
    top!.map((entries) => entries[0]!.id),
    ids,
  );
  const { vocabulary } = await smallVocabulary();
  assert.equal(line!.text, ids.map((id) => vocabulary.tokens[id]).join(""));
  assert.ok(usage.promptTokens > 2 && usage.promptTokens < 8);
  assert.deepEqual([usage.unknown, usage.generatedTokens], [0, 4]);
  assert.equal(timing.steps, 3);
  assert.ok(timing.prefillMs > 0);
});

test("a batch gives each prompt what it gets alone", async () => {
  writeFileSync(at("prompts.txt.gz"), gzipSync("春天来了，\n\n小猫\r\n孩子们在学校里读书，老师\n"));
  const settings = ["--max-tokens", "20", "--samples", "2", "--seed", "3"];
  const together = await generated(["--file", at("prompts.txt.gz"), ...settings]);
  assert.deepEqual(
    together.map(({ row, sample }) => [row, sample]),
    [0, 1, 2].flatMap((row) => [0, 1].map((sample) => [row, sample])),
  );
  const byStdin = await generated(settings, { stdin: "春天来了，\n小猫\n孩子们在学校里读书，老师\n" });
  assertSame(byStdin, together);
  for (const prompt of ["春天来了，", "小猫", "孩子们在学校里读书，老师"]) {
    const alone = await generated([prompt, ...settings]);
    assertSame(
      alone,
      together.filter((line) => line.prompt === prompt),
    );
    assert.notEqual(alone[0]!.text, alone[1]!.text);
  }
});

test("what is streamed is the whole text, in many pieces", async () => {
  const words = ["春天来了，", "--max-tokens", "40", "--seed", "9"];
  const [whole] = await generated(words);
  const { world, stdout, stderr } = testWorld({});
  const pieces: string[] = [];
  const writer = {
    ...world.stdout,
    write(text: string) {
      pieces.push(text);
      world.stdout.write(text);
    },
  };
  assert.equal(await main(["generate", model, ...words], { ...world, stdout: writer }), 0, stderr());
  assert.equal(stdout(), `${whole!.text}\n`);
  assert.ok(pieces.length > 20, `${pieces.length} pieces`);
  assert.match(stderr(), /^\d+ 个 token，.* tok\/s \| 首个/);
});

test("a terminal is not sent what the model writes as control characters", async () => {
  const { vocabulary } = await smallVocabulary();
  const escapeId = vocabulary.byteIds[0x1b]!;
  const words = ["春天", "--max-tokens", "3", "--logit-bias", `{${escapeId}: 100}`];
  const [line] = await generated(words);
  assert.equal(line!.text, "\u001b\u001b\u001b");
  assert.equal((await runCli(["generate", model, ...words], { isTTY: true })).stdout, "\ufffd\ufffd\ufffd\n");
  assert.equal((await runCli(["generate", model, ...words])).stdout, "\u001b\u001b\u001b\n");
});

test("generation ends before a stop string", async () => {
  const words = ["春天来了，", "--max-tokens", "40", "--seed", "9"];
  const [whole] = await generated(words);
  const stop = whole!.text.slice(7, 9);
  const [line] = await generated([...words, "--stop", stop, "--stop", "never there"]);
  assert.equal(line!.finish, "stop");
  assert.equal(line!.text, whole!.text.slice(0, whole!.text.indexOf(stop)));
  const { stdout } = await runCli(["generate", model, ...words, "--stop", stop]);
  assert.equal(stdout, `${line!.text}\n`);
});

test("beam search gives its best texts with scores that fall", async () => {
  const words = ["春天", "--mode", "beam", "--beam-size", "4", "--samples", "3", "--max-tokens", "8"];
  const lines = await generated(words);
  assert.equal(lines.length, 3);
  const scores = lines.map(({ score }) => score!);
  assert.deepEqual(
    scores,
    scores.toSorted((a, b) => b - a),
  );
  const { stdout } = await runCli(["generate", model, ...words]);
  assert.equal(stdout, `${lines.map(({ text }, i) => `── 1.${i + 1} 春天\n${text}`).join("\n\n")}\n`);
});

test("text that the vocabulary cannot spell is left out and counted", async () => {
  const vocabulary = (await smallVocabulary()).text;
  const spelled = vocabulary.replaceAll(/<0x([0-9A-F]{2})>/g, "nobyte$1");
  mkdirSync(at("characters"));
  for (const name of ["config.json", "model.safetensors"])
    copyFileSync(join(model, name), join(at("characters"), name));
  // The name that the published vocabulary has.
  writeFileSync(join(at("characters"), "ant.txt"), spelled);
  const words = ["--max-tokens", "5", "--mode", "greedy"];
  const { code, stdout, stderr } = await runCli(["generate", at("characters"), "春天😀来了🚀", ...words]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /拼不出 2 处，已略去：春天😀来了🚀/);
  assert.equal((await runCli(["generate", at("characters"), "春天来了", ...words])).stdout, stdout);
  const none = await runCli(["generate", at("characters"), "😀", ...words]);
  assert.equal(none.code, 4);
  assert.match(none.stderr, /CPM_INFER_PROMPT/);
});

test("a model without a config, and a vocabulary of another place", async () => {
  mkdirSync(at("bare"));
  copyFileSync(join(model, "model.safetensors"), at("bare/weights.safetensors"));
  const words = ["春天", "--max-tokens", "5", "--mode", "greedy", "--lang", "en"];
  const bare = ["generate", at("bare/weights.safetensors"), ...words];
  const without = await runCli(bare);
  assert.equal(without.code, 2);
  assert.match(
    without.stderr,
    /CPM_INFER_VOCABULARY[\s\S]*bare\n +expected: vocab\.txt or ant\.txt\n +hint: .*--vocab/,
  );
  const vocabulary = ["--vocab", join(model, "vocab.txt")];
  const config = ["--config", join(model, "config.json")];
  const given = await runCli([...bare, ...vocabulary, ...config]);
  assert.equal(given.code, 0, given.stderr);
  assert.equal(given.stdout, (await runCli(["generate", model, ...words])).stdout);
  // Weights show the product of prompt types and length alone: one type is assumed, so there is no task 2.
  const inferred = await runCli([...bare, ...vocabulary]);
  assert.equal(inferred.code, 2);
  assert.match(inferred.stderr, /there is no config\.json; assumed: [\s\S]*CPM_INFER_TASK[\s\S]*0 to 0/);
  const first = await runCli([...bare, ...vocabulary, "--prompt-task", "0"]);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /5 tokens, /);
});

test("errors say what to do", async () => {
  const fails = async (words: readonly string[], code: number, message: RegExp, setting: CliSetting = {}) => {
    const run = await runCli(["generate", ...words, "--lang", "en"], setting);
    assert.equal(run.code, code, run.stderr);
    assert.match(run.stderr, message);
    assert.equal(run.stdout, "");
  };
  writeFileSync(at("short.txt"), (await smallVocabulary()).text.replace(/[^\n]+\n$/, ""));
  const short = ["--vocab", at("short.txt")];
  await fails([model, "春天", ...short], 4, /CPM_INFER_VOCABULARY_SIZE[\s\S]*1199 tokens[\s\S]*1200/);
  await fails([model, "春天", "--vocab", at("absent.txt")], 4, /CPM_FILE_NOT_FOUND/);
  await fails([at("absent"), "春天"], 4, /CPM_FILE_NOT_FOUND/);
  await fails([model, ""], 4, /CPM_INFER_PROMPT: a prompt has nothing[\s\S]*an empty text/);
  await fails([model, "春天", ""], 4, /CPM_INFER_PROMPT/);
  await fails([model], 2, /there is no text to continue[\s\S]*--file/);
  await fails([model], 2, /there is no text to continue/, { stdin: "\n  \n" });
  writeFileSync(at("p.txt"), "春天\n");
  await fails([model, "春天", "--file", at("p.txt")], 2, /exclude each other/);
  await fails([model, "--file", at("absent.txt")], 4, /CPM_CLI_FILE/);
  await fails([model, "春天", "--prompt-task", "4"], 2, /CPM_INFER_TASK[\s\S]*0 to 3/);
  await fails([model, "春天", "--segment", "8"], 2, /CPM_INFER_SEGMENT[\s\S]*1 to 7/);
  await fails([model, "春天", "--top-p", "1.5"], 2, /--top-p[\s\S]*1\.5/);
  await fails([model, "春天", "--min-tokens", "9", "--max-tokens", "3"], 2, /CPM_INFER_OPTIONS[\s\S]*minTokens/);
  await fails([model, "春天", "--max-tokens", "2000000000"], 2, /CPM_INFER_MEMORY[\s\S]*MiB for 1 rows/);
});

test("a run that is stopped gives what there is, and ends with 130", async () => {
  const words = ["generate", model, "春天来了，", "--max-tokens", "100000", "--logit-bias", "{7: -100}"];
  const stop = new AbortController();
  const { world, stdout, stderr } = testWorld({ signal: stop.signal });
  const writer = {
    ...world.stdout,
    write(text: string) {
      world.stdout.write(text);
      if (stdout().length > 20) stop.abort(new CancelledError("CPM_CANCELLED", "stop"));
    },
  };
  assert.equal(await main(words, { ...world, stdout: writer }), 130);
  assert.ok(stdout().length > 20 && stdout().length < 200 && stdout().endsWith("\n"));
  assert.match(stderr(), /tok\/s/);

  // As JSON, with the timer that only a free event loop lets run.
  const later = new AbortController();
  const timer = setTimeout(() => later.abort(new CancelledError("CPM_CANCELLED", "stop")), 300);
  const run = await runCli([...words, "小猫", "--json"], { signal: later.signal });
  clearTimeout(timer);
  assert.equal(run.code, 130);
  const lines: Line[] = run.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ finish }) => finish),
    ["cancelled", "cancelled"],
  );
});

test("texts keep to a JSON Schema, a grammar or a regular expression", async () => {
  const schema = at("schema.json");
  writeFileSync(
    schema,
    JSON.stringify({
      type: "object",
      properties: {
        地点: { enum: ["北京", "上海"] },
        次数: { type: "integer" },
        备注: { type: "string", maxLength: 3 },
      },
      required: ["地点", "次数"],
      additionalProperties: false,
    }),
  );
  const grammar = at("weather.gbnf");
  writeFileSync(grammar, 'root ::= city "，" ("晴" | "雨") [一二三]{1,2} "天"\ncity ::= "北京" | "上海"\n');
  const words = ["天气：", "--max-tokens", "60", "--temperature", "1", "--samples", "4"];
  for (const { text, finish } of await generated([...words, "--schema", schema])) {
    if (finish !== "stop") continue;
    const value = JSON.parse(text) as Record<string, unknown>;
    assert.ok(["北京", "上海"].includes(value.地点 as string) && Number.isInteger(value.次数), text);
  }
  const sentence = /^(北京|上海)，[晴雨][一二三]{1,2}天$/;
  for (const { text } of await generated([...words, "--grammar", grammar])) assert.match(text, sentence);
  for (const { text } of await generated([...words, "--regex", sentence.source])) assert.match(text, sentence);
  for (const { text, finish } of await generated([...words, "--json-object", "--logit-bias", "{7: 5}"])) {
    if (finish === "stop") assert.equal(typeof JSON.parse(text), "object");
  }
  const both = await runCli(["generate", model, ...words, "--json-object", "--regex", "a"]);
  assert.equal(both.code, 2, both.stderr);
  writeFileSync(schema, '{"type": "number", "minimum": 3}');
  const refused = await runCli(["generate", model, ...words, "--schema", schema], { env: { LANG: "en" } });
  assert.match(refused.stderr, /CPM_INFER_SCHEMA[\s\S]*\/minimum/);
  writeFileSync(schema, "no JSON");
  const broken = await runCli(["generate", model, ...words, "--schema", schema]);
  assert.match(broken.stderr, /CPM_INFER_SCHEMA/);
});

test("drafts change no greedy text and no looked-up one", async () => {
  const small = at("small");
  await writeSmallModel(small, { config: { ...smallConfig, layers: 1 } });
  const words = ["春天来了，春天来了，", "--max-tokens", "40", "--samples", "2"];
  const plain = await generated([...words, "--mode", "greedy"]);
  assertSame(await generated([...words, "--mode", "greedy", "--draft", small]), plain);
  assertSame(await generated([...words, "--lookup"]), await generated(words));
  const [line] = await generated([...words, "--draft", small]);
  assert.equal(line!.ids.length, line!.usage.generatedTokens);
  const both = await runCli(["generate", model, ...words, "--draft", small, "--lookup"]);
  assert.equal(both.code, 2);
  const lines = readFileSync(join(small, "vocab.txt"), "utf8").split("\n");
  [lines[50], lines[51]] = [lines[51]!, lines[50]!];
  writeFileSync(join(small, "vocab.txt"), lines.join("\n"));
  const other = await runCli(["generate", model, ...words, "--draft", small]);
  assert.match(other.stderr, /CPM_INFER_DRAFT/);
});

test("Ctrl-C ends a process that generates", async () => {
  const words = [bin, "generate", model, "春天", "--max-tokens", "200000", "--logit-bias", "{7: -100}"];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stderr.on("data", (piece) => {
    stderr += piece;
  });
  child.stdout.on("data", (piece) => {
    if (stdout === "") child.kill("SIGINT");
    stdout += piece;
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  assert.equal(code, 130, stderr);
  assert.ok(stdout.endsWith("\n"));
  assert.match(stderr, /tok\/s/);
});

test("a generator serves one run after another and keeps nothing", async () => {
  using runtime = createNativeRuntime();
  const opened = await openTextModel(runtime, model);
  const generator = createTextGenerator(runtime, opened);
  const textOf = async (prompt: string, maxTokens: number) => {
    let text = "";
    for await (const event of generator.stream([prompt], { maxTokens, seed: 2 })) text += event.text;
    return text;
  };
  const short = await textOf("春天", 10);
  const long = await textOf("春天", 50); // more room: another session
  assert.ok(long.startsWith(short) && long.length > short.length);
  const programs = runtime.memory().programs;
  assert.equal(await textOf("春天", 10), short);
  assert.equal(runtime.memory().programs, programs);
  // Broken off in the middle, then used again.
  for await (const event of generator.stream(["小猫"], { maxTokens: 50 })) if (event.text !== "") break;
  assert.equal(await textOf("春天", 10), short);
  generator.dispose();
  opened.dispose();
  assert.deepEqual([runtime.memory().tensors, runtime.memory().programs], [0, 0]);
  assert.equal(existsSync(opened.vocabularyPath), true);
  assert.equal(opened.config.vocabSize, smallConfig.vocabSize);
});
