/**
 * Energy, carbon and money of devices that ran: the formulas of the ledger, which looks back, and of a plan, which looks
 * ahead.
 *
 *     kWh      = (measured joules + unmeasured device-seconds × stated watts) / 3.6e6 × PUE
 *     kg CO2e  = kWh × kg CO2e of a kWh           (Patterson et al., arXiv 2104.10350)
 *     cost     = device-hours × price of an hour + kWh × price of a kWh
 */
import type { LedgerAssumptions } from "./ledger-assumptions.ts";

/** What one kind of device did. */
export interface DeviceUse {
  readonly name: string;
  /** Devices × seconds. */
  readonly deviceSeconds: number;
  /** The part of them in which nothing measured the power. */
  readonly unmeasuredSeconds: number;
  readonly joules: number;
}

export interface CostAmounts {
  readonly deviceHours: number;
  /** With PUE. */
  readonly energyKwh: number;
  /** The part of it that was measured. */
  readonly measuredKwh: number;
  /** Device-hours that neither a measurement nor stated watts tell the energy of. */
  readonly unknownDeviceHours: number;
  /** Undefined without an intensity of the grid. */
  readonly kgCo2e: number | undefined;
  /** Undefined without a price; what has none is not in it. */
  readonly cost: number | undefined;
}

const joulesPerKwh = 3.6e6;

export function costOf(uses: Iterable<DeviceUse>, assumptions: LedgerAssumptions): CostAmounts {
  const { pue, gridKgCo2ePerKwh: grid, pricePerKwh } = assumptions;
  let deviceSeconds = 0;
  let measured = 0;
  let stated = 0;
  let unknownSeconds = 0;
  let price = 0;
  let priced = pricePerKwh !== undefined;
  for (const use of uses) {
    const device = assumptions.devices.find(({ name }) => name === use.name);
    deviceSeconds += use.deviceSeconds;
    measured += use.joules;
    if (device?.watts !== undefined) stated += use.unmeasuredSeconds * device.watts;
    else unknownSeconds += use.unmeasuredSeconds;
    if (device?.pricePerHour !== undefined) {
      price += (use.deviceSeconds / 3600) * device.pricePerHour;
      priced = true;
    }
  }
  const measuredKwh = (measured / joulesPerKwh) * pue;
  const energyKwh = measuredKwh + (stated / joulesPerKwh) * pue;
  return {
    deviceHours: deviceSeconds / 3600,
    energyKwh,
    measuredKwh,
    unknownDeviceHours: unknownSeconds / 3600,
    kgCo2e: grid === undefined ? undefined : energyKwh * grid,
    cost: priced ? price + energyKwh * (pricePerKwh ?? 0) : undefined,
  };
}
