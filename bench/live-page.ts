/**
 * A day of events in the live page, in a headless Chromium: how long does a frame take, and how much memory is held?
 *
 *     node bench/live-page.ts [--steps 86400] [--parameters 64] [--chromium /usr/bin/chromium]
 *
 * One step a second for 24 hours, with validation, samples, statistics of every parameter and a checkpoint each 100 steps,
 * served from a process of its own. The page loads it all, plays it again from the beginning at 3600 times its pace, follows
 * 50 new steps a second, has its smoothing dragged and every view opened. For each of these: times between frames as
 * the page sees them; the longest piece of work on the page's main thread, by the clock and, of the same trace, in processor
 * time (which a busy machine does not stretch); and the heap, largest seen and after collection.
 */
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type CDPSession, chromium, type Page } from "playwright-core";
import { pagesFolder } from "../src/live/pages.ts";
import { stepLine, writeSyntheticRun } from "../test/support/synthetic-run.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "86400" },
    parameters: { type: "string", default: "64" },
    chromium: { type: "string" },
  },
});
const steps = Number(values.steps);
const executablePath = [values.chromium, process.env.CHROMIUM_PATH, "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (path) => path !== undefined && existsSync(path),
);
if (executablePath === undefined) throw new Error("no Chromium found: name it with --chromium");

const folder = mkdtempSync(join(tmpdir(), "cpm-page-"));
const run = writeSyntheticRun(join(folder, "runs"), {
  id: "day",
  steps,
  targetSteps: steps + 1e4,
  parameters: Array.from({ length: Number(values.parameters) }, (_, i) => `encoder.layers.${i}.ffn.ffn.w_out.weight`),
});
const events = join(run, "events.jsonl");
const eventBytes = statSync(events).size;

const child = spawn(
  process.execPath,
  [fileURLToPath(new URL("./live-server-process.ts", import.meta.url)), join(folder, "runs"), await pagesFolder()],
  { stdio: ["pipe", "pipe", "inherit"] },
);
const { value: greeting } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
const { url } = JSON.parse(greeting as string) as { url: string };
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--enable-precise-memory-info"] });

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly tid: number;
  readonly pid: number;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** Frames, work and heap while `action` goes on. */
async function measure(name: string, page: Page, cdp: CDPSession, action: () => Promise<void>): Promise<void> {
  const trace: TraceEvent[] = [];
  const collect = ({ value }: { value: object[] }) => void trace.push(...(value as TraceEvent[]));
  cdp.on("Tracing.dataCollected", collect);
  await cdp.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["toplevel", "disabled-by-default-toplevel"], excludedCategories: ["*"] },
  });
  await page.evaluate(() => {
    const record = { frames: [] as number[], heap: 0, on: true };
    Object.assign(window, { record });
    let last = performance.now();
    const frame = (now: number) => {
      record.frames.push(now - last);
      last = now;
      const { memory } = performance as unknown as { memory: { usedJSHeapSize: number } };
      record.heap = Math.max(record.heap, memory.usedJSHeapSize);
      if (record.on) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const start = performance.now();
  await action();
  const seconds = (performance.now() - start) / 1000;
  const { frames, heap } = await page.evaluate(() => {
    const { record } = window as unknown as { record: { frames: number[]; heap: number; on: boolean } };
    record.on = false;
    return record;
  });
  const complete = new Promise<void>((resolve) => cdp.once("Tracing.tracingComplete", () => resolve()));
  await cdp.send("Tracing.end");
  await complete;
  cdp.off("Tracing.dataCollected", collect);
  const mains = trace.filter((each) => each.name === "thread_name" && each.args?.name === "CrRendererMain");
  const tasks = trace.filter(
    (each) => each.ph === "X" && mains.some(({ pid, tid }) => pid === each.pid && tid === each.tid),
  );
  const most = (pick: (each: TraceEvent) => number | undefined) =>
    tasks.reduce((found, each) => Math.max(found, (pick(each) ?? 0) / 1000), 0);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize } = await cdp.send("Runtime.getHeapUsage");
  const gaps = frames.slice(1).toSorted((a, b) => a - b);
  const mb = (bytes: number) => (bytes / 1e6).toFixed(0);
  console.log(
    [
      name.padEnd(10),
      `${seconds.toFixed(1)} s`,
      `${gaps.length} frames`,
      `${median(gaps).toFixed(0)} / ${(gaps[Math.floor(0.99 * gaps.length)] ?? 0).toFixed(0)} / ${(gaps.at(-1) ?? 0).toFixed(0)} ms (median, 99 %, longest)`,
      `${gaps.filter((gap) => gap >= 100).length} of 100 ms and more`,
      `longest task ${most(({ dur }) => dur).toFixed(0)} ms, ${most(({ tdur }) => tdur).toFixed(0)} ms of processor`,
      `heap ${mb(heap)} MB at most, ${mb(usedSize)} MB held and ${mb(backingStorageSize)} MB of columns`,
    ].join(" | "),
  );
}

/** Until the figure of steps begins with this text. */
const shown = (page: Page, text: string) =>
  page.waitForFunction(
    (start) => [...document.querySelectorAll(".figure dd")].some((each) => each.textContent?.startsWith(start)),
    text,
    { timeout: 300_000 },
  );

try {
  console.log(machine());
  console.log(`Chromium ${browser.version()}; ${steps} steps, ${(eventBytes / 1e6).toFixed(1)} MB of events`);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${url}?lang=en`);
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.enable");
  await measure("load", page, cdp, async () => {
    await page.evaluate(() => {
      location.hash = "#/run/day";
    });
    await page.waitForSelector('[data-state="live"]', { timeout: 300_000 });
    await shown(page, steps.toLocaleString("en-GB"));
  });
  await measure("replay", page, cdp, async () => {
    await page.getByLabel("Speed").selectOption("3600");
    await page.getByRole("button", { name: "Play" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await page.getByRole("button", { name: "Play" }).waitFor({ timeout: 300_000 });
  });
  let step = steps;
  await measure("follow", page, cdp, async () => {
    for (let second = 0; second < 10; second++) {
      for (let i = 0; i < 50; i++) appendFileSync(events, `${stepLine(++step, {})}\n`);
      await sleep(1000);
    }
    await shown(page, step.toLocaleString("en-GB"));
  });
  await measure("smoothing", page, cdp, async () => {
    const slider = page.getByLabel("Smoothing");
    for (let value = 0; value < 1; value += 0.02) await slider.fill(value.toFixed(2));
  });
  await measure("views", page, cdp, async () => {
    for (const tab of ["samples", "dynamics", "events", "checkpoints", "logs", "plan", "overview"]) {
      await page.evaluate((name) => {
        location.hash = `#/run/day?tab=${name}`;
      }, tab);
      await sleep(500);
    }
  });
} finally {
  await browser.close();
  child.stdin.end();
  child.kill();
  rmSync(folder, { recursive: true });
}
