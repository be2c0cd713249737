/** Texts of the options of a training step (`src/cli/step-features.ts`). */
import { defineMessages } from "./message.ts";

export const stepFeatureMessages = defineMessages({
  accumulate: {
    zh: "每次更新由多少批组成；各批的目标等权，等同于一个大批",
    en: "batches that an update is made of; every target weighs the same, as in one large batch",
  },
  dropout: {
    zh: "训练时丢弃的比例，位置同原版；掩码由种子与步数决定，评估时不丢弃",
    en: "share of values dropped in training, where the original does; masks follow from seed and step; never in evaluation",
  },
  zLoss: {
    zh: "(ln Z)² 的系数，使输出分数的归一化项不致漂移；0 为不用",
    en: "weight of (ln Z)², which keeps the scores' denominators from drifting; 0: none",
  },
  compute: {
    zh: "float16 重现 16 位运算的舍入与溢出（权重仍为 float32）；在 CPU 上更慢，不为提速",
    en: "float16 reproduces the rounding and overflows of 16-bit arithmetic (weights stay float32); slower on a CPU, not faster",
  },
  lossScale: {
    zh: "float16 时的损失缩放：initial、growthInterval、factor、min、max",
    en: "loss scale where compute is float16: initial, growthInterval, factor, min, max",
  },
  optimizer: {
    zh: "AdamW 的参数；groups 按参数名设 weightDecay 与 rateFactor，ema 为权重的滑动平均",
    en: "AdamW's settings; groups give parameters by name their weightDecay and rateFactor, ema averages the weights",
  },
});

export const optimizerMessages = defineMessages({
  beta1: { zh: "一阶矩的衰减", en: "decay of the first moment" },
  beta2: { zh: "二阶矩的衰减", en: "decay of the second moment" },
  eps: { zh: "分母所加的小数", en: "added to the denominator" },
  weightDecay: { zh: "权重衰减：每次更新缩小学习率的这一倍数", en: "weight decay: a share of the learning rate" },
  clipNorm: { zh: "全部梯度合计的范数上限；0 为不限", en: "largest norm of all gradients together; 0: any" },
  groups: { zh: "按参数名分组，先符合者为准", en: "groups of parameters by name, the first that fits counts" },
  ema: { zh: "权重的滑动平均；不设则没有", en: "average of the weights; none by default" },
});

export const groupMessages = defineMessages({
  match: {
    zh: "参数名，* 代表任意字符，如 *layernorm*、input_embedding.weight",
    en: "names of parameters, * for anything, as *layernorm*, input_embedding.weight",
  },
  weightDecay: { zh: "此组的权重衰减，缺省同优化器", en: "the group's weight decay; by default the optimizer's" },
  rateFactor: { zh: "此组学习率的倍数；0 为不训练", en: "a factor of the group's learning rate; 0 trains it not" },
});

export const emaMessages = defineMessages({
  decay: { zh: "平均的衰减 d：e ← d·e + (1−d)·p", en: "the average's decay d: e ← d·e + (1−d)·p" },
  warmup: { zh: "开始时衰减较小：(1+t)/(10+t)", en: "a shorter memory at first: (1+t)/(10+t)" },
  validate: { zh: "用平均权重计算验证损失与样例", en: "validation and samples are of the averaged weights" },
});

export const lossScaleMessages = defineMessages({
  initial: { zh: "起始的倍数", en: "the scale at first" },
  growthInterval: { zh: "连续多少次正常更新后放大", en: "good updates in a row after which it grows" },
  factor: { zh: "放大与缩小的倍数", en: "what it is multiplied or divided by" },
  min: { zh: "下限", en: "no less than this" },
  max: { zh: "上限", en: "no more than this" },
});
