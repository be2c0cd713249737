/** The ledger of a run's folder: its own assumptions, or those for its machine where it states none; and what a page shows. */
import { type Bilingual, inBoth, type Text } from "./bilingual.ts";
import { createLedger, type Ledger, type LedgerSummary } from "./ledger.ts";
import { type LedgerAssumptions, ledgerAssumptionsSchema, machineAssumptions } from "./ledger-assumptions.ts";
import type { LedgerStage, PageLedger } from "./protocol.ts";
import { type RunDescription, readEvents, readRun } from "./run-folder.ts";

export function assumptionsOf(run: RunDescription): LedgerAssumptions {
  const stated = run.ledger === undefined ? undefined : ledgerAssumptionsSchema.safeParse(run.ledger);
  return stated?.success ? stated.data : machineAssumptions(run.machine);
}

export function ledgerFor(run: RunDescription): Ledger {
  return createLedger(assumptionsOf(run), { parts: "stage" });
}

/** All events of a run, in bounded memory. Errors: CPM_RUN_FOLDER. */
export async function readLedger(folder: string): Promise<LedgerSummary> {
  const ledger = ledgerFor(readRun(folder));
  for await (const { event } of readEvents(folder)) ledger.add(event);
  return ledger.summary();
}

/** The figures and, in words, what they are computed from. */
export function pageLedger(summary: LedgerSummary): PageLedger {
  const { cost, currency, energyKwh, kgCo2e, measuredKwh, assumptions } = summary;
  const { devices, pue, pueSource, gridKgCo2ePerKwh, gridSource, pricePerKwh, priceSource } = assumptions;
  const said: Bilingual[] = [];
  const say = (zh: string, en: string, source: Text | undefined) => {
    const from = source === undefined || source === "" ? undefined : inBoth(source);
    said.push({ zh: from ? `${zh}（${from.zh}）` : zh, en: from ? `${en} (${from.en})` : en });
  };
  for (const { name, count, watts, wattsSource, pricePerHour } of devices) {
    if (watts !== undefined)
      say(`${count} × ${name}：各 ${watts} W`, `${count} × ${name}: ${watts} W each`, wattsSource);
    if (pricePerHour !== undefined)
      say(
        `${name}：每小时 ${pricePerHour.toFixed(2)} ${currency}`,
        `${name}: ${pricePerHour.toFixed(2)} ${currency} an hour`,
        priceSource,
      );
  }
  if (measuredKwh > 0)
    say(`实测 ${measuredKwh.toFixed(3)} kWh`, `${measuredKwh.toFixed(3)} kWh were measured`, undefined);
  else say("功率没有实测，按标称计", "power was not measured: stated watts count", undefined);
  say(`PUE ${pue}`, `PUE ${pue}`, pueSource);
  if (gridKgCo2ePerKwh !== undefined)
    say(`每千瓦时 ${gridKgCo2ePerKwh} kg CO2e`, `${gridKgCo2ePerKwh} kg CO2e a kilowatt-hour`, gridSource);
  if (pricePerKwh !== undefined)
    say(`每千瓦时 ${pricePerKwh} ${currency}`, `${pricePerKwh} ${currency} a kilowatt-hour`, priceSource);
  return {
    ...(cost !== undefined && { cost }),
    currency,
    kWh: energyKwh,
    ...(kgCo2e !== undefined && { kgCo2e }),
    stages: stagesOf(summary),
    assumptions: said,
  };
}

/** Parts of one name together: a run that was resumed comes through a stage several times. Time without a stage is left out. */
function stagesOf({ parts }: LedgerSummary): LedgerStage[] {
  const plus = (a: number | undefined, b: number | undefined) => (b === undefined ? a : (a ?? 0) + b);
  const stages = new Map<string, LedgerStage>();
  for (const { name, hours, energyKwh, kgCo2e, cost } of parts) {
    if (name === "") continue;
    const before = stages.get(name);
    const carbon = plus(before?.kgCo2e, kgCo2e);
    const money = plus(before?.cost, cost);
    stages.set(name, {
      name,
      hours: (before?.hours ?? 0) + hours,
      kWh: (before?.kWh ?? 0) + energyKwh,
      ...(carbon !== undefined && { kgCo2e: carbon }),
      ...(money !== undefined && { cost: money }),
    });
  }
  return [...stages.values()];
}
