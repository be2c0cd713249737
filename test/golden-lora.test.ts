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
import { before, suite, test } from "node:test";
import { openSafetensors } from "../src/checkpoint/index.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { type GoldenTensor, goldenBatch, goldenConfig, goldenPath, readGolden } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";

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

  /** Loss, logits and gradients of the base with `scale` · B A added to every target. */
  async function run(scale: number) {
    using runtime = createNativeRuntime();
    const layout = arenaLayout(parameterTable(config));
    const [parameters, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
    for (const [name, tensor] of parameters.tensors) {
      const weight = Float32Array.from(base.get(name)!.data);
      const target = name.replace(/\.weight$/, "");
      if (targets.includes(target)) {
        const part = (factor: "A" | "B") => matrix(golden.get(`delta.${target}.lora_${factor}`)!);
        const added = product(part("B"), part("A"), scale);
        assert.deepEqual([added.rows, added.columns], tensor.shape);
        for (let i = 0; i < weight.length; i++) weight[i]! += added.data[i]!;
      }
      runtime.write(tensor, weight);
    }
    const batch = goldenBatch(golden);
    const step = await createTrainingStep(runtime, config, parameters, gradients, { ...batch, recompute: "none" });
    const { logits } = await step.outputs(batch);
    const loss = await step.lossAndGradients(batch);
    const gradientOf = new Map<string, Matrix>();
    for (const target of targets) {
      const tensor = gradients.tensors.get(`${target}.weight`)!;
      gradientOf.set(
        target,
        matrix({ shape: tensor.shape, data: (await runtime.download(tensor)).slice() as Float32Array }),
      );
    }
    return { logits: (await runtime.download(logits)).slice() as Float32Array, loss, gradientOf };
  }

  test("merged weights give the logits, the loss and the gradients of both factors", async (t) => {
    assert.equal(targets.length, 2 * config.layers);
    const scale = branchScale * Math.sqrt(config.dimModel);
    const { logits, loss, gradientOf } = await run(scale);
    assertClose(logits, golden.get("logits")!.data, 1e-5, "logits");
    assertClose([loss], golden.get("loss")!.data, 1e-5, "loss");
    let worst = 0;
    for (const [target, dW] of gradientOf) {
      const factor = (name: "A" | "B") => matrix(golden.get(`delta.${target}.lora_${name}`)!);
      const derived = {
        A: product(transposed(factor("B")), dW, scale),
        B: product(dW, transposed(factor("A")), scale),
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
    for (const scale of [branchScale, 0]) {
      const { logits } = await run(scale);
      assert.ok(relativeError(logits, golden.get("logits")!.data) > 1e-3, `scale ${scale} must not fit`);
    }
  });
});
