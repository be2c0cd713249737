/**
 * Learning rates as pure functions of the number of updates done.
 *
 * `noam` is CPM-Ant's (Vaswani et al., 2017, without the model width), kept exactly: its counter starts at 0 and
 * advances after the update, so the first update has rate 0 (the moments move, the weights do not). The others ramp from
 * peak/warmup, so every one of their updates counts.
 */
import { z } from "zod";
import { ConfigError } from "../util/error.ts";

const steps = z.int().min(0);
const rate = z.number().min(0);

/**
 * - noam: start·step / warmup^1.5 while step < warmup, then start / √step; the peak is start / √warmup, at step = warmup.
 * - cosine: up in `warmup` updates to `peak`, down along half a cosine to `floor` at `total`, then `floor`.
 * - linear: the same along a line.
 * - wsd (warm-up, stable, decay; Hu et al., arXiv 2404.06395): up in `warmup` updates to `peak`, held, down to `floor` over
 *   the last `decay` updates before `total`, along a line or as 1 − √progress (Hägele et al., arXiv 2405.18392). What is
 *   held does not depend on `total`, so a run may be prolonged from before the decay.
 * - constant: up in `warmup` updates to `peak`, then `peak`.
 */
export const scheduleSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("noam"), start: rate, warmup: z.int().min(1) }),
  z.strictObject({
    kind: z.literal("cosine"),
    peak: rate,
    warmup: steps.default(0),
    total: z.int().min(1),
    floor: rate.default(0),
  }),
  z.strictObject({
    kind: z.literal("linear"),
    peak: rate,
    warmup: steps.default(0),
    total: z.int().min(1),
    floor: rate.default(0),
  }),
  z.strictObject({
    kind: z.literal("wsd"),
    peak: rate,
    warmup: steps.default(0),
    total: z.int().min(1),
    decay: z.int().min(1),
    floor: rate.default(0),
    shape: z.enum(["linear", "sqrt"]).default("linear"),
  }),
  z.strictObject({ kind: z.literal("constant"), peak: rate, warmup: steps.default(0) }),
]);

export type Schedule = z.infer<typeof scheduleSchema>;

/**
 * A schedule out of untrusted settings.
 *
 * @throws ConfigError CPM_TRAIN_SCHEDULE naming the setting
 */
export function parseSchedule(settings: unknown): Schedule {
  const parsed = scheduleSchema.safeParse(settings);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new ConfigError("CPM_TRAIN_SCHEDULE", "The learning-rate schedule is not valid", {
      where: issue.path.length === 0 ? "schedule" : `schedule.${issue.path.join(".")}`,
      got: JSON.stringify(settings)?.slice(0, 200),
      expected: issue.message,
      hint: 'For example {"kind": "cosine", "peak": 0.001, "warmup": 100, "total": 2000}.',
    });
  }
  const schedule = parsed.data;
  if ("total" in schedule && schedule.warmup >= schedule.total) {
    throw invalid("warmup", `${schedule.warmup}`, `less than the total of ${schedule.total} updates`);
  }
  if (schedule.kind === "wsd" && schedule.warmup + schedule.decay > schedule.total) {
    throw invalid(
      "decay",
      `${schedule.decay}`,
      `at most the ${schedule.total - schedule.warmup} updates after the warm-up`,
    );
  }
  if ("floor" in schedule && schedule.floor > schedule.peak) {
    throw invalid("floor", `${schedule.floor}`, `at most the peak of ${schedule.peak}`);
  }
  return schedule;
}

function invalid(setting: string, got: string, expected: string): ConfigError {
  return new ConfigError("CPM_TRAIN_SCHEDULE", "The learning-rate schedule is not valid", {
    where: `schedule.${setting}`,
    got,
    expected,
  });
}

/** The rate of the update that comes after `step` updates; step 0 is the first. */
export function learningRateAt(schedule: Schedule, step: number): number {
  if (schedule.kind === "noam") {
    return step < schedule.warmup ? (schedule.start * step) / schedule.warmup ** 1.5 : schedule.start / Math.sqrt(step);
  }
  const { peak, warmup } = schedule;
  if (step < warmup) return (peak * (step + 1)) / warmup;
  if (schedule.kind === "constant") return peak;
  const { floor, total } = schedule;
  if (schedule.kind === "wsd") {
    const progress = Math.min(1, Math.max(0, step - (total - schedule.decay)) / schedule.decay);
    return floor + (peak - floor) * (1 - (schedule.shape === "sqrt" ? Math.sqrt(progress) : progress));
  }
  const progress = Math.min(1, (step - warmup) / (total - warmup));
  const remaining = schedule.kind === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return floor + (peak - floor) * remaining;
}
