/** Data that change in the middle of a run: the mixture's file, shards that come; and the resume after each. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { type DataChange, openMixture } from "../src/data/index.ts";
import { parameterTable } from "../src/model/parameters.ts";
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
import { tinyDocuments, tinyVocabSize, writeTinyDataset } from "./support/tiny-dataset.ts";
import { tinyConfig } from "./support/tiny-model.ts";

const config = { ...tinyConfig, vocabSize: tinyVocabSize, layers: 1 };

const settings: PretrainSettings = {
  geometry: { rows: 2, columns: 40 },
  ramp: [],
  recompute: "none",
  schedule: { kind: "constant", peak: 0.01, warmup: 1 },
  optimizer: optimizerSchema.parse({}),
  accumulate: 1,
  zLoss: 0,
  compute: "float32",
  lossScale: lossScaleSchema.parse({}),
  guard: guardSchema.parse({}),
  seed: 1,
  steps: 9,
  maxMs: Number.POSITIVE_INFINITY,
  every: { validation: 0, samples: 0, parameters: 0, checkpoint: 100 },
  validationPieces: 1,
  retention: retentionSchema.parse({ last: 20 }),
};

suite("data that change during a run", () => {
  let folder: string;
  let mixture: string;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "changing-"));
    mixture = join(folder, "mixture.yaml");
    const documents = (first: number) => tinyDocuments(first, new Array<number>(30).fill(12));
    await writeTinyDataset(join(folder, "a"), [{ source: "news", documents: documents(100) }]);
    await writeTinyDataset(join(folder, "b"), [{ source: "poems", documents: documents(500) }]);
    writeFileSync(mixture, "sources: [{ data: a }]");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function run(checkpoints: string, onStep: (step: number) => void, resume = false) {
    using runtime = createNativeRuntime({ threads: 1, spin: false });
    const source = await openMixture(mixture, {
      seed: 1,
      promptLength: config.promptLength,
      fillShare: 0.5,
      heldOutShare: 0,
      packing: { kind: "bestFit" },
    });
    const changes: [number, DataChange["what"]][] = [];
    const losses: number[] = [];
    try {
      await pretrain({ runtime, config, source, vocabularyText: "", checkpoints, resume }, settings, {
        now: () => 0,
        onStep: ({ step, loss }) => {
          losses.push(loss);
          onStep(step);
        },
        onData: (step, change) => void changes.push([step, change.what]),
      });
    } finally {
      source.dispose();
    }
    const end = await readCheckpoint(join(checkpoints, "step-00000009"), arenaLayout(parameterTable(config)));
    return { changes, losses, weights: end.snapshot.parameters };
  }

  for (const what of ["mixture", "shards"] as const) {
    // The batch of the next step is prepared already when a step ends.
    test(`${what}: in force from the next batch that is prepared, saved with it, and a resume is the uninterrupted run`, async () => {
      cpSync(join(folder, "a"), join(folder, "grown"), { recursive: true });
      await writeTinyDataset(join(folder, "grown"), [
        { source: "news", documents: tinyDocuments(900, [20, 20]) },
        { source: "web", documents: tinyDocuments(700, new Array<number>(9).fill(20)) },
      ]);
      const change = (step: number) => {
        if (step !== 3) return;
        if (what === "shards") cpSync(join(folder, "grown"), join(folder, "a"), { recursive: true });
        else writeFileSync(mixture, "sources: [{ data: a, weight: 1 }, { data: b, weight: 2 }]");
      };
      const whole = join(folder, "whole");
      const { changes, losses, weights } = await run(whole, change);
      assert.deepEqual([...new Set(changes.map((each) => each.join(" ")))], [`5 ${what}`]);
      const at = 5;
      const saved = "step-00000005";
      assert.ok(readdirSync(whole).includes(saved), `${readdirSync(whole)}`);
      const again = join(folder, "again");
      cpSync(join(whole, saved), join(again, saved), { recursive: true });
      const resumed = await run(again, () => {}, true);
      assert.deepEqual(resumed.changes, []);
      assert.deepEqual(resumed.losses, losses.slice(at));
      assert.deepEqual(resumed.weights, weights);
    });
  }
});
