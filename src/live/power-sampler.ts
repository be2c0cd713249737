/**
 * Power as the machine tells it, written into a run's record as energy since the last such line.
 *
 * - RAPL, on Linux: `energy_uj` of each package (all cores and what is beside them on the chip) and of its memory, below
 *   /sys/class/powercap. Counters run over at `max_energy_range_uj`, every quarter of an hour or so at full power. What the
 *   board, disks and power supply take is not in it, and what other programs take is.
 * - nvidia-smi, where there is one: each card's `power.draw`, asked for by one process that keeps running, as watts over
 *   time (trapezoids).
 *
 * Where a source is absent nothing happens; where it is there and refuses, that is told once.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { NewEvent } from "./events.ts";

export const powercapRoot = "/sys/class/powercap";

export interface PowerProblem {
  readonly source: "rapl" | "nvidia-smi";
  /** `permission`: the counters are there and may not be read. */
  readonly kind: "permission" | "failed";
  readonly detail: string;
}

export interface PowerSamplerOptions {
  /** The ledger's name of the processor that RAPL is about. */
  readonly processor: string;
  now(): number;
  append(event: NewEvent<"power">): void;
  onProblem?(problem: PowerProblem): void;
  /** Between two lines of the record. Default half a minute: far below the time in which a counter runs over. */
  readonly everyMs?: number;
  readonly root?: string;
  /** The program's name or path. */
  readonly nvidiaSmi?: string;
}

export interface PowerSampler {
  /** Writes what was used since the last time. */
  sample(): void;
  /** Writes the rest and ends. */
  stop(): void;
}

const defaultEveryMs = 30_000;
/** Between two readings of a card. */
const cardEveryMs = 2000;

export function startPowerSampler(options: PowerSamplerOptions): PowerSampler {
  const { processor, now, append, onProblem = () => {}, everyMs = defaultEveryMs } = options;
  const told = new Set<string>();
  const tell = (problem: PowerProblem) => {
    if (told.has(problem.source)) return;
    told.add(problem.source);
    onProblem(problem);
  };
  const zones = findRaplZones(options.root ?? powercapRoot);
  let counters = zones.length > 0 ? readCounters(zones, tell) : undefined;
  const cards = watchCards(options.nvidiaSmi ?? "nvidia-smi", now, tell);
  let sinceMs = now();

  const sample = () => {
    const atMs = now();
    const seconds = (atMs - sinceMs) / 1000;
    if (seconds <= 0) return;
    sinceMs = atMs;
    if (counters !== undefined) {
      const next = readCounters(zones, tell);
      const joules = next && usedJoules(zones, counters, next);
      if (joules !== undefined) append({ type: "power", seconds, joules, source: "rapl", devices: [processor] });
      counters = next;
    }
    for (const [name, card] of cards.take()) append({ type: "power", ...card, source: "nvidia-smi", devices: [name] });
  };
  const timer = setInterval(sample, everyMs);
  timer.unref();
  return {
    sample,
    stop() {
      clearInterval(timer);
      sample();
      cards.end();
    },
  };
}

/** Whether this machine's processor counts its energy and lets it be read. */
export function raplIsReadable(root: string = powercapRoot): boolean {
  const zones = findRaplZones(root);
  return zones.length > 0 && readCounters(zones, () => {}) !== undefined;
}

interface RaplZone {
  readonly path: string;
  /** Microjoules at which the counter begins again. */
  readonly range: number;
}

/** Packages and their memory; the whole platform where no package is told. Zones that lie within a chosen one are not. */
function findRaplZones(root: string): RaplZone[] {
  let entries: string[];
  try {
    entries = readdirSync(root);
  } catch {
    return [];
  }
  // The same counters appear again under -mmio names.
  const zones = entries.flatMap((entry) => {
    const match = /^(?!.*mmio)[a-z-]+:\d+(:\d+)?$/.exec(entry);
    if (match === null) return [];
    const path = join(root, entry);
    const name = readText(join(path, "name"));
    const range = Number(readText(join(path, "max_energy_range_uj")));
    return name === undefined ? [] : [{ path, name, isPart: match[1] !== undefined, range }];
  });
  const packages = zones.filter(({ name, isPart }) => (isPart ? name === "dram" : name.startsWith("package")));
  return packages.length > 0 ? packages : zones.filter(({ name, isPart }) => !isPart && name === "psys");
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Microjoules of each zone, or undefined where one cannot be read: a part of them would look like the whole. */
function readCounters(zones: readonly RaplZone[], tell: (problem: PowerProblem) => void): number[] | undefined {
  const counters: number[] = [];
  for (const { path } of zones) {
    const file = join(path, "energy_uj");
    try {
      const value = Number(readFileSync(file, "utf8"));
      if (!Number.isFinite(value)) throw new Error(`${file} is not a number`);
      counters.push(value);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const refused = code === "EACCES" || code === "EPERM";
      tell({ source: "rapl", kind: refused ? "permission" : "failed", detail: refused ? file : message });
      return undefined;
    }
  }
  return counters;
}

/** Joules between two readings; undefined where a counter went back and does not say where it begins again. */
function usedJoules(
  zones: readonly RaplZone[],
  before: readonly number[],
  after: readonly number[],
): number | undefined {
  let microjoules = 0;
  for (const [i, { range }] of zones.entries()) {
    let used = after[i]! - before[i]!;
    if (used < 0) used += range;
    if (!(used >= 0)) return undefined;
    microjoules += used;
  }
  return microjoules / 1e6;
}

interface CardWatch {
  /** Energy by the cards' name since the last call. */
  take(): Map<string, { seconds: number; joules: number }>;
  end(): void;
}

function watchCards(program: string, now: () => number, tell: (problem: PowerProblem) => void): CardWatch {
  const last = new Map<string, { watts: number; atMs: number }>();
  const used = new Map<string, { seconds: number; joules: number; cards: Set<string> }>();
  let child: ChildProcess | undefined;
  let ended = false;
  let complaint = "";
  const failed = (detail: string) => {
    if (!ended) tell({ source: "nvidia-smi", kind: "failed", detail });
    ended = true;
  };
  const read = (line: string) => {
    const [index, name, power] = line.split(",").map((part) => part.trim());
    if (index === undefined || !name || power === undefined) return;
    const watts = Number(power);
    if (power === "" || !Number.isFinite(watts)) {
      failed(line.slice(0, 200));
      child?.kill();
      return;
    }
    const atMs = now();
    const before = last.get(index);
    last.set(index, { watts, atMs });
    const total = used.get(name) ?? { seconds: 0, joules: 0, cards: new Set<string>() };
    used.set(name, total);
    total.cards.add(index);
    if (before === undefined) return;
    const seconds = (atMs - before.atMs) / 1000;
    total.seconds += seconds;
    total.joules += (seconds * (watts + before.watts)) / 2;
  };
  try {
    const query = ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", `--loop-ms=${cardEveryMs}`];
    child = spawn(program, query, { stdio: ["ignore", "pipe", "pipe"] });
    child.unref();
    let rest = "";
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!.slice(-4096);
      for (const line of lines) if (!ended) read(line);
    });
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
      complaint = (complaint + chunk).slice(0, 500);
    });
    // A pipe keeps the process alive as the child does.
    for (const stream of [child.stdout!, child.stderr!]) (stream as { unref?(): void }).unref?.();
    child.on("error", (error) => {
      if ((error as { code?: string }).code === "ENOENT") ended = true;
      else failed(error.message);
    });
    child.on("close", (code) => failed(complaint.split("\n")[0]?.trim() || `ended with ${code}`));
  } catch (error) {
    failed(error instanceof Error ? error.message : String(error));
  }
  return {
    take() {
      const taken = new Map<string, { seconds: number; joules: number }>();
      for (const [name, { seconds, joules, cards }] of used) {
        if (seconds > 0) taken.set(name, { seconds: seconds / cards.size, joules });
      }
      used.clear();
      return taken;
    },
    end() {
      ended = true;
      child?.kill();
    },
  };
}
