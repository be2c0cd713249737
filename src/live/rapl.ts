/**
 * The processor's energy counters (RAPL) as Linux gives them below /sys/class/powercap, on Intel and on AMD: `energy_uj` of each
 * package (all cores and what is beside them on the chip) and of its memory, in microjoules since some time.
 *
 * What the board, disks and power supply take is not in it, and what other programs take is. Since Linux 5.10 the counters may
 * be read by the administrator alone. They run over at `max_energy_range_uj`, every quarter of an hour or so at full power.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { PowerProblem } from "./power-sampler.ts";

export const powercapRoot = "/sys/class/powercap";

/** More than any package or its memory takes: how soon a counter could have run over twice. */
const mostWatts = 1500;

/** A counter. */
export interface RaplZone {
  readonly path: string;
  /** Microjoules at which it begins again; NaN where that may not be read. */
  readonly range: number;
}

/** Packages and their memory; the whole platform where no package is told. Zones that lie within a chosen one are not. */
export function findRaplZones(root: string): RaplZone[] {
  let entries: string[];
  try {
    entries = readdirSync(root).sort();
  } catch {
    return [];
  }
  // The same counters appear again under -mmio names.
  const zones = entries.flatMap((entry) => {
    const match = /^(?!.*mmio)[a-z-]+:\d+(:\d+)?$/.exec(entry);
    if (match === null) return [];
    const path = join(root, entry);
    const name = readText(join(path, "name"));
    const range = microjoules(readText(join(path, "max_energy_range_uj")));
    return name === undefined ? [] : [{ path, name, isPart: match[1] !== undefined, range }];
  });
  const packages = zones.filter(({ name, isPart }) => (isPart ? name === "dram" : name.startsWith("package")));
  return packages.length > 0 ? packages : zones.filter(({ name, isPart }) => !isPart && name === "psys");
}

/** Whether this machine's processor counts its energy and lets it be read. */
export function raplIsReadable(root: string = powercapRoot): boolean {
  return readCounters(findRaplZones(root), () => {}) !== undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function microjoules(text: string | undefined): number {
  return text !== undefined && /^\d{1,20}$/.test(text) ? Number(text) : Number.NaN;
}

/**
 * Microjoules of each zone; undefined where there is none, or one cannot be read: a part of them would look like the whole.
 */
export function readCounters(
  zones: readonly RaplZone[],
  tell: (problem: PowerProblem) => void,
): readonly number[] | undefined {
  const counters: number[] = [];
  for (const { path } of zones) {
    const file = join(path, "energy_uj");
    try {
      const text = readFileSync(file, "utf8").trim();
      const value = microjoules(text);
      if (Number.isNaN(value)) throw new Error(`${file}: ${JSON.stringify(text.slice(0, 40))} is no count`);
      counters.push(value);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const refused = code === "EACCES" || code === "EPERM";
      tell({ source: "rapl", kind: refused ? "permission" : "failed", detail: refused ? file : message });
      return undefined;
    }
  }
  return counters.length > 0 ? counters : undefined;
}

/**
 * Joules between two readings; undefined where that cannot be told: a counter went back and does not say where it begins again,
 * or so long has passed (the process or the machine was stopped) that it may have run over more than once.
 */
export function usedJoules(
  zones: readonly RaplZone[],
  before: readonly number[],
  after: readonly number[],
  seconds: number,
): number | undefined {
  let sum = 0;
  for (const [i, { range }] of zones.entries()) {
    let used = after[i]! - before[i]!;
    if (used < 0) used += range;
    if (!(used >= 0) || seconds * mostWatts * 1e6 >= range) return undefined;
    sum += used;
  }
  return sum / 1e6;
}
