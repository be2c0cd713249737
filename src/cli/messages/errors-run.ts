/** Errors of recorded runs, their checkpoints and their pages. */
import type { ErrorEntries } from "./error-entry.ts";

export const runErrors: ErrorEntries = {
  CPM_RUN_FOLDER: {
    zh: "这里没有可用的训练记录。",
    en: "A folder holds no run, or its run.json or events cannot be read.",
    remedy: { zh: "给出 cpm train --run 所建的文件夹。", en: "Give the folder that cpm train --run made." },
  },
  CPM_RUN_EXISTS: {
    zh: "新训练的文件夹不是空的。",
    en: "The folder for a new run holds something.",
    remedy: { zh: "换一个 --run，或用 --resume 继续。", en: "Give another --run, or go on with --resume." },
  },
  CPM_RUN_LOCKED: {
    zh: "另一个进程正在写这个训练记录。",
    en: "Another process writes this run.",
    remedy: {
      zh: "等它结束；确知已不在，就删去 run.lock。",
      en: "Wait for it to end, or remove run.lock if it is gone for good.",
    },
  },
  CPM_RUN_RECIPE: {
    zh: "训练记录中的配方有误。",
    en: "The recipe in a run's folder is not as it must be.",
    remedy: { zh: "改正 run.json 中的 recipe。", en: "Correct the recipe in run.json." },
  },
  CPM_LEDGER_TABLE: {
    zh: "表中没有这个名称。",
    en: "The tables of grids and prices have no such name.",
    remedy: { zh: "使用列出的名称，或直接给出数值。", en: "Use one of the names that are listed, or give the figure." },
  },
  CPM_LIVE_NO_RUN: {
    zh: "直播服务没有这个训练记录。",
    en: "The live server has no such run.",
    remedy: {
      zh: "训练记录可能已移走，或服务的是另一个文件夹；api/runs.json 列出全部训练记录。",
      en: "The run may have been moved, or another folder is served; api/runs.json lists all runs.",
    },
  },
  CPM_LIVE_NO_FILE: {
    zh: "直播服务没有这个文件。",
    en: "The live server has no such file.",
    remedy: {
      zh: "核对地址；api/runs.json 列出全部训练记录。",
      en: "Check the address; api/runs.json lists all runs.",
    },
  },
  CPM_LOG_DAY: {
    zh: "日志的日期或日界有误。",
    en: "A day of the log, or the time at which a day ends, is not as it must be.",
    remedy: {
      zh: "日界写作 16:00+08:00，日期写作 2026-11-27。",
      en: "Write 16:00+08:00 for the end of a day, 2026-11-27 for a day.",
    },
  },
  CPM_LIVE_ALERT: {
    zh: "告警的写法有误。",
    en: "A webhook alert of a recipe is not as it must be.",
    remedy: { zh: "按提示改正 alerts。", en: "Correct alerts as the error says." },
  },
  CPM_LIVE_PAGES: {
    zh: "找不到直播网页。",
    en: "The live pages are neither in the package nor can they be built.",
    remedy: { zh: "重新安装，或在源码目录运行 npm ci。", en: "Install again, or run npm ci in the checkout." },
  },
  CPM_LIVE_PORT: {
    zh: "端口已被占用。",
    en: "The port for the live pages is taken.",
    remedy: { zh: "换一个 --port，或用 --port 0。", en: "Give another --port, or --port 0." },
  },
  CPM_TRAIN_MEMORY: {
    zh: "内存不够训练所需。",
    en: "Training needs more memory than there is.",
    remedy: {
      zh: "减少 rows 或 length，加 --set recompute=block，或换小一点的模型；cpm plan 列出各部分。",
      en: "Fewer or shorter rows, --set recompute=block, or a smaller model; cpm plan shows each part.",
    },
  },
  CPM_TRAIN_FROM: {
    zh: "这个训练没有这一步的检查点。",
    en: "A run has no checkpoint of the step that it is to go on from.",
    remedy: {
      zh: "改用列出的步；保留哪些检查点由配方的 retention 决定。",
      en: "Give one of the steps that are listed; the recipe's retention says which checkpoints stay.",
    },
  },
  CPM_TRAIN_CHECKPOINT: {
    zh: "检查点不完整或已损坏。",
    en: "A training checkpoint is incomplete, damaged or of another model.",
    remedy: {
      zh: "会自动改用更早的检查点；可删去这一个。",
      en: "An earlier checkpoint is taken by itself; this one may be removed.",
    },
  },
};
