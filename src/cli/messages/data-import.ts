/** Messages of `cpm data import`. */
import { defineMessages } from "./message.ts";

export const dataImportMessages = defineMessages({
  summary: { zh: "读入 CPM-Live 的二进制数据集", en: "take over a binary data set of CPM-Live" },
  description: {
    zh: "读入 CPM-Live 的数据集文件夹（meta.bin 与数据文件，第一版或第二版），写成本项目的数据集。pickle 只按数据读取，不执行任何代码。填空与续写的记录分别成为来源 NAME-fill 与 NAME-lm，训练时各自保持原来的目标；读不了的记录会报出文件、序号与原因并计数。",
    en: "Reads a folder of CPM-Live (meta.bin and data files, version 1 or 2) and writes a data set of this kit. Pickles are read as data and run nothing. Records to be filled in and to be continued become the sources NAME-fill and NAME-lm, which keep their objective in training. A record that cannot be used is reported with file, number and reason, and counted.",
  },
  folder: { zh: "CPM-Live 的数据集文件夹，其中有 meta.bin", en: "the folder of CPM-Live with meta.bin" },
  output: { zh: "数据集文件夹", en: "the data set's folder" },
  vocab: { zh: "记录中的编号所属的词表文件", en: "vocabulary file that the ids of the records are of" },
  name: { zh: "来源的名字；缺省为文件夹名", en: "name of the source; by default the folder's" },
  licence: { zh: "文本的许可，写入数据集", en: "licence of the text, written into the data set" },
  payload: {
    zh: "第二版记录的写法：auto 为 pickle 或 JSON；int16、int32 为小端编号；utf-8 为文本",
    en: "how version 2's records were written: auto is pickle or JSON; int16, int32 are little-endian ids; utf-8 is text",
  },
  field: { zh: "JSON 对象中存放文本的字段", en: "field of JSON objects that holds the text" },
  shardTokens: { zh: "一个分片的 token 数", en: "tokens of a shard" },
  badLine: { zh: "略过 {where}：{reason}", en: "left out {where}: {reason}" },
  badLines: { zh: "共报告 {count} 处。", en: "{count} reports in all." },
  result: {
    zh: "数据集 {path}：{documents} 篇，{characters} 字符，{tokens} 个 token，{shards} 个分片。",
    en: "Data set {path}: {documents} documents, {characters} characters, {tokens} tokens, {shards} shards.",
  },
  columnSource: { zh: "来源", en: "source" },
  columnObjective: { zh: "目标", en: "objective" },
  columnDocuments: { zh: "篇", en: "documents" },
  columnTokens: { zh: "token", en: "tokens" },
  example: { zh: "CPM-Ant 的数据集", en: "a data set of CPM-Ant" },
});
