/** Errors of tasks: their files, templates and what becomes of them in tokens. */
import type { ErrorEntries } from "./error-entry.ts";

export const taskErrors: ErrorEntries = {
  CPM_TASK_ROW: {
    zh: "这一行不是该任务的数据。",
    en: "A line of a task's file is not a row of the task.",
    remedy: { zh: "改正这一行，或给出文件所属的任务。", en: "Mend the line, or name the task that the file is of." },
  },
  CPM_TASK_TEMPLATE: {
    zh: "模板有误，或与任务不合。",
    en: "A template is not as it must be, or does not go with the task.",
    remedy: { zh: "按提示改正模板。", en: "Correct the template as the error says." },
  },
  CPM_TASK_TOKEN: {
    zh: "词表写不出模板所需的文字。",
    en: "The vocabulary cannot spell what a template asks for, or not in one token where it must be one.",
    remedy: { zh: "使用模型自己的词表，或换一个模板。", en: "Give the model's own vocabulary, or another template." },
  },
  CPM_TASK_LENGTH: {
    zh: "一行放不下输入与答案。",
    en: "A row has no room for input and answer.",
    remedy: { zh: "放宽行的长度，或缩短答案。", en: "Allow longer rows or shorter answers." },
  },
  CPM_TASK_EMPTY: {
    zh: "没有可供训练的样本。",
    en: "The files of a task give no row to train on.",
    remedy: {
      zh: "用 cpm data view --task 查看样本变成什么。",
      en: "Look at what samples become with cpm data view --task.",
    },
  },
};
