/**
 * The first CPM-Live run as a record of ours: 295 days of public logs and the dated events, so that the pages can show and
 * replay it. A step is a day here. What the logs do not say is absent or said to be derived: tokens follow from the data
 * read at 4.7 bytes a token, as the 200 G tokens of CPM-Ant's 940 GB do.
 */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { configToJson } from "../model/config.ts";
import { parameterCount } from "../model/parameters.ts";
import { presets } from "../model/presets.ts";
import { writeFileAtomic } from "../util/atomic-file.ts";
import { cpmAntAssumptions, fromBeijing, timelineEvents } from "./cpm-ant-timeline.ts";
import { cpmLiveDays } from "./cpm-live-days.ts";
import { createDailyLog, writeDailyLogs } from "./daily-log.ts";
import { beijingAfternoon } from "./day.ts";
import type { RunEvent } from "./events.ts";
import { eventsFile, type RunDescription, runFile } from "./run-folder.ts";

const bytesPerToken = 4.7;

/** Writes it as a run's folder below `parent`, with its daily logs; returns the folder. */
export async function writeExampleRun(parent: string): Promise<string> {
  const { description, events } = exampleRun();
  const folder = join(parent, description.id);
  await mkdir(folder, { recursive: true });
  await writeFileAtomic(join(folder, runFile), JSON.stringify(description));
  await writeFileAtomic(join(folder, eventsFile), `${events.map((event) => JSON.stringify(event)).join("\n")}\n`);
  const log = createDailyLog();
  for (const event of events) log.add(event);
  await writeDailyLogs(folder, log.days(), { name: "CPM-Live", recorder: "OpenBMB", rule: beijingAfternoon });
  return folder;
}

/** Its description and its events in order of time. */
export function exampleRun(): { readonly description: RunDescription; readonly events: readonly RunEvent[] } {
  const days = cpmLiveDays.map(([date, gigabytes, , end, gradientNorm, progress], i) => ({
    time: fromBeijing(`${date}T16:00`),
    step: i + 1,
    tokens: Math.round((gigabytes * 1e9) / bytesPerToken),
    bytes: Math.round(gigabytes * 1e9),
    loss: Number(end),
    gradientNorm: Number(gradientNorm),
    progress: Number(progress) / 100,
  }));
  const stepAt = (time: string) => {
    const passed = days.findLast((day) => day.time <= time);
    return { step: passed?.step ?? 0, tokens: passed?.tokens ?? 0 };
  };
  const steps = days.map(({ time, ...day }): RunEvent => ({ time, type: "step", ...day }));
  // A day begins where the one before ended, but for the first and for restarts: there the beginning is a point of its own.
  const begins = cpmLiveDays.flatMap(([date, , begin], i): RunEvent[] => {
    if (i > 0 && begin === cpmLiveDays[i - 1]![3]) return [];
    const time = new Date(Date.parse(fromBeijing(`${date}T16:00`)) - 86_400_000 + 60_000).toISOString();
    return [{ time, type: "step", step: i, tokens: days[i - 1]?.tokens ?? 0, loss: Number(begin) }];
  });
  const derived: RunEvent = {
    time: fromBeijing("2022-05-29T16:00"),
    type: "note",
    step: 0,
    text: "A step is a day of the public logs. Losses and gradient norms are the logs' own; tokens are derived from the data read, 4.7 bytes a token. Where a day did not begin with the loss that the one before ended with, that loss stands a minute after the day's beginning",
    zh: "一步为公开日志中的一天。损失与梯度范数出自日志；token 数由已读数据推算，每个 token 4.7 字节。某日开始的损失与前一日结束的不同时，记在当日开始后一分钟",
  };
  // At one moment a day's figures come first, then the timeline in its own order: an end before the start that follows.
  const all = [...steps, ...timelineEvents(stepAt), derived, ...begins];
  const events = all.toSorted((a, b) => a.time.localeCompare(b.time));
  const config = presets["10b"];
  const description: RunDescription = {
    format: 1,
    id: "cpm-live-2022",
    name: "CPM-Live 2022–2023：CPM-Ant、CPM-Ant+、CPM-Bee",
    createdAt: fromBeijing("2022-05-29T16:00"),
    status: "ended",
    recipe: {},
    model: { preset: "10b", config: configToJson(config), parameters: parameterCount(config) },
    data: { sources: [] },
    target: { steps: cpmLiveDays.length },
    machine: { cpu: "8 / 32 × NVIDIA A100", cores: 0, memoryBytes: 0 },
    versions: {},
    ledger: cpmAntAssumptions(),
  };
  return { description, events };
}
