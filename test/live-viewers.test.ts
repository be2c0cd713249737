/**
 * No viewer loses an event: slow ones, those that leave in the middle of a message and come back, all of them when the server is
 * started anew, while lines are written in pieces, of all sizes that an event can have.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type LiveServer, startLiveServer } from "../src/live/server.ts";
import { createRandom } from "../src/util/random.ts";
import { openEventViewer } from "./support/event-viewer.ts";
import { stepLine, writeSyntheticRun } from "./support/synthetic-run.ts";

let parent = "";
let run = "";
before(() => {
  parent = mkdtempSync(join(tmpdir(), "cpm-live-viewers-"));
  run = writeSyntheticRun(join(parent, "runs"), { id: "one", steps: 50 });
  mkdirSync(join(parent, "pages"));
  writeFileSync(join(parent, "pages", "index.html"), "");
});
after(() => rmSync(parent, { recursive: true }));

const start = (port: number): Promise<LiveServer> =>
  startLiveServer({
    runs: [join(parent, "runs")],
    pages: join(parent, "pages"),
    host: "127.0.0.1",
    port,
    checkpoints: false,
    now: Date.now,
  });

const noteLine = (characters: number) =>
  JSON.stringify({ time: new Date(0).toISOString(), type: "note", text: "春".repeat(characters) });

/** Most as short as a step, some of many kilobytes, and some longer than what is read or sent at once. */
function lineOf(i: number): string {
  if (i % 500 === 250) return noteLine(120_000); // beyond a part of catching up
  if (i === 700) return noteLine(600_000); // beyond what the file is read by
  return i % 5 === 0 ? noteLine(1500 + i) : stepLine(100 + i, {});
}

test("slow, restless and late viewers, a restart, lines in pieces: all get the file's bytes", {
  timeout: 120_000,
}, async () => {
  const events = join(run, "events.jsonl");
  const random = createRandom(3, "viewers");
  let server = await start(0);
  const stream = `${server.url}api/runs/one/stream`;
  const timers: NodeJS.Timeout[] = [];
  const watch = (kind: string, from: number) => {
    const hash = createHash("sha256").update(readFileSync(events).subarray(0, from));
    const viewer = openEventViewer(stream, from, (line) => void hash.update(`${line}\n`));
    return { kind, viewer, hash };
  };
  const viewers = Array.from({ length: 24 }, (_, i) =>
    watch(["steady", "slow", "restless", "both"][i % 4]!, i < 8 ? 0 : readFileSync(events).length),
  );
  for (const [i, { kind, viewer }] of viewers.entries()) {
    let paused = false;
    if (kind === "slow" || kind === "both") {
      const turn = () => {
        paused = !paused;
        if (paused) viewer.pause();
        else viewer.resume();
      };
      timers.push(setInterval(turn, 40 + 30 * i));
    }
    if (kind === "restless" || kind === "both") timers.push(setInterval(() => viewer.drop(), 70 + 11 * i));
  }
  const file = openSync(events, "a");
  try {
    for (let i = 0; i < 1400; i++) {
      const line = Buffer.from(`${lineOf(i)}\n`);
      // Torn anywhere, in the middle of a character too.
      const cut = i % 3 === 0 ? Math.floor(random.uniform() * line.length) : line.length;
      writeSync(file, line, 0, cut);
      if (cut < line.length) {
        await sleep(i % 30 === 0 ? 3 : 0);
        writeSync(file, line, cut);
      }
      if (i === 500) {
        await server.close();
        server = await start(Number(new URL(stream).port));
      }
      if (i === 900) viewers.push(watch("late", 0));
    }
    await sleep(300);
    for (const timer of timers) clearInterval(timer);
    for (const { viewer } of viewers) viewer.resume();
    const whole = readFileSync(events);
    for (const { viewer } of viewers) while (viewer.position < whole.length) await sleep(20);
    const expected = createHash("sha256").update(whole).digest("hex");
    for (const { kind, viewer, hash } of viewers) {
      assert.equal(viewer.position, whole.length, kind);
      assert.equal(hash.digest("hex"), expected, `${kind}: ${viewer.drops} times left, ${viewer.losses} times lost`);
      if (kind === "steady") assert.ok(viewer.losses >= 1, "the restart was not noticed");
      if (kind === "restless") assert.ok(viewer.drops >= 3, `left ${viewer.drops} times`);
    }
  } finally {
    closeSync(file);
    for (const timer of timers) clearInterval(timer);
    for (const { viewer } of viewers) viewer.close();
    await server.close();
  }
});
