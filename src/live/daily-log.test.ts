import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { cpmLiveDays } from "./cpm-live-days.ts";
import { createDailyLog, dailyLogMarkdown, personalParts, withDailyLogs, writeDailyLogs } from "./daily-log.ts";
import { beijingAfternoon } from "./day.ts";
import { parseEvent, type RunEvent } from "./events.ts";
import { exampleRun } from "./example-run.ts";
import { ledgerOf } from "./ledger.ts";
import type { RunWriter } from "./run-folder.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-log-"));
after(() => rmSync(folder, { recursive: true }));

const heading = { name: "训练", recorder: "小李", rule: beijingAfternoon };
const event = (time: string, value: object): RunEvent => parseEvent(JSON.stringify({ time, ...value }))!;
const step = (time: string, number: number, loss: number) =>
  event(time, { type: "step", step: number, tokens: number * 10, loss, gradientNorm: number });
const story = [
  event("2026-01-01T00:00:00.000Z", { type: "start", step: 0, tokens: 0, attempt: 1 }),
  step("2026-01-01T00:01:00.000Z", 1, 9),
  step("2026-01-01T07:59:00.000Z", 2, 7),
  event("2026-01-01T07:59:30.000Z", { type: "intervention", step: 2, action: "skip", reason: "a | b" }),
  step("2026-01-01T08:01:00.000Z", 3, 5),
  event("2026-01-01T08:02:00.000Z", { type: "validation", step: 3, tokens: 30, nats: 4, bitsPerCharacter: 5.5 }),
];

test("figures by day: a day ends at 16:00 in Beijing and begins where the one before ended", () => {
  const log = createDailyLog({ targetSteps: 10 });
  for (const each of story) log.add(each);
  const [first, second] = log.days();
  assert.deepEqual([first!.day, first!.steps, first!.step, first!.progress], ["2026-01-01", 2, 2, 0.2]);
  assert.deepEqual([first!.lossBegin, first!.lossEnd, first!.gradientNorm], [9, 8, 1.5]);
  assert.deepEqual(
    first!.happened.map(({ en }) => en),
    ["training began", "intervention: skip, a | b"],
  );
  assert.deepEqual(
    [second!.day, second!.lossBegin, second!.lossEnd, second!.bitsPerCharacter],
    ["2026-01-02", 8, 5, 5.5],
  );
});

test("both languages have the same figures; bars do not break the table", () => {
  const log = createDailyLog();
  for (const each of story) log.add(each);
  const personal = { comment: "稳。", poll: "" };
  const [zh, en] = (["zh", "en"] as const).map((language) =>
    dailyLogMarkdown(log.days()[0]!, { ...heading, recorder: "a|b" }, language, personal),
  );
  for (const text of [zh!, en!]) {
    assert.match(text, /9\.000 → 8\.000/);
    assert.match(text, /a\\\|b/);
    assert.match(text, /稳。/);
  }
  assert.match(zh!, /\| 平均梯度范数 \| 1\.500 \|/);
  assert.match(en!, /\| mean gradient norm \| 1\.500 \|/);
});

test("what a person wrote stays when figures change; nothing is written where nothing changed", async () => {
  const log = createDailyLog();
  for (const each of story) log.add(each);
  assert.equal((await writeDailyLogs(folder, log.days(), heading)).length, 4);
  const path = join(folder, "log", "2026-01-02.zh.md");
  writeFileSync(
    path,
    readFileSync(path, "utf8").replace("<!-- comment -->\n", "<!-- comment -->\n今天很好。\n第二行。"),
  );
  const changes = { day: "2026-01-02", parts: { poll: "猜猜明天的损失？" }, language: "zh" } as const;
  assert.deepEqual(await writeDailyLogs(folder, log.days(), heading, changes), [path]);
  log.add(step("2026-01-01T09:00:00.000Z", 4, 3));
  await writeDailyLogs(folder, log.days(), heading);
  const parts = personalParts(readFileSync(path, "utf8"));
  assert.deepEqual(parts, { comment: "今天很好。\n第二行。", poll: "猜猜明天的损失？" });
  assert.match(readFileSync(path, "utf8"), /8\.000 → 4\.000/);
  assert.deepEqual(await writeDailyLogs(folder, log.days(), heading), []);
});

test("while a run goes on, a log is written when its day is over, and at the end", async () => {
  const own = mkdtempSync(join(folder, "run-"));
  let now = Date.parse("2026-01-01T07:00:00.000Z");
  const appended: unknown[] = [];
  const record = {
    folder: own,
    description: {},
    append: (each: unknown) => appended.push(each),
    update: async () => {},
    close: async () => {},
  } as unknown as RunWriter;
  const writer = withDailyLogs(record, createDailyLog(), heading, { now: () => now });
  writer.append({ type: "step", step: 1, tokens: 1, loss: 9 });
  now = Date.parse("2026-01-01T09:00:00.000Z");
  writer.append({ type: "step", step: 2, tokens: 2, loss: 8 });
  await writer.close();
  assert.equal(appended.length, 2);
  assert.deepEqual(readdirSync(join(own, "log")).sort(), [
    "2026-01-01.en.md",
    "2026-01-01.zh.md",
    "2026-01-02.en.md",
    "2026-01-02.zh.md",
  ]);
  assert.match(readFileSync(join(own, "log", "2026-01-01.en.md"), "utf8"), /9\.000 → 9\.000/);
});

test("the original's run: 295 days in order, its losses, its incidents, and logs for all of it", () => {
  const { description, events } = exampleRun();
  assert.equal(description.model.parameters, 9_391_624_192);
  assert.deepEqual(
    events.map(({ time }) => time),
    events.map(({ time }) => time).toSorted(),
  );
  for (const each of events) assert.ok(parseEvent(JSON.stringify(each)), JSON.stringify(each));
  const steps = events.filter((each) => each.type === "step");
  assert.deepEqual([steps.length, steps[0]!.loss, steps.at(-1)!.loss, steps.at(-1)!.step], [300, 10.33, 1.77, 295]);
  const log = createDailyLog();
  for (const each of events) log.add(each);
  const day = log.days().find((each) => each.day === "2022-06-08")!;
  assert.deepEqual([day.lossBegin, day.lossEnd, day.bytes], [2.79, 2.98, 56.2e9]);
  assert.ok(day.happened.length > 0);
  assert.equal(log.days().length, 295);
  for (const [index, { day, lossBegin, lossEnd }] of log.days().entries()) {
    const [date, , begin, end] = cpmLiveDays[index]!;
    assert.deepEqual([day, lossBegin, lossEnd], [date, Number(begin), Number(end)]);
  }
});

test("the original's run: its ledger has every stage, and gaps only where the timeline has them", () => {
  const { description, events } = exampleRun();
  const { parts, gaps } = ledgerOf(events, description.ledger!, { parts: "stage" });
  const plus = parts.find(({ name }) => name === "CPM-Ant+")!;
  assert.deepEqual([plus.devices, plus.hours], [8, 68 * 24]); // 08-05 to 10-12
  const ant = parts.filter(({ name }) => name.startsWith("CPM-Ant,"));
  assert.ok(Math.abs(ant.reduce((sum, { cost }) => sum + cost!, 0) / 430_000 - 1) < 0.02);
  assert.deepEqual(
    gaps.map(({ kind, hours }) => [kind, Number(hours.toFixed(3))]),
    [
      ["outage", 17],
      ["pause", 34],
      ["outage", 3.7],
      ["pause", 24],
    ],
  );
});
