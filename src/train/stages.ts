/**
 * The named parts of a run: what the schedule is doing and, where a ramp changes the shape of batches, which shape is in
 * force. Time, energy and money are told by them.
 */
import { type GeometryRamp, geometryAt, type UpdateShape } from "./ramp.ts";
import type { Schedule } from "./schedule.ts";

export type ScheduleStage = "warmup" | "stable" | "decay" | "floor";

/** What the rate does at the update that comes after `step` updates. */
export function scheduleStage(schedule: Schedule, step: number): ScheduleStage {
  if (step < schedule.warmup) return "warmup";
  if (schedule.kind === "noam") return "decay";
  if (schedule.kind === "constant") return "stable";
  if (step >= schedule.total) return "floor";
  return schedule.kind === "wsd" && step < schedule.total - schedule.decay ? "stable" : "decay";
}

export interface StagePlace {
  readonly step: number;
  readonly tokens: number;
  /** Updates as the schedule counts them. */
  readonly updates: number;
}

/** "warmup", or with a ramp "warmup · 8 × 512"; an entry's own name stands for its shape. */
export function stageName(schedule: Schedule, ramp: GeometryRamp, initial: UpdateShape, place: StagePlace): string {
  const stage = scheduleStage(schedule, place.updates);
  if (ramp.length === 0) return stage;
  const begun = ramp.filter(({ fromStep, fromTokens }) =>
    fromStep === undefined ? place.tokens >= fromTokens! : place.step >= fromStep,
  );
  const { rows, columns, accumulate } = geometryAt(ramp, initial, place.step, place.tokens);
  const shape = `${rows} × ${columns}${accumulate > 1 ? ` × ${accumulate}` : ""}`;
  return `${stage} · ${begun.at(-1)?.name ?? shape}`;
}
