/** The golden LoRA run through the delta itself: logits, loss and the gradients of both factors; nothing of the base. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { attachDelta } from "../src/delta/attach.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { goldenBatch, goldenConfig, readGolden } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";

suite("golden delta", { skip: skipWithoutShared("golden") }, () => {
  for (const recompute of ["none", "block"] as const) {
    test(`LoRA, recompute ${recompute}`, async (t) => {
      using runtime = createNativeRuntime();
      const config = goldenConfig("full");
      const golden = await readGolden("lora.train.safetensors");
      const delta = attachDelta(config, [{ method: "lora", rank: 4, alpha: 8 }]);
      const layout = arenaLayout(delta.parameters);
      const [values, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
      for (const [name, tensor] of values.tensors) {
        runtime.write(tensor, Float32Array.from(golden.get(`delta.${name}`)!.data));
      }
      const tensors = new Map(values.tensors);
      for (const [name, { data, shape }] of await readGolden("lora.base.safetensors")) {
        tensors.set(name, runtime.upload(Float32Array.from(data), "float32", shape));
      }
      const batch = goldenBatch(golden);
      const { grafts } = delta;
      const step = await createTrainingStep(runtime, config, { tensors }, gradients, { ...batch, recompute, grafts });
      const { hidden, logits } = await step.outputs(batch);
      assertClose(logits.view() as Float32Array, golden.get("logits")!.data, 1e-5, "logits");
      assertClose([await step.lossAndGradients(batch)], golden.get("loss")!.data, 1e-5, "loss");
      let worst = 0;
      for (const [name, tensor] of gradients.tensors) {
        const expected = golden.get(`grad.${name}`)!.data;
        assertClose(tensor.view() as Float32Array, expected, 1e-4, name);
        worst = Math.max(worst, relativeError(tensor.view() as Float32Array, expected));
      }
      assert.equal(gradients.tensors.size, [...golden.keys()].filter((name) => name.startsWith("delta.")).length);
      t.diagnostic(`worst gradient: ${worst.toExponential(1)} relative`);
      hidden.dispose();
      logits.dispose();
      step.dispose();
    });
  }
});
