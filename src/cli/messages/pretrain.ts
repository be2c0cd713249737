/** Messages of runs: options of `cpm train` beside those of every training, and what is told while it goes on. */
import { defineMessages } from "./message.ts";

export const pretrainMessages = defineMessages({
  data: {
    zh: "数据集文件夹（cpm data build 所建），可重复",
    en: "folder of a data set (made by cpm data build); may be repeated",
  },
  mixture: {
    zh: "数据混合：sources 各项为 data，可有 source、name、weight、epochs、fillShare、wholeShare；代替 --data",
    en: "mixture: sources, each with data and perhaps source, name, weight, epochs, fillShare, wholeShare; instead of --data",
  },
  run: {
    zh: "训练记录的文件夹，须为新建；存检查点与事件",
    en: "folder of the run's record, a new one; checkpoints and events go there",
  },
  resume: { zh: "从这个训练记录的最新检查点继续", en: "go on from the newest checkpoint of this run's folder" },
  from: {
    zh: "与 --resume 同用：从这一步的检查点继续。之后的事件标为撤回，之后的检查点移到 checkpoints/undone，都不会丢失",
    en: "with --resume: go on from the checkpoint of this step. Later events count as undone and later checkpoints go to checkpoints/undone; nothing is lost",
  },
  fromAlone: { zh: "--from 须与 --resume 同用。", en: "--from goes with --resume." },
  rolledBack: {
    zh: "回到第 {step} 步；此后到第 {reached} 步的训练已撤回，检查点在 {path}。",
    en: "Back to step {step}; what came after it up to step {reached} is undone, its checkpoints are in {path}.",
  },
  goOn: { zh: "继续：cpm train --resume {run}", en: "To go on: cpm train --resume {run}" },
  power: {
    zh: "功率：auto 用机器自己的读数（RAPL、nvidia-smi），没有就按标称；off 只按标称；或给出瓦数",
    en: "power: auto takes what the machine tells (RAPL, nvidia-smi), and stated watts where it tells nothing; off takes stated watts; or give the watts",
  },
  powerRefused: {
    zh: "功率没有测量：{source} 的读数不许读取（{detail}），按标称功率计。管理员可运行 chmod a+r 开放该文件。",
    en: "Power is not measured: {source} may not be read ({detail}); stated watts count. An administrator can open the file with chmod a+r.",
  },
  powerFailed: {
    zh: "功率没有测量：{source} 出错（{detail}），按标称功率计。",
    en: "Power is not measured: {source} failed ({detail}); stated watts count.",
  },
  name: { zh: "训练的名称，显示在页面上", en: "the run's name, shown on its page" },
  model: { zh: "改动预设的尺寸，如 layers、dimModel", en: "sizes that differ from the preset's, as layers, dimModel" },
  mixtureFile: {
    zh: "数据混合的 YAML 文件，训练中可改，约一步之后生效；代替 --data",
    en: "YAML file of a mixture, which may be changed during the run and is in force about a step later; instead of --data",
  },
  packing: {
    zh: "一行放几个样本：kind 为 none 时一个，firstFit 如原版，bestFit 填得最满；样本互不可见，各有提示。compat：照原版的写法（后面样本的提示有误），仅供对照。join：短文档接成一个样本，缺省只在 none 时",
    en: "samples in a row: kind none puts one, firstFit packs as the original, bestFit fills most; samples never see each other, each has its prompt. compat: prompts as the original's packer wrote them (wrong for later samples), to compare only. join: short documents make one sample, by default with none only",
  },
  wholeShare: {
    zh: "续写样本中每个 token 都是目标的比例；原版为 0",
    en: "of the samples that continue a text, the share in which every token is a target; 0 as the original",
  },
  ramp: {
    zh: "训练中途改变行数与行长；name 为这一段的名称",
    en: "rows and row length that change during the run; name: what the part that begins there is called",
  },
  every: {
    zh: "每多少步做一次：validation、samples、parameters、checkpoint；0 为不做",
    en: "steps between two of each: validation, samples, parameters, checkpoint; 0: never",
  },
  retention: {
    zh: "保留哪些检查点：last 最近几个，every 每多少步，best 最好的",
    en: "checkpoints to keep: last so many, every so many steps, best",
  },
  guard: { zh: "损失或梯度异常时怎么办", en: "what happens when losses or gradients go wrong" },
  samplePrompts: { zh: "训练中让模型续写的开头", en: "beginnings that the model continues during training" },
  sampleTokens: { zh: "每次续写多少 token", en: "tokens of each continuation" },
  alerts: {
    zh: "告警：url，可有 on、headers、stallMinutes；以 JSON 发出。不会出现在网页与导出中",
    en: "webhook alerts: url, and perhaps on, headers, stallMinutes; posted as JSON. Never shown on pages or in exports",
  },
  log: { zh: "每日日志：记录人，以及一天何时结束", en: "daily log: who records, and when a day ends" },
  logFailed: { zh: "日志没有写成：{reason}", en: "A daily log could not be written: {reason}" },
  alertFailed: { zh: "告警没有送达：{reason}", en: "An alert was not delivered: {reason}" },
  ledger: {
    zh: "成本与碳排放的假设：设备、功率、价格、电网",
    en: "assumptions for cost and carbon: devices, watts, prices, grid",
  },
  needRun: {
    zh: "用数据集训练须给出 --run；用文本训练须给出文件，以及 --output 或 --run。",
    en: "Training on data sets needs --run; training on texts needs files, and --output or --run.",
  },
  started: {
    zh: "训练记录：{run}。{parameters} 个参数，{tokens} 个 token 的数据，每步 {rows} × {length}",
    en: "Run: {run}. {parameters} parameters, data of {tokens} tokens, {rows} × {length} a step",
  },
  resumed: { zh: "从第 {step} 步继续：{path}", en: "Going on from step {step}: {path}" },
  validation: {
    zh: "第 {step} 步：验证损失 {nats} nats/token，{bits} bits/字符",
    en: "Step {step}: validation loss {nats} nats/token, {bits} bits/character",
  },
  checkpoint: {
    zh: "第 {step} 步：已存检查点，{bytes}，用时 {time}",
    en: "Step {step}: checkpoint of {bytes} saved in {time}",
  },
  trouble: { zh: "检查点有问题，改用更早的：{path}", en: "A checkpoint is of no use, an earlier one is taken: {path}" },
  intervention: { zh: "第 {step} 步：{action}，{reason}", en: "Step {step}: {action}, {reason}" },
  example: { zh: "用数据集训练，可随时继续", en: "on a data set, to be resumed at any time" },
  exampleResume: { zh: "继续", en: "going on" },
});
