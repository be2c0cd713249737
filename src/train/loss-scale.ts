/**
 * The dynamic loss scale of 16-bit training: the loss is multiplied before the way back, so that small gradients do not
 * vanish, by as much as leaves the large ones finite (Micikevicius and others, arXiv 1710.03740).
 *
 * As the original: from 2²⁰, doubled after 512 good updates in a row, halved when a gradient is infinite or no number.
 * Such an update is left out as if it had not been: neither weights, moments nor the schedule's counter move.
 */
import { z } from "zod";

export const lossScaleSchema = z.strictObject({
  initial: z
    .number()
    .positive()
    .default(2 ** 20),
  /** Good updates in a row after which it grows. */
  growthInterval: z.int().min(1).default(512),
  factor: z.number().gt(1).default(2),
  min: z.number().positive().default(1),
  max: z
    .number()
    .positive()
    .default(2 ** 32),
});
export type LossScaleOptions = z.output<typeof lossScaleSchema>;

const stateSchema = z.object({ scale: z.number().positive(), good: z.int().min(0) });

export interface LossScale {
  /** What the loss is multiplied by now. */
  readonly scale: number;
  /** Hears the norm of the update's gradients; false where the update is to be left out. */
  accepts(gradientNorm: number): boolean;
  /** Plain JSON. */
  state(): unknown;
  restore(state: unknown): void;
}

export function createLossScale({ initial, growthInterval, factor, min, max }: LossScaleOptions): LossScale {
  const within = (scale: number) => Math.min(max, Math.max(min, scale));
  let scale = within(initial);
  let good = 0;
  return {
    get scale() {
      return scale;
    },
    accepts(gradientNorm) {
      if (!Number.isFinite(gradientNorm)) {
        scale = within(scale / factor);
        good = 0;
        return false;
      }
      if (++good >= growthInterval) {
        scale = within(scale * factor);
        good = 0;
      }
      return true;
    },
    state: () => ({ scale, good }),
    restore(state) {
      ({ scale, good } = stateSchema.parse(state));
    },
  };
}
