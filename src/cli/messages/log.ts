/** Messages of `cpm log`. */
import { defineMessages } from "./message.ts";

export const logMessages = defineMessages({
  summary: { zh: "每日训练日志", en: "daily logs of a run" },
  description: {
    zh: "按原版的格式为每一天写一篇日志（时间、记录人、损失、数据、梯度范数、进度、评论），中英文各一，数字由事件填入。评论与读者问答由人写，重写日志时保留。训练中每到日界自动写。",
    en: "Writes a log for each day in the original's form (time, recorder, loss, data, gradient norm, progress, comment), in Chinese and English, the figures from the events. Comment and poll are a person's and stay when logs are written again. While a run trains, they are written by themselves at the end of each day.",
  },
  run: { zh: "训练记录的文件夹", en: "the run's folder" },
  recorder: { zh: "记录人", en: "who records" },
  day: {
    zh: "评论写在哪一天（YYYY-MM-DD）；缺省为最后一天",
    en: "day that a comment is for (YYYY-MM-DD); by default the last",
  },
  comment: { zh: "评论", en: "a comment" },
  poll: { zh: "给读者的问题或谜语", en: "a poll or riddle for the readers" },
  dayEnds: { zh: "一天何时结束，如 16:00+08:00", en: "when a day ends, as 16:00+08:00" },
  written: { zh: "已写 {count} 篇：{days}", en: "{count} logs written: {days}" },
  nothing: { zh: "日志没有变化。", en: "No log has changed." },
  noDay: { zh: "这一天没有训练。", en: "Nothing was trained on this day." },
  example: { zh: "写日志并加一句评论", en: "the logs, with a comment" },
});
