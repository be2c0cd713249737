import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { ConfigError, DataError } from "../util/error.ts";
import type { RunEvent } from "./events.ts";
import {
  createRun,
  findRuns,
  maxLineBytes,
  newRunId,
  type RunDescription,
  readEvents,
  readRun,
  reopenRun,
} from "./run-folder.ts";

const root = mkdtempSync(join(tmpdir(), "cpm-run-"));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const fresh = () => join(root, `run-${++folders}`);
const now = () => Date.parse("2026-01-02T03:04:05Z");

export const description: RunDescription = {
  format: 1,
  id: newRunId(now()),
  name: "test",
  createdAt: "2026-01-02T03:04:05.000Z",
  status: "running",
  recipe: {},
  model: { config: {}, parameters: 1 },
  data: { sources: [] },
  target: {},
  machine: { cpu: "cpu", cores: 2, memoryBytes: 1 },
  versions: {},
};
const note = (text: string) => ({ type: "note", text }) as const;

async function texts(folder: string, fromByte = 0): Promise<string[]> {
  const found: string[] = [];
  for await (const { event } of readEvents(folder, fromByte)) {
    found.push((event as RunEvent<"note">).text);
  }
  return found;
}

test("a run is made, written, closed, opened again and read", async () => {
  const folder = fresh();
  const writer = await createRun(folder, description, now);
  writer.append(note("一"));
  writer.append(note("two"), true);
  await writer.update({ status: "stopped" });
  await writer.close();
  const again = await reopenRun(folder, now);
  again.append(note("three"));
  await again.close();
  assert.deepEqual(await texts(folder), ["一", "two", "three"]);
  assert.equal(readRun(folder).status, "stopped");
  assert.deepEqual(readdirSync(folder).sort(), ["checkpoints", "events.jsonl", "run.json"]);
});

test("reading goes on from the byte after any event", async () => {
  const folder = fresh();
  const writer = await createRun(folder, description, now);
  for (let k = 0; k < 5; k++) writer.append(note(`第 ${k} 条`));
  await writer.close();
  const ends: number[] = [];
  for await (const { endByte } of readEvents(folder)) ends.push(endByte);
  for (const [index, end] of ends.entries()) {
    assert.deepEqual(
      await texts(folder, end),
      ["第 0 条", "第 1 条", "第 2 条", "第 3 条", "第 4 条"].slice(index + 1),
    );
  }
});

test("a torn last line is not read, and is cut off when the run goes on", async () => {
  const whole = `${JSON.stringify({ time: "2026-01-02T03:04:05.000Z", type: "note", text: "whole" })}\n`;
  const long = `{"time":"2026-01-02T03:04:05.000Z","type":"note","text":"${"x".repeat(200_000)}`;
  for (const torn of ["{", whole.slice(0, -1), long]) {
    const folder = fresh();
    await (await createRun(folder, description, now)).close();
    appendFileSync(join(folder, "events.jsonl"), whole + torn);
    assert.deepEqual(await texts(folder), ["whole"]);
    const writer = await reopenRun(folder, now);
    writer.append(note("next"));
    await writer.close();
    assert.deepEqual(await texts(folder), ["whole", "next"]);
  }
  const folder = fresh();
  await (await createRun(folder, description, now)).close();
  appendFileSync(join(folder, "events.jsonl"), "torn from the first byte");
  await (await reopenRun(folder, now)).close();
  assert.equal(readFileSync(join(folder, "events.jsonl"), "utf8"), "");
});

test("cut anywhere, a record keeps every whole line and goes on", async () => {
  const folder = fresh();
  const writer = await createRun(folder, description, now);
  for (let k = 0; k < 6; k++) writer.append(note(`事件 ${k}`));
  await writer.close();
  const path = join(folder, "events.jsonl");
  const bytes = readFileSync(path);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: bytes.length }), async (length) => {
      writeFileSync(path, bytes.subarray(0, length));
      const lines = bytes.subarray(0, length).toString("latin1").split("\n").length - 1;
      const reopened = await reopenRun(folder, now);
      reopened.append(note("next"));
      await reopened.close();
      const found = await texts(folder);
      assert.equal(found.length, lines + 1);
      assert.equal(found.at(-1), "next");
    }),
    { numRuns: 40 },
  );
});

test("lines that are no event are passed over, huge ones without holding them", async () => {
  const folder = fresh();
  await (await createRun(folder, description, now)).close();
  const path = join(folder, "events.jsonl");
  const good = (text: string) => `${JSON.stringify({ time: "2026-01-02T03:04:05.000Z", type: "note", text })}\n`;
  appendFileSync(path, `${good("a")}\n\0\0\n[1,2]\n{"type":"note"}\n${good("b")}`);
  appendFileSync(path, `{"time":"${"x".repeat(3 * maxLineBytes)}"}\n${good("c")}`);
  appendFileSync(path, Buffer.from([0xff, 0xfe, 10]));
  appendFileSync(path, good("d"));
  assert.deepEqual(await texts(folder), ["a", "b", "c", "d"]);
});

test("what is no description of a run is a DataError", async () => {
  const folder = fresh();
  await (await createRun(folder, description, now)).close();
  const path = join(folder, "run.json");
  const wrong = [
    "",
    "{",
    "null",
    "[]",
    JSON.stringify({ ...description, format: 2 }),
    JSON.stringify({ ...description, id: "../../etc" }),
    JSON.stringify({ ...description, status: "odd" }),
    JSON.stringify({ ...description, ledger: { devices: "many" } }),
    `"${"x".repeat(17 * 1024 * 1024)}"`,
  ];
  for (const text of wrong) {
    writeFileSync(path, text);
    assert.throws(() => readRun(folder), { code: "CPM_RUN_FOLDER" }, text.slice(0, 60));
  }
  assert.throws(() => readRun(join(root, "absent")), DataError);
  await assert.rejects(texts(join(root, "absent")), DataError);
});

test("a folder that holds something is refused; two writers at a time too", async () => {
  const folder = fresh();
  const writer = await createRun(folder, description, now);
  await assert.rejects(createRun(folder, description, now), { code: "CPM_RUN_EXISTS" });
  await assert.rejects(reopenRun(folder, now), { code: "CPM_RUN_LOCKED" });
  await writer.close();
  await (await reopenRun(folder, now)).close();
});

test("the lock of a living process of this machine, or of any on another, holds; that of a dead one does not", async () => {
  const folder = fresh();
  await (await createRun(folder, description, now)).close();
  const path = join(folder, "run.lock");
  const { hostname } = await import("node:os");
  const parent = { pid: process.ppid, host: hostname() };
  for (const holder of [parent, { pid: 1, host: "another-machine" }]) {
    writeFileSync(path, JSON.stringify(holder));
    await assert.rejects(reopenRun(folder, now), ConfigError);
    assert.ok(existsSync(path));
  }
  for (const text of [
    JSON.stringify({ pid: 2 ** 30, host: hostname() }),
    "",
    "rubbish",
    JSON.stringify({ pid: process.pid, host: hostname() }),
  ]) {
    writeFileSync(path, text);
    await (await reopenRun(folder, now)).close();
    assert.ok(!existsSync(path));
  }
});

test("of several processes that take over a stale lock at once, one gets it", async () => {
  const folder = fresh();
  await (await createRun(folder, description, now)).close();
  writeFileSync(join(folder, "run.lock"), JSON.stringify({ pid: 2 ** 30, host: (await import("node:os")).hostname() }));
  const worker = fileURLToPath(new URL("../../test/support/lock-worker.ts", import.meta.url));
  const children = Array.from({ length: 4 }, () => fork(worker, [folder]));
  await Promise.all(children.map((child) => once(child, "message"))); // all are ready
  const answers = children.map((child) => once(child, "message"));
  for (const child of children) child.send("go");
  const results = (await Promise.all(answers)).map(([answer]) => answer);
  const exits = children.map((child) => once(child, "exit"));
  for (const child of children) if (child.connected) child.disconnect();
  await Promise.all(exits.filter((_, index) => children[index]!.exitCode === null));
  assert.equal(results.filter((result) => result === "taken").length, 1, results.join());
  assert.equal(results.filter((result) => result === "CPM_RUN_LOCKED").length, 3, results.join());
});

test("runs are found in a folder of runs, newest first; others are passed over", async () => {
  const parent = fresh();
  for (const [name, createdAt] of [
    ["old", "2026-01-01T00:00:00Z"],
    ["new", "2026-01-03T00:00:00Z"],
  ] as const) {
    await (await createRun(join(parent, name), { ...description, createdAt }, now)).close();
  }
  await (await createRun(join(parent, "bad"), description, now)).close();
  writeFileSync(join(parent, "bad", "run.json"), "{");
  assert.deepEqual(await findRuns([parent]), [join(parent, "new"), join(parent, "old")]);
  assert.deepEqual(await findRuns([join(parent, "old")]), [join(parent, "old")]);
  await assert.rejects(findRuns([join(parent, "absent")]), DataError);
});
