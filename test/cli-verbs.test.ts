/** The verbs that need no model, run in this process on real files; signals and pipes in a process of their own. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openCheckpoint, saveCheckpoint } from "../src/checkpoint/index.ts";
import { parameterRows } from "../src/cli/verbs/inspect.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterElements, parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { runCli } from "./support/cli-world.ts";
import { sharedPath, skipWithoutShared } from "./support/shared.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-verbs-"));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const corpus = fileURLToPath(new URL("../corpus", import.meta.url));
const bin = fileURLToPath(new URL("../bin/cpm.js", import.meta.url));

const small: ModelConfig = {
  ...preset("tiny"),
  vocabSize: 40,
  dimModel: 16,
  dimFf: 24,
  layers: 4,
  heads: 2,
  dimHead: 8,
  maskModules: [
    [false, false],
    [false, false],
    [true, false],
    [false, false],
  ],
};

/** A model's folder with known weights. */
async function writeModel(name: string): Promise<string> {
  const tensors = parameterTable(small).map((parameter, index) => ({
    name: parameter.name,
    dtype: "float32" as const,
    shape: parameter.shape,
    read: async () =>
      Float32Array.from({ length: parameterElements(parameter) }, (_, i) => ((i * 31 + index) % 64) / 64),
  }));
  await saveCheckpoint(at(name), small, tensors, { files: { "vocab.txt": "<pad>\n" }, overwrite: true });
  return at(name);
}

test("doctor finds the runtime and multiplies rightly", async () => {
  const { code, stdout } = await runCli(["doctor", "--json"]);
  assert.equal(code, 0, stdout);
  const report = JSON.parse(stdout);
  assert.equal(report.ok, true);
  assert.equal(report.runtime.kind, "native");
  assert.ok(report.product.gflops > 0.5 && report.product.relativeError < 1e-5);
  const shown = await runCli(["doctor", "--lang", "en", "--threads", "1"]);
  assert.match(shown.stdout, /ONNX Runtime \d[\s\S]*All is well\./);
});

test("doctor says what is missing and exits with 3", async () => {
  const { code, stdout } = await runCli(["doctor", "--device", "cuda"]);
  if (code === 0) return; // a machine with CUDA
  assert.equal(code, 3);
  assert.match(stdout, /✖[\s\S]*→ 为这个设备安装驱动/);
});

test("a vocabulary is trained and cuts text without loss", async () => {
  const vocabulary = at("vocab.txt");
  const trained = await runCli(["tokenizer", "train", corpus, "--size", "2000", "-o", vocabulary, "--json"]);
  assert.equal(trained.code, 0, trained.stderr);
  assert.equal(JSON.parse(trained.stdout).size, 2000);
  const again = await runCli(["tokenizer", "train", corpus, "--size", "2000", "-o", at("again.txt")]);
  assert.match(again.stdout, /^已写入 .*：2,000 个 token/);
  assert.equal(readFileSync(at("again.txt"), "utf8"), readFileSync(vocabulary, "utf8"));

  const text = "春天来了，小猫 cat 在院子里。";
  const byArgument = await runCli(["tokenize", "--vocab", vocabulary, text]);
  assert.equal(byArgument.code, 0, byArgument.stderr);
  const { ids, tokens } = JSON.parse(byArgument.stdout);
  assert.equal(ids.length, tokens.length);
  assert.match(byArgument.stderr, /1 段，17 个字符/);
  const byStdin = await runCli(["tokenize", "--vocab", vocabulary], { stdin: `${text}\n` });
  assert.equal(byStdin.stdout, byArgument.stdout);
  writeFileSync(at("a.jsonl"), `${JSON.stringify({ content: text })}\n`);
  const byFile = await runCli(["tokenize", "--vocab", vocabulary, "--jsonl", at("a.jsonl"), "--field", "content"]);
  assert.equal(byFile.stdout, byArgument.stdout);
  const both = await runCli(["tokenize", "--vocab", vocabulary, "--jsonl", at("a.jsonl"), text]);
  assert.equal(both.code, 2);
});

test("text that the vocabulary cannot spell is kept or dropped, and counted", async () => {
  const vocabulary = at("characters.txt");
  await runCli(["tokenizer", "train", corpus, "--size", "3000", "--fallback", "character", "-o", vocabulary]);
  const kept = await runCli(["tokenize", "--vocab", vocabulary, "a😀b"]);
  const dropped = await runCli(["tokenize", "--vocab", vocabulary, "--unknown", "drop", "a😀b"]);
  assert.deepEqual(JSON.parse(kept.stdout).tokens, ["a", "<unk>", "b"]);
  assert.deepEqual(JSON.parse(dropped.stdout).tokens, ["a", "b"]);
  for (const { stderr } of [kept, dropped]) assert.match(stderr, /拼不出 1 处/);
});

test("a corpus without text and an absent vocabulary are input errors", async () => {
  writeFileSync(at("empty.jsonl"), '{"other":1}\n');
  const empty = await runCli(["tokenizer", "train", at("empty.jsonl"), "-o", at("never.txt")]);
  assert.equal(empty.code, 4);
  assert.match(empty.stderr, /略过 .*empty\.jsonl:1[\s\S]*CPM_CLI_NO_TEXT/);
  assert.equal(existsSync(at("never.txt")), false);
  assert.equal((await runCli(["tokenize", "--vocab", at("absent.txt"), "x"])).code, 4);
});

test("the published vocabulary gives the original's ids", { skip: skipWithoutShared("golden") }, async () => {
  const golden = sharedPath("golden/tokenizer.ant.jsonl");
  const { stdout } = await runCli(["tokenize", "--vocab", sharedPath("vocab/ant.txt"), "--jsonl", golden]);
  const idsOf = (lines: string) =>
    lines
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).ids);
  assert.deepEqual(idsOf(stdout), idsOf(readFileSync(golden, "utf8")));
});

test("inspect counts the published model exactly and collapses its layers", async () => {
  const { code, stdout } = await runCli(["inspect", "--preset", "10b", "--json"]);
  assert.equal(code, 0);
  const report = JSON.parse(stdout);
  assert.equal(report.parameters, 9_391_624_192);
  assert.equal(report.memoryBytes.float16, 2 * 9_391_624_192);
  assert.equal(report.memoryBytes.cachePerToken, 2 * 48 * 4096 * 4);
  assert.equal(report.table.length, 14);
  assert.equal(report.table[4].name, "encoder.layers.{0-47}.self_att.layernorm_before_attention.weight");
});

test("layers are collapsed only where they are equal", () => {
  const rows = parameterRows(parameterTable(small), () => "float32", false);
  const names = rows.map(({ name }) => name);
  assert.ok(names.includes("encoder.layers.{0-1}.ffn.ffn.w_out.weight"));
  assert.ok(names.includes("encoder.layers.2.ffn.ffn.w_out.weight"));
  assert.ok(names.includes("encoder.layers.3.self_att.self_attention.project_q.weight"));
  assert.ok(!names.some((name) => name.includes("layers.2.self_att")));
  const all = parameterRows(parameterTable(small), () => "float32", true);
  assert.equal(all.length, parameterTable(small).length);
  const total = (list: typeof rows) => list.reduce((sum, { elements }) => sum + elements, 0);
  assert.equal(total(rows), total(all));
  // A layer of another dtype stands alone.
  const mixed = parameterRows(
    parameterTable({ ...small, maskModules: undefined }),
    (name) => (name.includes(".1.") ? "float16" : "float32"),
    false,
  );
  assert.ok(mixed.some(({ name }) => name.startsWith("encoder.layers.{2-3}.")));
});

test("inspect shows a folder, and a wrong call is a usage error", async () => {
  const model = await writeModel("model");
  const { code, stdout } = await runCli(["inspect", model]);
  assert.equal(code, 0);
  assert.match(stdout, /布局 +cpm-live/);
  assert.match(stdout, /encoder\.layers\.\{0-1\}/);
  assert.equal((await runCli(["inspect"])).code, 2);
  assert.equal((await runCli(["inspect", model, "--preset", "10b"])).code, 2);
  assert.equal((await runCli(["inspect", at("absent")])).code, 4);
});

test("convert to Hugging Face's layout and back gives the same weights", async () => {
  const model = await writeModel("model");
  const there = await runCli(["convert", model, at("hf"), "--layout", "hf-cpmant", "--max-shard", "10KB", "--json"]);
  assert.equal(there.code, 0, there.stderr);
  assert.ok(JSON.parse(there.stdout).files.includes("vocab.txt"));
  assert.ok(readdirSync(at("hf")).filter((name) => name.endsWith(".safetensors")).length > 1);
  assert.match((await runCli(["inspect", at("hf"), "--json"])).stdout, /"layout": "hf-cpmant"/);
  const back = await runCli(["convert", at("hf"), at("back")]);
  assert.match(back.stdout, /已写入 .*back：.*model\.safetensors \(/);
  await using before = await openCheckpoint(model);
  await using afterwards = await openCheckpoint(at("back"));
  for (const name of before.names()) {
    const [a, b] = [await before.tensor(name).readFloat32(), await afterwards.tensor(name).readFloat32()];
    const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
    assert.ok(worst < 1e-6, `${name} differs by ${worst}`);
  }
});

test("convert refuses to write over a folder unless told to", async () => {
  const model = await writeModel("model");
  await writeModel("taken");
  const refused = await runCli(["convert", model, at("taken")]);
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /CPM_FILE_EXISTS/);
  assert.equal((await runCli(["convert", model, at("taken"), "--dtype", "float16", "--overwrite"])).code, 0);
  assert.match((await runCli(["inspect", at("taken"), "--json"])).stdout, /"dtype": "float16"/);
});

test("a cancelled conversion leaves nothing behind", async () => {
  const model = await writeModel("model");
  const { CancelledError } = await import("../src/util/error.ts");
  const signal = AbortSignal.abort(new CancelledError("CPM_CANCELLED", "stop"));
  const { code } = await runCli(["convert", model, at("cancelled")], { signal });
  assert.equal(code, 130);
  assert.equal(existsSync(at("cancelled")), false);
});

test("Ctrl-C ends a command that waits for input", async () => {
  await runCli(["tokenizer", "train", corpus, "--size", "2000", "-o", at("signal.txt")]);
  const child = spawn(process.execPath, [bin, "tokenize", "--vocab", at("signal.txt")], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.write("一\n");
  await once(child.stdout, "data");
  child.kill("SIGINT");
  const [code] = await once(child, "exit");
  assert.equal(code, 130);
});

test("a reader that has enough ends the command quietly", async () => {
  await runCli(["tokenizer", "train", corpus, "--size", "2000", "-o", at("pipe.txt")]);
  writeFileSync(at("long.jsonl"), '{"text":"春天来了"}\n'.repeat(20_000));
  const words = [bin, "tokenize", "--vocab", at("pipe.txt"), "--jsonl", at("long.jsonl")];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (piece) => {
    complaint += piece;
  });
  await once(child.stdout, "data");
  child.stdout.destroy();
  const [code] = await once(child, "exit");
  assert.deepEqual([code, complaint], [141, ""]);
});
