/** Messages of `cpm generate`. */
import { defineMessages } from "./message.ts";

export const generateMessages = defineMessages({
  summary: { zh: "让模型续写文本", en: "let a model continue texts" },
  description: {
    zh: "续写给出的开头。开头来自参数、文件（每行一个）或标准输入（每行一个）；多个开头作为一个批次同时生成。只有一个开头、一篇、且不用束搜索时，文字边生成边显示。与原版相同：输入为 <s> 加词元（词表拼不出的文字略去并报数），软提示任务 2，分段 2。Ctrl-C 停止生成，已有的文字照样输出。用时写到标准错误。",
    en: "Continues the beginnings that are given: as arguments, in a file (one a line) or on stdin (one a line); several are generated together as one batch. A single text without beam search is shown as it appears. As in the original, the input is <s> and the tokens (text that the vocabulary cannot spell is left out and counted), the soft prompt of task 2, and segment 2. Ctrl-C stops and still gives what is there. Times go to stderr.",
  },
  model: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  prompt: { zh: "要续写的开头", en: "texts to continue" },
  file: {
    zh: "存放开头的文件，每行一个，空行略过",
    en: "file with the texts to continue, one a line, blank lines left out",
  },
  template: {
    zh: "开头放进这个模板的空位（如 {text}）；缺省为增量微调时的模板，none 为不用模板",
    en: "prompts are put in this template's place, as {text}; by default the template that the delta was tuned with, none for no template",
  },
  promptTask: {
    zh: "用哪个任务的软提示；缺省为 2，或增量训练时的任务",
    en: "the task whose soft prompt stands in front; by default 2, or that which the delta was tuned with",
  },
  segment: {
    zh: "文本属于哪个分段；缺省为 2，或增量训练时的分段",
    en: "the segment that the text belongs to; by default 2, or that which the delta was tuned with",
  },
  logitBias: {
    zh: "词元编号到其对数几率增量的映射，如 '{\"17\": -5}'",
    en: "map of token ids to numbers added to their logits, as '{\"17\": -5}'",
  },
  jsonObject: { zh: "文本必为一个 JSON 对象", en: "texts are JSON objects" },
  schema: {
    zh: "文本必为符合此 JSON Schema 的 JSON（支持的部分见 docs/decoding.md）",
    en: "texts are JSON that this JSON Schema accepts (see docs/decoding.md for what is supported)",
  },
  grammar: {
    zh: "文本必为此文法（GBNF 写法，从 root 起）的句子",
    en: "texts are sentences of this grammar (GBNF notation, from root on)",
  },
  regex: { zh: "文本必与此正则表达式整个匹配", en: "texts match this regular expression as a whole" },
  draft: {
    zh: "用这个较小的模型（词表须相同）起草，一次核对多个词元：结果的分布不变，速度更快",
    en: "a smaller model with the same vocabulary that drafts tokens, which are verified several at a time: same distribution, faster",
  },
  lookup: {
    zh: "从输入和已生成的文字中查找重复片段起草：结果不变，适合引用、列表与重复多的文本",
    en: "draft by looking up repeated passages in prompt and text: same texts, faster where they quote, list or repeat",
  },
  draftTokens: { zh: "一次最多起草的词元数", en: "most tokens drafted at a time" },
  bothDrafts: { zh: "--draft 与 --lookup 不能同时使用。", en: "--draft and --lookup exclude each other." },
  severalFormats: {
    zh: "--json-object、--schema、--grammar 与 --regex 只能用其中一个。",
    en: "of --json-object, --schema, --grammar and --regex only one can be used.",
  },
  drafted: {
    zh: "起草 {drafted} 个词元，采纳 {accepted} 个（{share}%）",
    en: "{drafted} tokens drafted, {accepted} accepted ({share} %)",
  },
  bothSources: { zh: "参数中的开头与 --file 不能同时使用。", en: "texts as arguments and --file exclude each other." },
  noPrompt: { zh: "没有要续写的开头。", en: "there is no text to continue." },
  givePrompt: {
    zh: "把开头写在命令行上，或用 --file 给出文件，或从标准输入给出。",
    en: "give it on the command line, in a file with --file, or on stdin.",
  },
  assumed: { zh: "没有 config.json，推断时假设：{what}", en: "there is no config.json; assumed: {what}" },
  unknown: {
    zh: "词表拼不出 {count} 处，已略去：{prompt}",
    en: "left out {count} pieces that the vocabulary cannot spell: {prompt}",
  },
  heading: { zh: "── {which} {prompt}", en: "── {which} {prompt}" },
  timing: {
    zh: "{tokens} 个 token，{rate} tok/s | 首个 {first}（预填充 {prefill}，{promptTokens} 个 token）| 载入 {load}",
    en: "{tokens} tokens, {rate} tok/s | first after {first} (prefill {prefill}, {promptTokens} tokens) | loading {load}",
  },
  exampleOne: { zh: "续写一句话", en: "continue a sentence" },
  exampleBatch: {
    zh: "每行一个开头，各写两篇，输出 JSON Lines",
    en: "two texts for each line of a file, as JSON Lines",
  },
});
