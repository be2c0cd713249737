/**
 * What a run is expected to take, as `cpm plan` says it, as `run.json` keeps it and as the pages show it.
 *
 *     seconds           = tokens / (devices · efficiency · tokens per second of one device)
 *     tokens per second = product rate · utilisation / FLOPs per token
 *
 * Energy, carbon and money by the ledger's formulas (cost-formulas.ts). What loss is reached is not among them.
 */
import type { SourceSpending } from "../data/mixture-plan.ts";
import type { MemoryPlan } from "../train/memory-plan.ts";
import { costOf } from "./cost-formulas.ts";
import type { LedgerAssumptions } from "./ledger-assumptions.ts";

/** How fast one device trains, and how that is known. */
export interface PlannedRate {
  readonly tokensPerSecond: number;
  readonly source: "measured" | "estimated" | "given";
  /** Of the products that the estimate starts from, or that were measured beside. */
  readonly productFlopsPerSecond?: number | undefined;
  /** Share of them: MFU. */
  readonly utilisation?: number | undefined;
}

export interface PlannedCost {
  /** Of all devices together. */
  readonly tokensPerSecond: number;
  readonly hours: number;
  readonly deviceHours: number;
  readonly energyKwh: number;
  readonly kgCo2e: number | undefined;
  readonly cost: number | undefined;
}

export interface RunPlan {
  readonly memory: MemoryPlan;
  /** Of each device. */
  readonly availableBytes: number;
  readonly verdict: "fits" | "tight" | "tooLarge";
  /** To be trained on. */
  readonly tokens: number;
  readonly steps: number;
  /** Of an update, all devices together. */
  readonly stepTokens: number;
  /** What is read of each source; empty where none is named. */
  readonly sources: readonly SourceSpending[];
  readonly rate: PlannedRate;
  readonly run: PlannedCost;
  /** How many devices, what they draw and cost, PUE and grid, each with its source. */
  readonly assumptions: LedgerAssumptions;
  /** On disk: so many kept. */
  readonly checkpoints: { readonly kept: number; readonly bytes: number };
}

export interface PlannedRun {
  readonly tokens: number;
  /** One device's, in training. */
  readonly tokensPerSecond: number;
  /** Share of the devices' summed rate that is left when they work together. */
  readonly efficiency: number;
  /** All devices count. */
  readonly assumptions: LedgerAssumptions;
}

/** The formulas above. */
export function planRun({ tokens, tokensPerSecond: ofOne, efficiency, assumptions }: PlannedRun): PlannedCost {
  const count = assumptions.devices.reduce((sum, device) => sum + device.count, 0);
  const tokensPerSecond = count * efficiency * ofOne;
  const seconds = tokens / tokensPerSecond;
  const { deviceHours, energyKwh, kgCo2e, cost } = costOf(
    assumptions.devices.map((device) => ({
      name: device.name,
      deviceSeconds: seconds * device.count,
      unmeasuredSeconds: seconds * device.count,
      joules: 0,
    })),
    assumptions,
  );
  return { tokensPerSecond, hours: seconds / 3600, deviceHours, energyKwh, kgCo2e, cost };
}

/**
 * Bytes of checkpoints on disk: so many kept, and for a moment the one that is being written, each with weights and both
 * moments (and the average) in float32.
 */
export function checkpointDiskBytes(parameters: number, kept: number, average: boolean): number {
  return (kept + 1) * parameters * 4 * (average ? 4 : 3);
}
