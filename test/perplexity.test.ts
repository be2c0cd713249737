/** Bits per character against the losses of training's programs, window by window. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { taskBatch } from "../src/data/index.ts";
import { type EvaluationRecord, evaluatedModel } from "../src/evaluate/index.ts";
import { scoreTexts, windowsOver } from "../src/evaluate/run-texts.ts";
import { type OpenedTextModel, openTextModel } from "../src/infer/index.ts";
import { countTargets } from "../src/model/batch.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const texts = ["春眠不觉晓，处处闻啼鸟。", "床前明月光，疑是地上霜。举头望明月，低头思故乡。".repeat(4), "月"];

suite("perplexity", () => {
  const folder = temporaryFolder("perplexity-");
  let runtime: Runtime;
  let model: OpenedTextModel;
  before(async () => {
    await writeSmallModel(folder);
    runtime = createNativeRuntime({ threads: 1 });
    model = await openTextModel(runtime, folder);
  });
  after(() => {
    model.dispose();
    runtime.dispose();
  });

  test("the sum over windows, each token once; what exists already is left out", async () => {
    const options = { window: 24, stride: 10 };
    const documents = texts.map((text, index) => ({ text, source: "a.txt", line: index + 1 }));
    const records: EvaluationRecord[] = [];
    const collect = {
      onRecords: async (added: readonly EvaluationRecord[]) => void records.push(...added),
    };
    const evaluated = await evaluatedModel(runtime, model, { name: "small" });
    await scoreTexts(evaluated, documents, new Set(), options, collect);
    records.sort((a, b) => a.index - b.index);
    assert.equal(records.length, texts.length);
    for (const [index, text] of texts.entries()) {
      const { ids } = model.tokenizer.encode(text);
      const windows = windowsOver(ids.length, options);
      if (index === 1) assert.ok(windows.length > 3);
      let nats = 0;
      for (const { contextFrom, from, to } of windows) {
        const row = {
          ids: Int32Array.of(model.tokenizer.bosId, ...ids.subarray(contextFrom, to)),
          firstTarget: 1 + from - contextFrom,
          promptTask: 2,
          segment: 2,
        };
        const batch = taskBatch([row], model.config.promptLength);
        const geometry = { rows: 1, columns: batch.columns, recompute: "none" } as const;
        const step = await createTrainingStep(
          runtime,
          model.config,
          { tensors: model.parameters },
          undefined,
          geometry,
        );
        nats += (await step.loss(batch)) * countTargets(batch);
        step.dispose();
      }
      const record = records[index]!;
      assert.ok(record.kind === "text");
      assert.ok(Math.abs(record.nats - nats) < 1e-4 * nats, `${record.nats}, not ${nats}`);
      assert.deepEqual(
        [record.tokens, record.characters, record.id],
        [ids.length, [...text].length, `a.txt:${index + 1}`],
      );
    }
    const rest: EvaluationRecord[] = [];
    await scoreTexts(evaluated, documents, new Set([0, 1]), options, {
      onRecords: async (added) => void rest.push(...added),
    });
    assert.deepEqual(rest, records.slice(2));
  });
});
