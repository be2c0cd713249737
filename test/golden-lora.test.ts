/**
 * The golden LoRA run on a plain model: what a low-rank branch computes is what merged weights compute, and its gradients
 * follow from those of the merged weights.
 *
 * The branch (OpenDelta's, r = 4, alpha = 8, on project_q and project_v) stands beside the linear layer and knows nothing
 * of its 1/√in:
 *
 *     y = x Wᵀ / √in + (alpha / r) · x Aᵀ Bᵀ = x W′ᵀ / √in    with  W′ = W + s · B A,  s = (alpha / r) · √in
 *
 * so that dB = s · dW′ Aᵀ and dA = s · Bᵀ dW′.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { openSafetensors, writeSafetensors } from "../src/checkpoint/index.ts";
import { runCli } from "./support/cli-world.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { type GoldenTensor, goldenConfig, goldenPath, readGolden, readTensors } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";
import { temporaryFolder } from "./support/text-model.ts";

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: ArrayLike<number>;
}

function matrix({ shape, data }: GoldenTensor): Matrix {
  return { rows: shape[0]!, columns: shape[1]!, data };
}

function transposed({ rows, columns, data }: Matrix): Matrix {
  const turned = Float64Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!);
  return { rows: columns, columns: rows, data: turned };
}

/** scale · a b */
function product(a: Matrix, b: Matrix, scale: number): Matrix {
  assert.equal(a.columns, b.rows);
  const data = new Float64Array(a.rows * b.columns);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.columns; j++) {
      let sum = 0;
      for (let k = 0; k < a.columns; k++) sum += a.data[i * a.columns + k]! * b.data[k * b.columns + j]!;
      data[i * b.columns + j] = scale * sum;
    }
  }
  return { rows: a.rows, columns: b.columns, data };
}

suite("golden LoRA", { skip: skipWithoutShared("golden") }, () => {
  const config = goldenConfig("full");
  let base: Map<string, GoldenTensor>;
  let golden: Map<string, GoldenTensor>;
  /** alpha / r, from the file itself. */
  let branchScale: number;
  /** The layers that have a branch, by the name of their weight without `.weight`. */
  let targets: string[];
  before(async () => {
    base = await readGolden("lora.base.safetensors");
    golden = await readGolden("lora.train.safetensors");
    const file = await openSafetensors(goldenPath("lora.train.safetensors"));
    branchScale = Number(file.metadata.alpha) / Number(file.metadata.r);
    await file.close();
    targets = [...golden.keys()].flatMap((name) => /^delta\.(.*)\.lora_A$/.exec(name)?.[1] ?? []);
  });

  const folder = temporaryFolder("cpm-lora-");

  /** What `cpm forward --grad` makes of a model on the golden batch. */
  async function forward(model: string): Promise<Map<string, GoldenTensor>> {
    const output = join(folder, "output.safetensors");
    const files = ["--config", goldenPath("full.config.json"), "--input", goldenPath("lora.train.safetensors")];
    const { code, stderr } = await runCli(["forward", "--model", model, ...files, "--output", output, "--grad"]);
    assert.equal(code, 0, stderr);
    return await readTensors(output);
  }

  /** The same of the base with `scale` · B A added to every target. */
  async function forwardMerged(scale: number): Promise<Map<string, GoldenTensor>> {
    const tensors = [...base].map(([name, { shape, data }]) => {
      const weight = Float32Array.from(data);
      const target = name.replace(/\.weight$/, "");
      if (targets.includes(target)) {
        const added = product(factor(target, "B"), factor(target, "A"), scale);
        assert.deepEqual([added.rows, added.columns], shape);
        for (let i = 0; i < weight.length; i++) weight[i]! += added.data[i]!;
      }
      return { name, dtype: "float32" as const, shape, read: () => weight };
    });
    const model = join(folder, "merged.safetensors");
    await writeSafetensors(model, tensors);
    return await forward(model);
  }

  const factor = (target: string, name: "A" | "B") => matrix(golden.get(`delta.${target}.lora_${name}`)!);

  test("merged weights give the logits, the loss and the gradients of both factors", async (t) => {
    assert.equal(targets.length, 2 * config.layers);
    const scale = branchScale * Math.sqrt(config.dimModel);
    const results = await forwardMerged(scale);
    for (const name of ["logits", "loss"]) assertClose(results.get(name)!.data, golden.get(name)!.data, 1e-5, name);
    let worst = 0;
    for (const target of targets) {
      const dW = matrix(results.get(`grad.${target}.weight`)!);
      const derived = {
        A: product(transposed(factor(target, "B")), dW, scale),
        B: product(dW, transposed(factor(target, "A")), scale),
      };
      for (const name of ["A", "B"] as const) {
        const expected = golden.get(`grad.${target}.lora_${name}`)!;
        assertClose(derived[name].data, expected.data, 1e-4, `${target} ${name}`);
        worst = Math.max(worst, relativeError(derived[name].data, expected.data));
      }
    }
    t.diagnostic(`worst gradient: ${worst.toExponential(1)} relative`);
  });

  test("the branch is not divided by √in, and it matters", async () => {
    const logitsOf = (results: Map<string, GoldenTensor>) => results.get("logits")!.data;
    for (const scale of [branchScale, 0]) {
      const error = relativeError(logitsOf(await forwardMerged(scale)), golden.get("logits")!.data);
      assert.ok(error > 1e-3, `scale ${scale} must not fit`);
    }
    assert.deepEqual(logitsOf(await forward(goldenPath("lora.base.safetensors"))), logitsOf(await forwardMerged(0)));
  });
});
