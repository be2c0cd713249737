/** Packed models: files, commands and decoding, beside the same weights unpacked. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { openCheckpoint, openSafetensors, saveCheckpoint } from "../src/checkpoint/index.ts";
import { quantizeCheckpoint } from "../src/compress/index.ts";
import { createCpmAntSession, loadWeights } from "../src/infer/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { names, parameterCount } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { runCli } from "./support/cli-world.ts";
import { smallConfig, temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-quantized-");
/** One layer of each kind; the feed-forward width is no multiple of 16, so its output matrix stays as it is. */
const config: ModelConfig = {
  ...smallConfig,
  layers: 3,
  dimFf: 40,
  maskModules: [
    [false, false],
    [true, false],
    [false, true],
  ],
};
const plain = join(folder, "plain");

async function quantized(
  name: string,
  bits: 4 | 8,
  symmetric = true,
  group: 32 | "channel" = 32,
  doubled = false,
): Promise<string> {
  const target = join(folder, name);
  await using checkpoint = await openCheckpoint(plain);
  const tensors = quantizeCheckpoint(checkpoint, { bits, group, symmetric, doubled, embedding: true });
  await saveCheckpoint(target, checkpoint.config, tensors, {
    files: { "vocab.txt": readFileSync(join(plain, "vocab.txt")) },
  });
  return target;
}

async function logitsOf(path: string): Promise<number[][]> {
  using runtime = createNativeRuntime({ threads: 1 });
  await using checkpoint = await openCheckpoint(path);
  const weights = await loadWeights(runtime, checkpoint);
  const session = await createCpmAntSession(runtime, checkpoint.config, weights.tensors, { capacityTokens: 24 });
  const rows = [
    Array.from(
      await session.prefill([
        [7, 20, 33, 41],
        [7, 99],
      ]),
    ),
  ];
  rows.push(Array.from(await session.step(Int32Array.of(50, 51))));
  rows.push(Array.from(await session.extend([[60, 61], [62]])));
  session.dispose();
  weights.dispose();
  return rows;
}

function distance(a: readonly number[][], b: readonly number[][]): number {
  const [x, y] = [a.flat(), b.flat()];
  const wrong = x.reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0);
  return Math.sqrt(wrong / x.reduce((sum, value) => sum + value ** 2, 0));
}

suite("quantized models", () => {
  for (const [bits, symmetric, group, doubled] of [
    [4, true, 32, false],
    [4, false, 32, false],
    [8, true, 32, false],
    [8, false, 32, false],
    [8, true, "channel", false],
    [8, false, "channel", false],
    [4, true, 32, true],
    [4, false, 32, true],
  ] as const) {
    test(`${bits} bits, ${symmetric ? "symmetric" : "asymmetric"}, ${group}${doubled ? ", scales of 8 bits" : ""}: decoding gives what the unpacked weights give`, async () => {
      await writeSmallModel(plain, { config }).catch((error: { code?: string }) => {
        if (error.code !== "CPM_FILE_EXISTS") throw error;
      });
      const name = `${bits}${symmetric}${group}${doubled}`;
      const packed = await quantized(name, bits, symmetric, group, doubled);
      await using checkpoint = await openCheckpoint(packed);
      assert.deepEqual(checkpoint.unknownNames, []);
      assert.equal(checkpoint.tensor(names.token).packed?.bits, bits);
      // What is stored, unpacked into a model of float32: the same weights in another form.
      const unpacked = join(folder, `${name}-unpacked`);
      await saveCheckpoint(
        unpacked,
        checkpoint.config,
        checkpoint.names().map((tensor) => checkpoint.tensor(tensor)),
      );
      const [own, same, original] = [await logitsOf(packed), await logitsOf(unpacked), await logitsOf(plain)];
      // The kernels round their other operand to 8 bits.
      assert.ok(distance(own, same) < 0.03, `${distance(own, same)} from the unpacked weights`);
      // Errors of three layers of random weights add up.
      const off = distance(own, original);
      assert.ok(off < (bits === 4 ? 0.6 : 0.06), `${off} from the original's`);
      assert.ok(off > 1e-4, "it is packed");
    });
  }

  test("the commands: init, quantize, generate, convert back", async () => {
    const made = join(folder, "made");
    const init = await runCli(["init", made, "--preset", "tiny", "--precision", "int4", "--layers", "2", "--json"]);
    assert.equal(init.code, 0, init.stderr);
    await using checkpoint = await openCheckpoint(made);
    assert.equal(JSON.parse(init.stdout).parameters, parameterCount(checkpoint.config));
    const whole = join(folder, "whole");
    assert.equal((await runCli(["convert", made, whole])).code, 0);
    const again = join(folder, "again");
    const run = await runCli([
      "quantize",
      whole,
      again,
      "--precision",
      "int8",
      "--group",
      "64",
      "--asymmetric",
      "--json",
    ]);
    assert.equal(run.code, 0, run.stderr);
    const report = JSON.parse(run.stdout);
    assert.ok(report.error > 0 && report.error < 0.02, `error ${report.error}`);
    assert.ok(report.bitsPerParameter > 8 && report.bitsPerParameter < 11);
    for (const model of [made, again]) {
      const { code, stdout, stderr } = await runCli(["generate", model, "春天来了", "--max-tokens", "4", "--json"]);
      assert.equal(code, 0, stderr);
      assert.equal(JSON.parse(stdout.trim().split("\n").at(-1)!).texts?.[0]?.ids?.length ?? 4, 4);
    }
    const sizes = await Promise.all(
      [[], ["--double-scales"]].map(async (more, i) => {
        const argv = [whole, join(folder, `doubled-${i}`), "--precision", "int4", "--group", "32", "--json", ...more];
        return JSON.parse((await runCli(["quantize", ...argv])).stdout).bytes as number;
      }),
    );
    assert.ok(sizes[1]! < 0.9 * sizes[0]!, `${sizes}`);
    const pointless = await runCli(["quantize", whole, join(folder, "no"), "--group", "channel", "--double-scales"]);
    assert.match(pointless.stderr, /CPM_CLI_USAGE/);
    const shown = await runCli(["quantize", whole, join(folder, "shown"), "--group", "channel"]);
    assert.match(shown.stdout, /4\.\d+/);
  });

  test("parts that do not belong together are refused", async () => {
    const packed = await quantized("broken", 4);
    const path = join(packed, "model.safetensors");
    const bytes = readFileSync(path);
    const length = Number(bytes.readBigUInt64LE(0));
    const header = bytes.subarray(8, 8 + length).toString();
    const broken = header.replace(
      /("input_embedding\.weight\.packed":\{"dtype":"U8","shape":\[)1200,1,16/,
      "$1600,2,16",
    );
    assert.notEqual(broken, header);
    writeFileSync(
      path,
      Buffer.concat([
        bytes.subarray(0, 8),
        Buffer.from(broken.padEnd(length).slice(0, length)),
        bytes.subarray(8 + length),
      ]),
    );
    await assert.rejects(openCheckpoint(packed), { code: "CPM_CHECKPOINT_SHAPE" });
    await using raw = { file: await openSafetensors(path), [Symbol.asyncDispose]: () => raw.file.close() };
    assert.ok(raw.file.tensors.has("input_embedding.weight.packed"));
  });
});
