/** Text in, training batches out: reading documents, cutting them into token pieces, drawing objectives. */
export type {
  BatchGeometry,
  BatchSource,
  DataChange,
  HeldOutBatch,
  SampleOrigin,
  SourceBatch,
} from "./batch-source.ts";
export { type BatchView, viewBatch, viewMask } from "./batch-view.ts";
export {
  type BatchOptions,
  createBatchSource,
  type EvaluationOptions,
  evaluationBatches,
} from "./batches.ts";
export { type BuildInput, buildDataset } from "./build/build-dataset.ts";
export { type BuildOptions, buildOptionsSchema, type SourceInput } from "./build/build-options.ts";
export { buildFromTexts, type TextBuild, type TextBuildInput } from "./build/build-texts.ts";
export { normalizeText } from "./build/normalize.ts";
export {
  type Dataset,
  type DatasetDescription,
  isDataset,
  openDataset,
  readDescription,
  readVocabularyText,
} from "./dataset.ts";
export { type ImportInput, importDataset } from "./import/import-dataset.ts";
export { type MixtureOptions, type MixturePart, type MixtureSource, openMixture } from "./mixture.ts";
export { type Mixture, mixtureSchema, readMixture } from "./mixture-file.ts";
export { type PlannedSource, readMixtureSources, type SourceSpending, spendTokens } from "./mixture-plan.ts";
export { allTargets, drawTargets, type Objective, objectiveLayout, objectiveTypes, writeSample } from "./objectives.ts";
export { type Packing, type PackingKind, packingKinds, packingSchema } from "./packing.ts";
export {
  createPreferenceBatches,
  type PreferenceBatches,
  type PreferencePair,
  readPreferences,
} from "./preferences.ts";
export {
  type BadLine,
  type Document,
  expandPaths,
  type ReadOptions,
  readDocuments,
  type TextFormat,
} from "./read-documents.ts";
export { type EvenReading, readEvenly } from "./read-evenly.ts";
export * from "./tasks/index.ts";
export {
  bitsPerCharacter,
  buildTokenCorpus,
  type CorpusOptions,
  type CorpusStatistics,
  type CorpusTokenizer,
  entropyNats,
  isHeldOut,
  type TokenCorpus,
} from "./token-corpus.ts";
export { createShardWriter, openShard, type TokenShard } from "./token-shard.ts";
export { type UnigramEntropy, unigramEntropy } from "./unigram-entropy.ts";
