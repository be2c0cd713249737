/**
 * Figures that cost and carbon are reckoned with where nothing is measured: how dirty a grid is, what a device draws,
 * what it costs. Few, well known, each with its source and date. None of them is exact: what is `assumed` is a rule of
 * thumb of ours. A recipe or an option overrides every one.
 */

export interface GridIntensity {
  readonly name: string;
  readonly kgCo2ePerKwh: number;
  /** Who published it, for which year. */
  readonly source: string;
}

/** Yearly means. Those of a ministry count CO2 at the power station; Ember's count all gases over the life of the fuel. */
export const gridIntensities: readonly GridIntensity[] = [
  {
    name: "cn-2022",
    kgCo2ePerKwh: 0.5366,
    source: "China, national mean of 2022: Ministry of Ecology and Environment and NBS, notice of 2024-12-20",
  },
  {
    name: "cn-2021",
    kgCo2ePerKwh: 0.5568,
    source: "China, national mean of 2021: Ministry of Ecology and Environment and NBS, notice no. 12 of 2024",
  },
  { name: "world-2023", kgCo2ePerKwh: 0.481, source: "World, mean of 2023: Ember, Yearly Electricity Data" },
  { name: "de-2023", kgCo2ePerKwh: 0.381, source: "Germany, mean of 2023: Ember, Yearly Electricity Data" },
  { name: "fr-2023", kgCo2ePerKwh: 0.056, source: "France, mean of 2023: Ember, Yearly Electricity Data" },
  {
    name: "mlco2-default",
    kgCo2ePerKwh: 0.432,
    source: "Default of the ML CO2 Impact calculator (mean of the OECD, 2014)",
  },
];

export interface DevicePower {
  readonly name: string;
  /** How a device's own name is recognised. */
  readonly pattern: RegExp;
  readonly watts: number;
  readonly source: string;
}

/** Rated power, which is an upper bound: training draws less. The first pattern that fits counts. */
export const devicePowers: readonly DevicePower[] = [
  { name: "A100 SXM", pattern: /\bA100.*SXM/i, watts: 400, source: "rated power, NVIDIA's data sheet" },
  {
    name: "A100 PCIe",
    pattern: /\bA100\b/i,
    watts: 250,
    source: "rated power of the 40 GB PCIe card, NVIDIA's data sheet",
  },
  { name: "H100 PCIe", pattern: /\bH100.*PCIe/i, watts: 350, source: "rated power, NVIDIA's data sheet" },
  { name: "H100 or H200 SXM", pattern: /\bH[12]00\b/i, watts: 700, source: "rated power, NVIDIA's data sheet" },
  { name: "V100 SXM2", pattern: /\bV100.*SXM/i, watts: 300, source: "rated power, NVIDIA's data sheet" },
  { name: "V100 PCIe", pattern: /\bV100\b/i, watts: 250, source: "rated power, NVIDIA's data sheet" },
  { name: "RTX 4090", pattern: /\b4090\b/i, watts: 450, source: "rated power, NVIDIA's data sheet" },
  { name: "RTX 3090", pattern: /\b3090\b/i, watts: 350, source: "rated power, NVIDIA's data sheet" },
];

/** Of a busy processor's core with its share of memory and mainboard. */
export const wattsPerCore = 10;
export const wattsPerCoreSource = "assumed: 10 W for a busy core with its share of memory and mainboard";

export interface DevicePrice {
  readonly name: string;
  readonly pattern: RegExp;
  /** Of one device. */
  readonly pricePerHour: number;
  readonly currency: string;
  readonly source: string;
}

/** What renting one device costs. Prices move: take them as an order of magnitude and give your own. */
export const devicePrices: readonly DevicePrice[] = [
  {
    name: "a100-cn-2022",
    pattern: /\bA100\b/i,
    pricePerHour: 9.5,
    currency: "CNY",
    source: "What CPM-Ant's pretraining paid in 2022, derived from its daily logs (cpm cost --preset cpm-ant-10b)",
  },
  {
    name: "a100-aws-2024",
    pattern: /\bA100\b/i,
    pricePerHour: 32.77 / 8,
    currency: "USD",
    source: "AWS p4d.24xlarge on demand, us-east-1, 2024: 32.77 USD an hour for 8",
  },
  {
    name: "h100-aws-2024",
    pattern: /\bH100\b/i,
    pricePerHour: 98.32 / 8,
    currency: "USD",
    source: "AWS p5.48xlarge on demand, us-east-1, 2024: 98.32 USD an hour for 8",
  },
];

/** Rated power of a device by its name. */
export function ratedPower(name: string): DevicePower | undefined {
  return devicePowers.find(({ pattern }) => pattern.test(name));
}
