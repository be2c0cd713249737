/** What a training step and its optimizer can do beside the plain step: each against what it must be equal to. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { evaluateGraph, keepMask, type NdArray, spec, trace } from "../src/graph/index.ts";
import { createBatch, ignoredTarget, type ModelBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { createNativeRuntime, type Port, type Runtime } from "../src/runtime/index.ts";
import { type AdamWOptions, adamWDefaults, createAdamW } from "../src/train/adamw.ts";
import { type Arena, arenaLayout, createArena } from "../src/train/arena.ts";
import { drawWords, dropoutWords } from "../src/train/dropout.ts";
import { createLossScale, lossScaleSchema } from "../src/train/loss-scale.ts";
import { groupOf, type ParameterGroup } from "../src/train/optimizer-options.ts";
import { blockProgram, lossProgram, plainArithmetic } from "../src/train/programs.ts";
import { createTrainingStep, type TrainingStep, type TrainingStepOptions } from "../src/train/step.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";

const config: ModelConfig = {
  ...preset("tiny"),
  vocabSize: 96,
  dimModel: 16,
  layers: 2,
  heads: 2,
  dimHead: 8,
  dimFf: 24,
  promptTypes: 2,
  promptLength: 2,
  segmentTypes: 3,
  positionBuckets: 8,
  positionMaxDistance: 32,
};
const columns = 10;

/** Rows whose numbers of targets differ: the first has most. */
function anyBatch(rows: number, seed = 1): ModelBatch {
  const random = createRandom(seed, "batch");
  const batch = createBatch(rows, columns);
  batch.length.fill(columns);
  for (let i = 0; i < rows * columns; i++) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const isPrompt = column < config.promptLength;
    batch.input[i] = isPrompt ? column : random.integer(config.vocabSize);
    batch.segment[i] = isPrompt ? 0 : 1;
    batch.context[i] = Number(column < 5);
    batch.target[i] = column >= 2 + row && column < columns - 1 ? random.integer(config.vocabSize) : ignoredTarget;
  }
  return batch;
}

function rowsOf(batch: ModelBatch, from: number, to: number): ModelBatch {
  const part = createBatch(to - from, columns);
  for (const key of ["input", "segment", "context", "target", "span"] as const) {
    part[key].set(batch[key].subarray(from * columns, to * columns) as never);
  }
  part.length.set(batch.length.subarray(from, to));
  return part;
}

const targetsOf = (batch: ModelBatch) => batch.target.filter((id) => id !== ignoredTarget).length;

interface World {
  readonly parameters: Arena;
  readonly gradients: Arena;
  step(options?: Partial<TrainingStepOptions>): Promise<TrainingStep>;
  gradientsNow(): Map<string, Float32Array>;
}

function world(runtime: Runtime, groups: readonly ParameterGroup[] = [], model = config): World {
  const table = parameterTable(model);
  const layout = arenaLayout(table, groups.length > 0 ? groupOf(groups, table) : undefined);
  const [parameters, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
  for (const { name, kind } of table) {
    const view = parameters.tensors.get(name)!.view() as Float32Array;
    if (kind === "norm") view.fill(1);
    else fillNormal(view, 3, name, 0, kind === "embedding" ? 0.5 : 1);
  }
  return {
    parameters,
    gradients,
    step: (options = {}) =>
      createTrainingStep(runtime, model, parameters, gradients, { rows: 2, columns, recompute: "none", ...options }),
    gradientsNow: () => new Map([...gradients.tensors].map(([name, t]) => [name, (t.view() as Float32Array).slice()])),
  };
}

function assertGradients(found: Map<string, Float32Array>, expected: Map<string, Float32Array>, bound: number): void {
  for (const [name, values] of expected) assertClose(found.get(name)!, values, bound, name);
}

suite("training features", () => {
  let runtime: Runtime;
  before(() => {
    runtime = createNativeRuntime({ threads: 2, spin: false });
  });
  after(() => runtime.dispose());

  test("parts of a batch whose gradients are added give the batch's, each target weighing the same", async () => {
    const whole = anyBatch(4);
    const parts = [rowsOf(whole, 0, 2), rowsOf(whole, 2, 4)];
    assert.notEqual(targetsOf(parts[0]!), targetsOf(parts[1]!));
    const { step, gradientsNow, gradients } = world(runtime);
    const big = await step({ rows: 4 });
    const loss = await big.lossAndGradients(whole);
    const expected = gradientsNow();
    const small = await step();
    const scale = 1 / targetsOf(whole);
    (gradients.flat.view() as Float32Array).fill(7); // what was there before does not matter to the first part
    const losses = [
      await small.lossAndGradients(parts[0]!, { scale }),
      await small.lossAndGradients(parts[1]!, { scale, add: true }),
    ];
    assertClose([losses[0]! + losses[1]!], [loss], 1e-6, "loss");
    assertGradients(gradientsNow(), expected, 1e-6);
    big.dispose();
    small.dispose();
  });

  test("losses of single targets: their mean is the loss, with and without gradients", async () => {
    const { step } = world(runtime);
    const training = await step();
    const batch = anyBatch(2);
    for (const loss of [await training.lossAndGradients(batch), await training.loss(batch)]) {
      const losses = await training.targetLosses();
      assert.equal(losses.length, targetsOf(batch));
      assertClose([losses.reduce((a, b) => a + b, 0) / losses.length], [loss], 1e-6);
    }
    // The first row's targets come first: masking the second row's leaves them as they were.
    const all = await training.targetLosses();
    const first = rowsOf(batch, 0, 2);
    first.target.fill(ignoredTarget, columns);
    await training.loss(first);
    assertClose(await training.targetLosses(), all.subarray(0, targetsOf(first)), 1e-6);
    training.dispose();
  });

  test("z-loss: gradients are those of nll + z·(ln Z)², the reported loss stays the nll", () => {
    const geometry = { rows: 1, columns: 4 };
    const [positions, targets, z, scale] = [[1, 3], [5, 60], 0.3, 0.5];
    const random = createRandom(5, "z");
    const array = (shape: readonly number[]): NdArray => {
      const count = shape.reduce((a, b) => a * b, 1);
      return { dtype: "float32", shape, data: Float64Array.from({ length: count }, () => random.normal()) };
    };
    const ints = (data: number[]): NdArray => ({ dtype: "int32", shape: [data.length], data: Int32Array.from(data) });
    const h = array([1, 4, config.dimModel]);
    const token = array([config.vocabSize, config.dimModel]);
    const norm = array([config.dimModel]);
    const inputs = {
      h,
      "params.norm": norm,
      "params.token": token,
      positions: ints(positions),
      targets: ints(targets),
      scale: { dtype: "float32", shape: [], data: Float64Array.of(scale) } as NdArray,
    };
    const total = (withZ: number) => {
      let sum = 0;
      positions.forEach((position, i) => {
        const D = config.dimModel;
        const x = h.data.subarray(position * D, (position + 1) * D);
        const r = 1 / Math.sqrt([...x].reduce((a, b) => a + b * b, 0) / D + config.eps);
        const logits = Array.from({ length: config.vocabSize }, (_, v) => {
          let product = 0;
          for (let d = 0; d < D; d++) product += x[d]! * r * norm.data[d]! * token.data[v * D + d]!;
          return product / Math.sqrt(D);
        });
        const logZ = Math.log(logits.reduce((a, b) => a + Math.exp(b), 0));
        sum += logZ - logits[targets[i]!]! + withZ * logZ * logZ;
      });
      return sum * scale;
    };
    const results = evaluateGraph(lossProgram(config, geometry, { ...plainArithmetic, zLoss: z }), inputs);
    assertClose(results.loss!.data, [total(0)], 1e-9, "loss");
    for (const [name, tensor] of [
      ["grad.h", h],
      ["grad.params.token", token],
      ["grad.params.norm", norm],
    ] as const) {
      for (const at of [17, 5, 16 * 3 + 9].filter((i) => i < tensor.data.length)) {
        const value = tensor.data[at]!;
        tensor.data[at] = value + 1e-5;
        const above = total(z);
        tensor.data[at] = value - 1e-5;
        const below = total(z);
        tensor.data[at] = value;
        assert.ok(Math.abs(results[name]!.data[at]! - (above - below) / 2e-5) < 1e-6, `${name}[${at}]`);
      }
    }
  });

  for (const recompute of ["none", "block", "all"] as const) {
    test(`dropout: a block's gradients with fixed masks, by finite differences in float64, recompute ${recompute}`, () => {
      const geometry = { rows: 1, columns: 4 };
      const rate = 0.4;
      const split = blockProgram(config, [false, false], geometry, recompute, { ...plainArithmetic, dropRate: rate });
      const words = dropoutWords(config, [false, false], geometry);
      const random = createRandom(9, "block");
      const arrayFor = ({ name, dtype, shape }: Port): NdArray => {
        const sizes = shape as number[];
        const count = sizes.reduce((a, b) => a * b, 1);
        if (name === "words") return { dtype, shape: sizes, data: drawWords(words, 1, 3, 0) };
        if (name === "seen") return { dtype, shape: sizes, data: new Float64Array(count).fill(1) };
        return { dtype, shape: sizes, data: Float64Array.from({ length: count }, () => random.normal()) };
      };
      const inputs = Object.fromEntries(split.forward.inputs.map((port) => [port.name, arrayFor(port)]));
      const weights = arrayFor(split.forward.outputs[0]!);
      const value = () => {
        const { next } = evaluateGraph(split.forward, inputs);
        return Array.from(next!.data).reduce((sum, x, i) => sum + x * weights.data[i]!, 0);
      };
      const forward = evaluateGraph(split.forward, inputs);
      const sums = Object.fromEntries(
        split.backward.inputs
          .filter(({ name }) => name.startsWith("sum."))
          .map((port) => [port.name, { ...arrayFor(port), data: new Float64Array(arrayFor(port).data.length) }]),
      );
      const backward = evaluateGraph(split.backward, {
        ...inputs,
        ...forward,
        ...sums,
        "cotangent.next": weights,
      });
      for (const { name } of split.backward.outputs) {
        const data = inputs[name.slice("grad.".length)]!.data;
        for (const at of [3, 8, 15].filter((i) => i < data.length)) {
          const x = data[at]!;
          data[at] = x + 1e-5;
          const above = value();
          data[at] = x - 1e-5;
          const below = value();
          data[at] = x;
          const expected = (above - below) / 2e-5;
          const found = backward[name]!.data[at]!;
          assert.ok(Math.abs(found - expected) <= 1e-6 * Math.max(1, Math.abs(expected)), `${name}[${at}]`);
        }
      }
    });
  }

  test("dropout: masks drop their share, in every row and column, and neighbours know nothing of each other", async () => {
    const [R, C, rate] = [512, 384, 0.2];
    const words = (draw: number) => {
      const all = drawWords(2 * R + C, 5, draw, 1);
      return { a: all.slice(0, R), b: all.slice(R, 2 * R), c: all.slice(2 * R) };
    };
    const int = (length: number) => spec("int32", [length]);
    const graph = trace("mask", ({ a, b, c }) => ({ kept: keepMask(a, b, c, rate) }), {
      a: int(R),
      b: int(R),
      c: int(C),
    });
    const program = await runtime.compile(graph);
    const draw = async (number: number) => {
      const { a, b, c } = words(number);
      const given = {
        a: runtime.upload(a, "int32", [R]),
        b: runtime.upload(b, "int32", [R]),
        c: runtime.upload(c, "int32", [C]),
      };
      const { kept } = await program.run(given);
      const mask = Uint8Array.from((await runtime.download(kept!)) as Uint8Array);
      for (const tensor of [...Object.values(given), kept!]) tensor.dispose();
      return mask;
    };
    const mask = await draw(0);
    const deviations = (count: number, of: number, p: number) => Math.abs(count - of * p) / Math.sqrt(of * p * (1 - p));
    const sum = (indices: Iterable<number>) => [...indices].reduce((total, i) => total + mask[i]!, 0);
    assert.ok(deviations(sum(mask.keys()), R * C, 1 - rate) < 5, "share of the whole");
    const worst = (lines: number, length: number, at: (line: number, i: number) => number) =>
      Math.max(
        ...Array.from({ length: lines }, (_, line) =>
          deviations(sum(Array.from({ length }, (_, i) => at(line, i))), length, 1 - rate),
        ),
      );
    assert.ok(worst(R, C, (row, i) => row * C + i) < 6, "share of each row");
    assert.ok(worst(C, R, (column, i) => i * C + column) < 6, "share of each column");
    const other = await draw(1);
    for (const [name, distance] of [
      ["columns", 1],
      ["rows", C],
      ["rows and columns", C + 1],
      ["farther", 7 * C + 3],
    ] as const) {
      let both = 0;
      const pairs = R * C - distance;
      for (let i = 0; i < pairs; i++) both += mask[i]! & mask[i + distance]!;
      assert.ok(deviations(both, pairs, (1 - rate) ** 2) < 6, name);
    }
    const both = mask.reduce((total, kept, i) => total + (kept & other[i]!), 0);
    assert.ok(deviations(both, R * C, (1 - rate) ** 2) < 6, "another draw");
    program.dispose();
  });

  test("dropout: a draw is repeated by its number, whatever is recomputed; another draws otherwise", async () => {
    const { step, gradientsNow } = world(runtime);
    const batch = anyBatch(2);
    const dropout = { rate: 0.3, seed: 11 };
    const plain = await step();
    const kept = await plain.loss(batch);
    const training = await step({ dropout });
    const losses = [];
    for (const draw of [0, 1, 2]) losses.push(await training.lossAndGradients(batch, { draw }));
    assert.equal(new Set([...losses, kept]).size, 4);
    assert.equal(await training.lossAndGradients(batch, { draw: 1 }), losses[1]);
    const gradients = gradientsNow();
    for (const recompute of ["block", "all"] as const) {
      const again = await step({ dropout, recompute });
      assertClose([await again.lossAndGradients(batch, { draw: 1 })], [losses[1]!], 1e-6);
      assertGradients(gradientsNow(), gradients, 2e-5);
      again.dispose();
    }
    const other = await step({ dropout: { rate: 0.3, seed: 12 } });
    assert.notEqual(await other.lossAndGradients(batch, { draw: 1 }), losses[1]);
    assertClose([await training.loss(batch)], [kept], 1e-6, "nothing is dropped in evaluation");
    const nothing = await step({ dropout: { rate: 0, seed: 11 } });
    assert.equal(await nothing.lossAndGradients(batch), await plain.lossAndGradients(batch));
    for (const made of [plain, training, other, nothing]) made.dispose();
  });

  test("gradients that come multiplied leave the norm and the moments as they would be", async () => {
    const batch = anyBatch(2);
    const found = [];
    for (const scale of [1, 1024]) {
      const { step, parameters, gradients } = world(runtime);
      const moments = {
        first: createArena(runtime, parameters.layout),
        second: createArena(runtime, parameters.layout),
      };
      const training = await step();
      const optimizer = await createAdamW(runtime, parameters, gradients, moments, {
        ...adamWDefaults,
        clipNorm: 0.01,
      });
      const loss = await training.lossAndGradients(batch, { gradientScale: scale });
      const norm = await optimizer.gradientNorm(scale);
      await optimizer.update(0.01, norm, scale);
      found.push({ loss, norm, first: (moments.first.flat.view() as Float32Array).slice() });
      for (const made of [optimizer, training]) made.dispose();
    }
    const [plain, scaled] = found as [(typeof found)[0], (typeof found)[0]];
    assertClose([scaled.loss, scaled.norm], [plain.loss, plain.norm], 1e-6);
    assert.ok(plain.norm > 0.01, "clipping is part of it");
    assertClose(scaled.first, plain.first, 1e-6);
  });

  test("a group has its decay and its factor; groups of one setting change no bit", async () => {
    const batch = anyBatch(2);
    const trained = async (groups: readonly ParameterGroup[], options: AdamWOptions = adamWDefaults) => {
      const { step, parameters, gradients } = world(runtime, groups);
      const training = await step();
      const moments = {
        first: createArena(runtime, parameters.layout),
        second: createArena(runtime, parameters.layout),
      };
      const optimizer = await createAdamW(runtime, parameters, gradients, moments, { ...options, groups });
      for (let i = 0; i < 3; i++) {
        await training.lossAndGradients(batch);
        await optimizer.update(0.01, await optimizer.gradientNorm());
      }
      const values = new Map([...parameters.tensors].map(([name, t]) => [name, (t.view() as Float32Array).slice()]));
      for (const made of [optimizer, training]) made.dispose();
      return values;
    };
    const plain = await trained([]);
    const norm = "encoder.output_layernorm.weight";
    const [table, project] = ["input_embedding.weight", "encoder.layers.0.self_att.self_attention.project_q.weight"];
    const options = { ...adamWDefaults, clipNorm: 0 };
    const unclipped = await trained([], options);
    const same = await trained([{ match: "*layernorm*", rateFactor: 1 }], options);
    for (const [name, values] of unclipped) assert.deepEqual(same.get(name), values, name);
    const mixed = await trained([
      { match: "*layernorm*", weightDecay: 0, rateFactor: 1 },
      { match: table, rateFactor: 0 },
    ]);
    const start = new Float32Array(plain.get(table)!.length);
    fillNormal(start, 3, table, 0, 0.5);
    assert.deepEqual(mixed.get(table), start, "a rate of 0 keeps the table");
    assert.notDeepEqual(plain.get(table), start);
    assert.notDeepEqual(mixed.get(norm), plain.get(norm));
    assert.notDeepEqual(mixed.get(project), undefined);
    // First update without gradients' influence on the rest: decay alone, p ← p·(1 − lr·λ).
    const { parameters, gradients } = world(runtime, [{ match: "*layernorm*", weightDecay: 0.5, rateFactor: 2 }]);
    const moments = { first: createArena(runtime, parameters.layout), second: createArena(runtime, parameters.layout) };
    const optimizer = await createAdamW(runtime, parameters, gradients, moments, {
      ...adamWDefaults,
      weightDecay: 0,
      groups: [{ match: "*layernorm*", weightDecay: 0.5, rateFactor: 2 }],
    });
    await optimizer.update(0.1, await optimizer.gradientNorm());
    assertClose(parameters.tensors.get(norm)!.view() as Float32Array, Array(config.dimModel).fill(0.9), 1e-6);
    assert.deepEqual(parameters.tensors.get(table)!.view(), start);
    optimizer.dispose();
  });

  test("the average of the weights is the recurrence over the weights after each update", async () => {
    const batch = anyBatch(2);
    for (const warmup of [true, false]) {
      const { step, parameters, gradients } = world(runtime);
      const arena = () => createArena(runtime, parameters.layout);
      const moments = { first: arena(), second: arena(), ema: arena() };
      runtime.write(moments.ema.flat, parameters.flat.view());
      const training = await step();
      const options = { ...adamWDefaults, ema: { decay: 0.7, warmup, validate: true } };
      const optimizer = await createAdamW(runtime, parameters, gradients, moments, options);
      const expected = Float64Array.from(parameters.flat.view() as Float32Array);
      for (let t = 1; t <= 4; t++) {
        await training.lossAndGradients(batch);
        await optimizer.update(0.05, await optimizer.gradientNorm());
        const d = warmup ? Math.min(0.7, (1 + t) / (10 + t)) : 0.7;
        const now = parameters.flat.view() as Float32Array;
        expected.forEach((e, i) => {
          expected[i] = d * e + (1 - d) * now[i]!;
        });
      }
      assertClose(moments.ema.flat.view() as Float32Array, expected, 1e-6);
      optimizer.dispose();
      training.dispose();
    }
  });

  test("float16: after some updates the loss is close to float32's, with masters in float32", async () => {
    const batch = anyBatch(2);
    const losses: Record<string, number[]> = {};
    for (const compute of ["float32", "float16"] as const) {
      const { step, parameters, gradients } = world(runtime);
      const arena = () => createArena(runtime, parameters.layout);
      const training = await step({ compute });
      const optimizer = await createAdamW(runtime, parameters, gradients, { first: arena(), second: arena() });
      const scale = compute === "float16" ? 2 ** 10 : 1;
      losses[compute] = [];
      for (let i = 0; i < 8; i++) {
        losses[compute].push(await training.lossAndGradients(batch, { gradientScale: scale }));
        await optimizer.update(0.01, await optimizer.gradientNorm(scale), scale);
      }
      losses[compute].push(await training.loss(batch));
      if (compute === "float16") {
        const values = parameters.tensors.get("input_embedding.weight")!.view() as Float32Array;
        assert.ok(
          values.some((value) => Math.fround(Math.round(value * 2048) / 2048) !== value),
          "masters stay exact",
        );
      }
      optimizer.dispose();
      training.dispose();
    }
    const [exact, half] = [losses.float32!, losses.float16!];
    assert.ok(exact[8]! < exact[0]! - 0.3, `${exact}`);
    exact.forEach((loss, i) => {
      assert.ok(Math.abs(half[i]! - loss) < 0.01 * loss, `${i}: ${half[i]}, ${loss}`);
      if (i === 0) assert.notEqual(half[i], loss, "it is rounded");
    });
  });

  test("float16: gradients that overflow leave the update out and lower the scale until they fit", async () => {
    const batch = anyBatch(2);
    const { step, parameters, gradients } = world(runtime);
    const arena = () => createArena(runtime, parameters.layout);
    const training = await step({ compute: "float16" });
    const optimizer = await createAdamW(runtime, parameters, gradients, { first: arena(), second: arena() });
    const lossScale = createLossScale(lossScaleSchema.parse({ initial: 2 ** 26 }));
    const start = (parameters.flat.view() as Float32Array).slice();
    let skipped = 0;
    for (;;) {
      const { scale } = lossScale;
      const loss = await training.lossAndGradients(batch, { gradientScale: scale });
      assert.ok(Number.isFinite(loss), "the loss itself never overflows");
      const norm = await optimizer.gradientNorm(scale);
      if (lossScale.accepts(norm)) {
        await optimizer.update(0.01, norm, scale);
        break;
      }
      skipped++;
      assert.deepEqual(parameters.flat.view(), start);
      assert.ok(skipped < 26);
    }
    assert.ok(skipped >= 3, `${skipped} overflows`);
    assert.equal(lossScale.scale, 2 ** (26 - skipped));
    assert.equal(optimizer.steps, 1);
    assert.ok((parameters.flat.view() as Float32Array).every(Number.isFinite));
    assert.notDeepEqual(parameters.flat.view(), start);
    optimizer.dispose();
    training.dispose();
  });
});
