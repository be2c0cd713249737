/** Messages of `cpm data view`. */
import { defineMessages } from "./message.ts";

export const dataViewMessages = defineMessages({
  summary: { zh: "看训练样本：提示、上下文、目标", en: "look at training samples: prompt, context, targets" },
  description: {
    zh: "照训练时的样子取一批样本，用颜色显示软提示、上下文、目标、各样本的范围与谁能看见谁。可给数据集文件夹、文本文件、数据混合或训练配方（.yaml）；文本文件没有给词表时，先在其上训练一个。终端中无颜色时，目标写在 ⟦ ⟧ 之间。",
    en: "Takes a batch as training would and shows soft prompts, context, targets, the samples of a row and who sees whom in colours. Give folders of data sets, text files, a mixture or a training recipe (.yaml); for text files without a vocabulary one is trained on them. Where a terminal has no colours, targets stand between ⟦ and ⟧.",
  },
  paths: {
    zh: "数据集文件夹、文本文件、数据混合或训练配方（.yaml）",
    en: "folders of data sets, text files, a mixture or a training recipe (.yaml)",
  },
  batch: { zh: "看第几批，从 1 起", en: "the batch to look at, from 1" },
  rows: { zh: "每批的行数；缺省 4，或照配方", en: "rows of a batch; 4 by default, or the recipe's" },
  length: {
    zh: "每行的长度，含软提示；缺省 128，或照配方",
    en: "length of a row, prompts included; 128, or the recipe's",
  },
  promptLength: { zh: "软提示的长度；缺省 8，或照配方", en: "length of a soft prompt; 8, or the recipe's" },
  seed: { zh: "随机种子；缺省 1，或照配方", en: "seed; 1, or the recipe's" },
  packing: {
    zh: "一行放几个样本；缺省 bestFit，或照配方",
    en: "samples in a row; bestFit, or the recipe's",
  },
  compat: { zh: "照原版打包（后面样本的提示有误）", en: "pack as the original did (wrong prompts of later samples)" },
  fillShare: { zh: "填空样本的比例", en: "share of samples with the fill objective" },
  vocab: { zh: "文本文件的词表", en: "vocabulary for text files" },
  task: {
    zh: "把文件作为某个任务的数据来看：训练时的行，评测时的提示与可选答案",
    en: "look at files of a task: the rows of tuning, the prompts and answers of evaluation",
  },
  template: { zh: "任务的模板；缺省为原版的写法", en: "the task's template; by default the original's wording" },
  exampleTask: { zh: "看标题任务的样本", en: "samples of the headline task" },
  taskVocabulary: {
    zh: "没有给词表（--vocab），先在这些样本上训练一个。",
    en: "No vocabulary (--vocab): one is trained on these samples.",
  },
  taskSample: {
    zh: "{id}：{kind}，方式 {method}，正确答案：{right}",
    en: "{id}: {kind}, method {method}, right: {right}",
  },
  taskCut: { zh: "（输入太长，已截短）", en: " (too long, cut)" },
  taskData: {
    zh: "--task 只用于任务的数据文件，不能与 --packing、--compat、--fill-share 同用。",
    en: "--task is for files of a task, and does not go with --packing, --compat or --fill-share.",
  },
  generation: { zh: "生成", en: "generation" },
  choice: { zh: "选择", en: "choice" },
  ranking: { zh: "排序", en: "ranking" },
  mask: { zh: "也画出每行谁能看见谁", en: "draw who sees whom in each row too" },
  html: { zh: "写成 HTML 文件", en: "write an HTML file" },
  exampleFolder: { zh: "看数据集的第一批", en: "the first batch of a data set" },
  exampleHtml: { zh: "照配方取样，写成网页", en: "samples as a recipe would take them, as a page" },
  needPath: {
    zh: "请给出数据集文件夹、文本文件，或带 data 的配方。",
    en: "Give folders of data sets, text files, or a recipe with data.",
  },
  mixedPaths: {
    zh: "数据集文件夹与文本文件不能混用。",
    en: "Folders of data sets and text files cannot be mixed.",
  },
  ended: { zh: "数据在第 {batch} 批之前已读完。", en: "The data end before batch {batch}." },
  title: { zh: "训练样本", en: "Training samples" },
  batchLine: {
    zh: "第 {batch} 批：{rows} 行 × {columns} 列，{tokens} 个 token，其中 {targets} 个目标，填充率 {fill}",
    en: "Batch {batch}: {rows} rows × {columns} columns, {tokens} tokens, {targets} of them targets, {fill} filled",
  },
  rowLine: {
    zh: "第 {row} 行：用 {used} 列，{samples} 个样本，空 {padding} 列",
    en: "Row {row}: {used} columns in use, {samples} samples, {padding} columns of padding",
  },
  sampleLine: {
    zh: "样本 {span}：{objective}，{source}，{origin}，第 {epoch} 轮，第 {start}–{end} 列，{targets} 个目标",
    en: "Sample {span}: {objective}, {source}, {origin}, epoch {epoch}, columns {start}–{end}, {targets} targets",
  },
  fill: { zh: "填空", en: "fill" },
  lm: { zh: "续写", en: "continue" },
  prompt: { zh: "软提示", en: "soft prompt" },
  context: { zh: "上下文", en: "context" },
  target: { zh: "目标", en: "target" },
  special: { zh: "标记", en: "mark" },
  padding: { zh: "空", en: "padding" },
  maskLine: {
    zh: "谁能看见谁：每行一个查询，每列一个键（{cells} × {cells} 格）",
    en: "who sees whom: a query each line, a key each column ({cells} × {cells} cells)",
  },
  written: { zh: "已写入 {path}。", en: "Written: {path}." },
  tokenTitle: { zh: "第 {column} 列，编号 {id}，{role}", en: "column {column}, id {id}, {role}" },
  predicts: { zh: "，预测 {token}", en: ", predicts {token}" },
});
