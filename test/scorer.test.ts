/**
 * Scores of continuations that share a row are those of rows of their own, in another program (training's), whatever the
 * batch; those of the golden model are the original's.
 */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { taskBatch } from "../src/data/index.ts";
import { batchesByLength, createScorer, type ScoreRequest } from "../src/evaluate/scorer.ts";
import { countTargets } from "../src/model/batch.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { createRandom } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { deltaWorld, disturb } from "./support/delta-world.ts";
import { everyMask, randomWeights, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const config = { ...tinyConfig, layers: everyMask.length, maskModules: everyMask };

function requestsOf(shapes: readonly (readonly [context: number, ...continuations: number[]])[]): ScoreRequest[] {
  const random = createRandom(9);
  const ids = (length: number) => Int32Array.from({ length }, () => random.integer(config.vocabSize));
  return shapes.map(([context, ...continuations], index) => ({
    context: ids(context),
    continuations: continuations.map(ids),
    promptTask: index % 3,
    segment: 1 + (index % 2),
  }));
}

/** Context lengths and those of continuations: none alone, single tokens between longer ones, equal ones, long ones. */
const shapes = [
  [1, 1],
  [5, 3, 1, 4],
  [2, 1, 1, 1],
  [9, 6],
  [7, 1, 5, 1, 1, 2, 1],
  [3, 2, 2, 2, 2],
  [20, 4, 9],
] as const;

suite("scorer", () => {
  let runtime: Runtime;
  before(() => {
    runtime = createNativeRuntime({ threads: 1 });
  });
  after(() => runtime.dispose());

  async function score(requests: readonly ScoreRequest[], options = {}) {
    const parameters = uploadWeights(runtime, config);
    const scorer = await createScorer(runtime, config, parameters, options);
    const found = new Array<{ logprobs: number[]; logits: number[] }[]>(requests.length);
    let batches = 0;
    await scorer.score(requests, {
      async onBatch(done, scores) {
        batches++;
        for (const [place, index] of done.entries()) {
          assert.equal(found[index], undefined, "a request is scored once");
          found[index] = scores[place]!.map(({ logprobs, logits }) => ({
            logprobs: [...logprobs],
            logits: [...logits],
          }));
        }
      },
    });
    scorer.dispose();
    for (const tensor of parameters.values()) tensor.dispose();
    return { found, batches };
  }

  /** Every continuation behind its context in a row of its own, through the programs of training. */
  async function alone(requests: readonly ScoreRequest[]) {
    const rows = requests.flatMap(({ context, continuations, promptTask, segment }) =>
      continuations.map((ids) => ({
        ids: Int32Array.of(...context, ...ids),
        firstTarget: context.length,
        promptTask,
        segment,
      })),
    );
    const batch = taskBatch(rows, config.promptLength);
    const parameters = createArena(runtime, arenaLayout(parameterTable(config)));
    const weights = randomWeights(config);
    for (const [name, tensor] of parameters.tensors) runtime.write(tensor, weights.get(name)!);
    const geometry = { rows: batch.rows, columns: batch.columns };
    const step = await createTrainingStep(runtime, config, parameters, undefined, { ...geometry, recompute: "none" });
    const logits = (await runtime.download((await step.outputs(batch)).logits)) as Float32Array;
    for (const thing of [step, parameters]) thing.dispose();
    const { vocabSize: V, promptLength: P } = config;
    return rows.map(({ ids, firstTarget }, row) => {
      const scores = { logprobs: [] as number[], logits: [] as number[] };
      for (let i = firstTarget; i < ids.length; i++) {
        const from = (row * batch.columns + P + i - 1) * V;
        const own = logits.subarray(from, from + V);
        const logZ = Math.log(own.reduce((sum, value) => sum + Math.exp(value), 0));
        scores.logits.push(own[ids[i]!]!);
        scores.logprobs.push(own[ids[i]!]! - logZ);
      }
      return scores;
    });
  }

  test("a shared row scores as rows of their own", async () => {
    const requests = requestsOf(shapes);
    const expected = await alone(requests);
    const { found } = await score(requests);
    for (const [index, { logprobs, logits }] of found.flat().entries()) {
      assertClose(logprobs, expected[index]!.logprobs, 1e-5);
      assertClose(logits, expected[index]!.logits, 1e-5);
    }
  });

  for (const method of ["lora", "houlsby", "prefix", "soft-prompt", "ia3", "bitfit"]) {
    test(`with a delta (${method}): as a training step of the delta scores`, async () => {
      const world = await deltaWorld(runtime, [{ method }]);
      disturb(world, 0.3);
      const { grafts } = world.delta;
      const requests = requestsOf(shapes.slice(0, 5)).map((request) => ({ ...request, promptTask: 1, segment: 2 }));
      const scorer = await createScorer(runtime, world.config, world.tensors, { grafts });
      const plain = await createScorer(runtime, world.config, world.tensors);
      const scoresBy = async (each: typeof scorer) => {
        const found: number[][][] = [];
        await each.score(requests, {
          async onBatch(done, scores) {
            for (const [place, index] of done.entries())
              found[index] = scores[place]!.map(({ logprobs }) => [...logprobs]);
          },
        });
        each.dispose();
        return found.flat();
      };
      const found = await scoresBy(scorer);
      assert.notDeepEqual(found, await scoresBy(plain), "the delta changes something");
      const rows = requests.flatMap(({ context, continuations }) =>
        continuations.map((ids) => ({ ids: Int32Array.of(...context, ...ids), firstTarget: context.length })),
      );
      for (const [index, row] of rows.entries()) {
        const batch = taskBatch([{ ...row, promptTask: 1, segment: 2 }], grafts.config.promptLength);
        const step = await world.step({ rows: 1, columns: batch.columns });
        const loss = (await step.loss(batch)) * countTargets(batch);
        step.dispose();
        const sum = found[index]!.reduce((total, value) => total - value, 0);
        assert.ok(Math.abs(loss - sum) < 2e-4 * Math.max(1, loss), `${index}: ${sum}, not ${loss}`);
      }
      world.dispose();
    });
  }

  test("small batches, chunks of logits: the same scores, every request once", async () => {
    const requests = requestsOf(shapes);
    const whole = await score(requests);
    const small = await score(requests, { batchColumns: 30, batchBytes: 4 * config.vocabSize * 3 });
    assert.equal(whole.batches, 1);
    assert.equal(small.batches, requests.length);
    for (const [index, continuations] of small.found.entries()) {
      for (const [k, { logprobs }] of continuations.entries()) {
        const other = whole.found[index]![k]!.logprobs;
        assertClose(logprobs, other, 1e-5);
      }
    }
  });

  test("batches go by length, within columns and bytes", () => {
    const limits = { batchColumns: 100, batchBytes: 1e9, heads: 2 };
    assert.deepEqual(batchesByLength([10, 50, 40, 60, 11], limits), [[3], [1, 2], [4, 0]]);
    assert.deepEqual(batchesByLength([10, 10], { ...limits, batchBytes: 4 * 4 * 100 }), [[0], [1]]);
    assert.deepEqual(batchesByLength([500], limits), [[0]], "what is too long for both runs alone");
  });

  test("a prompt or segment that the model does not have is refused", async () => {
    const [request] = requestsOf([[3, 2]]);
    await assert.rejects(score([{ ...request!, promptTask: config.promptTypes }]), /CPM_INFER_TASK/);
    await assert.rejects(score([{ ...request!, segment: 0 }]), /CPM_INFER_SEGMENT/);
  });
});
