/** Messages of `cpm data build`. */
import { defineMessages } from "./message.ts";

export const dataBuildMessages = defineMessages({
  summary: { zh: "把文本做成训练用的数据集", en: "make a data set for training out of text" },
  description: {
    zh: "读入文本（txt、JSON Lines，可为 gzip 或 zstd；Parquet；- 为标准输入），规整、过滤、去重、检查是否混入评测文本，用所有核心切成 token，写成带校验和的分片与 dataset.json。中断后用同样的命令继续，结果逐字节相同。没有给词表就先训练一个。坏行会报出文件、行号与原因并计数。",
    en: "Reads text (txt, JSON Lines, also gzip or zstd; Parquet; - is the standard input), normalises, filters, leaves out duplicates and evaluation text, tokenises on all cores and writes checksummed shards and dataset.json. Interrupted, the same command goes on, and the result is the same to the byte. Without a vocabulary one is trained first. A bad line is reported with file, line and reason, and counted.",
  },
  inputs: {
    zh: "文本文件、文件夹或通配符；每个文件名是一个来源",
    en: "text files, folders or patterns; each file's name is a source",
  },
  sources: {
    zh: "来源：name、paths，可有 licence、url、field；代替命令行上的文件",
    en: "sources: name, paths, and licence, url, field where known; instead of files on the command line",
  },
  output: { zh: "数据集文件夹", en: "the data set's folder" },
  vocab: {
    zh: "词表文件；缺省为在这些文本上训练一个",
    en: "vocabulary file; by default one is trained on these texts",
  },
  vocabSize: { zh: "训练词表时 token 的总数", en: "number of tokens where a vocabulary is trained" },
  vocabCharacters: {
    zh: "训练词表最多用多少字符，从各来源均匀取",
    en: "characters that a vocabulary is trained on at most, evenly from all sources",
  },
  workers: { zh: "切词的线程数；缺省为核心数", en: "threads that tokenise; by default as many as cores" },
  field: {
    zh: "JSON Lines 或 Parquet 中存放文本的字段",
    en: "field of JSON Lines or column of Parquet that holds the text",
  },
  evaluation: {
    zh: "评测文件：与其中文字相同的文档不进数据集，可重复",
    en: "evaluation files: documents that share text with them stay out; may be repeated",
  },
  append: {
    zh: "追加到已完成的数据集（可有训练正在读它）；用它的词表，已有的文本与相近的文本不再收入",
    en: "add to the finished data set, which a run may be reading; its vocabulary is taken, texts that it has, or nearly has, stay out",
  },
  hashesAlone: {
    zh: "数据集中有 {count} 篇文档没有留下比较用的指纹，只能认出与它们完全相同的文本",
    en: "of {count} documents of the data set no prints were kept: only texts equal to them are found",
  },
  appendVocabulary: {
    zh: "追加时使用数据集自己的词表，不能另给 --vocab。",
    en: "With --append the data set's own vocabulary is taken: leave out --vocab.",
  },
  leak: { zh: "与评测文本有相同的文字：{where}", en: "shares text with the evaluation files: {where}" },
  leaks: { zh: "共 {count} 篇与评测文本有相同的文字。", en: "{count} documents share text with the evaluation files." },
  strict: { zh: "遇到坏行即停止", en: "stop at the first bad line" },
  options: { zh: "规整、过滤、去重、分片的细节", en: "details of normalising, filtering, duplicates and shards" },
  badLine: { zh: "略过 {where}：{reason}", en: "left out {where}: {reason}" },
  badLines: { zh: "共略过 {count} 行。", en: "{count} lines were left out." },
  noInput: {
    zh: "没有给出文本：在命令行写文件，或在配方中写 sources。",
    en: "No text was given: name files, or sources in a recipe.",
  },
  bothInputs: { zh: "文件与 sources 只能给一种。", en: "Give files or sources, not both." },
  vocabulary: { zh: "训练词表……", en: "Training a vocabulary…" },
  vocabularyDone: { zh: "词表：{size} 个 token。", en: "Vocabulary: {size} tokens." },
  stdinVocabulary: {
    zh: "从标准输入建数据集须给出词表。",
    en: "A data set from the standard input needs a vocabulary.",
  },
  kept: { zh: "沿用已完成的分片：{count} 篇。", en: "Shards that were finished before are kept: {count} documents." },
  result: {
    zh: "数据集 {path}：{documents} 篇，{characters} 字符，{tokens} 个 token，{shards} 个分片；每秒 {rate} 百万字符。",
    en: "Data set {path}: {documents} documents, {characters} characters, {tokens} tokens, {shards} shards; {rate} million characters a second.",
  },
  removed: { zh: "未收入：{reasons}", en: "Left out: {reasons}" },
  columnSource: { zh: "来源", en: "source" },
  columnLicence: { zh: "许可", en: "licence" },
  columnDocuments: { zh: "篇", en: "documents" },
  columnCharacters: { zh: "字符", en: "characters" },
  columnTokens: { zh: "token", en: "tokens" },
  columnRate: { zh: "token/字符", en: "tokens/character" },
  columnUnknown: { zh: "无法拼写", en: "unknown" },
  example: { zh: "两个来源，并排除评测文本", en: "two sources, without the evaluation text" },
});
