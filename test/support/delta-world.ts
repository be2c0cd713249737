/** A tiny model with a delta on it, on a runtime: what every test of deltas begins with. */
import { attachDelta, type Delta } from "../../src/delta/attach.ts";
import { baseHash } from "../../src/delta/base-hash.ts";
import { initialValues } from "../../src/delta/initial-values.ts";
import type { DeltaSpec } from "../../src/delta/methods/index.ts";
import { createBatch, ignoredTarget, type ModelBatch } from "../../src/model/batch.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import type { DeviceTensor, Runtime } from "../../src/runtime/index.ts";
import { type Arena, arenaLayout, createArena } from "../../src/train/arena.ts";
import { createTrainingStep, type TrainingStep, type TrainingStepOptions } from "../../src/train/step.ts";
import { createRandom, fillNormal } from "../../src/util/random.ts";
import { tinyConfig, uploadWeights } from "./tiny-model.ts";

export interface DeltaWorld {
  readonly config: ModelConfig;
  readonly delta: Delta;
  readonly base: ReadonlyMap<string, DeviceTensor>;
  /** All parameters of the delta. */
  readonly values: Arena;
  /** Of the trained ones. */
  readonly gradients: Arena;
  /** Base and delta by name, as grafted programs are bound. */
  readonly tensors: ReadonlyMap<string, DeviceTensor>;
  hash(): Promise<string>;
  step(options?: Partial<TrainingStepOptions>): Promise<TrainingStep>;
  dispose(): void;
}

export async function deltaWorld(
  runtime: Runtime,
  specs: readonly DeltaSpec[],
  config: ModelConfig = tinyConfig,
): Promise<DeltaWorld> {
  const base = uploadWeights(runtime, config);
  const read = (name: string) => base.get(name)!.view() as Float32Array;
  const delta = attachDelta(config, specs);
  const values = createArena(runtime, arenaLayout(delta.parameters));
  const gradients = createArena(runtime, arenaLayout(delta.parameters.filter(({ frozen }) => !frozen)));
  const initial = await initialValues(delta, { seed: 5, base: async (name) => read(name) });
  for (const [name, tensor] of values.tensors) runtime.write(tensor, initial.get(name)!);
  const tensors = new Map([...base, ...values.tensors]);
  return {
    config,
    delta,
    base,
    values,
    gradients,
    tensors,
    hash: () => baseHash(config, read),
    step: ({ rows = 2, columns = 14 + delta.grafts.config.promptLength, ...options } = {}) =>
      createTrainingStep(runtime, config, { tensors }, gradients, {
        rows,
        columns,
        recompute: "none",
        grafts: delta.grafts,
        ...options,
      }),
    dispose() {
      for (const tensor of base.values()) tensor.dispose();
      values.dispose();
      gradients.dispose();
    },
  };
}

/** Moves every trained parameter away from where it began, where gradients may be zero. */
export function disturb({ values, gradients }: DeltaWorld, deviation = 0.1): void {
  for (const name of gradients.tensors.keys()) {
    const view = values.tensors.get(name)!.view() as Float32Array;
    const noise = new Float32Array(view.length);
    fillNormal(noise, 11, `disturb ${name}`, 0, deviation);
    view.forEach((value, i) => {
      view[i] = value + noise[i]!;
    });
  }
}

/** Rows of random text, the second shorter; targets from the middle on. */
export function randomBatch(config: ModelConfig, { rows = 2, text = 14, seed = 1 } = {}): ModelBatch {
  const P = config.promptLength;
  const columns = P + text;
  const random = createRandom(seed, "delta batch");
  const batch = createBatch(rows, columns);
  for (let row = 0; row < rows; row++) {
    const length = columns - row * 3;
    batch.length[row] = length;
    for (let i = 0; i < columns; i++) {
      const at = row * columns + i;
      batch.input[at] = i < P ? 2 * P + i : random.integer(config.vocabSize);
      batch.segment[at] = i < P ? 0 : 2;
      batch.context[at] = i < P + text / 2 ? 1 : 0;
      batch.target[at] = i >= P + text / 2 - 1 && i < length - 1 ? random.integer(config.vocabSize) : ignoredTarget;
    }
  }
  return batch;
}
