/**
 * Every verb with what the list of commands needs, and how to load the rest. A verb's module is imported only when it is
 * called, so that `cpm --help` starts at once; `registry.test.ts` checks that names and summaries agree with the modules.
 */
import type { CommandDefinition } from "./command.ts";
import type { Bilingual } from "./messages/message.ts";

export interface Verb {
  /** One or two words. */
  readonly name: string;
  readonly summary: Bilingual;
  load(): Promise<{ readonly default: CommandDefinition }>;
}

/** In the order of the list of commands: the life of a model. */
export const verbs: readonly Verb[] = [
  {
    name: "start",
    summary: { zh: "一条命令：训练一个小模型，再让它写", en: "one command: train a small model, then let it write" },
    load: () => import("./verbs/start.ts"),
  },
  {
    name: "doctor",
    summary: {
      zh: "检查环境：运行时、设备、内存，缺什么、怎么补",
      en: "check the environment: runtime, device, memory, what is missing and how to get it",
    },
    load: () => import("./verbs/doctor.ts"),
  },
  {
    name: "tokenizer train",
    summary: { zh: "从语料训练词表", en: "train a vocabulary from a corpus" },
    load: () => import("./verbs/tokenizer-train.ts"),
  },
  {
    name: "tokenize",
    summary: { zh: "把文本切成 token", en: "turn text into tokens" },
    load: () => import("./verbs/tokenize.ts"),
  },
  {
    name: "inspect",
    summary: {
      zh: "查看模型：配置、布局、参数表、各精度的内存",
      en: "look at a model: config, layout, parameter table, memory by precision",
    },
    load: () => import("./verbs/inspect.ts"),
  },
  {
    name: "convert",
    summary: { zh: "在布局、精度与分片之间转换权重", en: "convert weights between layouts, precisions and shards" },
    load: () => import("./verbs/convert.ts"),
  },
  {
    name: "init",
    summary: { zh: "生成随机权重的模型", en: "make a model with random weights" },
    load: () => import("./verbs/init.ts"),
  },
  {
    name: "quantize",
    summary: { zh: "把权重压成 8 位或 4 位", en: "pack weights into 8 or 4 bits" },
    load: () => import("./verbs/quantize.ts"),
  },
  {
    name: "data build",
    summary: { zh: "把文本做成训练用的数据集", en: "make a data set for training out of text" },
    load: () => import("./verbs/data-build.ts"),
  },
  {
    name: "data import",
    summary: { zh: "读入 CPM-Live 的二进制数据集", en: "take over a binary data set of CPM-Live" },
    load: () => import("./verbs/data-import.ts"),
  },
  {
    name: "data view",
    summary: { zh: "看训练样本：提示、上下文、目标", en: "look at training samples: prompt, context, targets" },
    load: () => import("./verbs/data-view.ts"),
  },
  {
    name: "data check",
    summary: { zh: "检查数据集是否完好，行能填多满", en: "check that a data set is whole, and how full rows get" },
    load: () => import("./verbs/data-check.ts"),
  },
  {
    name: "plan",
    summary: {
      zh: "训练前先算：参数、内存、时间、钱、电、碳",
      en: "before training: parameters, memory, time, money, energy, carbon",
    },
    load: () => import("./verbs/plan.ts"),
  },
  {
    name: "train",
    summary: { zh: "从文本训练模型", en: "train a model on text" },
    load: () => import("./verbs/train.ts"),
  },
  {
    name: "runs",
    summary: { zh: "列出训练记录，或把几个放在一起比较", en: "list runs, or compare some of them" },
    load: () => import("./verbs/runs.ts"),
  },
  {
    name: "tune",
    summary: {
      zh: "增量微调：训练少量参数，基座不动",
      en: "delta tuning: train a few parameters, the base stays as it is",
    },
    load: () => import("./verbs/tune.ts"),
  },
  {
    name: "merge",
    summary: { zh: "把增量并入权重，或从中取出", en: "put a delta into the weights, or take it out" },
    load: () => import("./verbs/merge.ts"),
  },
  {
    name: "live",
    summary: { zh: "把训练过程直播成网页", en: "show runs live on web pages" },
    load: () => import("./verbs/live.ts"),
  },
  {
    name: "cost",
    summary: { zh: "训练的费用、能耗与碳排放", en: "what a run cost: money, energy, carbon" },
    load: () => import("./verbs/cost.ts"),
  },
  {
    name: "log",
    summary: { zh: "每日训练日志", en: "daily logs of a run" },
    load: () => import("./verbs/log.ts"),
  },
  {
    name: "export",
    summary: {
      zh: "导出训练记录：TensorBoard、Prometheus、CSV、JSON",
      en: "export a run: TensorBoard, Prometheus, CSV, JSON",
    },
    load: () => import("./verbs/export.ts"),
  },
  {
    name: "generate",
    summary: { zh: "让模型续写文本", en: "let a model continue texts" },
    load: () => import("./verbs/generate.ts"),
  },
  {
    name: "eval",
    summary: { zh: "评测模型：六个任务与每字比特数", en: "evaluate a model: six tasks and bits per character" },
    load: () => import("./verbs/eval.ts"),
  },
  {
    name: "serve",
    summary: { zh: "以 OpenAI 兼容的 HTTP 接口提供模型", en: "serve models over an OpenAI-compatible HTTP API" },
    load: () => import("./verbs/serve.ts"),
  },
  {
    name: "serve keys",
    summary: { zh: "管理 API 密钥：add、list、revoke", en: "API keys: add, list, revoke" },
    load: () => import("./verbs/serve-keys.ts"),
  },
  {
    name: "run",
    summary: { zh: "打开模型，边写边续", en: "open a model and write with it" },
    load: () => import("./verbs/run.ts"),
  },
  {
    name: "forward",
    summary: {
      zh: "算出模型的输出与梯度，供与其他实现对照",
      en: "compute a model's outputs and gradients, to compare with other implementations",
    },
    load: () => import("./verbs/forward.ts"),
  },
];

/** The verb that the words begin with, two words before one, and the words after it. */
export function findVerb(words: readonly string[]): { verb: Verb; rest: readonly string[] } | undefined {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(" ");
    const found = verbs.find((candidate) => candidate.name === name);
    if (found !== undefined && words.length >= length) return { verb: found, rest: words.slice(length) };
  }
  return undefined;
}
