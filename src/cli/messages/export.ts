/** Messages of `cpm export`. */
import { defineMessages } from "./message.ts";

export const exportMessages = defineMessages({
  summary: {
    zh: "导出训练记录：TensorBoard、Prometheus、CSV、JSON",
    en: "export a run: TensorBoard, Prometheus, CSV, JSON",
  },
  description: {
    zh: "把训练的事件写成其他工具的格式。tensorboard 写一个事件文件；prometheus 写最新数值；csv 每步一行；json 为全部事件，恢复后作废的步已去掉。",
    en: "Writes a run's events in the formats of other tools. tensorboard: an event file; prometheus: the newest values; csv: a line a step; json: all events, without the steps that a resume made void.",
  },
  run: { zh: "训练记录的文件夹", en: "the run's folder" },
  format: { zh: "格式", en: "format" },
  output: {
    zh: "文件；tensorboard 为文件夹。缺省写到标准输出",
    en: "file, for tensorboard a folder; by default the standard output",
  },
  needOutput: {
    zh: "TensorBoard 事件文件须用 --output 给出文件夹。",
    en: "A TensorBoard event file needs a folder: --output.",
  },
  written: { zh: "已写入 {path}：{count} 条。", en: "Written to {path}: {count} records." },
  exampleBoard: { zh: "给 TensorBoard", en: "for TensorBoard" },
  exampleCsv: { zh: "每步一行的表", en: "a table with a line a step" },
});
