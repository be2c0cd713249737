/**
 * Many viewers of one run at once: does each get every event once, in order, and what does it cost the server?
 *
 *     node bench/live-viewers.ts [--viewers 1000] [--rate 50] [--seconds 60]
 *
 * The server is a process of its own; viewers are connections over 127.0.0.1 from this one, which behave as a browser's: one
 * whose connection is refused or lost comes back with the id of the last message. A tenth of them leave every few seconds,
 * another twentieth reads nothing for seconds at a time. While
 * events are appended, each viewer hashes the lines that it gets; in the end all hashes must be that of the file. Latency is
 * from the append to the arrival, in this process's clock.
 */
import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type EventViewer, openEventViewer } from "../test/support/event-viewer.ts";
import { stepLine, writeSyntheticRun } from "../test/support/synthetic-run.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    viewers: { type: "string", default: "1000" },
    rate: { type: "string", default: "50" },
    seconds: { type: "string", default: "60" },
  },
});
const [viewerCount, rate, seconds] = [Number(values.viewers), Number(values.rate), Number(values.seconds)];

const folder = mkdtempSync(join(tmpdir(), "cpm-viewers-"));
const pages = join(folder, "pages");
mkdirSync(pages);
writeFileSync(join(pages, "index.html"), "");
const run = writeSyntheticRun(join(folder, "runs"), { id: "one", steps: 10 });
const events = join(run, "events.jsonl");
const start = readFileSync(events).length;

const child = spawn(
  process.execPath,
  [fileURLToPath(new URL("./live-server-process.ts", import.meta.url)), join(folder, "runs"), pages],
  {
    stdio: ["pipe", "pipe", "inherit"],
  },
);
const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
const answer = async () => JSON.parse((await answers.next()).value as string);
const { url } = (await answer()) as { url: string };
interface Usage {
  readonly cpuMs: number;
  readonly rssBytes: number;
  readonly peakBytes: number;
  readonly viewers: number;
}
const usage = async (): Promise<Usage> => {
  child.stdin.write("\n");
  return answer();
};

/** When each line was appended, by its step. */
const appended = new Map<string, number>();
const latencies: number[] = [];

interface Watcher {
  readonly kind: "steady" | "restless" | "slow";
  readonly viewer: EventViewer;
  readonly hash: Hash;
  lines: number;
}

function watch(kind: Watcher["kind"]): Watcher {
  const hash = createHash("sha256");
  const viewer = openEventViewer(`${url}api/runs/one/stream`, start, (line) => {
    hash.update(`${line}\n`);
    watcher.lines++;
    const since = appended.get(line);
    if (since !== undefined && kind === "steady") latencies.push(performance.now() - since);
  });
  const watcher: Watcher = { kind, viewer, hash, lines: 0 };
  if (kind === "restless") timers.push(setInterval(viewer.drop, 2000 + 3000 * Math.random()));
  else if (kind === "slow") {
    let paused = false;
    const turn = () => {
      paused = !paused;
      if (paused) viewer.pause();
      else viewer.resume();
    };
    timers.push(setInterval(turn, 3000));
  }
  return watcher;
}

const timers: NodeJS.Timeout[] = [];
try {
  const viewers: Watcher[] = [];
  for (let i = 0; i < viewerCount; i++) {
    viewers.push(watch(i % 10 === 3 ? "restless" : i % 20 === 7 ? "slow" : "steady"));
    if (i % 50 === 49) await sleep(20);
  }
  while ((await usage()).viewers < viewerCount * 0.95) await sleep(100);
  const before = await usage();
  const begun = performance.now();
  const total = rate * seconds;
  for (let i = 0; i < total; i++) {
    const due = begun + (1000 * i) / rate;
    const wait = due - performance.now();
    if (wait > 0) await sleep(wait);
    const line = stepLine(11 + i, {});
    appended.set(line, performance.now());
    appendFileSync(events, `${line}\n`);
  }
  const elapsedMs = performance.now() - begun;
  const after = await usage();
  for (const timer of timers) clearInterval(timer);
  for (const { viewer } of viewers) viewer.resume();
  const expected = createHash("sha256").update(readFileSync(events).subarray(start)).digest("hex");
  // As long as anybody gets anything: on a loaded machine these viewers' process may be far behind.
  const received = () => viewers.reduce((sum, { lines }) => sum + lines, 0);
  for (let before = -1; viewers.some(({ lines }) => lines < total) && received() > before; await sleep(10_000))
    before = received();
  const wrong = viewers.filter(({ hash, lines }) => lines !== total || hash.copy().digest("hex") !== expected);
  const incomplete = wrong.filter(({ lines }) => lines < total);
  const kinds = Object.entries(Object.groupBy(wrong, ({ kind }) => kind)).map(([kind, of]) => `${of!.length} ${kind}`);
  const sum = (count: "drops" | "losses") => viewers.reduce((all, { viewer }) => all + viewer[count], 0);
  for (const { viewer } of viewers) viewer.close();
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))]!.toFixed(1);
  const cpu = (100 * (after.cpuMs - before.cpuMs)) / elapsedMs;
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  console.log(machine());
  console.log(
    `${viewerCount} viewers (${viewers.filter(({ kind }) => kind === "restless").length} that leave and return, ${sum("drops")} returns; ${sum("losses")} connections lost or refused, all taken up again; ${viewers.filter(({ kind }) => kind === "slow").length} slow), ${total} events in ${(elapsedMs / 1000).toFixed(0)} s`,
  );
  console.log(
    `viewers that missed, doubled or reordered anything: ${wrong.length}${wrong.length > 0 ? ` (${kinds.join(", ")}; ${incomplete.length} without all lines when time was up)` : ""}`,
  );
  console.log(
    `server: ${cpu.toFixed(0)} % of one core, ${mib(before.rssBytes)} MiB with all connected, ${mib(after.rssBytes)} MiB after, peak ${mib(after.peakBytes)} MiB`,
  );
  console.log(
    `from append to arrival: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (${latencies.length} arrivals; median of all ${median(latencies).toFixed(1)} ms)`,
  );
  if (wrong.length > 0) process.exitCode = 1;
} finally {
  for (const timer of timers) clearInterval(timer);
  child.stdin.end();
  child.kill();
  rmSync(folder, { recursive: true });
}
