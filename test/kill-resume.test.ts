/**
 * A run that is killed, or whose disk fails it, goes on to the same weights: real processes, `kill -9` at random moments,
 * a full disk, a folder that cannot be written, damaged checkpoints.
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readPublicRun } from "../src/live/public-description.ts";
import { finalWeights, runCpm, smallDataset, smallRun, startCpm } from "./support/small-run.ts";

const steps = 40;
let folder = "";
let data = "";
let reference: Buffer;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "cpm-kill-"));
  data = await smallDataset(folder);
  const run = join(folder, "reference");
  const { code, stderr } = await runCpm(smallRun(data, run, steps));
  assert.equal(code, 0, stderr);
  reference = finalWeights(run, steps);
});
after(() => rmSync(folder, { recursive: true }));

const eventsOf = (run: string) =>
  existsSync(join(run, "events.jsonl")) ? readFileSync(join(run, "events.jsonl"), "utf8") : "";

test("killed at random moments and resumed, the weights are the same to the last bit", {
  timeout: 120_000,
}, async (context) => {
  const run = join(folder, "killed");
  let kills = 0;
  for (let attempt = 0; attempt < 40; attempt++) {
    const words = attempt === 0 ? smallRun(data, run, steps) : ["train", "--resume", run, "--lang", "en"];
    const { child, ended } = startCpm(words);
    if (kills < 5) {
      const lines = eventsOf(run).length;
      while (eventsOf(run).length === lines && child.exitCode === null) await sleep(2);
      await sleep(Math.random() * 300);
      child.kill("SIGKILL");
    }
    const { code, signal, stderr } = await ended;
    if (code === 0) break;
    assert.equal(signal, "SIGKILL", stderr);
    kills++;
  }
  context.diagnostic(`${kills} kills`);
  assert.equal(kills, 5);
  assert.ok(finalWeights(run, steps).equals(reference));
  assert.deepEqual(
    readdirSync(join(run, "checkpoints")).filter((name) => name.startsWith(".")),
    [],
    "half-written checkpoints are left",
  );
});

test("killed while a checkpoint is being written, it goes on from the one before", { timeout: 60_000 }, async () => {
  const run = join(folder, "saving");
  const { child, ended } = startCpm(smallRun(data, run, steps));
  const half = () =>
    existsSync(join(run, "checkpoints")) &&
    readdirSync(join(run, "checkpoints")).some(
      (name) => name.startsWith(".step-") && readdirSync(join(run, "checkpoints")).length > 1,
    );
  while (!half() && child.exitCode === null) await new Promise((resolve) => setImmediate(resolve));
  child.kill("SIGKILL");
  await ended;
  const { code, stderr } = await runCpm(["train", "--resume", run, "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.ok(finalWeights(run, steps).equals(reference));
});

test("Ctrl-C finishes the step, saves and says so; the run goes on to the same weights", {
  timeout: 60_000,
}, async () => {
  const run = join(folder, "interrupted");
  const { child, ended } = startCpm(smallRun(data, run, steps));
  while (!eventsOf(run).includes('"step":12,') && child.exitCode === null) await sleep(5);
  child.kill("SIGINT");
  const { code } = await ended;
  assert.equal(code, 130);
  const events = eventsOf(run)
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string; step: number; reason?: string });
  const last = events.at(-1)!;
  assert.deepEqual([last.type, last.reason], ["end", "cancelled"]);
  assert.ok(existsSync(join(run, "checkpoints", `step-${String(last.step).padStart(8, "0")}`)));
  assert.equal((JSON.parse(readFileSync(join(run, "run.json"), "utf8")) as { status: string }).status, "stopped");
  assert.equal((await runCpm(["train", "--resume", run])).code, 0);
  assert.ok(finalWeights(run, steps).equals(reference));
});

test("a damaged checkpoint is named and passed over for the one before", { timeout: 60_000 }, async () => {
  const run = join(folder, "damaged");
  assert.equal((await runCpm(smallRun(data, run, 20))).code, 0);
  truncateSync(join(run, "checkpoints", "step-00000020", "optimizer.safetensors"), 100);
  const { code, stderr } = await runCpm(["train", "--resume", run, "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /step-00000020/);
  assert.match(stderr, /CPM_TRAIN_CHECKPOINT/);
  assert.match(stderr, /Going on from step 15/);
});

test("a full disk ends the run with an error; the checkpoint before is intact and goes on", {
  timeout: 60_000,
}, async (context) => {
  if (!existsSync("/usr/bin/prlimit")) return context.skip("prlimit is not installed");
  const run = join(folder, "full");
  // Larger files than this cannot be written: a checkpoint's moments are.
  assert.equal((await runCpm(smallRun(data, run, 10))).code, 0);
  const size = readFileSync(join(run, "checkpoints", "step-00000010", "optimizer.safetensors")).length;
  const description = join(run, "run.json");
  const changed = JSON.parse(readFileSync(description, "utf8")) as {
    recipe: { steps: number };
    target: { steps: number };
  };
  changed.recipe.steps = changed.target.steps = steps;
  writeFileSync(description, JSON.stringify(changed));
  const { code, stderr } = await runCpm(["train", "--resume", run, "--lang", "en"], ["prlimit", `--fsize=${size - 1}`]);
  assert.equal(code, 4, stderr);
  assert.match(stderr, /CPM_FILE_NO_SPACE/);
  assert.ok(existsSync(join(run, "checkpoints", "step-00000010")));
  assert.deepEqual(
    readdirSync(join(run, "checkpoints")).filter((name) => name.startsWith(".")),
    [],
  );
  assert.equal((await runCpm(["train", "--resume", run])).code, 0);
});

test("a folder that may not be written is told before anything is trained", { timeout: 60_000 }, async (context) => {
  const parent = join(folder, "closed");
  mkdirSync(parent);
  chmodSync(parent, 0o555);
  chmodSync(folder, 0o755);
  // The superuser may write everywhere: then somebody else tries.
  const other = process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];
  // A checkout in a private folder is closed to them, though not to its owner.
  const mayRun = await runCpm(["--version"], other).catch(() => undefined);
  if (mayRun?.code !== 0) return context.skip("SKIPPED: no other user may run this checkout, so it was not tried");
  const { code, stderr } = await runCpm(smallRun(data, join(parent, "run"), 10), other);
  assert.equal(code, 4, stderr);
  assert.match(stderr, /CPM_FILE_PERMISSION/);
});

test("two processes cannot write one run", { timeout: 60_000 }, async () => {
  const run = join(folder, "twice");
  const { child, ended } = startCpm(smallRun(data, run, 100_000));
  while (!eventsOf(run).includes('"type":"step"') && child.exitCode === null) await sleep(5);
  const { code, stderr } = await runCpm(["train", "--resume", run, "--lang", "en"]);
  child.kill("SIGKILL");
  await ended;
  assert.equal(code, 2, stderr);
  assert.match(stderr, /CPM_RUN_LOCKED/);
});

test("alerts of the recipe are posted; their address is in no public description", { timeout: 60_000 }, async () => {
  const bodies: { kind: string }[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      bodies.push(JSON.parse(body) as { kind: string });
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const recipe = join(folder, "alerts.yaml");
  writeFileSync(recipe, `alerts:\n  - url: http://127.0.0.1:${port}/secret\n    on: [start, end]\n`);
  const run = join(folder, "alerting");
  const { code, stderr } = await runCpm([...smallRun(data, run, 5), "-c", recipe]);
  server.close();
  assert.equal(code, 0, stderr);
  assert.deepEqual(
    bodies.map(({ kind }) => kind),
    ["start", "end"],
  );
  assert.doesNotMatch(JSON.stringify(readPublicRun(run)), /secret/);
});
