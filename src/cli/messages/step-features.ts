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
