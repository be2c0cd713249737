/** Preference tuning: its gradient against finite differences of its loss, its beginning, and that preferred answers win. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createPreferenceBatches, type PreferencePair } from "../src/data/preferences.ts";
import type { TaskRow } from "../src/data/tasks/task-rows.ts";
import type { ModelBatch } from "../src/model/batch.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { preferenceObjective, referenceLikelihoods } from "../src/train/preference-objective.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { gradientsOf } from "../src/train/update.ts";
import { createRandom } from "../src/util/random.ts";
import { deltaWorld, disturb } from "./support/delta-world.ts";
import { tinyConfig } from "./support/tiny-model.ts";

const random = createRandom(2, "pairs");
const row = (input: number, answer: number): TaskRow => ({
  ids: Int32Array.from({ length: input + answer }, () => random.integer(tinyConfig.vocabSize)),
  firstTarget: input,
  promptTask: 2,
  segment: 2,
});
const pairs = Array.from({ length: 5 }, (_, i): PreferencePair => {
  return { id: `pair ${i}`, chosen: row(3 + (i % 2), 2), rejected: row(3, 1 + (i % 3)) };
});
const geometry = { rows: 4, columns: tinyConfig.promptLength + 8 };

suite("preferences", () => {
  for (const accumulate of [1, 2]) {
    test(`gradients by finite differences, ${accumulate} batches an update; a soft prompt makes rows longer`, async () => {
      using runtime = createNativeRuntime({ threads: 1 });
      const specs = [
        { method: "lora", rank: 2 },
        { method: "soft-prompt", tokens: 2 },
      ];
      const world = await deltaWorld(runtime, specs);
      const { grafts } = world.delta;
      const base = await createTrainingStep(runtime, tinyConfig, { tensors: world.base }, undefined, {
        ...geometry,
        recompute: "none",
      });
      const reference = await referenceLikelihoods(base, pairs, tinyConfig.promptLength);
      base.dispose();
      const { promptLength } = grafts.config;
      const source = createPreferenceBatches({ train: pairs, dev: [], promptLength, seed: 1 });
      const objective = preferenceObjective(source, reference, { beta: 0.3 });
      disturb(world);
      const longer = { rows: geometry.rows, columns: geometry.columns + 2 };
      const step = await world.step(longer);
      const batches: ModelBatch[] = [];
      for (let i = 0; i < accumulate; i++) batches.push((await source.next(longer))!.batch);
      const { loss } = await gradientsOf(step, batches, { objective });
      const lossNow = async () => {
        let sum = 0;
        for (const batch of batches) {
          await step.loss(batch);
          sum += objective.weigh(batch, await step.targetLosses()).loss / batches.length;
        }
        return sum;
      };
      assert.ok(Math.abs((await lossNow()) - loss) < 1e-5);
      for (const [name, gradient] of world.gradients.tensors) {
        const g = Array.from(gradient.view() as Float32Array);
        const norm = Math.sqrt(g.reduce((sum, x) => sum + x * x, 0));
        assert.ok(norm > 0, name);
        const view = world.values.tensors.get(name)!.view() as Float32Array;
        const before = view.slice();
        const at = async (by: number) => {
          before.forEach((x, i) => {
            view[i] = x + (by * g[i]!) / norm;
          });
          return lossNow();
        };
        const measured = ((await at(0.002)) - (await at(-0.002))) / 0.004;
        view.set(before);
        assert.ok(Math.abs(measured - norm) < 0.02 * norm + 2e-3, `${name}: ${measured}, not ${norm}`);
      }
      step.dispose();
      world.dispose();
    });
  }

  test("begins at ln 2, where the delta has no effect; a batch that is not full counts its own pairs alone", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const world = await deltaWorld(runtime, [{ method: "lora", rank: 2 }]);
    const step = await world.step(geometry);
    const reference = await referenceLikelihoods(step, pairs, tinyConfig.promptLength);
    const source = createPreferenceBatches({
      train: pairs,
      dev: pairs.slice(0, 3),
      promptLength: tinyConfig.promptLength,
      seed: 1,
    });
    const both = Float64Array.from([...reference, ...reference.subarray(0, 6)]);
    const objective = preferenceObjective(source, both, { beta: 0.3 });
    const counts: number[] = [];
    for (const { batch } of source.heldOut(geometry, 100)) {
      await step.loss(batch);
      const { loss, count } = objective.weigh(batch, await step.targetLosses());
      assert.ok(Math.abs(loss - Math.LN2) < 1e-5, `${loss}`);
      counts.push(count);
    }
    assert.deepEqual(counts, [2, 1]);
    await assert.rejects(source.next({ rows: 3, columns: 20 }), { code: "CPM_TASK_LENGTH" });
    step.dispose();
    world.dispose();
  });
});
