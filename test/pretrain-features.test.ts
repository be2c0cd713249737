/** The trainer with everything that changes an update: resumed bit for bit, and what an overflow does to a run. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { openMixture } from "../src/data/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { readCheckpoint, retentionSchema } from "../src/train/checkpoint.ts";
import {
  arenaLayout,
  guardSchema,
  lossScaleSchema,
  optimizerSchema,
  type PretrainSettings,
  pretrain,
} from "../src/train/index.ts";
import type { PretrainHooks, PretrainStep, Validation } from "../src/train/pretrain.ts";
import { lossesBySource } from "../src/train/update.ts";
import { tinyDocuments, tinyVocabSize, writeTinyDataset } from "./support/tiny-dataset.ts";

const config: ModelConfig = {
  ...preset("tiny"),
  vocabSize: tinyVocabSize,
  dimModel: 16,
  layers: 2,
  heads: 2,
  dimHead: 8,
  dimFf: 24,
  promptTypes: 3,
  promptLength: 4,
  segmentTypes: 3,
  positionBuckets: 8,
  positionMaxDistance: 32,
  dropout: 0.1,
};

const settings: PretrainSettings = {
  geometry: { rows: 2, columns: 32 },
  ramp: [
    { fromStep: 4, length: 48 },
    { fromTokens: 500, accumulate: 3 },
  ],
  recompute: "none",
  schedule: { kind: "wsd", peak: 0.01, warmup: 2, total: 8, decay: 3, floor: 0, shape: "linear" },
  optimizer: optimizerSchema.parse({
    groups: [{ match: "*layernorm*", weightDecay: 0 }],
    ema: { decay: 0.9 },
  }),
  accumulate: 2,
  zLoss: 1e-4,
  compute: "float32",
  lossScale: lossScaleSchema.parse({}),
  guard: guardSchema.parse({}),
  seed: 5,
  steps: 8,
  maxMs: Number.POSITIVE_INFINITY,
  every: { validation: 0, samples: 0, parameters: 0, checkpoint: 3 },
  validationPieces: 8,
  retention: retentionSchema.parse({ last: 20 }),
};

let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "pretrain-features-"));
  const lengths = (count: number) => Array.from({ length: count }, (_, i) => 3 + ((i * 17) % 58));
  await writeTinyDataset(join(folder, "data"), [
    { source: "news", documents: tinyDocuments(100, lengths(40)) },
    { source: "web", documents: tinyDocuments(500, lengths(20)) },
  ]);
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function run(
  name: string,
  changes: Partial<PretrainSettings> = {},
  resume = false,
  more: Pick<PretrainHooks, "onStage"> = {},
) {
  using runtime = createNativeRuntime({ threads: 2, spin: false });
  const source = await openMixture(
    { sources: [{ data: join(folder, "data") }] },
    { seed: 5, promptLength: config.promptLength, fillShare: 0.5, heldOutShare: 0.1, packing: { kind: "bestFit" } },
  );
  const steps: PretrainStep[] = [];
  const held: { programs: number; tensors: number }[] = [];
  const validations: Validation[] = [];
  const checkpoints = join(folder, name);
  try {
    const result = await pretrain(
      { runtime, config, source, vocabularyText: "", checkpoints, resume },
      { ...settings, ...changes },
      {
        now: () => 0,
        ...more,
        onStep: (report) => {
          const { programs, tensors } = runtime.memory();
          held.push({ programs, tensors });
          steps.push(report);
        },
        onValidation: (validation) => void validations.push(validation),
      },
    );
    const last = (step: number) => readCheckpoint(join(checkpoints, `step-0000000${step}`), arenaLayout(table));
    return { result, steps, held, validations, last };
  } finally {
    source.dispose();
    assert.equal(runtime.memory().tensors, 0, "nothing is left behind");
  }
}
const table = parameterTable(config);

suite("trainer with features", () => {
  test("accumulation, dropout, groups, an average, z-loss and ramps: a resumed run is the uninterrupted one bit for bit", async () => {
    const whole = await run("whole");
    assert.equal(whole.steps.length, 8);
    assert.deepEqual(
      whole.steps.map(({ geometry }) => geometry.columns),
      [32, 32, 32, 32, 48, 48, 48, 48],
    );
    const learned = whole.steps.map(({ learningRate }) => learningRate);
    assert.deepEqual(learned.slice(0, 5), [0.005, 0.01, 0.01, 0.01, 0.01]);
    assert.ok(learned[7]! < 0.005);
    const first = await run("parts", { steps: 3 });
    const rest = await run("parts", {}, true);
    assert.deepEqual(
      [...first.steps, ...rest.steps].map(({ loss, gradientNorm }) => [loss, gradientNorm]),
      whole.steps.map(({ loss, gradientNorm }) => [loss, gradientNorm]),
    );
    const [expected, found] = [await whole.last(8), await rest.last(8)];
    for (const part of ["parameters", "first", "second", "ema"] as const) {
      assert.deepEqual(found.snapshot[part], expected.snapshot[part], part);
    }
    assert.notDeepEqual(expected.snapshot.ema, expected.snapshot.parameters);
    // Without dropout the same run is another one, and so it is with another accumulation.
    const other = await run("other", { accumulate: 1, ramp: [], steps: 1 });
    assert.notEqual(other.steps[0]!.loss, whole.steps[0]!.loss);
  });

  test("the loss of an update is the mean over its sources' targets", async () => {
    const { steps } = await run("sources", { steps: 2, every: { ...settings.every, checkpoint: 0 } });
    for (const { loss, sources } of steps) {
      const parts = Object.values(sources);
      assert.ok(parts.length > 0);
      const targets = parts.reduce((sum, { tokens }) => sum + tokens, 0);
      const mean = parts.reduce((sum, { nats, tokens }) => sum + nats * tokens, 0) / targets;
      assert.ok(Math.abs(mean - loss) < 1e-5, `${mean} ${loss}`);
    }
  });

  test("losses go to the source of the sample that the target is in", () => {
    const batch = { rows: 1, columns: 8, target: Int32Array.of(-100, 5, 6, -100, -100, 7, -100, -100) } as never;
    const sample = (start: number, length: number, source: string) => ({ row: 0, start, length, source }) as never;
    const found = lossesBySource(
      [{ batch, samples: [sample(0, 4, "a"), sample(4, 4, "b")] }],
      [Float32Array.of(1, 2, 8)],
    );
    assert.deepEqual(found, { a: { nats: 1.5, tokens: 2 }, b: { nats: 8, tokens: 1 } });
  });

  test("shapes that come and go are let go: memory is the same each time a length is back", async () => {
    const ramp = Array.from({ length: 7 }, (_, i) => ({
      fromStep: i + 1,
      length: i % 2 === 0 ? 48 : 32,
      rows: 1 + (i % 2),
    }));
    const every = { ...settings.every, checkpoint: 0 };
    const { steps, held } = await run("ramp", { ramp, accumulate: 1, every });
    assert.deepEqual(
      steps.map(({ geometry }) => geometry.columns),
      [32, 48, 32, 48, 32, 48, 32, 48],
    );
    assert.equal(new Set(held.map(({ programs }) => programs)).size, 1);
    assert.equal(new Set(held.map(({ tensors }) => tensors)).size, 1);
    assert.ok(steps.every(({ loss }) => Number.isFinite(loss)));
  });

  test("held-out losses are those of the average where that is asked for, and the weights come back", async () => {
    const every = { ...settings.every, validation: 4, checkpoint: 0 };
    const changes = { steps: 4, every };
    const averaged = await run("averaged", changes);
    const plain = await run("plain", {
      ...changes,
      optimizer: { ...settings.optimizer, ema: { decay: 0.9, warmup: true, validate: false } },
    });
    assert.deepEqual(
      averaged.validations.map(({ ema }) => ema),
      [true, true],
    );
    assert.equal(plain.validations[1]!.ema, undefined);
    assert.equal(averaged.validations[0]!.nats, plain.validations[0]!.nats, "they begin as the same weights");
    assert.notEqual(averaged.validations[1]!.nats, plain.validations[1]!.nats);
    const [a, b] = [await averaged.last(4), await plain.last(4)];
    assert.deepEqual(a.snapshot.parameters, b.snapshot.parameters);
  });

  test("float16: overflows lower the scale and leave weights, moments and schedule alone; the scale is resumed", async () => {
    const changes: Partial<PretrainSettings> = {
      compute: "float16",
      ramp: [],
      lossScale: lossScaleSchema.parse({ initial: 2 ** 20 }),
      every: { ...settings.every, checkpoint: 1 },
    };
    const whole = await run("half", changes);
    const overflows = whole.steps.filter(({ gradientNorm }) => !Number.isFinite(gradientNorm)).length;
    assert.ok(overflows >= 2 && overflows < 8, `${overflows} overflows`);
    whole.steps.slice(0, overflows).forEach(({ lossScale, learningRate, loss }, i) => {
      assert.equal(lossScale, 2 ** (20 - i));
      assert.equal(learningRate, 0.005, "the schedule has not moved");
      assert.ok(Number.isFinite(loss));
    });
    assert.equal(whole.steps[overflows]!.learningRate, 0.005);
    const before = await whole.last(overflows);
    assert.equal(before.state.updates, 0);
    assert.ok(before.snapshot.first.every((value) => value === 0));
    const last = await whole.last(8);
    assert.equal(last.state.updates, 8 - overflows);
    assert.ok(last.snapshot.parameters.every(Number.isFinite));
    await run("half-parts", { ...changes, steps: overflows - 1 });
    const rest = await run("half-parts", changes, true);
    assert.equal(rest.steps[0]!.lossScale, 2 ** (20 - (overflows - 1)));
    assert.deepEqual((await rest.last(8)).snapshot.parameters, last.snapshot.parameters);
  });

  for (const rollbackData of ["again", "past"] as const) {
    test(`a rollback goes back to the last checkpoint and reads ${rollbackData === "again" ? "the same data" : "on behind the bad ones"}`, async () => {
      // After sixteen updates any loss is too high: the guard rolls back, once.
      const guard = guardSchema.parse({ window: 16, lossFactor: 0.1, onSpike: "rollback", rollbackData });
      const every = { ...settings.every, checkpoint: 5 };
      const { steps } = await run(`rollback-${rollbackData}`, { guard, every, steps: 20, ramp: [], accumulate: 1 });
      const numbers = steps.map(({ step }) => step);
      assert.deepEqual(numbers, [...Array.from({ length: 17 }, (_, i) => i + 1), 16, 17, 18, 19, 20]);
      const [before, after] = steps.filter(({ step }) => step === 16);
      if (rollbackData === "again") {
        assert.equal(after!.loss, before!.loss, "the same weights and the same batch");
        assert.equal(after!.tokens, before!.tokens);
      } else {
        assert.notEqual(after!.loss, before!.loss);
        assert.ok(after!.tokens > steps[16]!.tokens, "the data go on behind those of step 17");
      }
      assert.equal(after!.learningRate, before!.learningRate / 2);
    });
  }

  test("the stage is told where it changes, and again after a rollback or a resume", async () => {
    const stages: [number, string][] = [];
    const told = { onStage: (step: number, name: string) => void stages.push([step, name]) };
    const every = { ...settings.every, checkpoint: 4 };
    const changes = { every, accumulate: 1, ramp: [{ fromStep: 6, rows: 1, name: "narrow" }] };
    await run("stages", { ...changes, steps: 4 }, false, told);
    await run("stages", changes, true, told);
    assert.deepEqual(stages, [
      [0, "warmup · 2 × 32"],
      [2, "stable · 2 × 32"],
      [4, "stable · 2 × 32"],
      [5, "decay · 2 × 32"],
      [6, "decay · narrow"],
    ]);
  });
});
