import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "../../test/support/cli-world.ts";
import {
  CancelledError,
  CheckpointError,
  ConfigError,
  CpmError,
  DataError,
  FileError,
  RuntimeError,
  ShapeError,
  UnsupportedError,
} from "../util/error.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { verbs } from "./registry.ts";
import { errorAsJson, renderError } from "./render-error.ts";
import { textWidth } from "./text-width.ts";

test("the overview lists every verb in the reader's language and fits the terminal", async () => {
  const { code, stdout, stderr } = await runCli(["--help"], { columns: 60 });
  assert.equal(code, 0);
  assert.equal(stderr, "");
  for (const { name, summary } of verbs) {
    assert.ok(stdout.includes(name));
    assert.ok(stdout.replaceAll(/\s/g, "").includes(summary.zh.replaceAll(/\s/g, "")), summary.zh);
  }
  for (const line of stdout.split("\n").slice(1)) assert.ok(textWidth(line) <= 60, line);
  assert.match((await runCli(["--lang", "en", "--help"])).stdout, /^Commands:$/m);
  assert.match((await runCli(["help"], { env: { LANG: "en_GB.UTF-8" } })).stdout, /^Commands:$/m);
});

test("without words the overview goes to stderr and the code is 2", async () => {
  const { code, stdout, stderr } = await runCli([]);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /命令：/);
});

test("the version", async () => {
  assert.match((await runCli(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test("an unknown verb is a usage error with the nearest one", async () => {
  const { code, stderr } = await runCli(["docter"]);
  assert.equal(code, 2);
  assert.match(stderr, /没有命令 docter。[\s\S]*是不是 cpm doctor？/);
  assert.match((await runCli(["--lang", "en", "--halp"])).stderr, /cpm has no option --halp/);
});

test("help of a verb by flag and by the word help", async () => {
  const byFlag = await runCli(["doctor", "--help"]);
  assert.equal(byFlag.code, 0);
  assert.deepEqual(await runCli(["help", "doctor"]), byFlag);
});

test("an unknown language is a usage error", async () => {
  const { code, stderr } = await runCli(["--lang", "fr", "doctor"]);
  assert.equal(code, 2);
  assert.match(stderr, /CPM_CLI_LANGUAGE/);
});

test("with --json errors are JSON too", async () => {
  const { code, stderr } = await runCli(["doctor", "--json", "--threads", "0"]);
  assert.equal(code, 2);
  assert.equal(JSON.parse(stderr).error.code, "CPM_CLI_OPTION");
});

test("every verb's module agrees with the registry", async () => {
  for (const verb of verbs) {
    const { default: definition } = await verb.load();
    assert.equal(definition.name, verb.name);
    assert.deepEqual({ ...definition.summary }, { ...verb.summary });
  }
});

test("exit codes follow the classes of errors", () => {
  const codeOf = (Class: typeof CpmError) => exitCodeOf(new Class("CPM_X", "x"));
  assert.deepEqual([ConfigError, UnsupportedError, RuntimeError].map(codeOf), [2, 3, 3]);
  assert.deepEqual([CheckpointError, DataError, FileError].map(codeOf), [4, 4, 4]);
  assert.deepEqual([CancelledError, ShapeError, CpmError].map(codeOf), [130, 1, 1]);
  assert.equal(exitCodeOf(new Error("internal: x")), 1);
});

test("a library error shows its Chinese headline, the original sentence and every detail", () => {
  const error = new FileError("CPM_CLI_FILE", "A file cannot be read.", {
    where: "a.txt",
    got: "nothing",
    expected: "a file",
    hint: "Look again.",
    cause: new Error("ENOENT: no such file"),
  });
  const zh = renderError(error, "zh");
  assert.match(zh, /^cpm: 错误 CPM_CLI_FILE：\p{Script=Han}/u);
  for (const part of ["详情：A file", "位置：a.txt", "得到：nothing", "应为：a file", "建议：", "起因：ENOENT"]) {
    assert.ok(zh.includes(part), `${part} is not in\n${zh}`);
  }
  const en = renderError(error, "en");
  assert.match(en, /^cpm: error CPM_CLI_FILE: A file cannot be read\.$/m);
  assert.match(en, /^ {2}hint: Look again\.$/m);
  assert.deepEqual(errorAsJson(error), {
    error: {
      code: "CPM_CLI_FILE",
      message: "A file cannot be read.",
      where: "a.txt",
      got: "nothing",
      expected: "a file",
      hint: "Look again.",
    },
  });
});

test("a bug of ours is shown with its stack", () => {
  assert.match(renderError(new Error("internal: odd"), "en"), /an internal error[\s\S]*internal: odd[\s\S]*at /);
});
