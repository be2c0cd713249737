/** Messages of `cpm tokenizer train`. */
import { defineMessages } from "./message.ts";

export const tokenizerTrainMessages = defineMessages({
  summary: { zh: "从语料训练词表", en: "train a vocabulary from a corpus" },
  description: {
    zh: "统计结巴分词的词与单字，选出最能缩短语料的 token，写成 CPM-Ant 的词表格式。结果是确定的：同样的文本总得到同样的词表。",
    en: "Counts jieba's words and single characters, chooses the tokens that shorten the corpus most and writes them in the format of CPM-Ant's vocabulary. Deterministic: the same texts always give the same file.",
  },
  corpus: {
    zh: "文本文件、文件夹或通配符：.txt、.md、.jsonl，也可为 .gz 或 .zst",
    en: "text files, folders or patterns: .txt .md .jsonl, also .gz or .zst",
  },
  output: { zh: "要写的词表文件", en: "the vocabulary file to write" },
  size: { zh: "token 的总数", en: "number of tokens, specials and all" },
  fallback: {
    zh: "拼写词表外文字的办法：byte 用 256 个字节，不丢任何内容；character 收入语料中的每个字",
    en: "what spells text outside of the vocabulary: byte adds 256 byte tokens so that nothing is lost, character takes in every character of the corpus",
  },
  coverage: {
    zh: "byte 方式下，先于词收入的单字所占的字数比例",
    en: "with byte: share of the text's characters that must be tokens before any word",
  },
  minFrequency: { zh: "词至少出现的次数", en: "how often a word must be there" },
  format: { zh: "语料的格式", en: "format of the corpus" },
  field: { zh: "JSON Lines 中存放文本的字段", en: "the field of the JSON lines that holds the text" },
  encoding: { zh: "文本的编码", en: "encoding of the text" },
  strict: {
    zh: "遇到坏行即停止，而不是略过并计数",
    en: "stop at the first bad line instead of leaving it out and counting it",
  },
  badLine: { zh: "略过 {where}：{reason}", en: "left out {where}: {reason}" },
  badLines: { zh: "共略过 {count} 行。", en: "{count} lines were left out." },
  noText: { zh: "语料中没有文本。", en: "there is no text in the corpus." },
  documents: { zh: "{count} 篇", en: "{count} documents" },
  result: {
    zh: "已写入 {path}：{size} 个 token，其中单字 {characters} 个、词 {words} 个；覆盖 {coverage} 的文字，每字 {rate} 个 token。",
    en: "written to {path}: {size} tokens, of which {characters} characters and {words} words; {coverage} of the text's characters are tokens, {rate} tokens per character.",
  },
  example: { zh: "从一个文件夹训练 8192 个 token 的词表", en: "8,192 tokens from a folder of texts" },
});
