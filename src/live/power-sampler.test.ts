/** Power from a machine that is made of files and a shell script. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { NewEvent, RunEvent } from "./events.ts";
import { ledgerOf } from "./ledger.ts";
import { machineAssumptions } from "./ledger-assumptions.ts";
import { type PowerProblem, raplIsReadable, startPowerSampler } from "./power-sampler.ts";

let folder: string;
let root: string;
let nowMs: number;
/** How often the time was asked for: once at the beginning, then for each line that was read. */
let asked: number;
let events: NewEvent<"power">[];
let problems: PowerProblem[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cpm-power-"));
  root = join(folder, "powercap");
  mkdirSync(root);
  nowMs = 1_000_000;
  asked = 0;
  events = [];
  problems = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

function zone(entry: string, name: string, microjoules: number | string, range = 262_143_328_850): void {
  mkdirSync(join(root, entry), { recursive: true });
  writeFileSync(join(root, entry, "name"), `${name}\n`);
  writeFileSync(join(root, entry, "max_energy_range_uj"), `${range}\n`);
  writeFileSync(join(root, entry, "energy_uj"), `${microjoules}\n`);
}

const start = (nvidiaSmi = join(folder, "absent")) =>
  startPowerSampler({
    processor: "CPU",
    now: () => {
      asked++;
      return nowMs;
    },
    append: (event) => void events.push(event),
    onProblem: (problem) => void problems.push(problem),
    root,
    nvidiaSmi,
  });

function script(...lines: string[]): string {
  const path = join(folder, "nvidia-smi");
  writeFileSync(path, ["#!/bin/sh", ...lines, ""].join("\n"));
  chmodSync(path, 0o755);
  return path;
}

suite("RAPL", () => {
  test("packages and their memory are counted, cores within them and second names of them are not", () => {
    zone("intel-rapl:0", "package-0", 5_000_000);
    zone("intel-rapl:0:0", "core", 1_000_000);
    zone("intel-rapl:0:1", "dram", 2_000_000);
    zone("intel-rapl:1", "package-1", 0);
    zone("intel-rapl:2", "psys", 9_000_000);
    zone("intel-rapl-mmio:0", "package-0", 5_000_000);
    const sampler = start();
    for (const [entry, name, value] of [
      ["intel-rapl:0", "package-0", 605_000_000],
      ["intel-rapl:0:0", "core", 401_000_000],
      ["intel-rapl:0:1", "dram", 32_000_000],
      ["intel-rapl:1", "package-1", 300_000_000],
      ["intel-rapl:2", "psys", 1_909_000_000],
      ["intel-rapl-mmio:0", "package-0", 605_000_000],
    ] as const)
      zone(entry, name, value);
    nowMs += 10_000;
    sampler.stop();
    assert.deepEqual(events, [{ type: "power", seconds: 10, joules: 930, source: "rapl", devices: ["CPU"] }]);
    assert.deepEqual(problems, []);
  });

  test("a counter that runs over goes on from where it begins again", () => {
    zone("intel-rapl:0", "package-0", 990_000_000, 1_000_000_000);
    const sampler = start();
    zone("intel-rapl:0", "package-0", 40_000_000, 1_000_000_000);
    nowMs += 1000;
    sampler.sample();
    zone("intel-rapl:0", "package-0", 60_000_000, 1_000_000_000);
    nowMs += 1000;
    sampler.stop();
    assert.deepEqual(
      events.map(({ joules }) => joules),
      [50, 20],
    );
  });

  test("the platform's counter stands in where no package has one", () => {
    zone("intel-rapl:0", "psys", 0);
    const sampler = start();
    zone("intel-rapl:0", "psys", 7_000_000);
    nowMs += 1000;
    sampler.stop();
    assert.equal(events[0]!.joules, 7);
  });

  test("counters that cannot be read are told once, and nothing is written", () => {
    zone("intel-rapl:0", "package-0", 1);
    zone("intel-rapl:1", "package-1", 1);
    assert.equal(raplIsReadable(root), true);
    // The superuser may read everything: a folder in the file's place refuses everybody.
    rmSync(join(root, "intel-rapl:1", "energy_uj"));
    mkdirSync(join(root, "intel-rapl:1", "energy_uj"));
    assert.equal(raplIsReadable(root), false);
    const sampler = start();
    for (let i = 0; i < 3; i++) {
      nowMs += 1000;
      sampler.sample();
    }
    sampler.stop();
    assert.deepEqual(events, []);
    assert.deepEqual(
      problems.map(({ source, kind }) => [source, kind]),
      [["rapl", "failed"]],
    );
  });

  test("a refusal says which file", { skip: process.getuid?.() === 0 && "the superuser is refused nothing" }, () => {
    zone("intel-rapl:0", "package-0", 1);
    chmodSync(join(root, "intel-rapl:0", "energy_uj"), 0);
    start().stop();
    assert.deepEqual(problems, [
      { source: "rapl", kind: "permission", detail: join(root, "intel-rapl:0", "energy_uj") },
    ]);
  });

  test("a machine that tells nothing: no line, no problem", async () => {
    rmSync(root, { recursive: true });
    const sampler = start();
    await sleep(50);
    nowMs += 1000;
    sampler.stop();
    assert.deepEqual([events, problems], [[], []]);
    assert.equal(raplIsReadable(root), false);
  });
});

suite("nvidia-smi", () => {
  test("watts of each card over time, by the cards' name", async () => {
    const fifo = join(folder, "go");
    const sampler = start(
      script(
        'echo "0, NVIDIA A100, 100.0"; echo "1, NVIDIA A100, 50"',
        `while [ ! -e ${fifo} ]; do sleep 0.02; done`,
        'echo "0, NVIDIA A100, 300.0"; echo "1, NVIDIA A100, 50"',
        "exec sleep 60",
      ),
    );
    while (asked < 3) await sleep(10);
    nowMs += 10_000;
    writeFileSync(fifo, "");
    for (let i = 0; i < 200 && events.length === 0; i++) {
      await sleep(20);
      nowMs += 1;
      sampler.sample();
    }
    sampler.stop();
    const [event] = events;
    assert.ok(event, "no line was written");
    assert.deepEqual([event.source, event.devices], ["nvidia-smi", ["NVIDIA A100"]]);
    assert.ok(Math.abs(event.seconds - 10) < 1, `${event.seconds}`);
    // (100 + 300) / 2 and 50 watts for as long.
    assert.ok(Math.abs(event.joules / event.seconds - 250) < 1, `${event.joules}`);
    assert.deepEqual(problems, []);
  });

  for (const [what, line] of [
    ["a driver that does not answer", 'echo "could not talk to the driver" >&2; exit 9'],
    ["a card that does not tell", 'echo "0, GeForce, [N/A]"; exec sleep 60'],
  ] as const) {
    test(`${what} is told once`, async () => {
      const sampler = start(script(line));
      for (let i = 0; i < 200 && problems.length === 0; i++) await sleep(20);
      nowMs += 1000;
      sampler.stop();
      await sleep(50);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!.detail, /driver|GeForce/);
      assert.deepEqual(events, []);
    });
  }
});

test("the ledger counts what was measured, and stated watts for the rest", () => {
  const machine = { cpu: "CPU", cores: 2 };
  const at = (seconds: number) => new Date(seconds * 1000).toISOString();
  const run: RunEvent[] = [
    { type: "start", step: 0, tokens: 0, attempt: 1, time: at(0) },
    { type: "power", seconds: 1800, joules: 90_000, source: "rapl", devices: ["CPU"], time: at(1800) },
    { type: "end", step: 1, tokens: 1, reason: "steps", time: at(3600) },
  ];
  const found = ledgerOf(run, machineAssumptions(machine, { pue: 1 }, "rapl"));
  assert.equal(found.measuredKwh, 0.025);
  // Half an hour at the 20 W that two cores are said to take.
  assert.ok(Math.abs(found.energyKwh - 0.035) < 1e-12, `${found.energyKwh}`);
});
