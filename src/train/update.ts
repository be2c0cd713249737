/**
 * What one update is made of: the gradients of one batch, or of several that are added up, and which weights are judged.
 *
 * Every target of an update weighs the same: each batch's losses are multiplied by 1 / (targets of all its batches), so
 * several small batches give what one large batch would. (Averaging the means of batches would give the targets of a
 * batch with few of them more weight.)
 */
import type { SourceBatch } from "../data/index.ts";
import { countTargets, type ModelBatch } from "../model/batch.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Arena } from "./arena.ts";
import type { TrainingStep } from "./step.ts";

/** More batches than any update is made of: draws of masks are numbered apart. */
const mostBatches = 65536;

/** What is trained for, where it is not the mean loss of the targets. */
export interface Objective {
  /**
   * From the losses of a batch's targets a factor of each, whose gradients add up to the objective's, the objective, and
   * over how much it is a mean.
   */
  weigh(
    batch: ModelBatch,
    losses: Float32Array,
  ): { readonly weights: Float32Array; readonly loss: number; readonly count: number };
}

export interface UpdateGradients {
  /** Mean over all targets, or over the batches of an objective. */
  readonly loss: number;
  /** −ln p of each target, by batch. */
  readonly losses: readonly Float32Array[];
}

/** Leaves the gradients of all batches in the arena. `draw` numbers the update: each batch gets dropout masks of its own. */
export async function gradientsOf(
  step: TrainingStep,
  batches: readonly ModelBatch[],
  {
    gradientScale = 1,
    draw = 0,
    objective,
  }: {
    readonly gradientScale?: number;
    readonly draw?: number;
    readonly objective?: Objective | undefined;
  } = {},
): Promise<UpdateGradients> {
  const targets = batches.reduce((sum, batch) => sum + countTargets(batch), 0);
  const scale = objective ? 1 / batches.length : 1 / Math.max(1, targets);
  const losses: Float32Array[] = [];
  let loss = 0;
  for (const [i, batch] of batches.entries()) {
    let own: number | undefined;
    const weigh =
      objective &&
      ((found: Float32Array) => {
        const weighed = objective.weigh(batch, found);
        own = weighed.loss / batches.length;
        return weighed.weights;
      });
    const place = { add: i > 0, draw: draw * mostBatches + i };
    const running = step.lossAndGradients(batch, { scale, gradientScale, ...place, weigh });
    const next = batches[i + 1];
    if (next !== undefined) step.prepare(next);
    const mean = await running;
    loss += own ?? mean;
    losses.push(await step.targetLosses());
  }
  return { loss, losses };
}

/** Mean loss and number of targets of each source that an update was made from. */
export function lossesBySource(
  batches: readonly Pick<SourceBatch, "batch" | "samples">[],
  losses: readonly Float32Array[],
): Record<string, { nats: number; tokens: number }> {
  const sums = new Map<string, { nats: number; tokens: number }>();
  batches.forEach(({ batch, samples }, b) => {
    /** Number of the sample that each position is in, from 1. */
    const sampleAt = new Int32Array(batch.rows * batch.columns);
    for (const [s, { row, start, length }] of samples.entries()) {
      const from = row * batch.columns + start;
      sampleAt.fill(s + 1, from, from + length);
    }
    let at = 0;
    batch.target.forEach((id, i) => {
      if (id < 0) return;
      const nats = losses[b]![at++]!;
      const source = samples[sampleAt[i]! - 1]?.source;
      if (source === undefined) return;
      const sum = sums.get(source) ?? { nats: 0, tokens: 0 };
      sums.set(source, { nats: sum.nats + nats, tokens: sum.tokens + 1 });
    });
  });
  return Object.fromEntries(
    [...sums].map(([source, { nats, tokens }]) => [source, { nats: nats / tokens, tokens }] as const),
  );
}

/** Runs something with the averaged weights in the parameters' place; without an average, with the weights as they are. */
export async function withAverage<T>(
  runtime: Runtime,
  parameters: Arena,
  average: Arena | undefined,
  run: () => Promise<T>,
): Promise<T> {
  if (average === undefined) return run();
  const weights = (await runtime.download(parameters.flat)) as Float32Array;
  runtime.write(parameters.flat, await runtime.download(average.flat));
  try {
    return await run();
  } finally {
    runtime.write(parameters.flat, weights);
  }
}
