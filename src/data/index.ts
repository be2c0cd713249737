/** Text in, training batches out: reading documents, cutting them into token pieces, drawing objectives. */
export {
  type BatchOptions,
  type BatchSource,
  type BatchSourceState,
  createBatchSource,
  type EvaluationOptions,
  evaluationBatches,
  paddingShare,
} from "./batches.ts";
export { allTargets, drawTargets, type Objective, objectiveLayout, objectiveTypes, writeSample } from "./objectives.ts";
export {
  type BadLine,
  type Document,
  expandPaths,
  type ReadOptions,
  readDocuments,
  type TextFormat,
} from "./read-documents.ts";
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
