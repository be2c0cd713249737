/** Training: a step as programs, the optimizer, schedules, the loop. */
export { type AdamW, type AdamWOptions, adamWDefaults, createAdamW } from "./adamw.ts";
export { type Arena, type ArenaLayout, arenaLayout, createArena } from "./arena.ts";
export { initializeParameter } from "./initialize.ts";
export { type Geometry, lossProgram, outputProgram } from "./programs.ts";
export { learningRateAt, parseSchedule, type Schedule, scheduleSchema } from "./schedule.ts";
export { createTrainingStep, type TrainingStep, type TrainingStepOptions } from "./step.ts";
export { readTextCorpus, type TextCorpus, type TextCorpusOptions } from "./text-corpus.ts";
export {
  type Evaluation,
  type StepReport,
  type TrainHooks,
  type TrainResult,
  type TrainSettings,
  train,
} from "./trainer.ts";
