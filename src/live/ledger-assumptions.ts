/**
 * What cost and carbon of a run are computed from, every figure with where it is from. Part of `run.json`; `cpm cost`
 * can take others.
 */
import { z } from "zod";
import { ConfigError } from "../util/error.ts";
import { type Bilingual, textSchema } from "./bilingual.ts";
import { type Device, deviceNamed } from "./device-table.ts";
import { devicePrices, gridIntensities, wattsPerCore, wattsPerCoreSource } from "./ledger-tables.ts";

const deviceSchema = z.object({
  name: z.string().max(256),
  count: z.number().min(0),
  /** Of one device, for time in which it is not measured. */
  watts: z.number().min(0).optional(),
  wattsSource: textSchema.optional(),
  /** Where measurements of it come from. */
  powerSource: z.enum(["stated", "rapl", "nvidia-smi"]).default("stated"),
  /** Of one device. */
  pricePerHour: z.number().min(0).optional(),
});
export type LedgerDevice = z.output<typeof deviceSchema>;

export const ledgerAssumptionsSchema = z.object({
  devices: z.array(deviceSchema).max(256),
  /** What the building draws for each watt of the devices: cooling, losses. */
  pue: z.number().min(1).default(1),
  pueSource: textSchema.optional(),
  gridKgCo2ePerKwh: z.number().min(0).optional(),
  gridSource: textSchema.optional(),
  currency: z.string().max(16).default("CNY"),
  priceSource: textSchema.optional(),
  /** Of a kilowatt-hour, where electricity is paid and not devices. */
  pricePerKwh: z.number().min(0).optional(),
});
export type LedgerAssumptions = z.output<typeof ledgerAssumptionsSchema>;

const amount = z.number().min(0).optional();

/** What a person says about them, in a recipe or as options; the rest is found or assumed. */
export const ledgerChoicesSchema = z.strictObject({
  /** A name of the table of grids. */
  grid: z.enum(gridIntensities.map(({ name }) => name)).optional(),
  gridKgCo2ePerKwh: amount,
  pue: z.number().min(1).max(10).optional(),
  /** Of one device. */
  watts: amount,
  pricePerHour: amount,
  pricePerKwh: amount,
  currency: z.string().min(1).max(16).optional(),
  /** A name of the table of prices. */
  price: z.enum(devicePrices.map(({ name }) => name)).optional(),
});
export type LedgerChoices = z.output<typeof ledgerChoicesSchema>;

const chosen: Bilingual = { zh: "由使用者给出", en: "given by whoever ran it" };

/** Why PUE is 1 where nobody states one. */
const noBuilding: Bilingual = {
  zh: "假设：不计机房",
  en: "assumed: no building around the machine is counted",
};

/**
 * Assumptions for a run on this machine's processor: measured power where `powerSource` says so, else watts a core.
 *
 * @throws ConfigError CPM_LEDGER_TABLE for a name that the tables do not have
 */
export function machineAssumptions(
  machine: { readonly cpu: string; readonly cores: number },
  choices: LedgerChoices = {},
  powerSource: LedgerDevice["powerSource"] = "stated",
): LedgerAssumptions {
  const { cpu: name, cores } = machine;
  const rated = deviceNamed(name);
  const watts = rated?.watts ?? cores * wattsPerCore;
  return deviceAssumptions(
    { name, watts, source: rated?.source ?? wattsPerCoreSource(cores) },
    { count: 1, powerSource },
    choices,
  );
}

/** Assumptions for so many of one device. Errors as `machineAssumptions`. */
export function deviceAssumptions(
  { name, watts, source }: Pick<Device, "name" | "watts" | "source">,
  { count, powerSource = "stated" }: { readonly count: number; readonly powerSource?: LedgerDevice["powerSource"] },
  choices: LedgerChoices = {},
): LedgerAssumptions {
  const base: LedgerAssumptions = {
    devices: [{ name, count, watts, wattsSource: source, powerSource }],
    pue: 1,
    pueSource: noBuilding,
    currency: "CNY",
    ...gridOf("world-2023"),
  };
  return applyChoices(base, choices);
}

/** Assumptions with some of them chosen otherwise, and the sources saying so. */
export function applyChoices(base: LedgerAssumptions, choices: LedgerChoices): LedgerAssumptions {
  const price = choices.price === undefined ? undefined : priceOf(choices.price);
  const pricePerHour = choices.pricePerHour ?? price?.pricePerHour;
  const pricePerKwh = choices.pricePerKwh;
  return {
    ...base,
    ...(choices.grid !== undefined && gridOf(choices.grid)),
    ...(choices.gridKgCo2ePerKwh !== undefined && { gridKgCo2ePerKwh: choices.gridKgCo2ePerKwh, gridSource: chosen }),
    ...(choices.pue !== undefined && { pue: choices.pue, pueSource: chosen }),
    ...(price && { currency: price.currency, priceSource: price.source }),
    ...(choices.currency !== undefined && { currency: choices.currency }),
    ...((choices.pricePerHour ?? pricePerKwh) !== undefined && { priceSource: chosen }),
    ...(pricePerKwh !== undefined && { pricePerKwh }),
    devices: base.devices.map((device) => ({
      ...device,
      ...(choices.watts !== undefined && { watts: choices.watts, wattsSource: chosen, powerSource: "stated" as const }),
      ...(pricePerHour !== undefined && { pricePerHour }),
    })),
  };
}

function gridOf(name: string): { gridKgCo2ePerKwh: number; gridSource: Bilingual } {
  const found = gridIntensities.find((grid) => grid.name === name);
  if (found === undefined) throw unknownName("grid", name, gridIntensities);
  return { gridKgCo2ePerKwh: found.kgCo2ePerKwh, gridSource: found.source };
}

function priceOf(name: string) {
  const found = devicePrices.find((price) => price.name === name);
  if (found === undefined) throw unknownName("price", name, devicePrices);
  return found;
}

function unknownName(table: string, name: string, rows: readonly { readonly name: string }[]): ConfigError {
  return new ConfigError("CPM_LEDGER_TABLE", "The table has no such name", {
    where: table,
    got: name,
    expected: rows.map((row) => row.name).join(", "),
    hint: "Take a name of the table, or give the figure itself.",
  });
}
