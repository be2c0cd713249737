/** `cpm train` and `cpm start` in miniature, every recipe included; interruption, divergence, determinism. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { evaluationBatches, expandPaths } from "../src/data/index.ts";
import { loadWeights } from "../src/infer/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import {
  adamWDefaults,
  arenaLayout,
  createArena,
  createTrainingStep,
  readTextCorpus,
  type TrainHooks,
  type TrainSettings,
  train,
} from "../src/train/index.ts";
import { runCli } from "./support/cli-world.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const corpusFolder = join(root, "corpus");
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "cpm-train-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** A model that takes a step in some milliseconds. */
const small: ModelConfig = { ...preset("tiny"), dimModel: 48, dimFf: 128, layers: 2, heads: 3, dimHead: 16 };

async function smallCorpus() {
  const files = await expandPaths([corpusFolder]);
  const options = { length: 64, promptLength: small.promptLength, vocabSize: 1024, heldOutShare: 0.1 };
  const corpus = await readTextCorpus(files, { ...options, maxCharacters: 8000 });
  return { corpus, config: { ...small, vocabSize: corpus.tokenizer.vocabSize } };
}

const settings: TrainSettings = {
  rows: 4,
  recompute: "none",
  schedule: { kind: "cosine", peak: 0.03, warmup: 5, total: 60, floor: 0.001 },
  optimizer: adamWDefaults,
  seed: 7,
  fillShare: 0.5,
  maxSteps: 60,
  maxMs: Number.POSITIVE_INFINITY,
  evaluateEvery: 20,
  evaluatePieces: 16,
  patience: 0,
  keep: "best",
};

async function run(changes: Partial<TrainSettings>, hooks: Partial<TrainHooks> = {}) {
  using runtime = createNativeRuntime();
  const { corpus, config } = await smallCorpus();
  const losses: number[] = [];
  const onStep: TrainHooks["onStep"] = (report) => {
    losses.push(report.loss);
    hooks.onStep?.(report);
  };
  const result = await train(runtime, config, corpus, { ...settings, ...changes }, { now: () => 0, ...hooks, onStep });
  const weights = Float32Array.from(result.parameters.flat.view() as Float32Array);
  result.parameters.dispose();
  assert.equal(runtime.memory().tensors, 0, "training leaves nothing behind");
  return { ...result, losses, weights };
}

suite("training loop", () => {
  test("the loss falls, on held-out text too", async () => {
    const { losses, heldOut, reason, steps } = await run({});
    assert.equal(reason, "steps");
    assert.equal(steps, 60);
    const mean = (part: number[]) => part.reduce((a, b) => a + b, 0) / part.length;
    assert.ok(mean(losses.slice(-10)) < mean(losses.slice(0, 5)) - 1, `${losses[0]} → ${losses.at(-1)}`);
    assert.ok(heldOut && heldOut.best.loss < heldOut.before.loss - 0.7);
  });

  test("the same seed gives the same losses and weights to the last bit, another seed others", async () => {
    const [a, b, c] = [await run({ maxSteps: 8 }), await run({ maxSteps: 8 }), await run({ maxSteps: 8, seed: 8 })];
    assert.deepEqual(a.losses, b.losses);
    assert.deepEqual(a.weights, b.weights);
    assert.notDeepEqual(a.losses, c.losses);
  });

  test("block recomputation gives the same losses", async () => {
    const [a, b] = [await run({ maxSteps: 5 }), await run({ maxSteps: 5, recompute: "block" })];
    a.losses.forEach((loss, i) => {
      assert.ok(Math.abs(loss - b.losses[i]!) < 1e-4 * loss);
    });
  });

  test("time ends it, and the schedule follows the time", async () => {
    let nowMs = 0;
    const rates: number[] = [];
    const { reason, steps } = await run(
      { maxMs: 1000, maxSteps: 1000 },
      {
        now: () => nowMs,
        onStep: ({ learningRate }) => {
          rates.push(learningRate);
          nowMs += 100;
        },
      },
    );
    assert.equal(reason, "time");
    assert.equal(steps, 10);
    assert.ok(rates.at(-1)! < 0.2 * Math.max(...rates));
  });

  test("an aborted signal ends it after the step under way", async () => {
    const abort = new AbortController();
    const onStep = ({ step }: { step: number }) => {
      if (step === 3) abort.abort();
    };
    const { reason, steps } = await run({}, { signal: abort.signal, onStep });
    assert.equal(reason, "cancelled");
    assert.equal(steps, 3);
  });

  test("patience stops it, and the best weights come back", async () => {
    const changes = { evaluateEvery: 2, patience: 2, maxSteps: 400 } as const;
    const schedule = { kind: "constant", peak: 0.3, warmup: 1 } as const;
    const { reason, heldOut } = await run({ ...changes, schedule });
    assert.equal(reason, "patience");
    assert.ok(heldOut!.best.step < heldOut!.last.step);
  });

  test("divergence is an error that names the update", async () => {
    const schedule = { kind: "constant", peak: 1e30, warmup: 0 } as const;
    await assert.rejects(run({ schedule }), { code: "CPM_TRAIN_DIVERGED", where: /update \d+/ });
  });
});

suite("cpm train", () => {
  for (const recipe of readdirSync(join(root, "recipes")).filter((name) => name.endsWith(".yaml"))) {
    test(`recipe ${recipe} in miniature`, async () => {
      const output = join(folder, recipe);
      const words = ["train", corpusFolder, "-c", join(root, "recipes", recipe), "--output", output];
      const cut = ["--steps", "2", "--rows", "1", "--length", "48", "--max-characters", "6000", "--lang", "en"];
      const { code, stderr } = await runCli([...words, ...cut]);
      assert.equal(code, 0, stderr);
      const files = readdirSync(output).sort();
      assert.deepEqual(files, ["config.json", "model.safetensors", "train.json", "vocab.txt"]);
      const generated = await runCli(["generate", output, "春天", "--max-tokens", "3", "--seed", "1", "--json"]);
      assert.equal(generated.code, 0, generated.stderr);
      assert.equal(typeof JSON.parse(generated.stdout).text, "string");
    });
  }

  test("a saved model has the held-out loss that training told", async () => {
    const output = join(folder, "told");
    const cut = ["--steps", "12", "--rows", "4", "--length", "64", "--held-out-share", "0.1"];
    const more = ["--set", "evaluateEvery=6", "--set", "evaluatePieces=8", "--json", "--lang", "en"];
    const { code, stdout, stderr } = await runCli(["train", corpusFolder, "--output", output, ...cut, ...more]);
    assert.equal(code, 0, stderr);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(lines.filter(({ event }) => event === "step").length, 12);
    const { heldOut } = lines.at(-1);
    assert.ok(heldOut.best.loss < heldOut.before.loss);

    using runtime = createNativeRuntime();
    await using checkpoint = await openCheckpoint(output);
    const { config } = checkpoint;
    const corpus = await readTextCorpus(await expandPaths([corpusFolder]), {
      length: 64,
      promptLength: config.promptLength,
      vocabulary: readFileSync(join(output, "vocab.txt"), "utf8"),
      vocabSize: config.vocabSize,
      heldOutShare: 0.1,
      maxCharacters: 1e9,
    });
    const weights = await loadWeights(runtime, checkpoint);
    const arena = createArena(runtime, arenaLayout(parameterTable(config)));
    for (const [name, tensor] of arena.tensors) {
      runtime.write(tensor, (await runtime.download(weights.tensors.get(name)!)) as Float32Array);
    }
    const step = await createTrainingStep(runtime, config, arena, undefined, {
      rows: 4,
      columns: 64,
      recompute: "none",
    });
    let sum = 0;
    let count = 0;
    for (const batch of evaluationBatches(corpus.heldOut, { rows: 4, objective: "lm", maxPieces: 8 })) {
      const targets = batch.target.filter((id) => id >= 0).length;
      sum += (await step.loss(batch)) * targets;
      count += targets;
    }
    assert.ok(Math.abs(sum / count - heldOut.best.loss) < 1e-5);
  });

  test("Ctrl-C saves what there is and exits with 130", async () => {
    const output = join(folder, "cut");
    const abort = new AbortController();
    let calls = 0;
    // The clock is asked at every step: the signal comes during one of them.
    const now = () => {
      if (++calls === 40) abort.abort();
      return calls;
    };
    const words = ["train", corpusFolder, "--output", output, "--rows", "1", "--length", "48", "--lang", "zh"];
    const { code, stderr } = await runCli(words, { signal: abort.signal, now });
    assert.equal(code, 130, stderr);
    assert.match(stderr, /已中断/);
    assert.ok(existsSync(join(output, "model.safetensors")));
  });

  test("an output folder that exists is refused before anything is read", async () => {
    const { code, stderr } = await runCli(["train", corpusFolder, "--output", folder, "--lang", "en"]);
    assert.equal(code, 2);
    assert.match(stderr, /CPM_TRAIN_OUTPUT/);
  });

  test("a diverging run leaves no folder", async () => {
    const output = join(folder, "diverged");
    const cut = [
      "--steps",
      "20",
      "--rows",
      "1",
      "--length",
      "48",
      "--set",
      "schedule.kind=constant",
      "--set",
      "schedule.peak=1e30",
    ];
    const { code, stderr } = await runCli(["train", corpusFolder, "--output", output, ...cut, "--lang", "en"]);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /CPM_TRAIN_DIVERGED/);
    assert.equal(existsSync(output), false);
  });
});

test("cpm start trains on the text that comes along and writes", async () => {
  const output = join(folder, "start");
  const cut = ["--steps", "3", "--rows", "2", "--length", "64", "--prompt", "春天来了，"];
  const { code, stdout, stderr } = await runCli(["start", "--output", output, ...cut, "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /春天来了，/);
  assert.match(stderr, /unigram entropy/);
});
