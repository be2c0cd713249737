/** Messages of `cpm train` and `cpm start`. */
import { defineMessages } from "./message.ts";

export const trainMessages = defineMessages({
  summary: { zh: "从文本训练模型", en: "train a model on text" },
  description: {
    zh: "两种输入。文本文件（txt、JSON Lines、Parquet，可压缩）：没有给词表就先训练一个，做成数据集，放在训练记录里。数据集（--data、--mixture-file）：cpm data build 所建。留出一部分文本不参加训练，用原版的两个目标（填空与续写）训练。训练记录（--run）里有检查点、事件与每日日志，可用 cpm live 观看，用 --resume 继续；没有给 --run 时是 --output 之名加 .run。--output 在结束时写出模型文件夹：config.json、model.safetensors、vocab.txt、train.json，缺省为留出损失最低时的权重。Ctrl-C 结束当前一步，存好检查点，并照样写出模型。",
    en: "Two kinds of input. Text files (txt, JSON Lines, Parquet, also compressed): a vocabulary is trained unless one is given, and they become a data set inside the run's folder. Data sets (--data, --mixture-file): those of cpm data build. Part of the text is held out; the objectives are the original's two, fill and language modelling. The run's folder (--run) has checkpoints, events and daily logs, to be watched with cpm live and gone on with by --resume; without --run it is called as --output with .run behind it. --output writes a model's folder at the end: config.json, model.safetensors, vocab.txt, train.json, by default with the weights of the lowest held-out loss. Ctrl-C ends after the step under way, saves a checkpoint, and writes the model all the same.",
  },
  files: { zh: "文本文件、文件夹或通配符", en: "text files, folders or globs" },
  output: {
    zh: "结束时写出的模型文件夹，不能已存在",
    en: "the model's folder, written at the end; it must not exist yet",
  },
  preset: { zh: "模型大小", en: "size of the model" },
  vocab: {
    zh: "词表文件；缺省为在这些文本上训练一个",
    en: "vocabulary file; by default one is trained on these texts",
  },
  steps: { zh: "最多更新多少次", en: "updates at most" },
  for: { zh: "最长训练时间", en: "time at most" },
  pace: {
    zh: "学习率按什么推进：steps 按步数；time 按已用时间占 --for 的比例（若超前于步数）。从文本训练并给出 --for 时缺省为 time，否则为 steps。按 time 的训练可以继续，但不能逐位重现",
    en: "what the learning rate follows: steps, or time, the share of --for that is gone where that is more. By default time where texts are trained on with --for, else steps. A run paced by time can be resumed, but never repeated to the bit",
  },
  rows: { zh: "每批的行数", en: "rows of a batch" },
  length: { zh: "每行的长度，含软提示", en: "length of a row, the soft prompt included" },
  seed: { zh: "随机种子", en: "seed of everything random" },
  threads: { zh: "计算使用的线程数", en: "threads to compute with" },
  recompute: {
    zh: "反向传播时重新计算哪些值：none 都存下；block 只存注意力与前馈各自的输入；all 只存每层的输入，最省内存",
    en: "what the backward pass computes again: none stores it; block stores the inputs of attention and feed-forward alone; all stores each layer's input alone, which saves most memory",
  },
  heldOutShare: { zh: "留出不训练的文档比例", en: "share of the documents that is held out" },
  evaluatePieces: { zh: "留出损失用多少段文本", en: "pieces of text that a held-out loss is taken over" },
  patience: {
    zh: "留出损失连续多少次没有新低就停止；0 表示不停",
    en: "stop after so many held-out losses in a row without a new best; 0: never",
  },
  keep: {
    zh: "保存哪时的权重：best 为留出损失最低时，last 为结束时",
    en: "the weights to save: best, of the lowest held-out loss, or last, at the end",
  },
  smallCorpus: {
    zh: "自带的语料很小：模型会把它背下来，留出损失先降后升。要看它学会没见过的文字，请给出自己的文件。",
    en: "The text that comes along is small: the model learns it by heart, and the held-out loss falls, then rises. To see it learn text that it has not seen, give files of your own.",
  },
  fillShare: {
    zh: "填空目标所占比例，其余为续写",
    en: "share of the fill objective, the rest being language modelling",
  },
  maxCharacters: {
    zh: "最多读入多少字符，从各文件均匀取",
    en: "characters to read at most, about as many from every file",
  },
  field: { zh: "JSON Lines 中存放文本的字段", en: "field of a JSON line that holds the text" },
  encoding: { zh: "文本文件的编码", en: "encoding of text files" },
  schedule: {
    zh: "学习率：kind 为 cosine、noam、linear、wsd 或 constant",
    en: "learning rate: kind is cosine, noam, linear, wsd or constant",
  },
  exampleTiny: { zh: "按配方训练一个很小的模型", en: "a very small model by a recipe" },
  exampleMini: { zh: "自己的语料，训练十分钟", en: "your own corpus, for ten minutes" },
  exists: { zh: "输出文件夹已存在：{path}", en: "the output folder exists already: {path}" },
  existsHint: { zh: "换一个 --output，或先移走它。", en: "Give another --output, or move it away first." },
  badLine: { zh: "略过 {where}：{reason}", en: "left out {where}: {reason}" },
  badLines: { zh: "共略过 {count} 行。", en: "{count} lines were left out." },
  reading: { zh: "读入 {count} 个文件……", en: "Reading {count} files…" },
  corpus: {
    zh: "语料：{documents} 篇，{characters} 字符，{tokens} 个 token。词表 {vocab}{source}",
    en: "Corpus: {documents} documents, {characters} characters, {tokens} tokens. Vocabulary {vocab}{source}",
  },
  trainedVocabulary: { zh: "（由语料训练）", en: " (trained on it)" },
  givenVocabulary: { zh: "（给定）", en: " (given)" },
  cut: {
    zh: "读到 {characters} 字符为止，其余文本没有用上（--max-characters 可调）。",
    en: "Reading stopped at {characters} characters, the rest is not used (see --max-characters).",
  },
  entropy: {
    zh: "留出文本逐个 token 猜（一元熵）：{nats} nats/token，{bits} bits/字符。损失应远低于此。",
    en: "Guessing the held-out text token by token (unigram entropy): {nats} nats/token, {bits} bits/character. The loss must fall well below.",
  },
  noHeldOut: {
    zh: "没有留出文本：文档太少，或 --held-out-share 为 0。保存最后的权重。",
    en: "No text is held out: too few documents, or --held-out-share is 0. The last weights are kept.",
  },
  endSteps: { zh: "完成：{steps} 步，{tokens} 个 token。", en: "Done: {steps} steps, {tokens} tokens." },
  endTime: { zh: "时间到：{steps} 步，{tokens} 个 token。", en: "Time is up: {steps} steps, {tokens} tokens." },
  endPatience: {
    zh: "留出损失不再下降，提前停止：{steps} 步，{tokens} 个 token。",
    en: "The held-out loss falls no more, stopped early: {steps} steps, {tokens} tokens.",
  },
  endData: {
    zh: "数据已读完：{steps} 步，{tokens} 个 token。",
    en: "The data are at an end: {steps} steps, {tokens} tokens.",
  },
  endCancelled: {
    zh: "已中断：{steps} 步，{tokens} 个 token，检查点已存。",
    en: "Interrupted: {steps} steps, {tokens} tokens, a checkpoint is saved.",
  },
  summaryLine: {
    zh: "留出损失 {before}，最低 {best} nats/token（第 {step} 步），{bits} bits/字符；一元熵 {entropy}",
    en: "Held-out loss {before}, at best {best} nats/token (step {step}), {bits} bits/character; unigram entropy {entropy}",
  },
  bestGone: {
    zh: "留出损失最低的第 {step} 步没有检查点，保存最后的权重。",
    en: "There is no checkpoint of step {step}, where the held-out loss was lowest: the last weights are saved.",
  },
  keptLast: {
    zh: "保存的是结束时的权重：留出损失 {last} nats/token。",
    en: "The weights saved are those at the end: held-out loss {last} nats/token.",
  },
  saved: { zh: "已保存：{path}", en: "Saved: {path}" },
  startSummary: { zh: "一条命令：训练一个小模型，再让它写", en: "one command: train a small model, then let it write" },
  startDescription: {
    zh: "用自带的小语料（或给出的文件）训练 tiny 模型，最多三分钟，显示损失下降，然后让它续写几句。模型写到 runs/start，可以再用 cpm generate、cpm inspect；训练记录在 runs/start.run，可用 cpm live 观看。",
    en: "Trains the tiny preset for at most three minutes on the text that comes along (or on the files that are given), shows the loss falling, then lets it continue a few sentences. The model is written to runs/start for cpm generate and cpm inspect, the run's record to runs/start.run for cpm live.",
  },
  startFiles: { zh: "文本文件；缺省为自带的语料", en: "text files; by default the text that comes along" },
  startPrompt: { zh: "训练后续写的开头，可重复", en: "a text to continue afterwards; may be repeated" },
  startExample: { zh: "用真实语料", en: "on real text" },
  writes: { zh: "它写道：", en: "It writes:" },
  again: { zh: '再试：npx cpm generate {path} "{prompt}"', en: 'Again: npx cpm generate {path} "{prompt}"' },
});
