/** Messages of `cpm tune` and `cpm merge`. */
import { defineMessages } from "./message.ts";

export const tuneMessages = defineMessages({
  summary: {
    zh: "增量微调：训练少量参数，基座不动",
    en: "delta tuning: train a few parameters, the base stays as it is",
  },
  description: {
    zh: "在模型上训练增量：LoRA（rsLoRA、DoRA、LoRA+、PiSSA）、适配器、并联适配器、低秩适配器、Compacter、BitFit、前缀、软提示、IA³，或在副本上全部、部分微调。基座只读，训练前后校验其 SHA-256。数据为一个任务的文件（--task 与 --train、--dev），一行可放多个样本。运行写入文件夹（--run）：事件、检查点、最优检查点、每日日志，可用 cpm live 观看，可续跑（--resume）。每个检查点都是增量文件夹，PEFT 有的方法用 PEFT 的格式。--dry-run 只显示哪些部分被训练、占多少，以及需要多少内存。配方中的 delta 列出方法、位置与选项；sweep 按网格逐一运行并给出报告。",
    en: "Trains a delta on a model: LoRA (rsLoRA, DoRA, LoRA+, PiSSA), adapters, parallel and low-rank adapters, Compacter, BitFit, prefix, soft prompt, IA³, or all or some of the parameters on copies. The base is only read; its SHA-256 is checked before and after. The data are a task's files (--task with --train and --dev); several samples share a row. The run is recorded in a folder (--run): events, checkpoints, the best of them, daily logs; cpm live shows it, --resume goes on with it. Each checkpoint is a delta's folder, in PEFT's format where PEFT has the method. --dry-run only shows what is trained, its share, and the memory that it takes. In a recipe delta lists methods, places and options; sweep runs a grid and reports.",
  },
  model: { zh: "基座模型的文件夹或权重文件", en: "the base: a model's folder or weights file" },
  objective: {
    zh: "targets 学任务的答案；preference 按偏好训练（DPO），文件每行为 {prompt, chosen, rejected}",
    en: "targets learns a task's answers; preference trains on preferences (DPO), files of {prompt, chosen, rejected} a line",
  },
  beta: {
    zh: "DPO 的 β：越小，答案的概率可移动越多",
    en: "β of DPO: the smaller, the more answers' likelihoods may move",
  },
  readingPairs: {
    zh: "读入偏好：训练 {train} 对，验证 {dev} 对，最长 {longest} 列；计算基座的概率……",
    en: "Read preferences: {train} pairs to train on, {dev} held out, {longest} columns at most; the base's likelihoods…",
  },
  task: { zh: "任务", en: "the task" },
  train: {
    zh: "训练文件（JSON Lines，可压缩），可重复",
    en: "training files (JSON Lines, also compressed); may be repeated",
  },
  dev: { zh: "验证文件，可重复", en: "files that are held out; may be repeated" },
  template: { zh: "模板：名字，或在配方中写出", en: "the template: a name, or written out in a recipe" },
  limit: { zh: "最多用多少个训练样本", en: "training samples at most" },
  devLimit: { zh: "最多用多少个验证样本", en: "held-out samples at most" },
  lengthTokens: {
    zh: "一个样本最多多少个 token，不含软提示",
    en: "tokens of a sample at most, without the soft prompt",
  },
  answerTokens: { zh: "答案最多多少个 token", en: "tokens of an answer at most" },
  method: { zh: "方法，用其缺省选项；可重复", en: "a method with its defaults; may be repeated" },
  places: {
    zh: "方法的位置，如 attn.q、layers.0-3.ffn；可重复",
    en: "places of the method, as attn.q, layers.0-3.ffn; may be repeated",
  },
  delta: {
    zh: "方法列表，每项有 method、places、exclude 与该方法的选项",
    en: "list of methods, each with method, places, exclude and the method's options",
  },
  length: {
    zh: "每行的长度，含软提示；缺省为放得下最长的样本",
    en: "length of a row, the soft prompt included; by default the longest sample fits",
  },
  onePerRow: {
    zh: "每行只放一个样本，与原版相同；缺省时短样本共用一行",
    en: "a sample a row, as the original; by default short samples share a row",
  },
  products: {
    zh: "与基座的乘积：float32，或 int8（基座为每个输出一个缩放系数的 8 位，另一个操作数按行舍入到 8 位）：更快，结果略有差别",
    en: "products with the base: float32, or int8 (a base of 8 bits with one scale an output, the other operand rounded by row): faster, slightly other results",
  },
  epochs: { zh: "最多读多少遍训练样本", en: "passes over the training samples at most" },
  patience: {
    zh: "验证损失连续多少次没有新低就停止；0 表示不停",
    en: "stop after so many held-out losses in a row without a new best; 0: never",
  },
  output: { zh: "结束时把最优的增量写到此文件夹", en: "write the best delta to this folder at the end" },
  dryRun: { zh: "只显示将训练什么，不训练", en: "only show what would be trained" },
  preset: { zh: "与 --dry-run 一起：用此大小代替模型", en: "with --dry-run: this size in place of a model" },
  baseBits: {
    zh: "基座线性层的位数：32 为原样，8 或 4 为分块量化，内存中一直是压缩的",
    en: "bits of the base's linear layers: 32 as they are, 8 or 4 quantised in blocks, packed in memory all the time",
  },
  baseBlock: { zh: "共用一个比例的输入个数", en: "inputs that share a scale" },
  sweep: {
    zh: "网格：配方中的键（可带点）对应的取值列表，逐一组合运行",
    en: "grid: keys of the recipe (with dots) to lists of values; every combination is run",
  },
  exampleDry: { zh: "看发布的配方训练什么", en: "what the published recipe trains" },
  exampleTask: { zh: "用 LoRA 学写标题", en: "LoRA on headlines" },
  exampleResume: { zh: "续跑", en: "go on with a run" },
  needModel: { zh: "没有给出基座模型。", en: "no base model is given." },
  needData: {
    zh: "没有给出任务或训练文件：--task 与 --train。",
    en: "no task or no training file is given: --task and --train.",
  },
  needRun: { zh: "没有给出运行文件夹：--run。", en: "no run folder is given: --run." },
  presetAlone: { zh: "--preset 只能与 --dry-run 一起用。", en: "--preset goes with --dry-run alone." },
  shareLine: {
    zh: "训练 {trained} 个参数，基座 {base} 个：{share}%",
    en: "{trained} parameters are trained, the base has {base}: {share} %",
  },
  frozenLine: { zh: "增量另有 {count} 个不训练的参数", en: "the delta has {count} more that are not trained" },
  copyMark: { zh: "副本", en: "copy" },
  trainedMark: { zh: "训练", en: "trained" },
  frozenMark: { zh: "冻结", en: "frozen" },
  reading: {
    zh: "读入 {task}：训练 {train} 行，验证 {dev} 行，最长 {longest} 列",
    en: "Read {task}: {train} rows to train on, {dev} held out, {longest} columns at most",
  },
  cutSamples: { zh: "{count} 个样本被截短。", en: "{count} samples were cut to fit." },
  started: {
    zh: "运行 {run}：训练 {trained} 个参数（{share}%），每批 {rows} × {length}",
    en: "Run {run}: {trained} parameters are trained ({share} %), batches of {rows} × {length}",
  },
  baseKept: { zh: "基座未变：SHA-256 {hash}…", en: "The base is unchanged: SHA-256 {hash}…" },
  ended: {
    zh: "结束（{reason}）：{steps} 步；验证损失 {before}，最低 {best}（第 {step} 步）",
    en: "Ended ({reason}): {steps} steps; held-out loss {before}, at best {best} (step {step})",
  },
  endedPlain: { zh: "结束（{reason}）：{steps} 步", en: "Ended ({reason}): {steps} steps" },
  saved: { zh: "已保存增量：{path}（第 {step} 步）", en: "Saved the delta: {path} (step {step})" },
  sweepRun: { zh: "{number}/{count}：{values}", en: "{number}/{count}: {values}" },
  sweepSaved: { zh: "报告：{path}", en: "Report: {path}" },
  sweepTitle: { zh: "微调网格", en: "Grid of tuning runs" },
  sweepBest: { zh: "验证损失最低", en: "lowest held-out loss" },
  mergeSummary: { zh: "把增量并入权重，或从中取出", en: "put a delta into the weights, or take it out" },
  mergeDescription: {
    zh: "写出一个普通模型，其计算与“基座加增量”相同（舍入之内）：LoRA、DoRA、PiSSA、IA³、软提示与微调可以并入，其余不能。--undo 从并入过的模型中取出 LoRA 或 IA³。",
    en: "Writes a plain model that computes what base and delta compute, within rounding: LoRA, DoRA, PiSSA, IA³, soft prompts and fine-tuning can be put in, others cannot. --undo takes LoRA or IA³ out of a merged model.",
  },
  mergeDelta: { zh: "增量的文件夹，或原版的状态字典", en: "the delta's folder, or a state dict of the original" },
  mergeOutput: { zh: "模型文件夹，不能已存在", en: "the model's folder, which must not exist yet" },
  mergeUndo: { zh: "取出而不是并入", en: "take it out instead of putting it in" },
  alpha: { zh: "原版状态字典的 alpha", en: "alpha of a state dict of the original" },
  layout: { zh: "写成哪种布局", en: "layout to write" },
  merged: { zh: "已写出 {path}：{count} 个权重不同", en: "Wrote {path}: {count} weights differ" },
  exampleMerge: { zh: "并入后单独使用", en: "a model of its own" },
  deltaOption: {
    zh: "增量的文件夹；模型为其基座。可以给出几个 LoRA，按 --mix 混合",
    en: "a delta's folder; the model is its base. Several LoRA deltas may be given and are mixed by --mix",
  },
  mix: {
    zh: "各增量的权重，如 0.7,0.3；用分号给每个开头各写一组，如 1,0;0,1。缺省全取 1",
    en: "weights of the deltas, as 0.7,0.3; with semicolons a list for each prompt, as 1,0;0,1. All count in full by default",
  },
  mixWrong: {
    zh: "--mix 要给每个增量一个权重：一组供全部开头用，或每个开头一组。",
    en: "--mix takes a weight for each delta: one list for all prompts, or a list for each.",
  },
  memoryLine: {
    zh: "批 {rows} × {columns} 时的内存",
    en: "Memory with batches of {rows} × {columns}",
  },
  templateUsed: {
    zh: "开头放进增量微调时的模板：{template}（--template none 则不用）",
    en: "Prompts are put in the template that the delta was tuned with: {template} (not with --template none)",
  },
  templateNotUsed: {
    zh: "增量微调时的模板有多个空位，这里不用：{template}",
    en: "The template that the delta was tuned with takes several texts and is not used: {template}",
  },
  deltaUsed: { zh: "增量：{methods}", en: "Delta: {methods}" },
});
