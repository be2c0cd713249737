/**
 * The ledger of a run: devices over time, and from them energy, carbon and money (cost-formulas.ts), for the whole and
 * for each part.
 *
 *     device-hours = Σ spans (hours × devices)
 *
 * It is fed with the events of a run in order, all of them: an update that a resume made void was paid nevertheless. Time
 * counts from a `start` to the last event before the next `start`; what lies between is a gap (a pause after an `end`,
 * else an outage). A run whose power is sampled also shows where the machine slept: no sample for ten intervals.
 */
import { type CostAmounts, costOf } from "./cost-formulas.ts";
import { beijingAfternoon, type DayRule, dayEnd, dayOf } from "./day.ts";
import type { RunEvent } from "./events.ts";
import type { LedgerAssumptions } from "./ledger-assumptions.ts";

/** Into what parts it is told: by named stage, by day, or by attempt. */
export type LedgerParts = "stage" | "day" | "attempt";

export interface LedgerOptions {
  readonly parts?: LedgerParts;
  /** Default: 16:00 in Beijing. */
  readonly day?: DayRule;
}

export interface LedgerAmounts extends CostAmounts {
  /** Hours of the clock in which it ran. */
  readonly hours: number;
  /** Those of `hours` in which it is not known on what it ran. */
  readonly unknownHours: number;
}

export interface LedgerPart extends LedgerAmounts {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  /** Mean number of devices while it ran. */
  readonly devices: number;
}

export interface LedgerGap {
  readonly from: string;
  readonly to: string;
  readonly hours: number;
  readonly kind: "pause" | "outage" | "silence";
}

export interface LedgerSummary extends LedgerAmounts {
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly currency: string;
  readonly gapHours: number;
  readonly parts: readonly LedgerPart[];
  /** The first thousand. */
  readonly gaps: readonly LedgerGap[];
  readonly assumptions: LedgerAssumptions;
}

export interface Ledger {
  add(event: RunEvent): void;
  /** What it comes to until the last event; with other assumptions, what it would have come to. */
  summary(assumptions?: LedgerAssumptions): LedgerSummary;
}

/** One device kind within one part. */
interface DeviceAccount {
  seconds: number;
  /** Devices × seconds. */
  deviceSeconds: number;
  measuredSeconds: number;
  joules: number;
}

interface PartAccount {
  readonly name: string;
  fromMs: number;
  toMs: number;
  seconds: number;
  unknownSeconds: number;
  readonly devices: Map<string, DeviceAccount>;
}

const maxGaps = 1000;
const maxParts = 4000;
const maxDevices = 64;
/** A silence is looked for only from this length on. */
const minSilenceMs = 600_000;

export function createLedger(assumptions: LedgerAssumptions, options: LedgerOptions = {}): Ledger {
  const { parts = "stage", day = beijingAfternoon } = options;
  const accounts: PartAccount[] = [];
  const gaps: LedgerGap[] = [];
  let gapMs = 0;
  let devices = assumptions.devices.map(({ name, count }) => ({ name, count }));
  let stage = "";
  let attempt = 0;
  let running = false;
  let ended: "pause" | "outage" = "outage";
  let lastMs: number | undefined;
  let sampleSeconds: number | undefined;

  /** `fromMs`: where the time to be put there begins. */
  const partOf = (atMs: number, fromMs = atMs): PartAccount => {
    const name = parts === "day" ? dayOf(atMs, day) : parts === "attempt" ? String(Math.max(1, attempt)) : stage;
    const last = accounts.at(-1);
    if (last !== undefined && (last.name === name || accounts.length >= maxParts)) return last;
    const part = { name, fromMs, toMs: fromMs, seconds: 0, unknownSeconds: 0, devices: new Map() };
    accounts.push(part);
    return part;
  };
  const deviceOf = (part: PartAccount, name: string): DeviceAccount => {
    if (part.devices.size >= maxDevices && !part.devices.has(name)) return deviceOf(part, [...part.devices.keys()][0]!);
    let account = part.devices.get(name);
    if (account === undefined) {
      account = { seconds: 0, deviceSeconds: 0, measuredSeconds: 0, joules: 0 };
      part.devices.set(name, account);
    }
    return account;
  };
  const spend = (fromMs: number, toMs: number) => {
    for (let at = fromMs; at < toMs; ) {
      const until = parts === "day" ? Math.min(toMs, dayEnd(at + 1, day)) : toMs;
      const seconds = (until - at) / 1000;
      const part = partOf(at + 1, at);
      part.seconds += seconds;
      part.toMs = until;
      if (devices.length === 0) part.unknownSeconds += seconds;
      for (const { name, count } of devices) {
        const account = deviceOf(part, name);
        account.seconds += seconds;
        account.deviceSeconds += seconds * count;
      }
      at = until;
    }
  };
  const gap = (fromMs: number, toMs: number, kind: LedgerGap["kind"]) => {
    if (toMs <= fromMs) return;
    gapMs += toMs - fromMs;
    if (gaps.length >= maxGaps) return;
    gaps.push({ from: iso(fromMs), to: iso(toMs), hours: (toMs - fromMs) / 3.6e6, kind });
  };
  const measure = (event: RunEvent<"power">, atMs: number) => {
    const part = partOf(atMs);
    const named =
      event.devices ?? assumptions.devices.filter(({ powerSource }) => powerSource === event.source).map((d) => d.name);
    const known = devices.filter(({ name }) => named.includes(name)).map(({ name }) => name);
    const targets = known.length > 0 ? known : [...named.slice(0, 16), ...(named.length === 0 ? [event.source] : [])];
    for (const name of targets) {
      const account = deviceOf(part, name);
      account.measuredSeconds += event.seconds;
      account.joules += event.joules / targets.length;
    }
  };

  return {
    add(event) {
      const atMs = Date.parse(event.time);
      if (event.type === "start") {
        if (lastMs !== undefined) gap(lastMs, atMs, ended);
        attempt = event.attempt;
        running = true;
        ended = "outage";
        sampleSeconds = undefined;
        if (event.devices !== undefined) devices = event.devices.map(({ name, count }) => ({ name, count }));
        lastMs = Math.max(lastMs ?? atMs, atMs);
        return;
      }
      if (running && lastMs !== undefined && atMs > lastMs) {
        const silent = sampleSeconds !== undefined && atMs - lastMs > Math.max(minSilenceMs, 10_000 * sampleSeconds);
        if (silent) gap(lastMs, atMs, "silence");
        else spend(lastMs, atMs);
        lastMs = atMs;
      }
      if (event.type === "stage") stage = event.name;
      if (!running) return;
      if (event.type === "power") {
        measure(event, atMs);
        sampleSeconds = event.seconds;
      }
      if (event.type === "end") {
        running = false;
        ended = event.reason === "failed" ? "outage" : "pause";
      }
    },
    summary: (other = assumptions) => summarize(accounts, gaps, gapMs, other),
  };
}

function summarize(
  accounts: readonly PartAccount[],
  gaps: readonly LedgerGap[],
  gapMs: number,
  assumptions: LedgerAssumptions,
): LedgerSummary {
  const used = accounts.filter(({ seconds, devices }) => seconds > 0 || devices.size > 0);
  const parts = used.map((account): LedgerPart => {
    const amounts = amountsOf(account, assumptions);
    return {
      name: account.name,
      from: iso(account.fromMs),
      to: iso(account.toMs),
      devices: amounts.hours > 0 ? amounts.deviceHours / amounts.hours : 0,
      ...amounts,
    };
  });
  const sum = (pick: (part: LedgerPart) => number | undefined) =>
    parts.reduce<number | undefined>((total, part) => {
      const value = pick(part);
      return value === undefined ? total : (total ?? 0) + value;
    }, undefined);
  return {
    from: parts[0]?.from,
    to: parts.at(-1)?.to,
    hours: sum(({ hours }) => hours) ?? 0,
    deviceHours: sum(({ deviceHours }) => deviceHours) ?? 0,
    energyKwh: sum(({ energyKwh }) => energyKwh) ?? 0,
    measuredKwh: sum(({ measuredKwh }) => measuredKwh) ?? 0,
    unknownDeviceHours: sum(({ unknownDeviceHours }) => unknownDeviceHours) ?? 0,
    unknownHours: sum(({ unknownHours }) => unknownHours) ?? 0,
    kgCo2e: sum(({ kgCo2e }) => kgCo2e),
    cost: sum(({ cost }) => cost),
    currency: assumptions.currency,
    gapHours: gapMs / 3.6e6,
    parts,
    gaps,
    assumptions,
  };
}

function amountsOf(part: PartAccount, assumptions: LedgerAssumptions): LedgerAmounts {
  const uses = [...part.devices].map(([name, { seconds, deviceSeconds, measuredSeconds, joules }]) => ({
    name,
    deviceSeconds,
    unmeasuredSeconds: seconds > 0 ? (Math.max(0, seconds - measuredSeconds) / seconds) * deviceSeconds : 0,
    joules,
  }));
  return { hours: part.seconds / 3600, unknownHours: part.unknownSeconds / 3600, ...costOf(uses, assumptions) };
}

/** The ledger of a whole record. */
export function ledgerOf(
  events: Iterable<RunEvent>,
  assumptions: LedgerAssumptions,
  options: LedgerOptions = {},
): LedgerSummary {
  const ledger = createLedger(assumptions, options);
  for (const event of events) ledger.add(event);
  return ledger.summary();
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
