/** A packed row is its samples in rows of their own: the same loss and gradients, and each prompt trained by its sample alone. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { drawTargets, type Objective, writePackedSample } from "../src/data/objectives.ts";
import { checkBatch, countTargets, createBatch, type ModelBatch } from "../src/model/batch.ts";
import { names, parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { createRandom } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { everyMask, randomWeights, tinyConfig } from "./support/tiny-model.ts";

const config = { ...tinyConfig, layers: everyMask.length, maskModules: everyMask };
const vocabulary = { bosId: 6, eosId: 7, promptLength: config.promptLength };
const columns = 40;

interface Sample {
  readonly ids: readonly number[];
  readonly objective: Objective;
  readonly isTarget: Uint8Array;
}

/** Of these lengths, both objectives by turns. */
function samples(lengths: readonly number[]): Sample[] {
  const random = createRandom(5);
  return lengths.map((length, i) => {
    const objective: Objective = i % 2 === 0 ? "fill" : "lm";
    const ids = Array.from({ length }, () => random.integer(config.vocabSize));
    return { ids, objective, isTarget: drawTargets(objective, length + 2, random) };
  });
}

/** The samples of each row one after the other. */
function batchOf(rows: readonly (readonly Sample[])[], compat = false, packed = true): ModelBatch {
  const batch = createBatch(rows.length, columns, packed);
  for (const [row, ofRow] of rows.entries()) {
    let start = 0;
    for (const [span, sample] of ofRow.entries()) {
      start = writePackedSample(batch, row, start, { ...sample, span }, vocabulary, compat);
    }
  }
  checkBatch(batch, config);
  return batch;
}

suite("packed rows", () => {
  let runtime: Runtime;
  before(() => {
    runtime = createNativeRuntime({ threads: 1 });
  });
  after(() => runtime.dispose());

  async function run(batch: ModelBatch): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    const layout = arenaLayout(parameterTable(config));
    const [parameters, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
    const weights = randomWeights(config);
    for (const [name, tensor] of parameters.tensors) runtime.write(tensor, weights.get(name)!);
    const { rows } = batch;
    const step = await createTrainingStep(runtime, config, parameters, gradients, {
      rows,
      columns,
      packed: batch.prompt !== undefined,
      recompute: "none",
    });
    const loss = await step.lossAndGradients(batch);
    const copies = new Map(
      [...gradients.tensors].map(([name, tensor]) => [name, (tensor.view() as Float32Array).slice()]),
    );
    for (const thing of [step, parameters, gradients]) thing.dispose();
    return { loss, gradients: copies };
  }

  const [a, b, c, d, e] = samples([9, 4, 7, 12, 16]) as [Sample, Sample, Sample, Sample, Sample];

  test("the loss and every gradient are those of the samples in rows of their own", async () => {
    const packed = await run(
      batchOf([
        [a, b, c],
        [d, e],
      ]),
    );
    const alone = await run(batchOf([[a], [b], [c], [d], [e]], false, false));
    assertClose([packed.loss], [alone.loss], 1e-6, "loss");
    for (const [name, gradient] of packed.gradients) assertClose(gradient, alone.gradients.get(name)!, 1e-5, name);
  });

  test("rows of one sample give the same whether or not the step is made for packed rows", async () => {
    const rows = [[a], [b], [e]];
    const [packed, plain] = [await run(batchOf(rows)), await run(batchOf(rows, false, false))];
    assert.equal(packed.loss, plain.loss);
    for (const [name, gradient] of packed.gradients) assertClose(gradient, plain.gradients.get(name)!, 1e-6, name);
  });

  test("a sample that changes changes nothing for its neighbours in the row", async () => {
    const loneTargets = (batch: ModelBatch, span: number) => {
      for (const [i, other] of batch.span.entries()) if (other !== span) batch.target[i] = -100;
      return batch;
    };
    const changed = { ...b, ids: b.ids.map((id) => (id + 1) % config.vocabSize) };
    const [one, other] = [
      await run(loneTargets(batchOf([[a, b, c]]), 2)),
      await run(loneTargets(batchOf([[a, changed, c]]), 2)),
    ];
    assert.equal(one.loss, other.loss);
  });

  test("only compat looks up the later prompts in the token table, as the original's packer did", async () => {
    const P = config.promptLength;
    const lm = { ...b, objective: "lm" as const };
    const rowsOf = (gradient: Float32Array, first: number) =>
      gradient.subarray(first * config.dimModel, (first + P) * config.dimModel).some((value) => value !== 0);
    // Prompt 1 for a, prompt 2 for b behind it.
    const proper = await run(batchOf([[a, lm]]));
    assert.ok(rowsOf(proper.gradients.get(names.prompt)!, P) && rowsOf(proper.gradients.get(names.prompt)!, 2 * P));
    const compat = await run(batchOf([[a, lm]], true));
    assert.ok(rowsOf(compat.gradients.get(names.prompt)!, P));
    assert.ok(!rowsOf(compat.gradients.get(names.prompt)!, 2 * P), "the second prompt is not trained");
    assert.notEqual(proper.loss, compat.loss);
    // The same as a row of the second sample whose prompt is text.
    const second = createBatch(1, columns, true);
    const whole = batchOf([[a, lm]], true);
    const start = whole.span.indexOf(1);
    for (const field of ["input", "context", "segment", "span", "target"] as const) {
      second[field].set(whole[field].subarray(start, whole.length[0]));
    }
    second.length[0] = whole.length[0]! - start;
    const first = batchOf([[a]]);
    const [lossFirst, lossSecond] = [await run(first), await run(second)];
    const [n, m] = [countTargets(first), countTargets(second)];
    assertClose([compat.loss], [(lossFirst.loss * n + lossSecond.loss * m) / (n + m)], 1e-6, "loss");
  });
});
