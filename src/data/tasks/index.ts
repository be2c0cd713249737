/** The tasks of CPM-Ant: their files, samples, templates, and what becomes of them in tokens. */
import { c3 } from "./c3.ts";
import { ccpm } from "./ccpm.ts";
import { headline, lcsts } from "./headline.ts";
import { kdconv } from "./kdconv.ts";
import { math23k } from "./math23k.ts";
import type { TaskName } from "./names.ts";
import { sogou } from "./sogou.ts";
import type { Task } from "./task.ts";

export {
  type EncodedAnswer,
  type EncodedPrompt,
  type EncodedSample,
  type EncodeLimits,
  encodeSample,
} from "./encode-sample.ts";
export { type TaskName, taskNames } from "./names.ts";
export { readTaskSamples } from "./read-samples.ts";
export {
  type ChoiceSample,
  type GenerationSample,
  maxOptions,
  optionLetter,
  optionsOf,
  type RankingSample,
  type TaskSample,
} from "./sample.ts";
export type { Task } from "./task.ts";
export { createTaskBatches, type TaskBatchesInput } from "./task-batches.ts";
export {
  rowColumns,
  type TaskExample,
  type TaskRow,
  taskBatch,
  taskSourceBatch,
  trainingExamples,
} from "./task-rows.ts";
export {
  type AnswerMethod,
  answerMethods,
  renderAnswer,
  renderDomain,
  renderInput,
  type TaskTemplate,
  templateSchema,
} from "./template.ts";

export const tasks: Readonly<Record<TaskName, Task>> = { c3, ccpm, kdconv, math23k, headline, lcsts, sogou };
