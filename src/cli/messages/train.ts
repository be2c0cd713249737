/** Messages of `cpm train` and `cpm start`. */
import { defineMessages } from "./message.ts";

export const trainMessages = defineMessages({
  summary: { zh: "从文本训练模型", en: "train a model on text" },
  description: {
    zh: "读入文本（txt、JSON Lines，可压缩），没有给词表就先训练一个，留出一部分文本不参加训练，用原版的两个目标（填空与续写）训练，最后写出模型文件夹：config.json、model.safetensors、vocab.txt、train.json。缺省保存留出损失最低时的权重。Ctrl-C 结束当前一步，然后照样保存。",
    en: "Reads text (txt, JSON Lines, also compressed), trains a vocabulary unless one is given, holds part of the text out, trains with the original's two objectives (fill and language modelling) and writes a model's folder at the end: config.json, model.safetensors, vocab.txt, train.json. By default the weights are those of the lowest held-out loss. Ctrl-C ends after the step under way, and saves all the same.",
  },
  files: { zh: "文本文件、文件夹或通配符", en: "text files, folders or globs" },
  output: { zh: "模型文件夹，不能已存在", en: "the model's folder, which must not exist yet" },
  preset: { zh: "模型大小", en: "size of the model" },
  vocab: {
    zh: "词表文件；缺省为在这些文本上训练一个",
    en: "vocabulary file; by default one is trained on these texts",
  },
  steps: { zh: "最多更新多少次", en: "updates at most" },
  for: { zh: "最长训练时间", en: "time at most" },
  rows: { zh: "每批的行数", en: "rows of a batch" },
  length: { zh: "每行的长度，含软提示", en: "length of a row, the soft prompt included" },
  seed: { zh: "随机种子", en: "seed of everything random" },
  threads: { zh: "计算使用的线程数", en: "threads to compute with" },
  recompute: {
    zh: "反向传播时重新计算哪些值：none 存下，block 只存每层的输入（省内存）",
    en: "what the backward pass computes again: none stores it, block stores each layer's input alone (saves memory)",
  },
  heldOutShare: { zh: "留出不训练的文档比例", en: "share of the documents that is held out" },
  evaluateEvery: { zh: "每多少次更新计算一次留出损失", en: "updates between two held-out losses" },
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
    zh: "语料：{documents} 篇，{characters} 字符，{tokens} 个 token；留出 {heldOut} 篇。词表 {vocab}{source}",
    en: "Corpus: {documents} documents, {characters} characters, {tokens} tokens; {heldOut} held out. Vocabulary {vocab}{source}",
  },
  trainedVocabulary: { zh: "（由语料训练）", en: " (trained on it)" },
  givenVocabulary: { zh: "（给定）", en: " (given)" },
  cut: {
    zh: "读到 {characters} 字符为止，其余文本没有用上（--max-characters 可调）。",
    en: "Reading stopped at {characters} characters, the rest is not used (see --max-characters).",
  },
  model: {
    zh: "模型：{preset}，{parameters} 个参数，每批 {rows} × {length}",
    en: "Model: {preset}, {parameters} parameters, batches of {rows} × {length}",
  },
  entropy: {
    zh: "留出文本逐个 token 猜（一元熵）：{nats} nats/token，{bits} bits/字符。损失应远低于此。",
    en: "Guessing the held-out text token by token (unigram entropy): {nats} nats/token, {bits} bits/character. The loss must fall well below.",
  },
  evaluation: {
    zh: "第 {step} 步：留出损失 {nats} nats/token，{bits} bits/字符",
    en: "Step {step}: held-out loss {nats} nats/token, {bits} bits/character",
  },
  noHeldOut: {
    zh: "没有留出文本：文档太少，或 --held-out-share 为 0。保存最后的权重。",
    en: "No text is held out: too few documents, or --held-out-share is 0. The last weights are kept.",
  },
  endSteps: { zh: "完成：{steps} 步。", en: "Done: {steps} steps." },
  endTime: { zh: "时间到：{steps} 步。", en: "Time is up: {steps} steps." },
  endPatience: {
    zh: "留出损失不再下降，提前停止：{steps} 步。",
    en: "The held-out loss falls no more, stopped early: {steps} steps.",
  },
  endCancelled: { zh: "已中断：{steps} 步，照样保存。", en: "Interrupted: {steps} steps, saved all the same." },
  summaryLine: {
    zh: "留出损失 {before}，最低 {best} nats/token（第 {step} 步），{bits} bits/字符；一元熵 {entropy}",
    en: "Held-out loss {before}, at best {best} nats/token (step {step}), {bits} bits/character; unigram entropy {entropy}",
  },
  keptLast: {
    zh: "保存的是结束时的权重：留出损失 {last} nats/token。",
    en: "The weights saved are those at the end: held-out loss {last} nats/token.",
  },
  saved: { zh: "已保存：{path}", en: "Saved: {path}" },
  startSummary: { zh: "一条命令：训练一个小模型，再让它写", en: "one command: train a small model, then let it write" },
  startDescription: {
    zh: "用自带的小语料（或给出的文件）训练 tiny 模型，最多三分钟，显示损失下降，然后让它续写几句。模型写到 runs/ 下，可以再用 cpm generate、cpm inspect。",
    en: "Trains the tiny preset for at most three minutes on the text that comes along (or on the files that are given), shows the loss falling, then lets it continue a few sentences. The model is written below runs/ for cpm generate and cpm inspect.",
  },
  startFiles: { zh: "文本文件；缺省为自带的语料", en: "text files; by default the text that comes along" },
  startPrompt: { zh: "训练后续写的开头，可重复", en: "a text to continue afterwards; may be repeated" },
  startExample: { zh: "用真实语料", en: "on real text" },
  writes: { zh: "它写道：", en: "It writes:" },
  again: { zh: '再试：npx cpm generate {path} "{prompt}"', en: 'Again: npx cpm generate {path} "{prompt}"' },
});
