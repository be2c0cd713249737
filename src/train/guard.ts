/**
 * Watches a run for what went wrong in the original's: losses and gradients that are no numbers, and sudden jumps of either
 * against what was usual lately. It only judges; the loop acts.
 *
 * Usual is the median of the last accepted updates, so one bad batch does not move it. Judgements are a function of the
 * numbers seen, and what was seen is part of a checkpoint: a resumed run judges as the uninterrupted one.
 */
import { z } from "zod";

export const guardSchema = z.strictObject({
  /** Updates that the median is taken over. */
  window: z.int().min(8).max(4096).default(128),
  /** A loss above so many times the median is a spike; 0: losses may jump. */
  lossFactor: z.number().min(0).default(2),
  /** A gradient norm above so many times the median is a spike; 0: gradients may jump. */
  gradientFactor: z.number().min(0).default(20),
  onSpike: z.enum(["warn", "skip", "rollback", "stop"]).default("skip"),
  /** A loss or gradient that is no finite number never reaches the weights. */
  onNonFinite: z.enum(["skip", "rollback", "stop"]).default("skip"),
  /** So many bad updates in a row are no longer skipped but rolled back. */
  patience: z.int().min(1).default(5),
  /** The learning rate's factor after a rollback. */
  rollbackRate: z.number().positive().max(1).default(0.5),
  /** After a rollback: read the same data again, or go on behind what was bad. */
  rollbackData: z.enum(["again", "past"]).default("past"),
  /** So many rollbacks, and the run stops. */
  maxRollbacks: z.int().min(0).default(3),
});
export type GuardOptions = z.output<typeof guardSchema>;

export type Verdict =
  | { readonly action: "update" }
  | { readonly action: "warn" | "skip" | "rollback" | "stop"; readonly reason: string };

const stateSchema = z.object({
  losses: z.array(z.number()),
  norms: z.array(z.number()),
  bad: z.int().min(0),
  rollbacks: z.int().min(0),
});

export interface Guard {
  judge(loss: number, gradientNorm: number): Verdict;
  /** A rollback was carried out: what was usual before it counts no more, how often does. */
  rolledBack(): void;
  readonly rollbacks: number;
  /** Plain JSON. */
  state(): unknown;
  restore(state: unknown): void;
}

/** Before so many updates nothing is usual. */
const minimumHistory = 16;

export function createGuard(options: GuardOptions): Guard {
  let losses: number[] = [];
  let norms: number[] = [];
  /** Bad updates in a row. */
  let bad = 0;
  let rollbacks = 0;

  function reasonOf(loss: number, norm: number): { kind: "nonFinite" | "spike"; reason: string } | undefined {
    if (!Number.isFinite(loss)) return { kind: "nonFinite", reason: `the loss is ${loss}` };
    if (!Number.isFinite(norm)) return { kind: "nonFinite", reason: `the gradient's norm is ${norm}` };
    if (losses.length < minimumHistory) return undefined;
    const usualLoss = median(losses);
    const usualNorm = median(norms);
    if (options.lossFactor > 0 && loss > options.lossFactor * usualLoss) {
      return { kind: "spike", reason: `loss ${loss.toPrecision(4)}, usual ${usualLoss.toPrecision(4)}` };
    }
    if (options.gradientFactor > 0 && norm > options.gradientFactor * usualNorm) {
      return { kind: "spike", reason: `gradient norm ${norm.toPrecision(4)}, usual ${usualNorm.toPrecision(4)}` };
    }
    return undefined;
  }

  return {
    judge(loss, norm) {
      const found = reasonOf(loss, norm);
      if (found === undefined || (found.kind === "spike" && options.onSpike === "warn")) {
        bad = 0;
        losses.push(loss);
        norms.push(norm);
        if (losses.length > options.window) {
          losses.shift();
          norms.shift();
        }
        return found === undefined ? { action: "update" } : { action: "warn", reason: found.reason };
      }
      bad++;
      const wanted = found.kind === "spike" ? options.onSpike : options.onNonFinite;
      const action = wanted === "skip" && bad >= options.patience ? "rollback" : wanted;
      const reason = bad > 1 ? `${found.reason}; ${bad} bad updates in a row` : found.reason;
      if (action !== "rollback" || rollbacks < options.maxRollbacks) return { action, reason } as Verdict;
      return { action: "stop", reason: `${reason}; rolled back ${rollbacks} times already` };
    },
    rolledBack() {
      rollbacks++;
      bad = 0;
      losses = [];
      norms = [];
    },
    get rollbacks() {
      return rollbacks;
    },
    state: () => ({ losses, norms, bad, rollbacks }),
    restore(state) {
      ({ losses, norms, bad, rollbacks } = structuredClone(stateSchema.parse(state)));
    },
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
