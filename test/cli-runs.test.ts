/** `cpm runs` over real runs, going back to an older checkpoint, and power that is measured while training. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { currentEvents, parseEvent, type RunEvent } from "../src/live/events.ts";
import { readRun } from "../src/live/run-folder.ts";
import { pageLedger, readLedger } from "../src/live/run-ledger.ts";
import { runCli } from "./support/cli-world.ts";
import { finalWeights, smallDataset, smallRun } from "./support/small-run.ts";

const steps = 12;
let folder: string;
let data: string;
let first: string;
let second: string;
let nowMs = Date.parse("2026-11-27T08:00:00Z");
const now = () => {
  nowMs += 250;
  return nowMs;
};

const cpm = (words: readonly string[], env: Record<string, string> = {}) => runCli(words, { now, env });
const eventsOf = (run: string): RunEvent[] =>
  readFileSync(join(run, "events.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => parseEvent(line)!);

/** A processor whose counter goes on by 100 J each time that it is looked at is not to be had of a file: it stands still. */
function fakeCounter(): string {
  const zone = join(folder, "powercap", "intel-rapl:0");
  mkdirSync(zone, { recursive: true });
  writeFileSync(join(zone, "name"), "package-0\n");
  writeFileSync(join(zone, "max_energy_range_uj"), "262143328850\n");
  writeFileSync(join(zone, "energy_uj"), "1000000\n");
  return join(folder, "powercap");
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "cpm-runs-"));
  data = await smallDataset(folder);
  first = join(folder, "runs", "first");
  second = join(folder, "runs", "second");
  const keep = ["every.checkpoint=4", "every.validation=4", "retention.last=9"];
  const powercap = fakeCounter();
  const one = await cpm(smallRun(data, first, steps, keep), { CPM_POWERCAP: powercap, CPM_NVIDIA_SMI: "/nowhere" });
  assert.equal(one.code, 0, one.stderr);
  const two = await cpm([...smallRun(data, second, 8, keep), "--seed", "2", "--power", "35"]);
  assert.equal(two.code, 0, two.stderr);
});
after(() => rmSync(folder, { recursive: true }));

test("a folder of runs as a table and as JSON", async () => {
  const table = await cpm(["runs", join(folder, "runs"), "--lang", "en"]);
  assert.equal(table.code, 0, table.stderr);
  assert.match(table.stdout, /first +ended +12\/12/);
  assert.match(table.stdout, /second +ended +8\/8/);
  const { stdout } = await cpm(["runs", first, "--json"]);
  const [report] = (JSON.parse(stdout) as { runs: Record<string, number & Record<string, number>>[] }).runs;
  const events = eventsOf(first);
  const losses = events.filter((event) => event.type === "step").map(({ loss }) => loss);
  assert.equal(report!.step, steps);
  assert.ok(Math.abs(report!.loss! - losses.reduce((sum, loss) => sum + loss, 0) / steps) < 1e-9);
  const validations = events.filter((event) => event.type === "validation");
  assert.equal(report!.best!.nats, Math.min(...validations.map(({ nats }) => nats)));
  assert.equal(report!.energyKwh, (await readLedger(first)).energyKwh);
});

test("two runs beside each other: what differs, losses at equal tokens, cost", async () => {
  const { stdout } = await cpm(["runs", first, second, "--json", "--points", "2"]);
  const found = JSON.parse(stdout) as {
    runs: { tokens: number }[];
    differences: { setting: string; values: unknown[] }[];
    atTokens: { tokens: number; losses: number[]; nats: number[] }[];
  };
  const settings = new Map(found.differences.map(({ setting, values }) => [setting, values]));
  assert.deepEqual(settings.get("seed"), [1, 2]);
  assert.deepEqual(settings.get("steps"), [12, 8]);
  assert.deepEqual(settings.get("power"), ["auto", 35]);
  assert.ok(!settings.has("rows") && !settings.has("run"));
  const common = Math.min(...found.runs.map(({ tokens }) => tokens));
  assert.deepEqual(
    found.atTokens.map(({ tokens }) => tokens),
    [Math.floor(common / 2), common],
  );
  const upTo = eventsOf(second).filter(
    (event) => event.type === "step" && event.tokens <= common / 2,
  ) as RunEvent<"step">[];
  const mean = upTo.reduce((sum, { loss }) => sum + loss, 0) / upTo.length;
  assert.ok(Math.abs(found.atTokens[0]!.losses[1]! - mean) < 1e-9);
  assert.ok(found.atTokens.every(({ nats }) => nats.every((each) => each > 0)));
  const table = await cpm(["runs", first, second, "--lang", "zh"]);
  assert.match(table.stdout, /配方中不同之处/);
  assert.match(table.stdout, /seed +1 +2/);
});

test("the machine's counter is in the record and the ledger, stated watts where they are given", async () => {
  const measured = eventsOf(first).filter((event) => event.type === "power");
  assert.ok(measured.length >= 1);
  assert.equal(measured[0]!.source, "rapl");
  assert.equal(readRun(first).ledger!.devices[0]!.powerSource, "rapl");
  assert.deepEqual(
    eventsOf(second).filter((event) => event.type === "power"),
    [],
  );
  assert.equal(readRun(second).ledger!.devices[0]!.watts, 35);
  const ledger = await readLedger(second);
  assert.ok(Math.abs(ledger.energyKwh - (ledger.hours * 35) / 1000) < 1e-9);
});

test("the record tells stages, and the ledger money and energy by them", async () => {
  const stages = eventsOf(first).filter((event) => event.type === "stage");
  assert.deepEqual(
    stages.map(({ step, name }) => [step, name]),
    [[0, "warmup"]],
  );
  const { stdout } = await cpm(["cost", first, "--json"]);
  const { parts } = JSON.parse(stdout) as { parts: { name: string; hours: number }[] };
  assert.ok(parts.some(({ name, hours }) => name === "warmup" && hours > 0));
  const { stages: ofPage, assumptions } = pageLedger(await readLedger(second));
  assert.deepEqual(
    ofPage!.map(({ name }) => name),
    ["warmup"],
  );
  assert.ok(assumptions!.some(({ en }) => en.includes("stated watts count")));
});

test("going back to an older checkpoint: nothing is lost, and the same weights come out", async () => {
  const weights = finalWeights(first, steps);
  const before = eventsOf(first);
  const absent = await cpm(["train", "--resume", first, "--from", "5", "--lang", "en"]);
  assert.equal(absent.code, 2, absent.stderr);
  assert.match(absent.stderr, /CPM_TRAIN_FROM[\s\S]*4, 8, 12/);
  assert.equal(readRun(first).status, "ended");
  const { code, stderr } = await cpm(["train", "--resume", first, "--from", "4", "--lang", "en"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /Back to step 4; what came after it up to step 12 is undone/);
  assert.ok(finalWeights(first, steps).equals(weights));
  const after = eventsOf(first);
  assert.deepEqual(after.slice(0, before.length), before);
  const start = after[before.length]!;
  assert.deepEqual(start.type === "start" && [start.step, start.undone], [
    4,
    { step: 12, checkpoints: "checkpoints/undone" },
  ]);
  assert.deepEqual(readdirSync(join(first, "checkpoints", "undone")), ["step-00000008", "step-00000012"]);
  const current = currentEvents(after).filter((event) => event.type === "step");
  assert.deepEqual(
    current.map(({ step }) => step),
    Array.from({ length: steps }, (_, i) => i + 1),
  );
});

test("--from without --resume is refused", async () => {
  const { code, stderr } = await cpm([...smallRun(data, join(folder, "x"), 2), "--from", "4"]);
  assert.equal(code, 2);
  assert.match(stderr, /--from goes with --resume/);
});
