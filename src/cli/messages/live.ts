/** Messages of `cpm live`. */
import { defineMessages } from "./message.ts";

export const liveMessages = defineMessages({
  summary: { zh: "把训练过程直播成网页", en: "show runs live on web pages" },
  description: {
    zh: "只读的网页：损失、学习率、吞吐、进度、费用与碳排放、事件、样本、参数动态、检查点与日志，随训练推送。文件夹中新出现的训练会自动列出。",
    en: "Read-only pages: loss, learning rate, throughput, progress, cost and carbon, events, samples, parameter dynamics, checkpoints and logs, pushed as training goes on. Runs that appear in a folder are listed by themselves.",
  },
  runs: { zh: "训练记录，或存放多个记录的文件夹", en: "runs, or folders of runs" },
  host: { zh: "监听的地址；缺省只限本机", en: "address to listen on; by default this machine alone" },
  port: { zh: "端口；0 为任意空闲端口", en: "port; 0: any free one" },
  checkpoints: { zh: "允许下载检查点", en: "let checkpoints be downloaded" },
  frame: { zh: "允许哪些网站嵌入页面", en: "sites that may embed the pages" },
  replay: {
    zh: "按这个倍速重放，如 60 为一分钟当一小时；0 为立即全部",
    en: "replay at this speed, 60 shows an hour in a minute; 0: all at once",
  },
  from: { zh: "重放从这个时刻开始（ISO 8601）", en: "moment that a replay begins at (ISO 8601)" },
  example: {
    zh: "显示一次真实的训练：cpm-ant 为 2022 年原版 CPM-Live 的 295 天",
    en: "show a real run: cpm-ant is the original CPM-Live of 2022, 295 days",
  },
  exampleAnt: { zh: "原版 CPM-Ant，一秒一天", en: "the original CPM-Ant, a day a second" },
  export: { zh: "不开服务，导出为静态文件到这个文件夹", en: "serve nothing: write static files to this folder" },
  exported: {
    zh: "已导出到 {path}：{runs} 个训练，{files} 个文件（{written} 个有变化），{bytes}。",
    en: "Exported to {path}: {runs} runs, {files} files ({written} changed), {bytes}.",
  },
  exampleExport: { zh: "导出为静态网页", en: "as static pages" },
  serving: { zh: "直播：{url}（Ctrl-C 结束）", en: "Live at {url} (Ctrl-C ends)" },
  badTime: { zh: "这不是时刻，例如 2022-06-08T16:00:00Z。", en: "This is no moment, as 2022-06-08T16:00:00Z." },
  portTaken: { zh: "端口 {port} 已被占用。", en: "Port {port} is taken." },
  exampleAll: { zh: "直播 runs/ 下的所有训练", en: "all runs below runs/" },
  exampleReplay: { zh: "一分钟重放一小时", en: "an hour in a minute" },
});
