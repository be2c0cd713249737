/** Messages of `cpm forward`. */
import { defineMessages } from "./message.ts";

export const forwardMessages = defineMessages({
  summary: {
    zh: "算出模型的输出与梯度，供与其他实现对照",
    en: "compute a model's outputs and gradients, to compare with other implementations",
  },
  description: {
    zh: "读一个 safetensors 文件，写一个 safetensors 文件。输入为 batch.input、batch.length、batch.context、batch.segment、batch.span（右侧填充）和可有可无的 batch.target、batch.prompt（一行有多个样本时，1 为软提示）时，写出 logits、hidden 和 loss，加 --grad 时还有每个参数的 grad.名称。加 --decode N 时，输入为 input（软提示后接左侧填充的文本）和 length（文本长度），写出贪心解码的 next 和每一步的 logits：每步取最大者，什么也不禁止。整数可为 I64、I32、I8、U8 或 BOOL。计算时不做 dropout。",
    en: "Reads a safetensors file and writes one. From batch.input, batch.length, batch.context, batch.segment, batch.span (padded on the right) and, if there, batch.target and batch.prompt (1 for soft prompts, where a row has several samples) come logits, hidden and loss, with --grad also grad.NAME for every parameter. With --decode N the input is input (the soft prompt, then text padded on the left) and length (of the text), and the output next and the logits of each greedy step, where the largest logit wins and nothing is forbidden. Whole numbers may be I64, I32, I8, U8 or BOOL. There is no dropout.",
  },
  model: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  config: { zh: "模型的 config.json", en: "the model's config.json" },
  input: { zh: "输入的 safetensors 文件", en: "the safetensors file to read" },
  output: { zh: "要写的 safetensors 文件", en: "the safetensors file to write" },
  grad: { zh: "也写出每个参数的梯度", en: "write the gradient of every parameter as well" },
  decode: { zh: "贪心解码这么多步", en: "decode this many steps greedily" },
  segment: { zh: "解码时文本属于哪个分段", en: "with --decode, the segment of the text" },
  threads: { zh: "计算使用的线程数", en: "threads to compute with" },
  gradOrDecode: { zh: "--grad 与 --decode 不能同时使用。", en: "--grad and --decode exclude each other." },
  positionIgnored: {
    zh: "不读 batch.position：位置就是列号。",
    en: "batch.position is not read: a position is its column.",
  },
  noTargets: {
    zh: "batch.target 中没有目标，因此没有 loss。",
    en: "batch.target has no target, so there is no loss.",
  },
  gradientsNeedTarget: {
    zh: "求梯度需要 batch.target 中至少有一个目标。",
    en: "gradients need batch.target with at least one target.",
  },
  assumed: { zh: "没有 config.json，推断时假设：{what}", en: "there is no config.json; assumed: {what}" },
  written: { zh: "已写入 {output}（{duration}）", en: "written to {output} ({duration})" },
  name: { zh: "名称", en: "name" },
  shape: { zh: "形状", en: "shape" },
  dtype: { zh: "类型", en: "dtype" },
  loss: { zh: "loss {value}", en: "loss {value}" },
  exampleForward: { zh: "输出、损失与所有梯度", en: "outputs, loss and all gradients" },
  exampleDecode: { zh: "16 步贪心解码", en: "16 greedy steps" },
});
