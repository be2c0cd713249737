/** Errors of delta tuning. */
import type { ErrorEntries } from "./error-entry.ts";

export const deltaErrors: ErrorEntries = {
  CPM_DELTA_METHOD: {
    zh: "没有这种增量微调方法。",
    en: "A recipe names a delta method that there is not.",
    remedy: { zh: "从列出的方法中选一个。", en: "Choose one of those listed." },
  },
  CPM_DELTA_OPTIONS: {
    zh: "增量微调方法的选项有误。",
    en: "A delta method cannot have these options, or not at these places of this model.",
    remedy: { zh: "按提示改正选项。", en: "Correct the options as the error says." },
  },
  CPM_DELTA_PLACES: {
    zh: "增量的位置写法有误，或选不到任何位置。",
    en: "A pattern of places cannot be read, or names nothing that the method can go to.",
    remedy: {
      zh: "用 cpm tune --dry-run 查看模型的位置，改正 places 或 exclude。",
      en: "Look at the model's places with cpm tune --dry-run, and correct places or exclude.",
    },
  },
  CPM_DELTA_TWICE: {
    zh: "两种方法在同一位置用了同名参数。",
    en: "Two methods of a recipe would train parameters of the same name.",
    remedy: { zh: "让两者的位置不相交，或去掉一个。", en: "Give the two disjoint places, or take one out." },
  },
  CPM_DELTA_FILE: {
    zh: "这里没有可用的增量。",
    en: "A path holds no delta, or its tensors are not what its methods need.",
    remedy: { zh: "给出含 adapter_model.safetensors 的文件夹。", en: "Give a folder with adapter_model.safetensors." },
  },
  CPM_DELTA_PEFT: {
    zh: "这个 PEFT 适配器在这里没有对应的形式。",
    en: "A PEFT adapter, or a delta of the original, is of a type, has options or tensors that have no form here.",
    remedy: {
      zh: "可以读入 HF cpmant 的 LoRA、DoRA、IA³、prefix、prompt 适配器。",
      en: "LoRA, DoRA, IA³, prefix and prompt adapters of HF's cpmant can be read.",
    },
  },
  CPM_DELTA_BASE: {
    zh: "这个增量是在另一个基座模型上训练的。",
    en: "A delta was trained on another base than the one that was given.",
    remedy: {
      zh: "给出训练时的基座；转换或合并过的权重算作另一个基座。",
      en: "Give the base that it was trained on; weights that were converted or merged since are another one.",
    },
  },
  CPM_DELTA_MERGE: {
    zh: "这种增量无法并入权重，或无法从中取出。",
    en: "The weights of a model cannot hold this delta, or cannot give it back.",
    remedy: {
      zh: "与基座一起使用：cpm generate MODEL --delta PATH。",
      en: "Use it beside its base: cpm generate MODEL --delta PATH.",
    },
  },
  CPM_DELTA_MIX: {
    zh: "这个增量不能与其他增量同处一批。",
    en: "A delta that is not LoRA, or is DoRA, was to be used in one batch with others.",
    remedy: { zh: "单独使用它，或并入一个单独的基座。", en: "Use it alone, or merged into a base of its own." },
  },
  CPM_TUNE_PRODUCTS: {
    zh: "整数乘积需要每个输出一个缩放系数的 8 位基座。",
    en: "Products in whole numbers were asked for on a base that is not of 8 bits with one scale an output.",
    remedy: {
      zh: "用 cpm quantize --precision int8 --group channel 量化基座，或让 products 保持 float32。",
      en: "Quantise the base with cpm quantize --precision int8 --group channel, or leave products at float32.",
    },
  },
  CPM_TUNE_PRODUCTS_INEXACT: {
    zh: "这个处理器的 8 位乘积会溢出，不能用于训练。",
    en: "This processor's products of 8-bit numbers overflow, so nothing can be trained with them.",
    remedy: {
      zh: "让 products 保持 float32，或换用有 8 位乘积指令的处理器（AVX-512 VNNI、AVX-VNNI、AMX）。",
      en: "Leave products at float32, or use a processor with instructions for them (AVX-512 VNNI, AVX-VNNI, AMX).",
    },
  },
};
