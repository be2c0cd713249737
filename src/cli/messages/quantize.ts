/** Messages of `cpm quantize` and `cpm init`. */
import { defineMessages } from "./message.ts";

export const quantizeMessages = defineMessages({
  summary: { zh: "把权重压成 8 位或 4 位", en: "pack weights into 8 or 4 bits" },
  description: {
    zh: "逐个张量读入，就近取整，写成一个新的模型文件夹：矩阵变成 NAME.packed、NAME.scales（不对称时还有 NAME.zeros），其余照旧。内存里最多只有一个张量。逐层报告误差：√(Σ(w − w′)² / Σw²)。",
    en: "Reads tensor by tensor, rounds to the nearest level and writes a new model folder: matrices become NAME.packed, NAME.scales (and NAME.zeros where asymmetric), the rest stays. No more than one tensor is in memory. Reports each layer's error: √(Σ(w − w′)² / Σw²).",
  },
  source: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  target: { zh: "要写的文件夹", en: "the folder to write" },
  precision: { zh: "每个权重用几位", en: "bits of a weight" },
  group: {
    zh: "共用一个缩放系数的输入数；channel 为每个输出一个，8 位时用整数相乘，最快",
    en: "inputs that share a scale; channel: one for each output, at 8 bits multiplied in whole numbers, the fastest",
  },
  asymmetric: {
    zh: "每组另存零点（分布偏向一侧时误差更小）",
    en: "store a zero for each group as well (smaller errors where weights lie to one side)",
  },
  doubleScales: {
    zh: "缩放系数本身也压成 8 位（每 256 个一段，如 QLoRA）：文件更小，读入后为 float32",
    en: "keep the scales in 8 bits themselves (256 to a range, as QLoRA): smaller files; read as float32",
  },
  doubledNeedsGroups: {
    zh: "每个输出一个缩放系数时，没有可再压缩的。",
    en: "With one scale an output there is nothing to be rounded twice.",
  },
  embedding: { zh: "词表与输出层也压缩", en: "pack the token table, which is the head too" },
  overwrite: { zh: "允许写进非空的文件夹", en: "write into a folder that is not empty" },
  example: { zh: "4 位，每 128 个输入一组", en: "4 bits, groups of 128 inputs" },
  layer: { zh: "层", en: "layer" },
  attention: { zh: "注意力误差", en: "attention" },
  ffn: { zh: "前馈误差", en: "feed-forward" },
  worst: { zh: "误差最大的矩阵", en: "worst matrix" },
  bytes: { zh: "大小", en: "size" },
  table: { zh: "词表", en: "token table" },
  total: {
    zh: "{parameters} 个参数，{bytes}，平均每个参数 {bits} 位；整体误差 {error}",
    en: "{parameters} parameters, {bytes}, {bits} bits a parameter on average; error over all {error}",
  },
  kept: {
    zh: "未压缩：{count} 个张量，{bytes}（归一化、小表，或宽度不是 16 的倍数）",
    en: "kept as they are: {count} tensors, {bytes} (norms, small tables, widths that 16 does not divide)",
  },
  written: { zh: "已写入 {folder}", en: "written to {folder}" },
  tensors: { zh: "张量", en: "tensors" },
});

export const initMessages = defineMessages({
  summary: { zh: "生成随机权重的模型", en: "make a model with random weights" },
  description: {
    zh: "按预设写出一个随机权重的模型文件夹，供测量与试用：速度、内存与真模型相同，文字则没有意义。8 位与 4 位直接在各级上抽取，不经过 float32，所以一百亿参数也只需要一个张量的内存。没有给词表就写一个单字词表。",
    en: "Writes a model folder of a preset with random weights, for measuring and trying out: speed and memory are those of a real model, its text means nothing. 8 and 4 bits are drawn on their levels directly, without float32 in between, so ten billion parameters need the memory of one tensor. Without a vocabulary one of single characters is written.",
  },
  folder: { zh: "要写的文件夹", en: "the folder to write" },
  preset: { zh: "模型大小", en: "size of the model" },
  precision: { zh: "权重的精度", en: "precision of the weights" },
  group: { zh: "8 位与 4 位：共用一个缩放系数的输入数", en: "at 8 and 4 bits: inputs that share a scale" },
  seed: { zh: "随机种子", en: "random seed" },
  vocab: { zh: "词表文件", en: "vocabulary file" },
  layers: { zh: "只要这么多层（默认按预设）", en: "no more layers than this (default: the preset's)" },
  example: { zh: "一百亿参数，4 位，约 5 GB", en: "ten billion parameters, 4 bits, some 5 GB" },
  written: {
    zh: "已写入 {folder}：{parameters} 个参数，{bytes}，用时 {duration}",
    en: "written to {folder}: {parameters} parameters, {bytes}, in {duration}",
  },
});
