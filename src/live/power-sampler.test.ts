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
import { type PowerProblem, startPowerSampler } from "./power-sampler.ts";
import { raplIsReadable } from "./rapl.ts";

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
    const range = 65_532_610_987;
    zone("intel-rapl:0", "package-0", range - 10_000_000, range);
    const sampler = start();
    zone("intel-rapl:0", "package-0", 40_000_000, range);
    nowMs += 1000;
    sampler.sample();
    zone("intel-rapl:0", "package-0", 60_000_000, range);
    nowMs += 1000;
    sampler.stop();
    assert.deepEqual(
      events.map(({ joules }) => joules),
      [50, 20],
    );
  });

  test("after so long a gap that it may have run over twice nothing is said, then it goes on", () => {
    zone("intel-rapl:0", "package-0", 1_000_000);
    const sampler = start();
    zone("intel-rapl:0", "package-0", 9_000_000);
    nowMs += 3_600_000; // the machine slept
    sampler.sample();
    assert.deepEqual(events, []);
    zone("intel-rapl:0", "package-0", 29_000_000);
    nowMs += 1000;
    sampler.stop();
    assert.deepEqual(
      events.map(({ seconds, joules }) => [seconds, joules]),
      [[1, 20]],
    );
  });

  test("two sockets, each with dies and memory of its own, as servers have them", () => {
    const write = (factor: number) => {
      for (const [entry, name, joules] of [
        ["intel-rapl:0", "package-0-die-0", 100],
        ["intel-rapl:1", "package-0-die-1", 90],
        ["intel-rapl:2", "package-1-die-0", 80],
        ["intel-rapl:0:0", "dram", 7],
        ["intel-rapl:2:0", "dram", 6],
        ["intel-rapl:10", "package-1-die-1", 70],
      ] as const)
        zone(entry, name, joules * factor * 1e6);
    };
    write(1);
    mkdirSync(join(root, "intel-rapl")); // the kind itself, no zone
    mkdirSync(join(root, "dtpm"));
    const sampler = start();
    write(2);
    nowMs += 1000;
    sampler.stop();
    assert.equal(events[0]!.joules, 353);
  });

  test("what is no count is told, and a counter that answers again is counted again", () => {
    zone("intel-rapl:0", "package-0", "");
    assert.equal(raplIsReadable(root), false);
    const sampler = start();
    zone("intel-rapl:0", "package-0", 5_000_000);
    nowMs += 1000;
    sampler.sample();
    zone("intel-rapl:0", "package-0", 8_000_000);
    nowMs += 1000;
    sampler.stop();
    assert.deepEqual(
      events.map(({ joules }) => joules),
      [3],
    );
    assert.match(problems[0]!.detail, /"" is no count/);
  });

  test("a range that may not be read costs nothing until the counter runs over", () => {
    zone("intel-rapl:0", "package-0", 5_000_000);
    rmSync(join(root, "intel-rapl:0", "max_energy_range_uj"));
    const sampler = start();
    for (const value of [8_000_000, 1_000_000, 2_000_000]) {
      writeFileSync(join(root, "intel-rapl:0", "energy_uj"), `${value}\n`);
      nowMs += 1000;
      sampler.sample();
    }
    sampler.stop();
    assert.deepEqual(
      events.map(({ joules }) => joules),
      [3, 1],
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

  /** What is measured of lines that come at once, `gapMs` apart, with the words of real programs. */
  async function measured(batches: readonly (readonly string[])[], gapMs = 10_000): Promise<void> {
    for (const i of batches.keys()) rmSync(join(folder, `go-${i}`), { force: true });
    const steps = batches.flatMap((lines, i) => [
      `while [ ! -e ${join(folder, `go-${i}`)} ]; do sleep 0.01; done`,
      ...lines.map((line) => `echo '${line}'`),
    ]);
    const sampler = start(script(...steps, "exec sleep 60"));
    for (const [i, lines] of batches.entries()) {
      const before = asked;
      if (i > 0) nowMs += gapMs;
      writeFileSync(join(folder, `go-${i}`), "");
      while (asked < before + lines.length) await sleep(5);
    }
    nowMs += 1;
    sampler.stop();
  }

  test("several kinds of cards, one in parts and one that does not tell: the others count", async () => {
    const lines = (watts: string) => [
      "0, NVIDIA GeForce GT 710, [N/A]",
      `1, NVIDIA H100 80GB HBM3, ${watts}`,
      `2, NVIDIA A100-SXM4-80GB MIG, B, ${watts}`, // whatever a name has
    ];
    await measured([lines("100.00"), lines("300.00")]);
    assert.deepEqual(
      events.map(({ devices, joules, seconds }) => [devices, joules, seconds]),
      [
        [["NVIDIA H100 80GB HBM3"], 2000, 10],
        [["NVIDIA A100-SXM4-80GB MIG, B"], 2000, 10],
      ],
    );
    assert.deepEqual(
      problems.map(({ kind, detail }) => [kind, detail]),
      [["failed", "0, NVIDIA GeForce GT 710, [N/A]"]],
    );
  });

  test("of two cards of one name, one that does not tell would pass for idle: neither is measured", async () => {
    const lines = ["0, Tesla K80, [Not Supported]", "1, Tesla K80, 60.00"];
    await measured([lines, lines]);
    assert.deepEqual(events, []);
    assert.equal(problems.length, 1);
  });

  test("a moment without an answer, or a long silence, is left out of the measured time", async () => {
    const told = ["0, NVIDIA L4, 40"];
    await measured([told, told, ["0, NVIDIA L4, [Unknown Error]"], told, told]);
    assert.deepEqual(
      events.map(({ joules, seconds }) => [joules, seconds]),
      [[800, 20]],
    );
    assert.deepEqual(problems, []);
    events = [];
    await measured([told, told], 3_600_000);
    assert.deepEqual(events, []);
  });

  const driver = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.";
  for (const [what, lines, detail] of [
    ["a driver that does not answer", [`echo "${driver}"`, "exit 9"], /communicate with the NVIDIA driver/],
    ["the same on the other channel", [`echo "${driver}" >&2`, "exit 9"], /communicate with the NVIDIA driver/],
    ["no card", ['echo "No devices were found"', "exit 6"], /No devices were found/],
    [
      "a card that is lost",
      ['echo "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error"', "exit 15"],
      /device handle/,
    ],
    ["a program that dies without a word", ["kill -9 $$"], /ended with SIGKILL/],
  ] as const) {
    test(`${what} is told once, in the program's words`, async () => {
      const sampler = start(script(...lines));
      for (let i = 0; i < 400 && problems.length === 0; i++) await sleep(20);
      nowMs += 1000;
      sampler.stop();
      await sleep(50);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!.detail, detail);
      assert.deepEqual(events, []);
    });
  }

  test("a program that hangs holds nothing up and says nothing", async () => {
    const sampler = start(script("exec sleep 60"));
    await sleep(50);
    nowMs += 60_000;
    sampler.sample();
    sampler.stop();
    assert.deepEqual([events, problems], [[], []]);
  });
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
