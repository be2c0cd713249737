/** Messages of `cpm cost`. */
import { defineMessages } from "./message.ts";

export const costMessages = defineMessages({
  summary: { zh: "计算一次训练的花费与碳排放", en: "cost and carbon of a run" },
  description: {
    zh: "由事件中的运行时间、设备与功率计算；每个假设都注明来源。cpm-ant-10b 由原项目日志中的时间线计算，与直播日志公布的总数无关。",
    en: "Computed from the times, devices and power in the events, each assumption with its source. cpm-ant-10b is computed from the timeline in the original's logs, not from the totals that it published.",
  },
  run: { zh: "训练记录的文件夹", en: "the run's folder" },
  preset: { zh: "已知的训练，代替文件夹", en: "a known training instead of a folder" },
  which: {
    zh: "请给出训练记录的文件夹或 --preset，二者取一。",
    en: "Give the folder of a run or --preset, one of them.",
  },
  hours: { zh: "运行 {hours} 小时，{deviceHours} 设备小时", en: "{hours} hours, {deviceHours} device-hours" },
  energy: { zh: "电量 {kwh} kWh（其中实测 {measured} kWh）", en: "{kwh} kWh, of which {measured} kWh were measured" },
  carbon: { zh: "碳排放 {kg} kg CO2e", en: "{kg} kg CO2e" },
  cost: { zh: "花费 {amount} {currency}", en: "{amount} {currency}" },
  noCost: { zh: "没有给出价格，不计花费", en: "no price was stated: no cost" },
  exampleRun: { zh: "一次训练到目前为止", en: "a run so far" },
  exampleAnt: { zh: "原项目的 CPM-Ant", en: "the original's CPM-Ant" },
});
