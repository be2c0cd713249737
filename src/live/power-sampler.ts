/**
 * Power as the machine tells it, written into a run's record as energy since the last such line: the processor's counters
 * (rapl.ts) and the cards' watts (nvidia-cards.ts).
 *
 * Where a source is absent nothing happens; where it is there and refuses, that is told once.
 */
import type { NewEvent } from "./events.ts";
import { watchCards } from "./nvidia-cards.ts";
import { findRaplZones, powercapRoot, readCounters, usedJoules } from "./rapl.ts";

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

export function startPowerSampler(options: PowerSamplerOptions): PowerSampler {
  const { processor, now, append, onProblem = () => {}, everyMs = defaultEveryMs } = options;
  const told = new Set<string>();
  const tell = (problem: PowerProblem) => {
    const key = `${problem.source} ${problem.kind}`;
    if (told.has(key)) return;
    told.add(key);
    onProblem(problem);
  };
  const zones = findRaplZones(options.root ?? powercapRoot);
  let counters = readCounters(zones, tell);
  const cards = watchCards(options.nvidiaSmi ?? "nvidia-smi", now, tell);
  let sinceMs = now();

  const sample = () => {
    const atMs = now();
    const seconds = (atMs - sinceMs) / 1000;
    if (seconds <= 0) return;
    sinceMs = atMs;
    if (zones.length > 0) {
      // One that failed once may answer again: only what lies between is not known.
      const next = readCounters(zones, tell);
      const joules = counters && next && usedJoules(zones, counters, next, seconds);
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
