/**
 * A log for each day of a run, in the original's form: time, recorder, loss at the beginning and the end, data read, mean
 * gradient norm, progress, and a person's comment. Figures come from the events; what a person wrote stays when a log is
 * written again.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../util/atomic-file.ts";
import { beijingAfternoon, type DayRule, dayOf, formatDayRule } from "./day.ts";
import type { RunEvent } from "./events.ts";
import type { RunWriter } from "./run-folder.ts";

/** What one day's events come to. */
export interface DayFigures {
  readonly day: string;
  readonly lossBegin: number;
  readonly lossEnd: number;
  readonly steps: number;
  readonly step: number;
  readonly tokens: number;
  /** Text read so far, where it is known. */
  readonly bytes: number | undefined;
  readonly gradientNorm: number;
  readonly progress: number | undefined;
  readonly bitsPerCharacter: number | undefined;
  readonly happened: readonly { readonly time: string; readonly zh: string; readonly en: string }[];
}

export interface DailyLog {
  add(event: RunEvent): void;
  /** Days in order; the last may not be over. */
  days(): readonly DayFigures[];
}

/** Losses of so many updates at either end of a day are averaged, so that one batch does not speak for it. */
const edgeSteps = 50;
const maxHappened = 200;

interface Account {
  first: number[];
  last: number[];
  steps: number;
  step: number;
  tokens: number;
  bytes: number | undefined;
  normSum: number;
  norms: number;
  progress: number | undefined;
  bits: number | undefined;
  happened: { time: string; zh: string; en: string }[];
}

export interface DailyLogOptions {
  readonly rule?: DayRule | undefined;
  /** Steps that the run is to have, for progress where events do not state it. */
  readonly targetSteps?: number | undefined;
}

/** Collects figures day by day; memory grows with days, not with events. */
export function createDailyLog({ rule = beijingAfternoon, targetSteps }: DailyLogOptions = {}): DailyLog {
  const accounts = new Map<string, Account>();
  /** The newest loss: where the next day begins. */
  let before: number | undefined;
  let lastStep = 0;
  const accountOf = (time: string): Account => {
    const day = dayOf(Date.parse(time), rule);
    let account = accounts.get(day);
    if (account === undefined) {
      account = {
        first: before === undefined ? [] : [before],
        last: [],
        steps: 0,
        step: 0,
        tokens: 0,
        bytes: undefined,
        normSum: 0,
        norms: 0,
        progress: undefined,
        bits: undefined,
        happened: [],
      };
      accounts.set(day, account);
    }
    return account;
  };
  return {
    add(event) {
      const account = accountOf(event.time);
      const say = (zh: string, en: string) => {
        if (account.happened.length < maxHappened) account.happened.push({ time: event.time, zh, en });
      };
      switch (event.type) {
        case "step":
          if (account.steps === 0 && event.step === lastStep) {
            // No update, but a loss: the record says where the day began, after a restart.
            account.first = [event.loss];
            before = event.loss;
            break;
          }
          lastStep = event.step;
          if (account.first.length < edgeSteps && account.steps < edgeSteps && before === undefined)
            account.first.push(event.loss);
          account.last.push(event.loss);
          if (account.last.length > edgeSteps) account.last.shift();
          account.steps++;
          account.step = event.step;
          account.tokens = event.tokens;
          account.bytes = event.bytes ?? account.bytes;
          account.progress = event.progress ?? (targetSteps ? event.step / targetSteps : account.progress);
          if (event.gradientNorm !== undefined && Number.isFinite(event.gradientNorm)) {
            account.normSum += event.gradientNorm;
            account.norms++;
          }
          break;
        case "validation":
          account.bits = event.bitsPerCharacter ?? account.bits;
          break;
        case "start":
          if (event.undone !== undefined)
            say(
              `回到第 ${event.step} 步，撤回到第 ${event.undone.step} 步为止的训练`,
              `went back to step ${event.step}; what came after it up to step ${event.undone.step} is undone`,
            );
          else if (event.step === 0) say("开始训练", "training began");
          else say(`从第 ${event.step} 步继续`, `resumed from step ${event.step}`);
          break;
        case "intervention":
          say(`干预：${event.action}，${event.reason}`, `intervention: ${event.action}, ${event.reason}`);
          break;
        case "note":
          say(event.zh ?? event.text, event.text);
          break;
        case "data":
          say(event.zh ?? event.text, event.text);
          break;
        case "end":
          say(`结束（${event.reason}）`, `ended (${event.reason})`);
          break;
        default:
      }
      if (event.type === "step" && account.last.length > 0) before = mean(account.last);
    },
    days: () =>
      [...accounts]
        .filter(([, { steps }]) => steps > 0)
        .map(([day, account]) => ({
          day,
          lossBegin: mean(account.first.length > 0 ? account.first : account.last),
          lossEnd: mean(account.last),
          steps: account.steps,
          step: account.step,
          tokens: account.tokens,
          bytes: account.bytes,
          gradientNorm: account.norms === 0 ? Number.NaN : account.normSum / account.norms,
          progress: account.progress,
          bitsPerCharacter: account.bits,
          happened: account.happened,
        })),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export type LogLanguage = "zh" | "en";

/** What a person adds; kept when the figures are written again. */
export interface PersonalParts {
  readonly comment: string;
  /** A poll or riddle for the readers. */
  readonly poll: string;
}

const marks = {
  comment: ["<!-- comment -->", "<!-- /comment -->"],
  poll: ["<!-- poll -->", "<!-- /poll -->"],
} as const;

/** The personal parts of a log that was written before. */
export function personalParts(markdown: string): PersonalParts {
  const between = (name: keyof typeof marks) => {
    const [open, close] = marks[name];
    const from = markdown.indexOf(open);
    const to = markdown.indexOf(close, from);
    return from < 0 || to < 0 ? "" : markdown.slice(from + open.length, to).trim();
  };
  return { comment: between("comment"), poll: between("poll") };
}

export interface LogHeading {
  readonly name: string;
  readonly recorder: string;
  readonly rule: DayRule;
}

/** One day's log. */
export function dailyLogMarkdown(
  figures: DayFigures,
  heading: LogHeading,
  language: LogLanguage,
  personal: PersonalParts,
): string {
  const zh = language === "zh";
  const number = (value: number, digits: number) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
  const data =
    figures.bytes === undefined
      ? `${figures.tokens.toLocaleString("en")} token${zh ? "" : "s"}`
      : `${(figures.bytes / 1e9).toFixed(1)} GB`;
  const until = `${figures.day} ${formatDayRule(heading.rule)}`;
  const row = (label: string, value: string) => `| ${label} | ${value.replaceAll("|", "\\|")} |`;
  const rows = [
    row(zh ? "时间" : "time", until),
    row(zh ? "记录人" : "recorder", heading.recorder),
    row(zh ? "损失" : "loss", `${number(figures.lossBegin, 3)} → ${number(figures.lossEnd, 3)}`),
    row(zh ? "已训练数据" : "data done", data),
    row(zh ? "平均梯度范数" : "mean gradient norm", number(figures.gradientNorm, 3)),
    row(zh ? "进度" : "progress", figures.progress === undefined ? "–" : `${(100 * figures.progress).toFixed(2)} %`),
    row(
      zh ? "步数" : "steps",
      `${figures.step.toLocaleString("en")}（${zh ? "当日" : "this day"} ${figures.steps.toLocaleString("en")}）`.replace(
        /（(.*)）/,
        zh ? "（$1）" : " ($1)",
      ),
    ),
    ...(figures.bitsPerCharacter === undefined
      ? []
      : [row(zh ? "验证：每字符比特" : "validation, bits per character", number(figures.bitsPerCharacter, 3))]),
  ];
  const time = (iso: string) =>
    new Date(Date.parse(iso) + heading.rule.utcOffsetMinutes * 60_000).toISOString().slice(5, 16).replace("T", " ");
  const happened = figures.happened.map((each) => `- ${time(each.time)} ${each[language]}`);
  const none = zh ? "（无）" : "(none)";
  return [
    `# ${heading.name} · ${figures.day}`,
    "",
    zh ? "| 项目 | 内容 |" : "| item | value |",
    "|---|---|",
    ...rows,
    "",
    `## ${zh ? "事件" : "Events"}`,
    "",
    ...(happened.length > 0 ? happened : [none]),
    "",
    `## ${zh ? "评论" : "Comment"}`,
    "",
    marks.comment[0],
    personal.comment,
    marks.comment[1],
    ...(personal.poll === ""
      ? ["", marks.poll[0], marks.poll[1]]
      : ["", `## ${zh ? "读者问答" : "For the readers"}`, "", marks.poll[0], personal.poll, marks.poll[1]]),
    "",
  ].join("\n");
}

/**
 * Writes the logs of days into a run's folder, in both languages; what a person wrote in them stays.
 *
 * @returns the files written
 */
export async function writeDailyLogs(
  folder: string,
  days: readonly DayFigures[],
  heading: LogHeading,
  changes:
    | { readonly day: string; readonly parts: Partial<PersonalParts>; readonly language: LogLanguage }
    | undefined = undefined,
): Promise<readonly string[]> {
  await mkdir(join(folder, "log"), { recursive: true });
  const written: string[] = [];
  for (const figures of days) {
    for (const language of ["zh", "en"] as const) {
      const path = join(folder, "log", `${figures.day}.${language}.md`);
      const old = await readFile(path, "utf8").catch(() => "");
      const own = changes?.day === figures.day && changes.language === language ? changes.parts : {};
      const text = dailyLogMarkdown(figures, heading, language, { ...personalParts(old), ...own });
      if (text === old) continue;
      await writeFileAtomic(path, text);
      written.push(path);
    }
  }
  return written;
}

/**
 * A writer of a run's record that writes the logs as well: of days that are over when the next event comes, and of all when
 * it closes. `log` has seen what the record holds already. A log that cannot be written is told to `onFailure`; training goes on.
 */
export function withDailyLogs(
  writer: RunWriter,
  log: DailyLog,
  heading: LogHeading,
  options: { readonly now: () => number; onFailure?(error: unknown): void },
): RunWriter {
  const { now } = options;
  let day = dayOf(now(), heading.rule);
  let writing: Promise<void> = Promise.resolve();
  const write = () => {
    const days = log.days();
    writing = writing
      .then(() => writeDailyLogs(writer.folder, days, heading))
      .then(
        () => {},
        (error: unknown) => options.onFailure?.(error),
      );
  };
  return {
    folder: writer.folder,
    get description() {
      return writer.description;
    },
    append(event, durable) {
      writer.append(event, durable);
      const today = dayOf(now(), heading.rule);
      if (today !== day) {
        day = today;
        write(); // what is over is complete
      }
      log.add({ time: new Date(now()).toISOString(), ...event } as RunEvent);
    },
    update: (changes) => writer.update(changes),
    async close() {
      write();
      await writing;
      await writer.close();
    },
  };
}
