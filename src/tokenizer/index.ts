/** Text to ids and back: jieba, vocabularies, CPM-Ant's tokenizer, streaming detokenisation, vocabulary training. */
export { type AntTokenizerOptions, createAntTokenizer } from "./ant-tokenizer.ts";
export { createDetokenizer, type Detokenizer } from "./detokenizer.ts";
export { createJieba, type Jieba } from "./jieba.ts";
export { placeholderVocabulary } from "./placeholder-vocabulary.ts";
export type { DecodeOptions, EncodeOptions, Encoding, Piece, Tokenizer } from "./tokenizer.ts";
export {
  createVocabularyTrainer,
  type TrainedVocabulary,
  trainVocabulary,
  type VocabularyTrainer,
  type VocabularyTrainingOptions,
} from "./train-vocabulary.ts";
export { parseVocabulary, readVocabulary, type Vocabulary } from "./vocabulary.ts";
