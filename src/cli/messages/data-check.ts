/** Messages of `cpm data check`. */
import { defineMessages } from "./message.ts";

export const dataCheckMessages = defineMessages({
  summary: { zh: "检查数据集是否完好，行能填多满", en: "check that a data set is whole, and how full rows get" },
  description: {
    zh: "读一遍数据集的每个文件，核对校验和、数目与每个 token 编号，数出重复与空的文档，并按给定行长试取若干批，列出各种打包方式的填充率。有问题时全部列出，退出码为 4。",
    en: "Reads every file of a data set once, compares checksums, counts and every token id, counts duplicate and empty documents, and takes some batches at a row length to show how full rows are with each packing. Everything that is wrong is listed; the exit code is 4 then.",
  },
  folders: { zh: "数据集文件夹", en: "folders of data sets" },
  rows: { zh: "估算所用的每批行数", en: "rows of a batch, for the estimate" },
  length: { zh: "估算所用的行长，含软提示", en: "row length, prompts included, for the estimate" },
  promptLength: { zh: "估算所用的软提示长度", en: "length of a soft prompt, for the estimate" },
  example: { zh: "检查一个数据集", en: "check a data set" },
  counts: {
    zh: "{folder}：{shards} 个分片，{documents} 个文档（重复 {duplicates}，空 {empty}），{tokens} 个 token，{characters} 个字符",
    en: "{folder}: {shards} shards, {documents} documents ({duplicates} duplicates, {empty} empty), {tokens} tokens, {characters} characters",
  },
  sound: { zh: "完好：校验和、数目与编号都相符。", en: "Whole: checksums, counts and ids agree." },
  problem: { zh: "问题：{where}：{what}", en: "Problem: {where}: {what}" },
  packing: { zh: "打包", en: "packing" },
  joined: { zh: "（短文档相接）", en: " (short documents joined)" },
  fill: { zh: "填充率", en: "filled" },
  targets: { zh: "目标占文本", en: "targets of the text" },
  samples: { zh: "每行样本", en: "samples a row" },
});
