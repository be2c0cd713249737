/** Errors of evaluations. */
import type { ErrorEntries } from "./error-entry.ts";

export const evalErrors: ErrorEntries = {
  CPM_EVAL_EMPTY: {
    zh: "没有可评测的样本。",
    en: "The data have no sample, or fewer solved examples than asked for.",
    remedy: { zh: "检查数据文件与 shots。", en: "Check the data files and shots." },
  },
  CPM_EVAL_SETTINGS: {
    zh: "这里存有别的设置、权重或数据的输出。",
    en: "A folder of results has outputs of other settings, weights or data.",
    remedy: { zh: "换一个 --output，或删去该文件。", en: "Give another --output, or remove the file." },
  },
  CPM_EVAL_RECORDS: {
    zh: "保存的输出已损坏，或不是评测结果。",
    en: "A file of outputs is damaged, or a folder holds none.",
    remedy: {
      zh: "删去它再评测一次，或给出结果文件夹。",
      en: "Remove it and evaluate again, or give a folder of results.",
    },
  },
  CPM_EVAL_COMPARE: {
    zh: "这两个结果不能比较。",
    en: "Two results are of different tasks or data.",
    remedy: {
      zh: "用同样的数据、limit 与 seed 评测两者。",
      en: "Evaluate both on the same data, with the same limit and seed.",
    },
  },
  CPM_EVAL_DOMAIN: {
    zh: "保存的输出里没有选项在没有题目时的似然。",
    en: "Outputs do not say how likely options are without their sample.",
    remedy: {
      zh: "以 normalize: pmi 重新评测，或改用别的比较方式。",
      en: "Run the evaluation with normalize: pmi, or compare likelihoods otherwise.",
    },
  },
  CPM_EVAL_WINDOW: {
    zh: "窗口与步长不合。",
    en: "The stride of perplexity is not below its window.",
    remedy: { zh: "让 stride 小于 window。", en: "Choose a stride below the window." },
  },
  CPM_EVAL_NAN: {
    zh: "模型算出了非有限的数。",
    en: "A model's scores are not finite numbers.",
    remedy: { zh: "检查权重与配置。", en: "Check the weights and the config." },
  },
};
