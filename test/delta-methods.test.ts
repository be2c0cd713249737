/**
 * One conformance suite over all delta methods and their options: what each promises at its beginning, gradients against
 * finite differences of the whole model's loss, training that changes nothing of the base, the same effect in decoding as
 * in training.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { attachDelta } from "../src/delta/attach.ts";
import { checkBase, openDelta, saveDelta } from "../src/delta/delta-file.ts";
import type { DeltaWithValues } from "../src/delta/finish.ts";
import { mergeDelta, unmergeDelta } from "../src/delta/merge-delta.ts";
import { type DeltaSpec, methods } from "../src/delta/methods/index.ts";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { createBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import type { Grafts } from "../src/model/graft.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type DeviceTensor, type Runtime } from "../src/runtime/index.ts";
import { adamWDefaults, createAdamW } from "../src/train/adamw.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { createRandom } from "../src/util/random.ts";
import { assertClose, relativeError } from "./support/close.ts";
import { type DeltaWorld, deltaWorld, disturb, randomBatch } from "./support/delta-world.ts";
import { temporaryFolder } from "./support/text-model.ts";
import { tinyConfig as threeLayers } from "./support/tiny-model.ts";

interface Case {
  readonly name: string;
  readonly specs: readonly DeltaSpec[];
  readonly config?: ModelConfig;
  /** Default: what the method promises. */
  readonly startsAs?: "same" | "rounding" | "different";
  /** Parameters whose gradient leaves something out on purpose. */
  readonly inexact?: RegExp;
}

const tinyConfig: ModelConfig = { ...threeLayers, layers: 2 };
/** One layer of each kind: feed-forward alone, nothing, attention alone, both. */
const pruned: ModelConfig = {
  ...tinyConfig,
  layers: 4,
  maskModules: [
    [true, false],
    [true, true],
    [false, true],
    [false, false],
  ],
};

const cases: readonly Case[] = [
  { name: "LoRA", specs: [{ method: "lora", rank: 3, alpha: 6 }] },
  {
    name: "LoRA, rank stabilised, everywhere",
    specs: [{ method: "lora", rank: 2, places: ["attn", "ffn"], rankStabilized: true }],
  },
  {
    name: "LoRA, one layer of a pruned model",
    specs: [{ method: "lora", rank: 2, places: ["layers.3.ffn"] }],
    config: pruned,
  },
  {
    name: "DoRA",
    specs: [{ method: "lora", rank: 2, dora: true, places: ["attn.q", "ffn.out"] }],
    inexact: /lora_[AB]$/,
  },
  {
    name: "DoRA with gradients through the norm",
    specs: [{ method: "lora", rank: 2, dora: true, constantNorm: false, places: ["attn.q", "ffn.out"] }],
  },
  { name: "PiSSA", specs: [{ method: "lora", rank: 4, init: "pissa" }] },
  { name: "adapter", specs: [{ method: "houlsby", bottleneck: 5 }], config: pruned },
  {
    name: "adapter, near zero, at a linear layer",
    specs: [{ method: "houlsby", bottleneck: 4, zeroUp: false, places: ["ffn.gate"] }],
    startsAs: "different",
  },
  { name: "parallel adapter", specs: [{ method: "parallel", bottleneck: 4, scale: 2 }] },
  {
    name: "parallel adapter at linear layers",
    specs: [{ method: "parallel", bottleneck: 3, activation: "tanh", places: ["attn.{q,out}"] }],
  },
  { name: "low-rank adapter", specs: [{ method: "low-rank", reduction: 4, rank: 2, activation: "silu" }] },
  { name: "Compacter", specs: [{ method: "compacter", reduction: 3 }] },
  {
    name: "Compacter, rules and factors of its own",
    specs: [{ method: "compacter", reduction: 3, division: 2, shared: false, factorized: false }],
  },
  { name: "BitFit", specs: [{ method: "bitfit" }], config: pruned },
  { name: "prefix", specs: [{ method: "prefix", tokens: 3, reparameterize: false }] },
  { name: "prefix, from a hidden layer", specs: [{ method: "prefix", tokens: 4, hidden: 6 }], config: pruned },
  { name: "soft prompt", specs: [{ method: "soft-prompt", tokens: 5 }] },
  { name: "soft prompt from tokens", specs: [{ method: "soft-prompt", tokens: 3, from: [7, 9] }] },
  { name: "IA³", specs: [{ method: "ia3" }] },
  { name: "full fine-tuning", specs: [{ method: "fine-tuning" }], config: pruned },
  {
    name: "norms and position bias",
    specs: [{ method: "fine-tuning", places: ["norm", "output_norm", "position_bias"] }],
  },
  {
    name: "LoRA, IA³, an adapter, a prefix and a soft prompt together",
    specs: [
      { method: "lora", rank: 2, places: ["attn.k", "ffn.out"] },
      { method: "ia3" },
      { method: "parallel", bottleneck: 3 },
      { method: "bitfit", places: ["attn.norm", "attn.k"] },
      { method: "prefix", tokens: 2, hidden: 4 },
      { method: "soft-prompt", tokens: 2 },
    ],
    startsAs: "different",
  },
];

let runtime: Runtime;
before(() => {
  runtime = createNativeRuntime({ threads: 1 });
});
after(() => runtime.dispose());

/** Logits of the text columns of a random batch: a soft prompt makes rows longer, and padding means nothing. */
async function outputsOf(
  config: ModelConfig,
  tensors: ReadonlyMap<string, DeviceTensor>,
  grafts?: Grafts,
): Promise<Float32Array> {
  const model = grafts?.config ?? config;
  const batch = randomBatch(model);
  const { rows, columns } = batch;
  const settings = { rows, columns, recompute: "none", grafts } as const;
  const step = await createTrainingStep(runtime, config, { tensors }, undefined, settings);
  const { hidden, logits } = await step.outputs(batch);
  const V = model.vocabSize;
  const all = logits.view() as Float32Array;
  const out: number[] = [];
  for (let row = 0; row < rows; row++) {
    out.push(...all.subarray((row * columns + model.promptLength) * V, (row * columns + batch.length[row]!) * V));
  }
  hidden.dispose();
  logits.dispose();
  step.dispose();
  return Float32Array.from(out);
}

const logitsOf = (world: DeltaWorld, attached: boolean) =>
  attached ? outputsOf(world.config, world.tensors, world.delta.grafts) : outputsOf(world.config, world.base);

function valuesOf({ values }: DeltaWorld): Map<string, Float32Array> {
  return new Map([...values.tensors].map(([key, tensor]) => [key, (tensor.view() as Float32Array).slice()]));
}

/** The world's base with another delta. */
async function outputsWith({ config, base }: DeltaWorld, { delta, values }: DeltaWithValues): Promise<Float32Array> {
  const own = new Map(
    delta.parameters.map(({ name, shape }) => [name, runtime.upload(values.get(name)!, "float32", shape)]),
  );
  const out = await outputsOf(config, new Map([...base, ...own]), delta.grafts);
  for (const tensor of own.values()) tensor.dispose();
  return out;
}

test("every method has a case", () => {
  const covered = new Set(cases.flatMap(({ specs }) => specs.map(({ method }) => method)));
  assert.deepEqual(
    methods.map(({ name }) => name).filter((name) => !covered.has(name)),
    [],
  );
});

for (const { name, specs, config = tinyConfig, inexact, ...promised } of cases) {
  suite(`delta: ${name}`, () => {
    let world: DeltaWorld;
    before(async () => {
      world = await deltaWorld(runtime, specs, config);
    });
    after(() => world.dispose());
    const startsAs = promised.startsAs ?? methods.find((method) => method.name === specs[0]!.method)!.startsAs;

    test("parameters have names of their own, and detached the model is what it was", async () => {
      const names = world.delta.parameters.map((parameter) => parameter.name);
      assert.equal(new Set(names).size, names.length);
      assert.ok(names.length > 0);
      assert.deepEqual(await logitsOf(world, false), await logitsOf(world, false));
    });

    test(`begins as the model: ${startsAs}`, async () => {
      const error = relativeError(await logitsOf(world, true), await logitsOf(world, false));
      if (startsAs === "same") assert.ok(error < 1e-6, `${error}`);
      else if (startsAs === "rounding") assert.ok(error < 1e-5, `${error}`);
      else assert.ok(error > 1e-5, `${error}`);
    });

    test("gradients by finite differences, with every recomputation policy", async () => {
      const other = await deltaWorld(runtime, specs, config);
      disturb(other);
      const batch = randomBatch(other.delta.grafts.config);
      const gradients = new Map<string, number[]>();
      for (const recompute of ["none", "block"] as const) {
        const step = await other.step({ recompute });
        await step.lossAndGradients(batch);
        for (const [key, tensor] of other.gradients.tensors) {
          const found = Array.from(tensor.view() as Float32Array);
          const known = gradients.get(key);
          if (known) assertClose(found, known, 1e-5, `${key}, ${recompute}`);
          else gradients.set(key, found);
        }
        step.dispose();
      }
      const step = await other.step();
      const length = (values: readonly number[]) => Math.sqrt(values.reduce((sum, g) => sum + g * g, 0));
      const random = createRandom(3, name);
      const total = length([...gradients.values()].flat());
      for (const [key, g] of gradients) {
        const view = other.values.tensors.get(key)!.view() as Float32Array;
        if (inexact?.test(key)) continue;
        const norm = length(g);
        assert.ok(norm > 0, `${key} has no gradient`);
        const noise = g.map(() => random.normal());
        const along = g.map((x) => x / norm);
        const across = noise.map((x) => x / length(noise));
        for (const [which, direction] of [
          ["along", along],
          ["across", across],
        ] as const) {
          const expected = g.reduce((sum, x, i) => sum + x * direction[i]!, 0);
          const before = view.slice();
          const lossAt = async (by: number) => {
            before.forEach((value, i) => {
              view[i] = value + by * direction[i]!;
            });
            return step.loss(batch);
          };
          const epsilon = 0.002;
          const measured = ((await lossAt(epsilon)) - (await lossAt(-epsilon))) / (2 * epsilon);
          view.set(before);
          const tolerance = 0.02 * norm + 1e-3 * total + 1e-4;
          assert.ok(Math.abs(measured - expected) < tolerance, `${key} ${which}: ${measured}, not ${expected}`);
        }
      }
      step.dispose();
      other.dispose();
    });

    test("training lowers the loss and changes nothing of the base; gradients add up", async () => {
      const other = await deltaWorld(runtime, specs, config);
      const before = await other.hash();
      const batch = randomBatch(other.delta.grafts.config);
      const trained = createArena(runtime, arenaLayout(other.gradients.layout.parameters));
      for (const [key, tensor] of trained.tensors) runtime.write(tensor, other.values.tensors.get(key)!.view());
      const tensors = new Map([...other.tensors, ...trained.tensors]);
      const step = await createTrainingStep(runtime, config, { tensors }, other.gradients, {
        rows: batch.rows,
        columns: batch.columns,
        recompute: "none",
        grafts: other.delta.grafts,
      });
      const moments = { first: createArena(runtime, trained.layout), second: createArena(runtime, trained.layout) };
      const optimizer = await createAdamW(runtime, trained, other.gradients, moments, adamWDefaults);
      const first = await step.lossAndGradients(batch);
      const once = Array.from(other.gradients.flat.view() as Float32Array);
      await step.lossAndGradients(batch, { add: true });
      assertClose(
        other.gradients.flat.view() as Float32Array,
        once.map((g) => 2 * g),
        1e-5,
        "added gradients",
      );
      for (let i = 0; i < 12; i++) {
        await step.lossAndGradients(batch);
        await optimizer.update(0.02, await optimizer.gradientNorm());
      }
      assert.ok((await step.loss(batch)) < first - 0.01, `${await step.loss(batch)} after ${first}`);
      assert.equal(await other.hash(), before);
      optimizer.dispose();
      step.dispose();
      for (const arena of [trained, moments.first, moments.second]) arena.dispose();
      other.dispose();
    });

    test("cached decoding gives what a training pass gives", async () => {
      const other = await deltaWorld(runtime, specs, config);
      disturb(other);
      const { grafts } = other.delta;
      const prompt = [6, 9, 12, 7, 30];
      const tokens = [3, 39, 0, 21, 5];
      const P = grafts.config.promptLength;
      const columns = P + prompt.length + tokens.length;
      const batch = createBatch(1, columns);
      batch.input.set([...Array.from({ length: P }, (_, i) => 2 * P + i), ...prompt, ...tokens]);
      batch.length[0] = columns;
      batch.context.fill(1, 0, P + prompt.length);
      batch.segment.fill(2, P);
      const step = await other.step({ rows: 1, columns });
      const { hidden, logits } = await step.outputs(batch);
      const V = config.vocabSize;
      const expected = (i: number) => {
        const at = P + prompt.length - 1 + i;
        return (logits.view() as Float32Array).subarray(at * V, (at + 1) * V);
      };
      for (const weights of ["packed", "shared"] as const) {
        const session = await createCpmAntSession(runtime, config, other.tensors, {
          capacityTokens: 16,
          weights,
          grafts,
        });
        // Two rows of unequal length: each has the prefix and its own place.
        const first = await session.prefill([[8, 11], prompt]);
        assertClose(first.subarray(V), expected(0), 1e-5, `${weights}, the prompt`);
        for (const [i, token] of tokens.entries()) {
          const found = await session.step(Int32Array.of(token, token));
          assertClose(found.subarray(V), expected(i + 1), 2e-5, `${weights}, token ${i}`);
        }
        session.truncate(Int32Array.of(tokens.length, tokens.length));
        const extended = await session.extend([[1], tokens], "last");
        assertClose(extended.subarray(V), expected(tokens.length), 2e-5, `${weights}, extended`);
        session.dispose();
      }
      hidden.dispose();
      logits.dispose();
      step.dispose();
      other.dispose();
    });
  });
}

const mergeable = new Set(["lora", "ia3", "fine-tuning", "soft-prompt"]);

for (const { name, specs, config = tinyConfig } of cases) {
  suite(`delta file: ${name}`, () => {
    const folder = temporaryFolder("cpm-delta-");
    let world: DeltaWorld;
    let saved: DeltaWithValues;
    let trained: Float32Array;
    const path = () => join(folder, "delta");
    before(async () => {
      world = await deltaWorld(runtime, specs, config);
      disturb(world);
      trained = await logitsOf(world, true);
      saved = { delta: world.delta, values: valuesOf(world) };
      await saveDelta(path(), saved, { baseSha256: await world.hash(), use: { promptTask: 1 } });
    });
    after(() => world.dispose());

    test("saved and opened, the effect is the same", async () => {
      const opened = await openDelta(path(), config);
      checkBase(opened, await world.hash(), path());
      assert.deepEqual(opened.use, { promptTask: 1 });
      assertClose(await outputsWith(world, opened), trained, 2e-6, "outputs");
    });

    test("with another base it is an error, and so is a part of it", async () => {
      const opened = await openDelta(path(), config);
      assert.throws(() => checkBase(opened, "0".repeat(64), path()), { code: "CPM_DELTA_BASE" });
      await assert.rejects(openDelta(path(), { ...config, vocabSize: config.vocabSize + 1 }), {
        code: "CPM_DELTA_BASE",
      });
    });

    if (specs.every(({ method }) => mergeable.has(method))) {
      test("merged into the weights, the plain model computes the same; taken out, the base is back", async () => {
        const base = (key: string) => Promise.resolve(world.base.get(key)!.view() as Float32Array);
        const merged = mergeDelta(saved, base);
        const tensors = new Map<string, DeviceTensor>();
        for (const { name: key, shape } of parameterTable(merged.config)) {
          tensors.set(key, runtime.upload(await merged.read(key), "float32", shape));
        }
        assertClose(await outputsOf(merged.config, tensors), trained, 2e-5, "merged");
        for (const key of merged.changed) {
          assert.ok(relativeError(await merged.read(key), new Float32Array((await merged.read(key)).length)) > 0);
        }
        const takesOut = specs.every((spec) => spec.method === "ia3" || (spec.method === "lora" && !spec.dora));
        if (takesOut) {
          const back = unmergeDelta(saved, merged.read);
          for (const key of back.changed) assertClose(await back.read(key), await base(key), 1e-6, key);
        } else assert.throws(() => unmergeDelta(saved, merged.read), { code: "CPM_DELTA_MERGE" });
        for (const tensor of tensors.values()) tensor.dispose();
      });
    } else {
      test("no weight can hold it: an error", () => {
        const base = (key: string) => Promise.resolve(world.base.get(key)!.view() as Float32Array);
        assert.throws(() => mergeDelta(saved, base), { code: "CPM_DELTA_MERGE" });
      });
    }
  });
}

test("nothing is left on the runtime", () => {
  assert.deepEqual([runtime.memory().tensors, runtime.memory().programs], [0, 0]);
});

test("unwritten: a method at no place, unknown options, twice the same", () => {
  const refuses = (specs: readonly DeltaSpec[], code: string) =>
    assert.throws(() => attachDelta(tinyConfig, specs), { code });
  refuses([{ method: "lara" }], "CPM_DELTA_METHOD");
  refuses([{ method: "lora", rank: 0 }], "CPM_DELTA_OPTIONS");
  refuses([{ method: "lora", ranks: 4 }], "CPM_DELTA_OPTIONS");
  refuses([{ method: "lora", rank: 49 }], "CPM_DELTA_OPTIONS");
  refuses([{ method: "lora", places: ["attn.z"] }], "CPM_DELTA_PLACES");
  refuses([{ method: "prefix", places: ["layers.0.attn"] }], "CPM_DELTA_OPTIONS");
  refuses([{ method: "lora" }, { method: "lora", rank: 2, places: ["attn.v"] }], "CPM_DELTA_TWICE");
});
