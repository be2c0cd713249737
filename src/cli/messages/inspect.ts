/** Messages of `cpm inspect` and `cpm convert`. */
import { defineMessages } from "./message.ts";

export const inspectMessages = defineMessages({
  summary: {
    zh: "查看模型：配置、布局、参数表、各精度的内存",
    en: "look at a model: config, layout, parameter table, memory by precision",
  },
  description: {
    zh: "只读文件头，不读权重。没有 config.json 时从名称和形状推断配置，并列出作了哪些假设。也可以不给文件，查看一个预设。",
    en: "Reads headers only, no weights. Without a config.json the config is inferred from names and shapes, and what was assumed is listed. Instead of a file a preset can be looked at.",
  },
  path: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  config: { zh: "模型的 config.json", en: "the model's config.json" },
  preset: { zh: "不读文件，查看一个预设", en: "look at a preset instead of a file" },
  allLayers: { zh: "逐层列出，不合并相同的层", en: "list every layer, equal ones too" },
  pathOrPreset: {
    zh: "请给出模型路径（可加 --config）或 --preset，二者取一。",
    en: "give either a model's path, perhaps with --config, or --preset.",
  },
  fileTitle: { zh: "文件", en: "File" },
  configTitle: { zh: "配置", en: "Config" },
  parametersTitle: { zh: "参数", en: "Parameters" },
  memoryTitle: { zh: "权重所占内存", en: "Memory of the weights" },
  weights: { zh: "权重", en: "weights" },
  format: { zh: "格式", en: "format" },
  layout: { zh: "布局", en: "layout" },
  layoutValue: { zh: "{layout}（{evidence}）", en: "{layout} ({evidence})" },
  configFrom: { zh: "配置来自", en: "config from" },
  inferred: { zh: "由名称和形状推断", en: "names and shapes" },
  assumed: { zh: "假设", en: "assumed" },
  unknownNames: { zh: "不属于模型的张量", en: "no parameters of the model" },
  more: { zh: "等共 {count} 个", en: "and others, {count} in all" },
  name: { zh: "名称", en: "name" },
  shape: { zh: "形状", en: "shape" },
  dtype: { zh: "类型", en: "dtype" },
  elements: { zh: "元素数", en: "elements" },
  share: { zh: "占比", en: "share" },
  total: { zh: "合计", en: "total" },
  precision: { zh: "精度", en: "precision" },
  bytes: { zh: "大小", en: "size" },
  quantisedNote: {
    zh: "int8 按输出通道、int4 按 128 个输入一块（fp32 缩放）只量化线性层，其余为 fp16。",
    en: "int8 (per output channel) and int4 (blocks of 128 inputs, fp32 scales) quantise the linear layers; the rest is fp16.",
  },
  cacheNote: {
    zh: "键值缓存每个 token：fp32 {bytes}。",
    en: "Key/value cache per token: {bytes} in fp32.",
  },
  exampleFile: { zh: "查看一个模型文件夹", en: "look at a model's folder" },
  examplePreset: { zh: "查看 100 亿参数的预设", en: "look at the preset of ten billion parameters" },
});

export const convertMessages = defineMessages({
  summary: {
    zh: "在布局、精度与分片之间转换权重",
    en: "convert weights between layouts, precisions and shards",
  },
  description: {
    zh: "读入任何一种能识别的权重（safetensors、PyTorch 的 .pt 或 .bin、Hugging Face 的 cpmant），写成一个带 config.json 的 safetensors 文件夹。一次只读一个张量，所以不受模型大小限制。新文件夹先写在旁边再改名，要么完整，要么不存在。",
    en: "Reads weights of any layout that is recognised (safetensors, PyTorch's .pt or .bin, Hugging Face's cpmant) and writes a folder of safetensors with a config.json. One tensor is in memory at a time, so the size of the model does not matter. A new folder is written aside and renamed: it is there completely or not at all.",
  },
  source: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  target: { zh: "要写的文件夹", en: "the folder to write" },
  layout: { zh: "写成哪种布局", en: "the layout to write" },
  dtype: {
    zh: "写成哪种精度；auto 保持原样，hf-cpmant 布局为 float32",
    en: "the precision to write; auto keeps each tensor's own, float32 in the layout hf-cpmant",
  },
  maxShard: { zh: "超过此大小就分片", en: "weights beyond this are split into shards" },
  overwrite: { zh: "允许写入非空的文件夹", en: "write into a folder that is not empty" },
  tensors: { zh: "张量", en: "tensors" },
  written: { zh: "已写入 {folder}：{files}", en: "written to {folder}: {files}" },
  example: { zh: "把 PyTorch 权重转成 Hugging Face 布局", en: "from PyTorch weights to Hugging Face's layout" },
});
