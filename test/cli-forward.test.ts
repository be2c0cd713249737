/** `cpm forward` in this process: the original's numbers from every format of weights, and inputs that are wrong. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { openCheckpoint, saveCheckpoint, type WritableTensor, writeSafetensors } from "../src/checkpoint/index.ts";
import type { DType, HostArray } from "../src/runtime/dtype.ts";
import { runCli } from "./support/cli-world.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { goldenPath, readGolden, readTensors } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";
import { smallConfig, temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-forward-");
const at = (name: string) => join(folder, name);

let outputs = 0;

/** Runs the verb; fails unless it succeeds. Gives all tensors of the output, as numbers. */
async function forward(model: string, input: string, ...words: string[]) {
  const output = at(`out-${outputs++}.safetensors`);
  const { code, stdout, stderr } = await runCli([
    ...["forward", "--model", model, "--input", input, "--output", output, "--json"],
    ...words,
  ]);
  assert.equal(code, 0, stderr);
  return { tensors: await readTensors(output), summary: JSON.parse(stdout), stderr };
}

suite("golden forward", { skip: skipWithoutShared("golden") }, () => {
  for (const model of ["full", "pruned"]) {
    const weights = goldenPath(`${model}.model.safetensors`);
    const config = ["--config", goldenPath(`${model}.config.json`)];

    test(`${model}: outputs, loss and every gradient`, async () => {
      const golden = await readGolden(`${model}.train.safetensors`);
      const { tensors, summary, stderr } = await forward(
        weights,
        goldenPath(`${model}.train.safetensors`),
        ...config,
        "--grad",
      );
      for (const name of ["logits", "hidden", "loss"]) {
        assert.deepEqual(tensors.get(name)!.shape, golden.get(name)!.shape);
        assertClose(tensors.get(name)!.data, golden.get(name)!.data, 1e-5, name);
      }
      const gradients = [...golden.keys()].filter((name) => name.startsWith("grad."));
      assert.ok(gradients.length > 20);
      for (const name of gradients) {
        assert.deepEqual(tensors.get(name)!.shape, golden.get(name)!.shape);
        assertClose(tensors.get(name)!.data, golden.get(name)!.data, 1e-4, name);
      }
      assert.deepEqual([...tensors.keys()].sort(), [...gradients, "hidden", "logits", "loss"].sort());
      assertClose([summary.loss], golden.get("loss")!.data, 1e-5, "loss of the summary");
      assert.equal(stderr.match(/batch\.position/g)?.length, 1);
    });

    for (const rows of [1, 2]) {
      test(`${model}: greedy decoding of ${rows}`, async () => {
        const golden = await readGolden(`${model}.greedy${rows}.safetensors`);
        const { tensors } = await forward(
          weights,
          goldenPath(`${model}.greedy${rows}.safetensors`),
          ...config,
          "--decode",
          "16",
        );
        assert.deepEqual(tensors.get("next"), {
          dtype: "I64",
          shape: [rows, 16],
          data: Array.from(golden.get("next")!.data),
        });
        assert.deepEqual(tensors.get("logits")!.shape, golden.get("logits")!.shape);
        assertClose(tensors.get("logits")!.data, golden.get("logits")!.data, 1e-4, "logits");
        assert.equal(tensors.size, 2);
      });
    }
  }

  test("every format and layout gives the same logits, fp16 within its rounding", async () => {
    const config = ["--config", goldenPath("full.config.json")];
    const input = goldenPath("full.train.safetensors");
    const golden = (await readGolden("full.train.safetensors")).get("logits")!.data;
    const logits = async (model: string, ...words: string[]) =>
      (await forward(model, input, ...words)).tensors.get("logits")!.data;

    assertClose(await logits(goldenPath("full.model.pt"), ...config), golden, 1e-5, "fp32 .pt");
    const half = await logits(goldenPath("full.model.fp16.pt"), ...config);
    assertClose(half, golden, 2e-3, "fp16 .pt");
    assert.ok(relativeError(half, golden) > 1e-6, "fp16 weights are rounded");

    const there = await runCli(["convert", goldenPath("full.model.pt"), at("hf"), "--layout", "hf-cpmant", ...config]);
    assert.equal(there.code, 0, there.stderr);
    assertClose(await logits(at("hf")), golden, 1e-5, "Hugging Face's layout");
    const back = await runCli(["convert", at("hf"), at("back")]);
    assert.equal(back.code, 0, back.stderr);
    assertClose(await logits(at("back")), golden, 1e-5, "and back");
  });
});

const rows = 2;
const columns = smallConfig.promptLength + 5;
const grid = [rows, columns];

interface Given {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: HostArray;
}

const int32 = (shape: readonly number[], valueAt: (row: number, column: number) => number): Given => {
  const width = shape[1] ?? 1;
  const count = shape.reduce((product, size) => product * size, 1);
  const data = Int32Array.from({ length: count }, (_, i) => valueAt(Math.floor(i / width), i % width));
  return { dtype: "int32", shape, data };
};
const P = smallConfig.promptLength;
const soft = 2 * P;

/** A batch that is all right, of other dtypes than the golden ones. */
const goodBatch: Readonly<Record<string, Given>> = {
  "batch.input": int32(grid, (row, column) => (column < P ? soft + column : 10 + 3 * row + column)),
  "batch.length": { dtype: "uint8", shape: [rows], data: Uint8Array.of(columns, columns - 2) },
  "batch.context": { dtype: "uint8", shape: grid, data: new Uint8Array(rows * columns).fill(1) },
  "batch.segment": int32(grid, (_, column) => (column < P ? 0 : 2)),
  "batch.span": { dtype: "int8", shape: grid, data: new Int8Array(rows * columns) },
  "batch.target": int32(grid, (_, column) => (column === P + 1 ? 7 : -100)),
};
const goodPrompts: Readonly<Record<string, Given>> = {
  input: int32(grid, (row, column) => (column < P ? soft + column : 10 + 3 * row + column)),
  length: { dtype: "int64", shape: [rows], data: BigInt64Array.of(5n, 3n) },
};

suite("forward over a small model", () => {
  before(async () => await writeSmallModel(at("model"), { withVocabulary: false }));

  let inputs = 0;
  async function writeInput(tensors: Readonly<Record<string, Given | undefined>>): Promise<string> {
    const path = at(`in-${inputs++}.safetensors`);
    const written = Object.entries(tensors).flatMap(([name, tensor]): WritableTensor[] =>
      tensor === undefined ? [] : [{ name, dtype: tensor.dtype, shape: tensor.shape, read: () => tensor.data }],
    );
    await writeSafetensors(path, written);
    return path;
  }

  async function refused(tensors: Readonly<Record<string, Given | undefined>>, expected: RegExp, ...words: string[]) {
    const output = at("refused.safetensors");
    const path = await writeInput(tensors);
    const run = await runCli([
      "forward",
      "--model",
      at("model"),
      "--input",
      path,
      "-o",
      output,
      "--lang",
      "en",
      ...words,
    ]);
    assert.equal(run.code, 4, run.stderr);
    assert.match(run.stderr, expected);
    assert.equal(existsSync(output), false);
  }

  test("whole numbers of any width, with and without targets", async () => {
    const { tensors, stderr } = await forward(at("model"), await writeInput(goodBatch));
    assert.equal(stderr, "");
    assert.ok(tensors.get("loss")!.data[0]! > 0);
    const { tensors: without } = await forward(
      at("model"),
      await writeInput({ ...goodBatch, "batch.target": undefined }),
    );
    assert.deepEqual([...without.keys()].sort(), ["hidden", "logits"]);
    assert.deepEqual(without.get("logits"), tensors.get("logits"));
    const ignored = int32(grid, () => -100);
    const empty = await forward(at("model"), await writeInput({ ...goodBatch, "batch.target": ignored }));
    assert.match(empty.stderr, /没有 loss/);
    assert.equal(empty.tensors.has("loss"), false);
  });

  test("batch.prompt says where a packed row's prompts are", async () => {
    const plain = await forward(at("model"), await writeInput(goodBatch));
    const flags = int32(grid, (_, column) => Number(column < P));
    const same = await forward(at("model"), await writeInput({ ...goodBatch, "batch.prompt": flags }));
    assertClose(same.tensors.get("logits")!.data, plain.tensors.get("logits")!.data, 1e-6);
    // Both rows one after the other in one row: its second half is what the second row gives.
    const pair = (tensor: Given, rise = 0) =>
      int32([1, 2 * columns], (_, column) => Number(tensor.data[column]!) + (column < columns ? 0 : rise));
    const packed = {
      "batch.input": pair(goodBatch["batch.input"]!),
      "batch.length": { dtype: "int32", shape: [1], data: Int32Array.of(2 * columns - 2) } as const,
      "batch.context": pair(goodBatch["batch.context"]!),
      "batch.segment": pair(goodBatch["batch.segment"]!),
      "batch.span": pair(goodBatch["batch.span"]!, 1),
      "batch.target": pair(goodBatch["batch.target"]!),
      "batch.prompt": pair(flags),
    };
    const { tensors } = await forward(at("model"), await writeInput(packed), "--grad");
    const V = smallConfig.vocabSize;
    const real = (data: readonly number[]) => data.slice(columns * V, (2 * columns - 2) * V);
    assertClose(real(tensors.get("logits")!.data), real(plain.tensors.get("logits")!.data), 1e-5);
    assertClose(tensors.get("loss")!.data, plain.tensors.get("loss")!.data, 1e-5);
    await refused({ ...goodBatch, "batch.prompt": int32(grid, () => 2) }, /batch\.prompt, row 0, column 0\n +got: 2/);
  });

  test("a row decodes in a batch as it does alone, and as the forward pass says", async () => {
    const { tensors } = await forward(at("model"), await writeInput(goodPrompts), "--decode", "3");
    const data = (goodPrompts.input!.data as Int32Array).slice(columns);
    const alone = await forward(
      at("model"),
      await writeInput({
        input: { dtype: "int32", shape: [1, columns], data },
        length: { dtype: "int32", shape: [1], data: Int32Array.of(3) },
      }),
      "--decode",
      "3",
    );
    assert.deepEqual(alone.tensors.get("next")!.data, tensors.get("next")!.data.slice(3));
    assertClose(alone.tensors.get("logits")!.data, tensors.get("logits")!.data.slice(3 * smallConfig.vocabSize), 1e-5);
    // Row 0 has no padding: its prompt is a right-padded batch as well.
    const whole = await forward(at("model"), await writeInput(goodBatch));
    const V = smallConfig.vocabSize;
    const last = whole.tensors.get("logits")!.data.slice((columns - 1) * V, columns * V);
    assertClose(tensors.get("logits")!.data.slice(0, V), last, 1e-5, "first step");
  });

  test("what is wrong with a batch is said by name", async () => {
    await refused({}, /CPM_FORWARD_INPUT: the input lacks batch\.input, batch\.length, batch\.context/);
    await refused({ ...goodBatch, "batch.span": undefined }, /lacks batch\.span\n/);
    await refused(goodPrompts, /hint: Add them; cpm forward --decode N/);
    const floats = { dtype: "float32", shape: grid, data: new Float32Array(rows * columns).fill(Number.NaN) } as const;
    await refused({ ...goodBatch, "batch.segment": floats }, /batch\.segment\n +got: F32\n +expected: .*I64/);
    await refused(
      { ...goodBatch, "batch.span": int32([rows, columns - 1], () => 0) },
      new RegExp(`batch\\.span\\n +got: \\[2, ${columns - 1}\\]\\n +expected: \\[2, ${columns}\\]`),
    );
    await refused({ ...goodBatch, "batch.input": int32([4], () => 0) }, /batch\.input\n +got: \[4\]/);
    await refused({ ...goodBatch, "batch.length": int32([3], () => 1) }, /got: \[3\]\n +expected: \[2\]/);
    const outside = int32(grid, (row, column) => (row === 1 && column === P + 2 ? 5000 : 0));
    await refused(
      { ...goodBatch, "batch.input": outside },
      new RegExp(`CPM_DATA_BATCH[\\s\\S]*input, row 1, column ${P + 2}[\\s\\S]*token id 5000`),
    );
    const huge = { dtype: "int64", shape: grid, data: new BigInt64Array(rows * columns).fill(2n ** 40n) } as const;
    await refused({ ...goodBatch, "batch.target": huge }, /batch\.target, row 0, column 0\n +got: 1099511627776/);
    await refused({ ...goodBatch, "batch.context": int32(grid, () => 256) }, /batch\.context, row 0, column 0/);
    await refused({ ...goodBatch, "batch.target": undefined }, /CPM_FORWARD_TARGET/, "--grad");
    await refused({ ...goodBatch, "batch.target": int32(grid, () => -100) }, /CPM_FORWARD_TARGET/, "--grad");
  });

  test("what is wrong with prompts is said by name", async () => {
    const decode = ["--decode", "2"];
    await refused(goodBatch, /lacks input, length/, ...decode);
    const mixed = int32(grid, (row, column) => (column < P ? row * P + column : 9));
    await refused({ ...goodPrompts, input: mixed }, /input, row 1, column 0\n +got: prompt id 8/, ...decode);
    const noTask = int32(grid, (_, column) => (column < P ? 99 * P + column : 9));
    await refused({ ...goodPrompts, input: noTask }, /task 0 to 3/, ...decode);
    await refused({ ...goodPrompts, length: int32([rows], () => 6) }, /length, row 0\n +got: 6\n.*1 to 5/, ...decode);
    await refused({ ...goodPrompts, length: int32([rows], () => 0) }, /length, row 0\n +got: 0/, ...decode);
    const outside = int32(grid, (_, column) => (column < P ? soft + column : column === columns - 1 ? -1 : 9));
    await refused({ ...goodPrompts, input: outside }, /row 0, column 12\n +got: token id -1/, ...decode);
    await refused({ ...goodPrompts, input: int32([rows, P], () => 0) }, /more than the soft prompt's 8/, ...decode);
  });

  test("weights that give no number write nothing", async () => {
    await using checkpoint = await openCheckpoint(at("model"));
    const tensors = checkpoint.names().map((name) => {
      const { shape, readFloat32 } = checkpoint.tensor(name);
      const read = async () =>
        name.endsWith("output_layernorm.weight") ? (await readFloat32()).fill(Number.NaN) : readFloat32();
      return { name, dtype: "float32" as const, shape, read };
    });
    await saveCheckpoint(at("nan"), checkpoint.config, tensors);
    for (const [input, where, words] of [
      [goodBatch, /CPM_FORWARD_NAN[\s\S]*logits \[2, 13, 1200\], element 0/, []],
      [goodPrompts, /CPM_FORWARD_NAN[\s\S]*logits, row 0, step 0, element 0/, ["--decode", "2"]],
    ] as const) {
      const path = await writeInput(input);
      const output = at("nan.safetensors");
      const run = await runCli(["forward", "--model", at("nan"), "--input", path, "-o", output, ...words]);
      assert.equal(run.code, 3, run.stderr);
      assert.match(run.stderr, where);
      assert.equal(existsSync(output), false);
    }
  });

  test("wrong calls, absent files and too many steps", async () => {
    const input = await writeInput(goodPrompts);
    const words = ["forward", "--model", at("model"), "--input", input, "-o", at("x.safetensors")];
    assert.equal((await runCli([...words, "--grad", "--decode", "2"])).code, 2);
    assert.equal((await runCli([...words, "--decode", "0"])).code, 2);
    const many = await runCli([...words, "--decode", "1000000000"]);
    assert.equal(many.code, 2);
    assert.match(many.stderr, /CPM_INFER_MEMORY/);
    assert.equal((await runCli([...words, "--decode", "2", "--segment", "8"])).code, 2);
    assert.equal((await runCli(["forward", "--model", at("none"), "--input", input, "-o", at("x")])).code, 4);
    assert.equal((await runCli(["forward", "--model", at("model"), "--input", at("none"), "-o", at("x")])).code, 4);
    const noSafetensors = at("model/config.json");
    const run = await runCli(["forward", "--model", at("model"), "--input", noSafetensors, "-o", at("x")]);
    assert.match(run.stderr, /CPM_SAFETENSORS_HEADER/);
  });

  test("the table shows what was written", async () => {
    const input = await writeInput(goodBatch);
    const words = ["forward", "--model", at("model"), "--input", input, "-o", at("shown.safetensors"), "--grad"];
    const { code, stdout } = await runCli([...words, "--lang", "en", "--threads", "2"]);
    assert.equal(code, 0);
    assert.match(stdout, /logits +\[2, 13, 1200\] +float32[\s\S]*loss \d+\.\d+\nwritten to .*shown\.safetensors/);
  });
});
