/** Messages of `cpm tokenize` and `cpm tokenizer train`. */
import { defineMessages } from "./message.ts";

export const tokenizeMessages = defineMessages({
  summary: { zh: "把文本切成 token", en: "turn text into tokens" },
  description: {
    zh: "用 CPM-Ant 的分词器（先结巴分词，再按词表最长匹配）切分文本。文本来自参数、标准输入（每行一段）或 JSON Lines 文件；每段输出一行 JSON，含 ids 和 tokens。不在词表中的文字数写到标准错误。",
    en: "Cuts text with CPM-Ant's tokenizer (jieba, then the longest match in the vocabulary). Texts come from arguments, from stdin (one a line) or from a JSON Lines file; each gives one line of JSON with ids and tokens. How much text the vocabulary cannot spell is written to stderr.",
  },
  text: { zh: "要切分的文本；不给则读标准输入", en: "texts to cut; without any, stdin is read" },
  vocab: { zh: "词表文件，每行一个 token", en: "vocabulary file, one token a line" },
  jsonl: {
    zh: "JSON Lines 文件（可为 .gz 或 .zst），每行一个含文本的对象",
    en: "JSON Lines file (also .gz or .zst), each line an object with the text",
  },
  field: { zh: "JSON Lines 中存放文本的字段", en: "the field of the JSON lines that holds the text" },
  unknown: {
    zh: "词表拼不出的文字：keep 记作 <unk>（与原版分词器相同），drop 丢弃（与原版训练和生成相同）",
    en: "text that the vocabulary cannot spell: keep writes <unk> as the original's tokenizer does, drop leaves it out as the original's training and generation do",
  },
  bothSources: {
    zh: "参数中的文本与 --jsonl 不能同时使用。",
    en: "texts as arguments and --jsonl exclude each other.",
  },
  oneSource: { zh: "只给其中一个。", en: "give only one of them." },
  counted: {
    zh: "{texts} 段，{characters} 个字符，{tokens} 个 token，词表拼不出 {unknown} 处。",
    en: "{texts} texts, {characters} characters, {tokens} tokens, {unknown} pieces that the vocabulary cannot spell.",
  },
  exampleArguments: { zh: "切分一句话", en: "cut a sentence" },
  exampleJsonl: { zh: "切分 JSON Lines 文件", en: "cut the texts of a JSON Lines file" },
});
