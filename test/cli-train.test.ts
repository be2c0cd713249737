/**
 * `cpm train` on text files and `cpm start` in miniature, every recipe included: the trainer's ends (steps, time, patience,
 * interruption, divergence), which weights are kept, what is left on the disk.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { openMixture } from "../src/data/index.ts";
import { loadWeights } from "../src/infer/index.ts";
import { parseEvent, type RunEvent } from "../src/live/events.ts";
import { readLedger } from "../src/live/run-ledger.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { heldOutLosses } from "../src/train/held-out-losses.ts";
import { arenaLayout, createArena, createTrainingStep } from "../src/train/index.ts";
import { runCli } from "./support/cli-world.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const corpusFolder = join(root, "corpus");
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "cpm-train-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** A model that takes a step in some milliseconds. */
const sizes = ["layers=2", "dimModel=48", "dimFf=64", "heads=2", "dimHead=24"].map((size) => `model.${size}`);
const quick = [...sizes, "every.samples=0", "every.parameters=0", "evaluatePieces=8"];
const small = [
  ...["--rows", "4", "--length", "64", "--held-out-share", "0.1", "--max-characters", "12000", "--lang", "en"],
  ...quick.flatMap((setting) => ["--set", setting]),
];

interface Line {
  readonly event: string;
  readonly step: number;
  readonly nats: number;
  readonly learningRate: number;
}

/** `cpm train` on the text that comes along, with JSON lines. */
async function trainSmall(name: string, words: readonly string[], setting: Parameters<typeof runCli>[1] = {}) {
  const output = join(folder, name);
  const { code, stdout, stderr } = await runCli(
    ["train", corpusFolder, "--output", output, ...small, ...words, "--json"],
    setting,
  );
  const lines = stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
  const of = (event: string) => lines.filter((line) => line.event === event);
  return { code, stderr, output, run: `${output}.run`, of, end: lines.at(-1) as Line & Record<string, never> };
}

const set = (...settings: string[]) => settings.flatMap((setting) => ["--set", setting]);
const eventsOf = (run: string): RunEvent[] =>
  readFileSync(join(run, "events.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => parseEvent(line)!);
const weightsOf = (model: string) => readFileSync(join(model, "model.safetensors"));
const checkpointWeights = (run: string, step: number) =>
  readFileSync(join(run, "checkpoints", `step-${String(step).padStart(8, "0")}`, "model.safetensors"));

suite("training on text files", () => {
  test("the loss falls on held-out text, to the same weights again; a run and a model are left", async () => {
    const schedule = set("schedule.kind=cosine", "schedule.peak=0.03", "schedule.warmup=2", "schedule.total=30");
    const words = ["--steps", "30", ...schedule, ...set("every.validation=10")];
    const a = await trainSmall("falls", words);
    assert.equal(a.code, 0, a.stderr);
    assert.equal(a.of("step").length, 30);
    const losses = a.of("validation").map(({ nats }) => nats);
    assert.equal(losses.length, 4);
    assert.ok(losses.at(-1)! < losses[0]! - 0.7, `${losses}`);
    assert.match(a.stderr, /unigram entropy/);
    assert.deepEqual(readdirSync(a.output).sort(), ["config.json", "model.safetensors", "train.json", "vocab.txt"]);
    assert.deepEqual(readdirSync(a.run).sort(), ["checkpoints", "data", "events.jsonl", "log", "run.json"]);
    const b = await trainSmall("falls-again", words);
    assert.ok(weightsOf(a.output).equals(weightsOf(b.output)));
    const other = await trainSmall("falls-otherwise", [...words, "--seed", "2"]);
    assert.ok(!weightsOf(a.output).equals(weightsOf(other.output)));
  });

  test("every policy of recomputation gives the same losses", async () => {
    const losses: number[][] = [];
    for (const recompute of ["none", "block", "all"]) {
      const { code, stderr, of } = await trainSmall(`recompute-${recompute}`, [
        ...["--steps", "4"],
        ...set(`recompute=${recompute}`, "every.validation=4"),
      ]);
      assert.equal(code, 0, stderr);
      losses.push(of("step").map((line) => (line as unknown as { loss: number }).loss));
    }
    for (const others of losses.slice(1)) {
      others.forEach((loss, i) => {
        assert.ok(Math.abs(loss - losses[0]![i]!) < 1e-4 * loss, `${loss} ${losses[0]![i]}`);
      });
    }
  });

  test("time ends it, the schedule follows the time, and the ledger tells its stages", async () => {
    let nowMs = 1_700_000_000_000;
    const now = () => {
      nowMs += 100;
      return nowMs;
    };
    const { code, stderr, of, end, run } = await trainSmall("time", ["--for", "60s", ...set("every.validation=1000")], {
      now,
    });
    assert.equal(code, 0, stderr);
    assert.equal((end as unknown as { reason: string }).reason, "time");
    assert.match(stderr, /Time is up/);
    const rates = of("step").map(({ learningRate }) => learningRate);
    assert.ok(rates.length > 10 && rates.length < 400, `${rates.length} steps`);
    assert.ok(rates.at(-1)! < 0.1 * Math.max(...rates), "the schedule has not come to its end");
    assert.equal(of("validation").at(-1)!.step, rates.length, "where time ended is not judged");
    const stages = eventsOf(run).filter((event) => event.type === "stage");
    assert.deepEqual(
      stages.map(({ name }) => name),
      ["warmup", "decay"],
    );
    const ledger = await readLedger(run);
    assert.ok(ledger.hours > 59 / 3600);
  });

  test("patience stops it, and the weights of the best held-out loss are kept", async () => {
    const words = ["--steps", "400", "--seed", "3"];
    const recipe = join(folder, "rising.yaml");
    writeFileSync(recipe, "schedule: { kind: constant, peak: 0.3, warmup: 1 }\n");
    const output = join(folder, "patient");
    const { code, stdout, stderr } = await runCli([
      ...["train", corpusFolder, "--output", output, "-c", recipe, ...small, ...words],
      ...set("every.validation=2", "patience=2", "guard.lossFactor=0", "guard.gradientFactor=0"),
      "--json",
    ]);
    assert.equal(code, 0, stderr);
    const end = JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as {
      reason: string;
      step: number;
      best: { step: number };
      weights: { step: number };
    };
    assert.equal(end.reason, "patience");
    assert.equal(end.step, end.best.step + 4);
    assert.equal(end.weights.step, end.best.step);
    assert.ok(weightsOf(output).equals(checkpointWeights(`${output}.run`, end.best.step)));
    assert.ok(!weightsOf(output).equals(checkpointWeights(`${output}.run`, end.step)));
  });

  test("--keep last saves the weights at the end, and the averaged ones where an average is judged", async () => {
    const words = ["--steps", "6", "--keep", "last", ...set("every.validation=2", "optimizer.ema.decay=0.5")];
    const { code, stderr, output, run } = await trainSmall("averaged", words);
    assert.equal(code, 0, stderr);
    assert.ok(!weightsOf(output).equals(checkpointWeights(run, 6)), "these are the last weights, not their average");
    assert.equal((await runCli(["generate", output, "春天", "--max-tokens", "2", "--seed", "1"])).code, 0);
  });

  for (const recipe of readdirSync(join(root, "recipes")).filter((name) => name.endsWith(".yaml"))) {
    test(`recipe ${recipe} in miniature`, async () => {
      const output = join(folder, recipe);
      const words = ["train", corpusFolder, "-c", join(root, "recipes", recipe), "--output", output];
      const cut = ["--steps", "2", "--rows", "1", "--length", "48", "--max-characters", "6000", "--lang", "en"];
      const { code, stderr } = await runCli([...words, ...cut, "--set", "evaluatePieces=4"]);
      assert.equal(code, 0, stderr);
      const files = readdirSync(output).sort();
      assert.deepEqual(files, ["config.json", "model.safetensors", "train.json", "vocab.txt"]);
      const generated = await runCli(["generate", output, "春天", "--max-tokens", "3", "--seed", "1", "--json"]);
      assert.equal(generated.code, 0, generated.stderr);
      assert.equal(typeof JSON.parse(generated.stdout).text, "string");
    });
  }

  test("a saved model has the held-out loss that training told", async () => {
    const words = ["--steps", "12", ...set("every.validation=6")];
    const { code, stderr, output, run, end, of } = await trainSmall("told", words);
    assert.equal(code, 0, stderr);
    const { best } = end as unknown as { best: { step: number; nats: number } };
    assert.ok(best.nats < of("validation")[0]!.nats);

    using runtime = createNativeRuntime();
    await using checkpoint = await openCheckpoint(output);
    const { config } = checkpoint;
    const weights = await loadWeights(runtime, checkpoint);
    const arena = createArena(runtime, arenaLayout(parameterTable(config)));
    for (const [name, tensor] of arena.tensors) {
      runtime.write(tensor, (await runtime.download(weights.tensors.get(name)!)) as Float32Array);
    }
    const source = await openMixture(
      { sources: [{ data: join(run, "data") }] },
      { seed: 1, promptLength: config.promptLength, fillShare: 0.5, heldOutShare: 0.1, packing: { kind: "bestFit" } },
    );
    const geometry = { rows: 4, columns: 64 };
    const step = await createTrainingStep(runtime, config, arena, undefined, {
      ...geometry,
      packed: true,
      recompute: "none",
    });
    const judged = await heldOutLosses(step, source, geometry, 8);
    source.dispose();
    assert.ok(Math.abs(judged!.nats - best.nats) < 1e-5, `${judged!.nats} ${best.nats}`);
  });

  test("Ctrl-C saves what there is, exits with 130, and the run goes on to where it would have come", async () => {
    const words = ["--steps", "12", ...set("every.validation=100", "every.checkpoint=100")];
    const whole = await trainSmall("uncut", [...words, "--keep", "last"]);
    const abort = new AbortController();
    const cut = join(folder, "cut.run", "events.jsonl");
    // The clock is asked at every step: the signal comes during one of them.
    const now = () => {
      if (existsSync(cut) && readFileSync(cut, "utf8").includes('"step":5,')) abort.abort();
      return 0;
    };
    const { code, stderr, output, run } = await trainSmall("cut", [...words, "--keep", "last", "--lang", "zh"], {
      signal: abort.signal,
      now,
    });
    assert.equal(code, 130, stderr);
    assert.match(stderr, /已中断/);
    assert.ok(existsSync(join(output, "model.safetensors")));
    assert.ok(!weightsOf(output).equals(weightsOf(whole.output)));
    const rest = join(folder, "rest");
    const resumed = await runCli(["train", "--resume", run, "--output", rest, "--lang", "en"]);
    assert.equal(resumed.code, 0, resumed.stderr);
    assert.ok(weightsOf(rest).equals(weightsOf(whole.output)));
  });

  test("an output folder that exists is refused before anything is read, and so is a run's", async () => {
    const output = await runCli(["train", corpusFolder, "--output", folder, "--lang", "en"]);
    assert.equal(output.code, 2);
    assert.match(output.stderr, /CPM_TRAIN_OUTPUT/);
    mkdirSync(join(folder, "taken"));
    writeFileSync(join(folder, "taken", "notes.txt"), "mine");
    const run = await runCli(["train", corpusFolder, "--run", join(folder, "taken"), "--lang", "en"]);
    assert.equal(run.code, 2, run.stderr);
    assert.match(run.stderr, /CPM_RUN_EXISTS/);
    assert.deepEqual(readdirSync(join(folder, "taken")), ["notes.txt"]);
  });

  test("a text that cannot be used leaves no folder", async () => {
    const empty = join(folder, "empty.txt");
    writeFileSync(empty, "\n\n");
    const output = join(folder, "of-nothing");
    const { code, stderr } = await runCli(["train", empty, "--output", output, "--lang", "en"]);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /CPM_DATA_EMPTY/);
    assert.equal(existsSync(`${output}.run`), false);
  });

  test("a diverging run leaves no model, and its record says why", async () => {
    const recipe = join(folder, "diverging.yaml");
    writeFileSync(recipe, "schedule: { kind: constant, peak: 1e30, warmup: 0 }\nguard: { onNonFinite: stop }\n");
    const output = join(folder, "diverged");
    const words = ["train", corpusFolder, "--output", output, "-c", recipe, ...small, "--steps", "20"];
    const { code, stderr } = await runCli(words);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /CPM_TRAIN_DIVERGED/);
    assert.equal(existsSync(output), false);
    const last = eventsOf(`${output}.run`).at(-1)!;
    assert.deepEqual([last.type, last.type === "end" && last.reason], ["end", "failed"]);
  });
});

test("cpm start trains on the text that comes along and writes; its run can be shown", async () => {
  const output = join(folder, "start");
  const cut = ["--steps", "3", "--rows", "2", "--length", "64", "--prompt", "春天来了，"];
  const { code, stdout, stderr } = await runCli(["start", "--output", output, ...cut, "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /春天来了，/);
  assert.match(stderr, /unigram entropy/);
  assert.ok(eventsOf(`${output}.run`).some(({ type }) => type === "step"));
});
