/**
 * The dated events of the first CPM-Live run, from its public daily logs: CPM-Ant (68 days), CPM-Ant+ and CPM-Bee. Cost
 * and carbon of CPM-Ant are computed from it, never from the published totals (430,000 RMB, 4,872 kg CO2e).
 *
 * The logs give dates, and times of day for a few events only. Where one is assumed, the entry says so: it moves the
 * result by less than one part in a hundred.
 */
import type { NewEvent, RunEvent } from "./events.ts";
import { createLedger, type LedgerSummary } from "./ledger.ts";
import type { LedgerAssumptions } from "./ledger-assumptions.ts";

/** What is known of an entry's time: the logs say it, or they say the date, or it was inferred as the entry's text tells. */
type Timing = "stated" | "date" | "inferred";

interface TimelineEntry {
  /** Beijing time. */
  readonly at: string;
  readonly timing: Timing;
  readonly en: string;
  readonly zh: string;
  readonly does:
    | { readonly kind: "start"; readonly cards: number | undefined; readonly stage?: string }
    | { readonly kind: "end"; readonly reason: "steps" | "cancelled" | "failed" }
    | { readonly kind: "intervention"; readonly action: RunEvent<"intervention">["action"] }
    | { readonly kind: "data"; readonly what: RunEvent<"data">["what"] }
    | { readonly kind: "note" };
}

export const cardName = "NVIDIA A100";
const note = { kind: "note" } as const;
const data = (what: RunEvent<"data">["what"]) => ({ kind: "data", what }) as const;
const acted = (action: RunEvent<"intervention">["action"]) => ({ kind: "intervention", action }) as const;
const end = (reason: "steps" | "cancelled" | "failed") => ({ kind: "end", reason }) as const;
const start = (cards: number | undefined, stage?: string) =>
  ({ kind: "start", cards, ...(stage !== undefined && { stage }) }) as const;

/** In order of time. */
export const cpmAntTimeline: readonly TimelineEntry[] = [
  {
    at: "2022-05-29T16:00",
    timing: "inferred",
    en: "CPM-Ant's pretraining begins on 8 A100s, 512 tokens a row. The first log counts a whole day's data, so it began a day before",
    zh: "CPM-Ant 开始预训练：8 张 A100，每行 512 个 token。第一天的日志记有一整天的数据量，故推算为前一日的同一时刻",
    does: start(8, "CPM-Ant, 8 × A100, 512 tokens"),
  },
  {
    at: "2022-06-07T07:00",
    timing: "inferred",
    en: "An outage of 17 hours on this day; taken to end at midnight, when the 32 cards came",
    zh: "当日中断 17 小时；推算为到午夜换成 32 张卡时结束",
    does: end("failed"),
  },
  {
    at: "2022-06-08T00:00",
    timing: "date",
    en: "32 A100s from this day on",
    zh: "自当日起用 32 张 A100",
    does: start(32, "CPM-Ant, 32 × A100, 512 tokens"),
  },
  {
    at: "2022-06-08T00:00",
    timing: "date",
    en: "The optimizer's state had not been saved: the loss jumps after the restart",
    zh: "优化器状态未曾保存：重启后损失跳升",
    does: acted("manual"),
  },
  {
    at: "2022-06-10T16:00",
    timing: "inferred",
    en: "Paused to find out why the loss falls slowly; taken to begin with the day's log",
    zh: "为查明损失下降缓慢的原因而暂停；推算自当日日志的时刻开始",
    does: end("cancelled"),
  },
  {
    at: "2022-06-12T02:00",
    timing: "stated",
    en: "Resumed",
    zh: "恢复训练",
    does: start(32, "CPM-Ant, 32 × A100, 1024 tokens"),
  },
  {
    at: "2022-06-12T02:00",
    timing: "stated",
    en: "512 to 1024 tokens a row",
    zh: "每行由 512 个 token 改为 1024 个",
    does: data("length"),
  },
  {
    at: "2022-06-12T02:00",
    timing: "stated",
    en: "Data can be appended while training; the optimizer's state is saved from now on",
    zh: "训练中可追加数据；此后保存优化器状态",
    does: data("shards"),
  },
  {
    at: "2022-06-15T16:00",
    timing: "date",
    en: "CUDA ran out of memory; fragmentation is suspected. How long it stood still is not known",
    zh: "CUDA 内存不足，疑为碎片所致；停了多久不详",
    does: acted("manual"),
  },
  {
    at: "2022-06-16T00:00",
    timing: "date",
    en: "A node lost its GPUs; the time of day is assumed",
    zh: "一个节点丢失 GPU；时刻为假定",
    does: end("failed"),
  },
  {
    at: "2022-06-16T03:42",
    timing: "date",
    en: "Resumed after 3.7 hours",
    zh: "3.7 小时后恢复",
    does: start(32),
  },
  {
    at: "2022-06-19T16:00",
    timing: "date",
    en: "CUDA ran out of memory again",
    zh: "CUDA 再次内存不足",
    does: acted("manual"),
  },
  {
    at: "2022-06-22T16:00",
    timing: "date",
    en: "A fault of the data loader is found: every resume replayed the same data, which had flattered the loss. It rises to 2.73",
    zh: "发现数据加载器的错误：每次恢复都重放同一批数据，损失因此偏低。损失升至 2.73",
    does: acted("skipData"),
  },
  {
    at: "2022-06-27T16:00",
    timing: "date",
    en: "The page of parameter dynamics is released",
    zh: "参数动态页面上线",
    does: note,
  },
  {
    at: "2022-07-04T20:00",
    timing: "date",
    en: "200,000 RMB are reached in the evening",
    zh: "当晚费用达到 20 万元",
    does: note,
  },
  {
    at: "2022-07-06T16:00",
    timing: "date",
    en: "Data is replayed: the loss goes through a cycle (07-05 to 07-07)",
    zh: "数据重放：损失出现一个周期（07-05 至 07-07）",
    does: note,
  },
  {
    at: "2022-07-21T16:00",
    timing: "date",
    en: "A second cycle of the same data (07-21 and 07-22)",
    zh: "同样数据的第二个周期（07-21 与 07-22）",
    does: note,
  },
  {
    at: "2022-08-05T16:00",
    timing: "stated",
    en: "CPM-Ant is done: 100 % by the day's log",
    zh: "CPM-Ant 完成：当日日志记为 100%",
    does: end("steps"),
  },
  {
    at: "2022-08-05T16:00",
    timing: "date",
    en: "CPM-Ant+ goes on with 8 A100s, a new distributed data set and a smaller batch",
    zh: "CPM-Ant+ 以 8 张 A100 继续，改用新的分布式数据集和更小的批次",
    does: start(8, "CPM-Ant+"),
  },
  {
    at: "2022-09-10T16:00",
    timing: "date",
    en: "Restarted with a bug fix (pull request 148)",
    zh: "修复错误（PR 148）后重启",
    does: acted("manual"),
  },
  {
    at: "2022-09-13T16:00",
    timing: "date",
    en: "500,000 RMB are passed",
    zh: "费用超过 50 万元",
    does: note,
  },
  { at: "2022-09-28T16:00", timing: "date", en: "English text is added", zh: "加入英文文本", does: data("mixture") },
  { at: "2022-10-12T16:00", timing: "date", en: "CPM-Ant+ is released", zh: "发布 CPM-Ant+", does: end("steps") },
  {
    at: "2022-10-13T16:00",
    timing: "inferred",
    en: "CPM-Bee starts from CPM-Ant+; on how many cards is not known. Taken to begin a day before its first log",
    zh: "CPM-Bee 从 CPM-Ant+ 开始；卡数不详。推算为第一篇日志的前一日",
    does: start(undefined, "CPM-Bee"),
  },
  {
    at: "2022-10-16T05:00",
    timing: "inferred",
    en: "NaN at 05:00 (the logs of 10-15 and 10-16): the rate is halved, then cut to a fifth",
    zh: "05:00 出现 NaN（见 10-15 与 10-16 的日志）：学习率减半，再减为五分之一",
    does: acted("lowerRate"),
  },
  {
    at: "2022-10-16T16:00",
    timing: "date",
    en: "Lowering the rate did not help: data is skipped",
    zh: "降低学习率无效：跳过一段数据",
    does: acted("skipData"),
  },
  {
    at: "2022-10-17T16:00",
    timing: "date",
    en: "The sets of headlines and summaries are removed, as the suspected cause; a fault of the data loader",
    zh: "移除疑为原因的标题与摘要数据集；数据加载器出错",
    does: data("mixture"),
  },
  {
    at: "2022-10-21T16:00",
    timing: "date",
    en: "The sets that were removed are back",
    zh: "恢复被移除的数据集",
    does: data("mixture"),
  },
  {
    at: "2022-10-23T16:00",
    timing: "date",
    en: "NaN again: the computation of attention scores is changed",
    zh: "再次出现 NaN：修改注意力分数的计算方式",
    does: acted("manual"),
  },
  {
    at: "2022-11-22T16:00",
    timing: "date",
    en: "NaN: weights are scaled down and the rate is lowered",
    zh: "出现 NaN：缩小权重并降低学习率",
    does: acted("lowerRate"),
  },
  {
    at: "2022-12-29T16:00",
    timing: "date",
    en: "The whole project passes 1,000,000 RMB",
    zh: "项目总费用超过 100 万元",
    does: note,
  },
  {
    at: "2023-03-03T16:00",
    timing: "date",
    en: "New data comes, which is easier",
    zh: "加入较容易的新数据",
    does: data("mixture"),
  },
  { at: "2023-03-24T16:00", timing: "date", en: "The last log: 99.16 %", zh: "最后一篇日志：99.16%", does: note },
];

/** Beijing time as the time of an event. */
export function fromBeijing(local: string): string {
  return new Date(`${local}:00+08:00`).toISOString();
}

/** The timeline as events; `stepAt` says how many steps had been counted. */
export function timelineEvents(
  stepAt: (time: string) => { readonly step: number; readonly tokens: number } = () => ({ step: 0, tokens: 0 }),
): RunEvent[] {
  let attempt = 0;
  return cpmAntTimeline.flatMap(({ at, timing, en, zh, does }): RunEvent[] => {
    const time = fromBeijing(at);
    const { step, tokens } = stepAt(time);
    const stamp = (event: NewEvent): RunEvent => ({ time, ...event }) as RunEvent;
    switch (does.kind) {
      case "start": {
        attempt++;
        const devices = does.cards === undefined ? [] : [{ name: cardName, count: does.cards }];
        const events = [stamp({ type: "start", step, tokens, attempt, devices })];
        if (does.stage !== undefined) events.push(stamp({ type: "stage", step, name: does.stage }));
        return [...events, stamp({ type: "note", step, text: en, zh })];
      }
      case "end":
        return [
          stamp({ type: "end", step, tokens, reason: does.reason, ...(does.reason === "failed" && { error: en }) }),
          stamp({ type: "note", step, text: en, zh }),
        ];
      case "intervention":
        return [stamp({ type: "intervention", step, action: does.action, reason: en, details: { zh, timing } })];
      case "data":
        return [stamp({ type: "data", step, what: does.what, text: en, zh })];
      default:
        return [stamp({ type: "note", step, text: en, zh })];
    }
  });
}

/** CPM-Ant ends here; CPM-Ant+ and CPM-Bee follow. */
export const cpmAntEnd = fromBeijing("2022-08-05T16:00");

/** The card-hours until the evening on which the logs count 200,000 RMB give the price. */
const milestone = { cny: 200_000, at: fromBeijing("2022-07-04T20:00") };

/** Cards that ran × hours from the timeline's beginning until a moment. */
export function cardHoursUntil(time: string): number {
  let hours = 0;
  let since: { ms: number; cards: number } | undefined;
  const untilMs = Date.parse(time);
  for (const { at, does } of cpmAntTimeline) {
    if (does.kind !== "start" && does.kind !== "end") continue;
    const ms = Math.min(Date.parse(fromBeijing(at)), untilMs);
    if (since) hours += ((ms - since.ms) / 3.6e6) * since.cards;
    since = does.kind === "start" ? { ms, cards: does.cards ?? 0 } : undefined;
  }
  if (since) hours += ((untilMs - since.ms) / 3.6e6) * since.cards;
  return hours;
}

/** What cost and carbon of the timeline are computed with. */
export function cpmAntAssumptions(): LedgerAssumptions {
  const pricePerHour = milestone.cny / cardHoursUntil(milestone.at);
  return {
    devices: [
      {
        name: cardName,
        count: 8,
        watts: 250,
        wattsSource: {
          zh: "假设：PCIe 卡的额定功率，也是 ML CO2 Impact 计算器的默认值；作者未写明",
          en: "Assumed: rated power of the PCIe card, the ML CO2 Impact calculator's default. The authors state none",
        },
        powerSource: "stated",
        pricePerHour,
      },
    ],
    pue: 1,
    pueSource: { zh: "假设：不计机房", en: "Assumed: the building is not counted" },
    gridKgCo2ePerKwh: 0.432,
    gridSource: {
      zh: "假设：ML CO2 Impact 计算器的默认值（经合组织 2014 年平均）；作者未写明",
      en: "Assumed: the ML CO2 Impact calculator's default (mean of the OECD, 2014). The authors state none",
    },
    currency: "CNY",
    priceSource: {
      zh: "推算：日志记有截至 2022-07-04 晚共 200,000 元，除以此前的卡时。其后各周得 9.36，CPM-Ant+ 得 9.35",
      en: "Derived: 200,000 RMB by the evening of 2022-07-04, as the daily log says, over the card-hours until then. The weeks after give 9.36, those of CPM-Ant+ 9.35",
    },
  };
}

/** Cost and carbon of CPM-Ant, by stage, and a function of what other assumptions would give. */
export function cpmAntLedger(): { readonly summary: LedgerSummary; with(other: LedgerAssumptions): LedgerSummary } {
  const ledger = createLedger(cpmAntAssumptions(), { parts: "stage" });
  for (const event of timelineEvents()) {
    if (event.time > cpmAntEnd) break;
    if (event.time === cpmAntEnd && event.type === "start") break;
    ledger.add(event);
  }
  return { summary: ledger.summary(), with: (other) => ledger.summary(other) };
}
