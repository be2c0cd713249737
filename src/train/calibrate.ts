/** The speed of a training step on this machine: a few real steps of the model on made-up ids. */
import { createBatch, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterTable } from "../model/parameters.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { createOwner } from "../util/owner.ts";
import { createRandom } from "../util/random.ts";
import { adamWDefaults, createAdamW } from "./adamw.ts";
import { arenaLayout, createArena } from "./arena.ts";
import { initializeParameter } from "./initialize.ts";
import { createTrainingStep, type TrainingStepOptions } from "./step.ts";

/**
 * Milliseconds of the median step, forward, backward and update, after one that is not counted.
 *
 * `targets` positions of the batch are predicted. Errors are those of the runtime.
 */
export async function calibrateStep(
  runtime: Runtime,
  config: ModelConfig,
  options: TrainingStepOptions & { readonly targets: number; readonly steps: number },
  now: () => number,
): Promise<number> {
  const { own, dispose } = createOwner();
  try {
    const layout = arenaLayout(parameterTable(config));
    const arena = () => own(createArena(runtime, layout));
    const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
    for (const parameter of parameterTable(config)) {
      initializeParameter(parameter, parameters.tensors.get(parameter.name)!.view() as Float32Array, 1);
    }
    const step = own(await createTrainingStep(runtime, config, parameters, gradients, { ...options, packed: false }));
    const optimizer = own(await createAdamW(runtime, parameters, gradients, moments, adamWDefaults));
    const batch = calibrationBatch(config, options.rows, options.columns, options.targets);
    const times: number[] = [];
    for (let i = 0; i <= options.steps; i++) {
      const startMs = now();
      await step.lossAndGradients(batch);
      await optimizer.update(1e-4, await optimizer.gradientNorm());
      if (i > 0) times.push(now() - startMs);
    }
    return times.sort((a, b) => a - b)[times.length >> 1]!;
  } finally {
    dispose();
  }
}

/** Full rows of random ids; the last positions of each row are predicted. */
function calibrationBatch(config: ModelConfig, rows: number, columns: number, targets: number): ModelBatch {
  const random = createRandom(1, "calibration");
  const batch = createBatch(rows, columns);
  batch.length.fill(columns);
  const ofRow = Math.min(columns - config.promptLength - 1, Math.ceil(targets / rows));
  for (let i = 0; i < rows * columns; i++) {
    const column = i % columns;
    const isPrompt = column < config.promptLength;
    batch.input[i] = isPrompt ? column : random.integer(config.vocabSize);
    batch.segment[i] = isPrompt ? 0 : 2 % config.segmentTypes;
    const isTarget = column >= columns - 1 - ofRow && column < columns - 1;
    batch.context[i] = Number(column < columns - ofRow);
    batch.target[i] = isTarget ? random.integer(config.vocabSize) : ignoredTarget;
  }
  return batch;
}
