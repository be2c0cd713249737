/** Forward, loss and every gradient against the original's, on both models and with every recomputation policy. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, suite, test } from "node:test";
import type { RecomputePolicy } from "../src/graph/index.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { createAdamW } from "../src/train/adamw.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { goldenBatch, goldenConfig, goldenPath, readGolden } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";

/** Model, weights and results; `lora.base` has no results of its own but those with deltas. */
const models = ["full", "pruned"] as const;
const policies: readonly RecomputePolicy[] = ["none", "block", "all"];

suite("golden training step", { skip: skipWithoutShared("golden") }, () => {
  let runtime: Runtime;
  before(() => {
    runtime = createNativeRuntime();
  });
  after(() => runtime.dispose());

  for (const model of models) {
    for (const recompute of policies) {
      test(`${model}, recompute ${recompute}`, async (t) => {
        const config = goldenConfig(model);
        const golden = await readGolden(`${model}.train.safetensors`);
        const weights = await readGolden(`${model}.model.safetensors`);
        const batch = goldenBatch(golden);
        const layout = arenaLayout(parameterTable(config));
        const parameters = createArena(runtime, layout);
        const gradients = createArena(runtime, layout);
        for (const [name, tensor] of parameters.tensors) {
          runtime.write(tensor, Float32Array.from(weights.get(name)!.data));
        }
        const step = await createTrainingStep(runtime, config, parameters, gradients, { ...batch, recompute });

        const { hidden, logits } = await step.outputs(batch);
        assertClose(hidden.view() as Float32Array, golden.get("hidden")!.data, 1e-5, "hidden");
        assertClose(logits.view() as Float32Array, golden.get("logits")!.data, 1e-5, "logits");
        const loss = await step.lossAndGradients(batch);
        assertClose([loss], golden.get("loss")!.data, 1e-5, "loss");
        assertClose([await step.loss(batch)], [loss], 1e-7, "loss without gradients");
        let worst = 0;
        for (const [name, tensor] of gradients.tensors) {
          const expected = golden.get(`grad.${name}`);
          assert.ok(expected, `no golden gradient for ${name}`);
          assertClose(tensor.view() as Float32Array, expected.data, 1e-4, name);
          worst = Math.max(worst, relativeError(tensor.view() as Float32Array, expected.data));
        }
        t.diagnostic(`worst gradient: ${worst.toExponential(1)} relative`);
        hidden.dispose();
        logits.dispose();
        step.dispose();
        parameters.dispose();
        gradients.dispose();
        assert.equal(runtime.memory().tensors, 0);
      });
    }
  }
});

suite("golden AdamW", { skip: skipWithoutShared("golden") }, () => {
  for (const model of models) {
    test(`five steps of ${model}`, async () => {
      using runtime = createNativeRuntime();
      const config = goldenConfig(model);
      const batch = goldenBatch(await readGolden(`${model}.train.safetensors`));
      const weights = await readGolden(`${model}.model.safetensors`);
      const expected = await readGolden(`${model}.adamw5.safetensors`);
      const record = JSON.parse(readFileSync(goldenPath(`${model}.adamw.json`), "utf8"));
      const layout = arenaLayout(parameterTable(config));
      const arena = () => createArena(runtime, layout);
      const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
      for (const [name, tensor] of parameters.tensors) {
        runtime.write(tensor, Float32Array.from(weights.get(name)!.data));
      }
      const step = await createTrainingStep(runtime, config, parameters, gradients, { ...batch, recompute: "none" });
      const optimizer = await createAdamW(runtime, parameters, gradients, moments, {
        beta1: record.betas[0],
        beta2: record.betas[1],
        eps: record.eps,
        weightDecay: record.weight_decay,
        clipNorm: record.clip_grad_norm,
      });
      for (const [expectedLoss, expectedNorm] of record.loss_and_grad_norm) {
        const loss = await step.lossAndGradients(batch);
        const norm = await optimizer.gradientNorm();
        assertClose([loss], [expectedLoss], 1e-4, "loss");
        assertClose([norm], [expectedNorm], 1e-4, "gradient norm");
        await optimizer.update(record.lr, norm);
      }
      for (const [name, tensor] of parameters.tensors) {
        assertClose(tensor.view() as Float32Array, expected.get(name)!.data, 1e-4, name);
      }
    });
  }
});
