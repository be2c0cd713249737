/**
 * Many viewers of one run at once: does each get every event once, in order, and what does it cost the server?
 *
 *     node bench/live-viewers.ts [--viewers 1000] [--rate 50] [--seconds 60]
 *
 * The server is a process of its own; viewers are connections over 127.0.0.1 from this one. A tenth of them leave every few
 * seconds and come back with the id of the last message, another twentieth reads nothing for seconds at a time. While
 * events are appended, each viewer hashes the lines that it gets; in the end all hashes must be that of the file. Latency is
 * from the append to the arrival, in this process's clock.
 */
import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
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

interface Viewer {
  readonly kind: "steady" | "restless" | "slow";
  readonly hash: Hash;
  lines: number;
  /** Reconnections so far. */
  returns: number;
  position: number;
  response: IncomingMessage | undefined;
  stop(): void;
}

function watch(kind: Viewer["kind"]): Viewer {
  const viewer: Viewer = {
    kind,
    hash: createHash("sha256"),
    lines: 0,
    returns: 0,
    position: start,
    response: undefined,
    stop: () => {},
  };
  const connect = () => {
    const request = get(`${url}api/runs/one/stream?from=${start}`, {
      headers: { "Last-Event-ID": String(viewer.position) },
      agent: false,
    });
    request.on("response", (response) => {
      viewer.response = response;
      let rest = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        const messages = (rest + chunk).split("\n\n");
        rest = messages.pop()!;
        for (const message of messages) take(message);
      });
    });
    request.on("error", () => {});
    viewer.stop = () => request.destroy();
  };
  const take = (message: string) => {
    const now = performance.now();
    for (const line of message.split("\n")) {
      if (line.startsWith("id: ")) viewer.position = Number(line.slice(4));
      else if (line.startsWith("data: ")) {
        const text = line.slice(6);
        viewer.hash.update(`${text}\n`);
        viewer.lines++;
        const since = appended.get(text);
        if (since !== undefined && kind === "steady") latencies.push(now - since);
      }
    }
  };
  connect();
  if (kind === "restless") {
    const timer = setInterval(
      () => {
        viewer.stop();
        viewer.returns++;
        connect();
      },
      2000 + 3000 * Math.random(),
    );
    timers.push(timer);
  } else if (kind === "slow") {
    timers.push(setInterval(() => viewer.response?.[viewer.response.isPaused() ? "resume" : "pause"](), 3000));
  }
  return viewer;
}

const timers: NodeJS.Timeout[] = [];
try {
  const viewers: Viewer[] = [];
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
  for (const { response } of viewers) response?.resume();
  const expected = createHash("sha256").update(readFileSync(events).subarray(start)).digest("hex");
  const deadline = performance.now() + 30_000;
  while (performance.now() < deadline && viewers.some(({ lines }) => lines < total)) await sleep(100);
  const wrong = viewers.filter(({ hash, lines }) => lines !== total || hash.copy().digest("hex") !== expected);
  const incomplete = wrong.filter(({ lines }) => lines < total);
  const kinds = Object.entries(Object.groupBy(wrong, ({ kind }) => kind)).map(([kind, of]) => `${of!.length} ${kind}`);
  for (const viewer of viewers) viewer.stop();
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))]!.toFixed(1);
  const cpu = (100 * (after.cpuMs - before.cpuMs)) / elapsedMs;
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  console.log(machine());
  console.log(
    `${viewerCount} viewers (${viewers.filter(({ kind }) => kind === "restless").length} that leave and return, ${viewers.reduce((sum, { returns }) => sum + returns, 0)} returns; ${viewers.filter(({ kind }) => kind === "slow").length} slow), ${total} events in ${(elapsedMs / 1000).toFixed(0)} s`,
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
