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
};
