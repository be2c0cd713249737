/**
 * How long a run takes and what it costs, from tokens, arithmetic and a machine's rate. Every figure that is not given
 * comes from a table here, with its source.
 *
 *     seconds = tokens / (devices · efficiency · tokens per second of one device)
 *     tokens per second = rate · utilisation / FLOPs per token
 *     kWh = hours · devices · watts · PUE / 1000,   kg CO2e = kWh · grid       (Patterson et al., arXiv 2104.10350)
 *
 * What loss is reached is not among them.
 */

/** A device as a plan needs it. */
export interface PlanDevice {
  readonly name: string;
  /** Of dense products in the arithmetic that one trains in there. */
  readonly flopsPerSecond: number;
  readonly memoryBytes: number;
  readonly watts: number;
  /** Share of `flopsPerSecond` that a training step reaches: MFU. */
  readonly utilisation: number;
  readonly pricePerHour?: number;
  readonly currency?: string;
  /** Where the figures are from. */
  readonly source: string;
}

const gib = 2 ** 30;
/** The original's: about 1,220 tokens/s on each A100, by its published cost and time. */
const originalUtilisation = 0.22;
const dataSheet = (name: string, date: string) =>
  `${name} data sheet (${date}), 16-bit dense rate and rated power; utilisation assumed as CPM-Ant's training reached on A100`;

export const planDevices = {
  "a100-40": {
    name: "NVIDIA A100 40 GB PCIe",
    flopsPerSecond: 312e12,
    memoryBytes: 40 * gib,
    watts: 250,
    utilisation: originalUtilisation,
    pricePerHour: 9.36,
    currency: "CNY",
    source: `${dataSheet("NVIDIA A100", "2020")}; price as CPM-Ant paid it, 2022 (derived from its daily logs)`,
  },
  "a100-80": {
    name: "NVIDIA A100 80 GB SXM",
    flopsPerSecond: 312e12,
    memoryBytes: 80 * gib,
    watts: 400,
    utilisation: originalUtilisation,
    source: dataSheet("NVIDIA A100", "2021"),
  },
  h100: {
    name: "NVIDIA H100 SXM",
    flopsPerSecond: 989e12,
    memoryBytes: 80 * gib,
    watts: 700,
    utilisation: originalUtilisation,
    source: dataSheet("NVIDIA H100", "2023"),
  },
} as const satisfies Record<string, PlanDevice>;

export interface RunPlanInput {
  readonly tokens: number;
  /** One device's, in training. */
  readonly tokensPerSecond: number;
  readonly devices: number;
  /** Share of the devices' summed rate that is left when they work together. */
  readonly efficiency: number;
  readonly watts: number;
  readonly pue: number;
  readonly gridKgCo2ePerKwh: number;
  readonly pricePerHour?: number | undefined;
}

export interface RunPlan {
  /** Of all devices together. */
  readonly tokensPerSecond: number;
  readonly hours: number;
  readonly deviceHours: number;
  readonly kwh: number;
  readonly kgCo2e: number;
  readonly cost: number | undefined;
}

/** The formulas above. */
export function planRun(input: RunPlanInput): RunPlan {
  const { tokens, devices, efficiency, watts, pue, gridKgCo2ePerKwh, pricePerHour } = input;
  const tokensPerSecond = devices * efficiency * input.tokensPerSecond;
  const hours = tokens / tokensPerSecond / 3600;
  const deviceHours = hours * devices;
  const kwh = (deviceHours * watts * pue) / 1000;
  const cost = pricePerHour === undefined ? undefined : deviceHours * pricePerHour;
  return { tokensPerSecond, hours, deviceHours, kwh, kgCo2e: kwh * gridKgCo2ePerKwh, cost };
}

/**
 * Bytes of checkpoints on disk: so many kept, and for a moment the one that is being written, each with weights and both
 * moments (and the average) in float32.
 */
export function checkpointDiskBytes(parameters: number, kept: number, average: boolean): number {
  return (kept + 1) * parameters * 4 * (average ? 4 : 3);
}
