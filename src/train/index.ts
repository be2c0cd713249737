/** Training: a step as programs, the optimizer, schedules, the loop. */
export { type AdamW, type AdamWOptions, adamWDefaults, createAdamW, type Moments } from "./adamw.ts";
export { type Arena, type ArenaGroup, type ArenaLayout, arenaLayout, createArena } from "./arena.ts";
export {
  type CheckpointContent,
  checkpointOf,
  exportCheckpoint,
  listCheckpoints,
  readCheckpoint,
  retentionSchema,
  type TrainState,
  writeCheckpoint,
} from "./checkpoint.ts";
export type { DropoutOptions } from "./dropout.ts";
export { createGuard, type Guard, type GuardOptions, guardSchema } from "./guard.ts";
export { initializeParameter } from "./initialize.ts";
export { createLossScale, type LossScale, type LossScaleOptions, lossScaleSchema } from "./loss-scale.ts";
export {
  type EmaOptions,
  emaDecayAt,
  emaSchema,
  groupOf,
  optimizerSchema,
  type ParameterGroup,
  parameterGroupSchema,
} from "./optimizer-options.ts";
export { createStatisticsTaker, type ParameterStatistics } from "./parameter-statistics.ts";
export { preferenceObjective, referenceLikelihoods } from "./preference-objective.ts";
export { type PretrainHooks, type PretrainResult, type PretrainSettings, pretrain } from "./pretrain.ts";
export { type Geometry, lossProgram, outputProgram } from "./programs.ts";
export { type GeometryRamp, geometryAt, rampSchema } from "./ramp.ts";
export { learningRateAt, parseSchedule, type Schedule, scheduleSchema } from "./schedule.ts";
export { scheduleStage, stageName } from "./stages.ts";
export { createTrainingStep, type GradientOptions, type TrainingStep, type TrainingStepOptions } from "./step.ts";
export { readTextCorpus, type TextCorpus, type TextCorpusOptions } from "./text-corpus.ts";
export { type Trainee, type TunedDeltaInput, tunedDelta, wholeModel } from "./trainee.ts";
export type { Objective } from "./update.ts";
