/** Decoding: sampling, beam search, streaming generation over a `DecodingSession`. */

export { type BeamSearch, type BeamSettings, type BeamStep, createBeamSearch, type Hypothesis } from "./beam.ts";
export { type ResponseFormat, ResponseFormatSchema } from "./constraint/response-format.ts";
export { type CpmAntSessionOptions, createCpmAntSession } from "./cpm-ant-session.ts";
export {
  createLookupDrafter,
  createModelDrafter,
  type Draft,
  type Drafter,
  type DraftRow,
  type DraftRules,
  type GuessCost,
  type GuessLimit,
  guessCost,
} from "./draft.ts";
export { createEngine, type Engine, type EngineCounts, type EngineOptions } from "./engine.ts";
export type { EngineRequest, EngineResult } from "./engine-job.ts";
export {
  type GenerationResult,
  type GenerationRun,
  type GenerationTiming,
  generate,
  type Prompts,
  type Speculation,
  streamGenerate,
} from "./generate.ts";
export type { FinishReason, GeneratedText, TokenEvent } from "./generated-row.ts";
export {
  argmax,
  createLogitEditor,
  type LogitEditor,
  type LogitRules,
  type LogitsOrigin,
  type TopEntries,
  topEntries,
} from "./logits.ts";
export {
  type GenerateOptions,
  type GenerateOptionsInput,
  GenerateOptionsSchema,
  parseGenerateOptions,
} from "./options.ts";
export type { CacheType } from "./programs.ts";
export { type CachedText, createPromptCache, type PromptCache, type PromptCacheUse } from "./prompt-cache.ts";
export { planResidency, type ResidencyPlan } from "./residency.ts";
export type { PassRow, RowPass } from "./row-pass.ts";
export { createRowText, type GenerationTokenizer, type RowText, type StreamingDetokenizer } from "./row-text.ts";
export {
  type Choice,
  createSampler,
  draw,
  type Kept,
  type Sampler,
  type SamplingSettings,
  type TopLogprob,
} from "./sample.ts";
export type { ContinuousSession, DecodingSession, Newcomers } from "./session.ts";
export {
  type BatchSettings,
  createTextGenerator,
  decodingBytes,
  type EncodedPrompt,
  findVocabulary,
  type OpenedTextModel,
  type OpenTextModelOptions,
  openTextModel,
  type TextGenerator,
  type TextGeneratorOptions,
  type TextModel,
  type TextResult,
  vocabularyNames,
} from "./text-generator.ts";
export { hasPacked, type ModelTensors } from "./weight-ports.ts";
export { loadWeights, type Weights } from "./weights.ts";
