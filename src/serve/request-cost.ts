/**
 * What a request cost: its share of the worker's time, and from it energy, carbon and money by the ledger's assumptions.
 *
 *     Wh      = compute hours × devices' watts × PUE
 *     kg CO2e = kWh × kg CO2e of a kWh
 *     cost    = compute hours × price of an hour + kWh × price of a kWh
 *
 * A step's time is divided evenly among the rows in it, so requests that run together cost each of them less. The power is
 * the one that was stated for the machine at work: what it draws while it waits belongs to no request.
 */
import type { LedgerAssumptions } from "../live/ledger-assumptions.ts";

export interface RequestCost {
  readonly compute_ms: number;
  readonly energy_wh: number | null;
  readonly co2e_g: number | null;
  readonly cost: number | null;
  readonly currency: string;
}

const msPerHour = 3_600_000;

/** Null for what the assumptions do not tell. `processes`: workers that share the devices. */
export function requestCost(
  computeMs: number,
  { devices, pue, gridKgCo2ePerKwh, pricePerKwh, currency }: LedgerAssumptions,
  processes: number,
): RequestCost {
  const hours = computeMs / msPerHour / processes;
  const sum = (of: (device: LedgerAssumptions["devices"][number]) => number | undefined): number | null => {
    let total = 0;
    for (const device of devices) {
      const value = of(device);
      if (value === undefined) return null;
      total += value * device.count;
    }
    return devices.length === 0 ? null : total;
  };
  const watts = sum((device) => device.watts);
  const wattHours = watts === null ? null : hours * watts * pue;
  const hourly = sum((device) => device.pricePerHour);
  const energyPrice = wattHours === null || pricePerKwh === undefined ? null : (wattHours / 1000) * pricePerKwh;
  const priced = hourly === null && energyPrice === null ? null : hours * (hourly ?? 0) + (energyPrice ?? 0);
  return {
    compute_ms: rounded(computeMs, 3),
    energy_wh: wattHours === null ? null : rounded(wattHours, 9),
    co2e_g: wattHours === null || gridKgCo2ePerKwh === undefined ? null : rounded(wattHours * gridKgCo2ePerKwh, 9),
    cost: priced === null ? null : rounded(priced, 12),
    currency,
  };
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
