/** What training and decoding cost beside arithmetic: memory by recomputation policy, leaks, programs compiled. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { RecomputePolicy } from "../src/graph/index.ts";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { createBatch, type ModelBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { type AdamW, createAdamW } from "../src/train/adamw.ts";
import { type Arena, arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep, type TrainingStep } from "../src/train/step.ts";
import { interceptCompile } from "./support/intercept-compile.ts";
import { everyMask, randomWeights, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const geometry = { rows: 2, columns: 12 };

interface Training {
  readonly step: TrainingStep;
  readonly optimizer: AdamW;
  readonly arenas: readonly Arena[];
  dispose(): void;
}

async function createTraining(runtime: Runtime, config: ModelConfig, recompute: RecomputePolicy): Promise<Training> {
  const layout = arenaLayout(parameterTable(config));
  const arenas = Array.from({ length: 4 }, () => createArena(runtime, layout));
  const [parameters, gradients, first, second] = arenas as [Arena, Arena, Arena, Arena];
  const weights = randomWeights(config);
  for (const [name, tensor] of parameters.tensors) runtime.write(tensor, weights.get(name)!);
  const step = await createTrainingStep(runtime, config, parameters, gradients, { ...geometry, recompute });
  const optimizer = await createAdamW(runtime, parameters, gradients, { first, second });
  const dispose = () => {
    for (const thing of [optimizer, step, ...arenas]) thing.dispose();
  };
  return { step, optimizer, arenas, dispose };
}

function anyBatch(config: ModelConfig): ModelBatch {
  const { rows, columns } = geometry;
  const batch = createBatch(rows, columns);
  const P = config.promptLength;
  batch.length.fill(columns);
  for (let i = 0; i < rows * columns; i++) {
    const column = i % columns;
    batch.input[i] = column < P ? column : (7 * i) % config.vocabSize;
    batch.segment[i] = column < P ? 0 : 1;
    if (column >= P && column < columns - 1) batch.target[i] = (7 * (i + 1)) % config.vocabSize;
  }
  return batch;
}

const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

suite("memory of a training step", () => {
  test("recomputing keeps a stream or two of a layer instead of every value", async (t) => {
    const config = { ...tinyConfig, layers: 4, heads: 4, dimHead: 16, dimModel: 64, dimFf: 160 };
    const bytes: Record<string, number> = {};
    for (const recompute of ["none", "block", "all"] as const) {
      using runtime = createNativeRuntime({ threads: 1 });
      const layout = arenaLayout(parameterTable(config));
      const [parameters, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
      const before = runtime.memory().tensorBytes;
      await createTrainingStep(runtime, config, parameters, gradients, { rows: 4, columns: 64, recompute });
      bytes[recompute] = runtime.memory().tensorBytes - before;
      t.diagnostic(`${recompute}: ${megabytes(bytes[recompute]!)}`);
    }
    const N = 4 * 64;
    // The stream between attention and feed-forward layer is marked in every block.
    assert.equal(bytes.block! - bytes.all!, config.layers * 4 * N * config.dimModel);
    const keys = 64;
    // Beside the streams, a layer without recomputation keeps at least its weights of attention and its two wide products.
    const layer = 4 * N * (config.heads * keys + 2 * config.dimFf);
    assert.ok(bytes.none! - bytes.block! >= config.layers * layer, `${bytes.none} and ${bytes.block}`);
  });
});

/** V8's own garbage collection, at once: growth that is left is nobody's garbage. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
}

suite("leaks", () => {
  const [warmUp, runs] = [30, 30];

  /** Runs `use` until memory is warm, then as often again: bytes by which the resident size grew with each of these runs. */
  async function grownBytesPerRun(use: (runtime: Runtime) => Promise<void>): Promise<number> {
    using runtime = createNativeRuntime({ threads: 1 });
    const resident = () => {
      collectGarbage();
      return runtime.memory().residentBytes!;
    };
    for (let i = 0; i < warmUp; i++) await use(runtime);
    const before = resident();
    for (let i = 0; i < runs; i++) {
      await use(runtime);
      const { tensors, tensorBytes, programs } = runtime.memory();
      assert.deepEqual({ tensors, tensorBytes, programs }, { tensors: 0, tensorBytes: 0, programs: 0 });
    }
    return (resident() - before) / runs;
  }
  const config = { ...tinyConfig, layers: everyMask.length, maskModules: everyMask };
  /** The allocator still grows a little after the warm-up; one program kept by mistake takes more. */
  const boundBytes = 2 ** 20;

  test("training steps and optimizers, made, used and disposed", async (t) => {
    let losses: readonly number[] = [];
    const bytesPerRun = await grownBytesPerRun(async (runtime) => {
      const { step, optimizer, dispose } = await createTraining(runtime, config, "none");
      const batch = anyBatch(config);
      const found: number[] = [];
      for (let i = 0; i < 2; i++) {
        found.push(await step.lossAndGradients(batch));
        await optimizer.update(1e-2, await optimizer.gradientNorm());
      }
      const { hidden, logits } = await step.outputs(batch);
      hidden.dispose();
      logits.dispose();
      dispose();
      assert.ok(found[1]! < found[0]!, `the loss falls: ${found}`);
      if (losses.length > 0) assert.deepEqual(found, losses, "every run is the same");
      losses = found;
    });
    t.diagnostic(`${(bytesPerRun / 1024).toFixed(0)} KiB of resident size a run`);
    assert.ok(bytesPerRun < boundBytes, `${bytesPerRun} bytes a run`);
  });

  test("decoding sessions, made, used and disposed", async (t) => {
    const bytesPerRun = await grownBytesPerRun(async (runtime) => {
      const parameters = uploadWeights(runtime, config);
      for (const weights of ["packed", "shared"] as const) {
        const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 64, weights });
        await session.prefill([[3, 4, 5], [6]]);
        await session.step(Int32Array.of(1, 2));
        await session.reorder(Int32Array.of(1, 1, 0));
        await session.step(Int32Array.of(1, 2, 3));
        session.dispose();
      }
      for (const tensor of parameters.values()) tensor.dispose();
    });
    t.diagnostic(`${(bytesPerRun / 1024).toFixed(0)} KiB of resident size a run`);
    assert.ok(bytesPerRun < boundBytes, `${bytesPerRun} bytes a run`);
  });

  test("generating without end does not gather memory", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const parameters = uploadWeights(runtime, config);
    const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 32 });
    const counts = new Set<number>();
    for (let round = 0; round < 20; round++) {
      await session.prefill([[3, 4, 5], [6]]);
      for (let i = 0; i < 20; i++) {
        await session.step(Int32Array.of(i, i));
        await session.reorder(i % 2 === 0 ? Int32Array.of(1, 0) : Int32Array.of(0, 0));
      }
      if (round > 0) counts.add(runtime.memory().tensors);
    }
    assert.equal(counts.size, 1);
    session.dispose();
  });
});

suite("compilation", () => {
  const narrow = { ...tinyConfig, dimModel: 8, dimFf: 8, heads: 1, dimHead: 8 };

  async function measured(layers: number, make: (runtime: Runtime, config: ModelConfig) => Promise<void>) {
    using runtime = createNativeRuntime({ threads: 1 });
    const compiled: string[] = [];
    const counting = interceptCompile(runtime, ({ name }) => compiled.push(name));
    const start = performance.now();
    await make(counting, { ...narrow, layers });
    return { compiled, ms: performance.now() - start };
  }

  const uses: Readonly<Record<string, (runtime: Runtime, config: ModelConfig) => Promise<void>>> = {
    "a training step with its optimizer": async (runtime, config) => {
      const { step } = await createTraining(runtime, config, "block");
      await step.lossAndGradients(anyBatch(config));
    },
    "a decoding session with shared weights": async (runtime, config) => {
      const parameters = uploadWeights(runtime, config);
      const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 16, weights: "shared" });
      await session.prefill([[1, 2]]);
      await session.step(Int32Array.of(3));
    },
  };
  for (const [name, make] of Object.entries(uses)) {
    test(`${name}: the programs of 48 layers are those of 4`, async (t) => {
      await measured(2, make);
      const [few, many] = [await measured(4, make), await measured(48, make)];
      assert.deepEqual(many.compiled, few.compiled);
      t.diagnostic(
        `${few.compiled.length} programs; until the first result 4 layers take ${few.ms.toFixed(0)} ms, 48 layers ${many.ms.toFixed(0)} ms`,
      );
    });
  }

  test("a pruned model has one program for each kind of block", async () => {
    const masked = (layers: number) => ({
      ...narrow,
      layers,
      maskModules: Array.from({ length: layers }, (_, i) => everyMask[i % everyMask.length]!),
    });
    const count = async (layers: number) =>
      (await measured(layers, (runtime) => uses["a training step with its optimizer"]!(runtime, masked(layers))))
        .compiled;
    const [few, many] = [await count(5), await count(30)];
    assert.deepEqual(many, few);
    assert.equal(few.filter((program) => /^block.*\.forward$/.test(program)).length, 3);
  });
});
