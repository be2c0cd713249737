/** Messages of `cpm cost`. */
import { defineMessages } from "./message.ts";

export const costMessages = defineMessages({
  summary: { zh: "训练的费用、能耗与碳排放", en: "what a run cost: money, energy, carbon" },
  description: {
    zh: "由设备在用的时间、功率、PUE、电网强度与价格算出，并列出每一项假设及其出处；有实测功率就用实测。--preset cpm-ant-10b 按公开日志的时间线计算原版 CPM-Ant（而不是照抄总数）。选项可换成别的假设。",
    en: "Computed from the hours that devices ran, their power, PUE, the grid's intensity and prices, with every assumption and where it is from; measured power counts where there is some. --preset cpm-ant-10b computes the original CPM-Ant from the timeline of its public logs, not from its totals. Options give other assumptions.",
  },
  run: { zh: "训练记录的文件夹", en: "the run's folder" },
  preset: { zh: "已知的训练：cpm-ant-10b", en: "a known run: cpm-ant-10b" },
  watts: { zh: "每台设备的功率（瓦）", en: "watts of one device" },
  pue: { zh: "机房能耗比", en: "power usage effectiveness of the building" },
  grid: { zh: "电网（表中的名称）", en: "grid, a name of the table" },
  gridKg: { zh: "电网强度，kg CO2e/kWh", en: "intensity of the grid, kg CO2e/kWh" },
  price: { zh: "价格（表中的名称）", en: "price, a name of the table" },
  pricePerHour: { zh: "每台设备每小时的价格", en: "price of one device for an hour" },
  pricePerKwh: { zh: "每度电的价格", en: "price of a kilowatt-hour" },
  currency: { zh: "货币", en: "currency" },
  by: { zh: "按什么分列", en: "parts to list" },
  which: { zh: "请给出训练记录，或 --preset。", en: "Give a run's folder, or --preset." },
  noLedger: {
    zh: "这次训练没有写明设备；按记录中的机器估计。",
    en: "The run states no devices; its recorded machine is assumed.",
  },
  part: { zh: "部分", en: "part" },
  from: { zh: "起", en: "from" },
  hours: { zh: "小时", en: "hours" },
  devices: { zh: "设备", en: "devices" },
  deviceHours: { zh: "设备小时", en: "device-hours" },
  energy: { zh: "能耗 kWh", en: "energy, kWh" },
  carbon: { zh: "kg CO2e", en: "kg CO2e" },
  cost: { zh: "费用", en: "cost" },
  total: { zh: "合计", en: "total" },
  assumptions: { zh: "假设：", en: "Assumptions:" },
  gaps: { zh: "中断与暂停 {hours} 小时，未计入。", en: "Gaps of {hours} hours are not counted." },
  measured: { zh: "其中实测 {share}。", en: "{share} of the energy was measured." },
  alternative: {
    zh: "若按每卡 400 W、PUE 1.1：{kwh} kWh，{kg} kg CO2e。",
    en: "At 400 W a card and PUE 1.1: {kwh} kWh, {kg} kg CO2e.",
  },
  example: { zh: "原版 CPM-Ant", en: "the original CPM-Ant" },
  exampleRun: { zh: "自己的训练，中国电网", en: "a run of one's own, China's grid" },
});
