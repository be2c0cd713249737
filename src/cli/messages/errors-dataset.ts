/** Errors of data sets, their shards and what is built from them. */
import type { ErrorEntries } from "./error-entry.ts";

export const datasetErrors: ErrorEntries = {
  CPM_DATA_SHARD: {
    zh: "token 分片已损坏。",
    en: "A token shard is damaged, cut off, or not one.",
    remedy: { zh: "重新构建这一部分数据集。", en: "Build this part of the data set again." },
  },
  CPM_DATA_PRINTS: {
    zh: "数据集为追加而保存的文本指纹已损坏，或与分片不符。",
    en: "The prints of texts that a data set keeps for additions are damaged, or of another shard.",
    remedy: {
      zh: "重新复制该文件；或从 dataset.json 中去掉该分片的 prints，此后只比较全文是否相同。",
      en: "Copy the file again; or take prints out of the shard's entry in dataset.json, and only whole texts are compared.",
    },
  },
  CPM_DATA_SET: {
    zh: "这里没有可用的数据集。",
    en: "A data set's folder has no dataset.json that can be used, or its vocabulary is another one.",
    remedy: { zh: "用 cpm data build 构建。", en: "Build it with cpm data build." },
  },
  CPM_DATA_SET_CHANGED: {
    zh: "正在使用的数据集被改动了。",
    en: "A shard that a run has read from is gone or has been replaced.",
    remedy: { zh: "只往使用中的数据集追加分片。", en: "Only append shards to a data set in use." },
  },
  CPM_DATA_PARQUET: {
    zh: "Parquet 文件无法读取。",
    en: "A Parquet file is damaged, or lacks the column of text.",
    remedy: { zh: "检查文件，并用 --field 指定列名。", en: "Check the file, and name the column with --field." },
  },
  CPM_DATA_BUILD_OUTPUT: {
    zh: "输出文件夹里有别的内容。",
    en: "The output folder of a build holds something else.",
    remedy: { zh: "换一个 --output，或删去该文件夹。", en: "Give another --output, or remove the folder." },
  },
  CPM_DATA_IMPORT: {
    zh: "这里没有可读入的 CPM-Live 数据集。",
    en: "A folder holds no binary data set of CPM-Live, or its meta.bin is damaged.",
    remedy: { zh: "给出含 meta.bin 的文件夹。", en: "Give the folder that has meta.bin." },
  },
  CPM_DATA_MIXTURE: {
    zh: "数据混合的写法有误。",
    en: "A mixture of data sets is not as it must be.",
    remedy: { zh: "按提示改正混合文件。", en: "Correct the mixture as the error says." },
  },
};
