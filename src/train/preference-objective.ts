/**
 * Direct preference optimisation (Rafailov et al., arXiv 2305.18290): answers that are preferred become more likely than
 * others, measured against the base without its delta.
 *
 *     loss = −ln σ(z),    z = β · ((ln π(c) − ln π₀(c)) − (ln π(r) − ln π₀(r)))
 *
 * with π the tuned model, π₀ the base, c and r a pair's preferred and other answer, each likelihood a sum over the
 * answer's tokens. Its gradient is that of the tokens' losses, each weighed by ±β·σ(−z).
 */
import type { PreferenceBatches, PreferencePair } from "../data/preferences.ts";
import { taskBatch } from "../data/tasks/task-rows.ts";
import { ignoredTarget, type ModelBatch } from "../model/batch.ts";
import type { TrainingStep } from "./step.ts";
import type { Objective } from "./update.ts";

export interface PreferenceOptions {
  /** How much the answers' likelihoods may move: small values move them more. */
  readonly beta: number;
}

/** Σ ln p of each row's targets, from the losses of all targets in their order. */
export function rowLikelihoods({ rows, columns, target }: ModelBatch, losses: ArrayLike<number>): Float64Array {
  const sums = new Float64Array(rows);
  let at = 0;
  target.forEach((id, i) => {
    if (id !== ignoredTarget) sums[Math.floor(i / columns)]! -= losses[at++]!;
  });
  return sums;
}

/** ln π₀ of both answers of every pair, [2 · pairs], by a step over the base. */
export async function referenceLikelihoods(
  step: TrainingStep,
  pairs: readonly PreferencePair[],
  promptLength: number,
): Promise<Float64Array> {
  const { rows, columns } = step.geometry;
  const all = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
  const found = new Float64Array(all.length);
  for (let at = 0; at < all.length; at += rows) {
    const own = all.slice(at, at + rows);
    // A last batch that is not full is filled up; what fills it is not looked at.
    const filled = Array.from({ length: rows }, (_, i) => own[i] ?? own[0]!);
    const batch = taskBatch(filled, promptLength, columns);
    await step.loss(batch);
    found.set(rowLikelihoods(batch, await step.targetLosses()).subarray(0, own.length), at);
  }
  return found;
}

export function preferenceObjective(
  source: Pick<PreferenceBatches, "pairsOf">,
  reference: Float64Array,
  { beta }: PreferenceOptions,
): Objective {
  return {
    weigh(batch, losses) {
      const likelihoods = rowLikelihoods(batch, losses);
      const pairs = source.pairsOf(batch);
      const count = pairs.filter((pair) => pair >= 0).length;
      const ofRow = new Float64Array(batch.rows);
      let sum = 0;
      pairs.forEach((pair, i) => {
        if (pair < 0) return;
        const moved = (row: number) => likelihoods[2 * i + row]! - reference[2 * pair + row]!;
        const z = beta * (moved(0) - moved(1));
        sum += z > 0 ? Math.log1p(Math.exp(-z)) : Math.log1p(Math.exp(z)) - z;
        const weight = beta / (1 + Math.exp(z)) / count;
        ofRow[2 * i] = weight;
        ofRow[2 * i + 1] = -weight;
      });
      const weights = new Float32Array(losses.length);
      let at = 0;
      batch.target.forEach((id, i) => {
        if (id !== ignoredTarget) weights[at++] = ofRow[Math.floor(i / batch.columns)]!;
      });
      return { weights, loss: sum / count, count };
    },
  };
}
