/** Messages of `cpm run`. */
import { defineMessages } from "./message.ts";

export const runMessages = defineMessages({
  summary: { zh: "打开模型，边写边续", en: "open a model and write with it" },
  description: {
    zh: "载入模型一次，然后逐行读入：每行是一段新的开头，模型接着写；空行让它从停下的地方继续，以 + 开头的行接在已有文字之后。/set 温度等设置，/again 换一个种子重写，/help 列出命令，/quit 或 Ctrl-D 结束。",
    en: "Loads a model once, then reads lines: each begins a new text that the model continues; an empty line lets it go on where it stopped, a line that begins with + is appended to the text so far. /set changes temperature and other settings, /again writes it anew with another seed, /help lists the commands, /quit or Ctrl-D ends.",
  },
  model: { zh: "模型文件夹或单个权重文件", en: "a model's folder or a single weights file" },
  example: { zh: "在四吉字节内存里运行", en: "within four gigabytes of memory" },
  ready: {
    zh: "{model}：{parameters} 个参数。输入开头，回车；/help 看命令。",
    en: "{model}: {parameters} parameters. Write a beginning and press Enter; /help lists commands.",
  },
  lineText: { zh: "文字", en: "a beginning" },
  continues: { zh: "模型接着写", en: "the model continues it" },
  lineEmpty: { zh: "空行", en: "an empty line" },
  goesOn: { zh: "从停下的地方继续", en: "go on where it stopped" },
  linePlus: { zh: "+文字", en: "+text" },
  appends: { zh: "接在已有文字之后再续", en: "append to the text so far and go on" },
  again: { zh: "换一个种子，从同一开头重写", en: "write from the same beginning with another seed" },
  sets: { zh: "改设置：{names}", en: "settings: {names}" },
  shows: { zh: "显示设置", en: "show the settings" },
  quits: { zh: "结束", en: "end" },
  nothing: { zh: "还没有文字：请先输入开头。", en: "There is no text yet: write a beginning first." },
  unknownCommand: {
    zh: "没有这个命令：{command}。/help 列出命令。",
    en: "There is no command {command}; /help lists them.",
  },
  speed: { zh: "{tokens} 个 token，{rate} tok/s", en: "{tokens} tokens, {rate} tok/s" },
});
