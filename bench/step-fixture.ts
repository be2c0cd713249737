/** A model with random weights and a batch, for benches of the training step: the same numbers for us and for peers. */
import {
  type AttentionInput,
  attentionAllowed,
  createBatch,
  ignoredTarget,
  type ModelBatch,
} from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { positionBuckets } from "../src/model/position-buckets.ts";
import { preset } from "../src/model/presets.ts";
import type { Runtime } from "../src/runtime/index.ts";
import { type AdamW, createAdamW } from "../src/train/adamw.ts";
import { type Arena, arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep, type TrainingStep } from "../src/train/step.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";

/** Shapes by their size: vocabulary and depth grow with the width as they do in practice. */
export const shapes = {
  "5m": { vocabSize: 6144, dimModel: 256, layers: 4, heads: 4, dimHead: 64, dimFf: 704 },
  "25m": { vocabSize: 8192, dimModel: 512, layers: 6, heads: 4, dimHead: 128, dimFf: 1408 },
  "100m": { vocabSize: 20480, dimModel: 768, layers: 12, heads: 6, dimHead: 128, dimFf: 2048 },
} as const;

/** A config by one of `shapes` or by a preset's name, or a preset with other sizes. */
export function benchConfig(name: string, changes: Partial<ModelConfig> = {}): ModelConfig {
  const known = (shapes as Readonly<Record<string, Partial<ModelConfig>>>)[name];
  const { segmentTypes, promptTypes, ...base } = preset(known ? "mini" : name);
  return { ...base, segmentTypes, promptTypes, ...known, ...changes };
}

/** Rows of prompt and text; the second half of each row is what is predicted. */
export function benchBatch(config: ModelConfig, rows: number, columns: number): ModelBatch {
  const random = createRandom(1, "batch");
  const batch = createBatch(rows, columns);
  batch.length.fill(columns);
  for (let i = 0; i < rows * columns; i++) {
    const column = i % columns;
    const isPrompt = column < config.promptLength;
    batch.input[i] = isPrompt ? config.promptLength * 2 + column : random.integer(config.vocabSize);
    batch.segment[i] = isPrompt ? 0 : 2;
    batch.context[i] = Number(column < columns / 2);
    if (column >= columns / 2 - 1 && column < columns - 1) batch.target[i] = random.integer(config.vocabSize);
  }
  return batch;
}

export interface BenchStep {
  readonly parameters: Arena;
  readonly step: TrainingStep;
  readonly optimizer: AdamW;
  /** One update; the loss and the gradient's norm before it. */
  update(): Promise<{ loss: number; gradientNorm: number; updateMs: number }>;
}

export async function benchStep(
  runtime: Runtime,
  config: ModelConfig,
  batch: ModelBatch,
  recompute: "none" | "block" | "all" = "none",
): Promise<BenchStep> {
  const layout = arenaLayout(parameterTable(config));
  const arena = () => createArena(runtime, layout);
  const [parameters, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
  for (const { name, kind } of parameterTable(config)) {
    const view = parameters.tensors.get(name)!.view() as Float32Array;
    if (kind === "norm") view.fill(1);
    else fillNormal(view, 1, name, 0, kind === "embedding" ? 0.02 : 1);
  }
  const geometry = { rows: batch.rows, columns: batch.columns, packed: batch.prompt !== undefined };
  const step = await createTrainingStep(runtime, config, parameters, gradients, { ...geometry, recompute });
  const optimizer = await createAdamW(runtime, parameters, gradients, moments);
  return {
    parameters,
    step,
    optimizer,
    async update() {
      const loss = await step.lossAndGradients(batch);
      const began = performance.now();
      const gradientNorm = await optimizer.gradientNorm();
      await optimizer.update(1e-4, gradientNorm);
      return { loss, gradientNorm, updateMs: performance.now() - began };
    },
  };
}

/** What another implementation needs to run the same batch: ids, who sees whom, rows of the bias table, targets. */
export function batchTensors(config: ModelConfig, batch: ModelBatch) {
  const { rows, columns } = batch;
  const positions = Int32Array.from([...batch.target.keys()].filter((i) => batch.target[i] !== ignoredTarget));
  return [
    { name: "batch.input", shape: [rows, columns], data: batch.input },
    { name: "batch.segment", shape: [rows, columns], data: batch.segment },
    {
      name: "batch.buckets",
      shape: [rows, columns, columns],
      data: positionBuckets(batch.segment, rows, columns, config),
    },
    { name: "batch.allowed", shape: [rows, columns, columns], data: allowedPairs(batch) },
    { name: "batch.positions", shape: [positions.length], data: positions },
    { name: "batch.targets", shape: [positions.length], data: Int32Array.from(positions, (i) => batch.target[i]!) },
  ] as const;
}

function allowedPairs(batch: AttentionInput): Int32Array {
  return Int32Array.from(attentionAllowed(batch));
}
