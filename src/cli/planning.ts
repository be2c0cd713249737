/**
 * What a recipe needs: shared by `cpm plan`, which shows it, and `cpm train`, which refuses what does not fit and keeps
 * the plan in the run's folder.
 */
import { type PlannedSource, spendTokens } from "../data/mixture-plan.ts";
import type { RecomputePolicy } from "../graph/index.ts";
import type { LedgerAssumptions } from "../live/ledger-assumptions.ts";
import { checkpointDiskBytes, type PlannedRate, planRun, type RunPlan } from "../live/run-plan.ts";
import type { ModelConfig } from "../model/config.ts";
import { type MemoryPlan, planMemory, tightShare } from "../train/memory-plan.ts";
import type { OptimizerOptions } from "../train/optimizer-options.ts";
import { type GeometryRamp, geometryAt } from "../train/ramp.ts";

/** Of a recipe, what decides about memory. */
export interface PlannedRecipe {
  readonly rows: number;
  readonly length: number;
  readonly accumulate: number;
  readonly ramp: GeometryRamp;
  readonly recompute: RecomputePolicy;
  readonly zLoss: number;
  readonly compute: "float32" | "float16";
  readonly dropout: number;
  readonly wholeShare: number;
  readonly seed: number;
  readonly sampleTokens: number;
  readonly optimizer: OptimizerOptions;
  readonly every: { readonly validation: number; readonly samples: number; readonly checkpoint: number };
}

/** And what decides about time and the disk. */
export interface PlannedTraining extends PlannedRecipe {
  readonly steps: number;
  readonly retention: { readonly last: number; readonly every: number; readonly best: boolean };
  /** Milliseconds after which it ends in any case. */
  readonly for?: number | undefined;
}

/** Of a step on this machine without trying it, as a share of its product rate: below what the trainer was measured at. */
export const assumedUtilisation = 0.75;

/** The plan of the ramp's most demanding shape. */
export async function planRecipe(config: ModelConfig, recipe: PlannedRecipe, packed: boolean): Promise<MemoryPlan> {
  let largest: MemoryPlan | undefined;
  for (const { rows, columns, accumulate } of shapesOf(recipe)) {
    const plan = await planMemory(config, {
      rows,
      columns,
      packed,
      accumulate,
      recompute: recipe.recompute,
      zLoss: recipe.zLoss,
      compute: recipe.compute,
      ...(recipe.dropout > 0 && { dropout: { rate: recipe.dropout, seed: recipe.seed } }),
      ...(recipe.wholeShare > 0 && { targets: rows * (columns - config.promptLength) }),
      optimizer: recipe.optimizer,
      snapshot: true,
      validation: recipe.every.validation > 0,
      sampleTokens: recipe.every.samples > 0 ? recipe.sampleTokens : 0,
    });
    if (largest === undefined || plan.totalBytes > largest.totalBytes) largest = plan;
  }
  return largest!;
}

function shapesOf({ rows, length, accumulate, ramp }: PlannedRecipe) {
  const initial = { rows, columns: length, accumulate };
  const at = ({ fromStep = 0, fromTokens = 0 }: GeometryRamp[number]) =>
    geometryAt(ramp, initial, fromStep, fromTokens);
  return [geometryAt(ramp, initial, 0, 0), ...ramp.map(at)];
}

/** Tokens of so many updates on one device, by the recipe's shapes. */
export function tokensOfSteps(recipe: PlannedRecipe, steps: number): number {
  return walk(
    recipe,
    (step) => step >= steps,
    (tokens, step, each) => tokens + (steps - step) * each,
  );
}

/** Updates that read so many tokens on one device, by the recipe's shapes. */
export function stepsOfTokens(recipe: PlannedRecipe, wanted: number): number {
  return walk(
    recipe,
    (_, tokens) => tokens >= wanted,
    (tokens, step, each) => step + Math.ceil(Math.max(0, wanted - tokens) / each),
  );
}

/** Update by update until the shape changes no more or `isOver`; `rest` gives the result from there. */
function walk(
  { rows, length, accumulate, ramp }: PlannedRecipe,
  isOver: (step: number, tokens: number) => boolean,
  rest: (tokens: number, step: number, eachTokens: number) => number,
): number {
  const initial = { rows, columns: length, accumulate };
  const lastStep = Math.max(0, ...ramp.map(({ fromStep = 0 }) => fromStep));
  const lastTokens = Math.max(0, ...ramp.map(({ fromTokens = 0 }) => fromTokens));
  for (let [step, tokens] = [0, 0]; ; step++) {
    const shape = geometryAt(ramp, initial, step, tokens);
    const eachTokens = shape.rows * shape.columns * shape.accumulate;
    if (isOver(step, tokens) || (step >= lastStep && tokens >= lastTokens)) return rest(tokens, step, eachTokens);
    tokens += eachTokens;
  }
}

/** Speed of one device whose products run at a rate. */
export function estimatedRate(
  { rows, length, accumulate }: PlannedRecipe,
  { flops }: MemoryPlan,
  productFlopsPerSecond: number,
  utilisation = assumedUtilisation * Math.min(1, flops.model / flops.executed),
): PlannedRate {
  const stepTokens = rows * length * accumulate;
  return {
    tokensPerSecond: (productFlopsPerSecond * utilisation * stepTokens) / flops.model,
    source: "estimated",
    productFlopsPerSecond,
    utilisation,
  };
}

export interface PlanInput {
  readonly recipe: PlannedTraining;
  readonly memory: MemoryPlan;
  readonly availableBytes: number;
  readonly sources: readonly PlannedSource[];
  readonly rate: PlannedRate;
  readonly assumptions: LedgerAssumptions;
  /** Default: as the recipe's steps have. */
  readonly tokens?: number | undefined;
  readonly efficiency?: number | undefined;
}

/** All that is expected of a run. It ends with its tokens, with its data or with its time, whichever comes first. */
export function completePlan(input: PlanInput): RunPlan {
  const { recipe, memory, availableBytes, rate, assumptions, efficiency = 1 } = input;
  const devices = assumptions.devices.reduce((sum, { count }) => sum + count, 0);
  let tokens = input.tokens ?? devices * tokensOfSteps(recipe, recipe.steps);
  if (recipe.for !== undefined)
    tokens = Math.min(tokens, (devices * efficiency * rate.tokensPerSecond * recipe.for) / 1000);
  const sources = spendTokens(input.sources, tokens);
  const read = sources.reduce((sum, source) => sum + source.read, 0);
  if (input.sources.length > 0 && input.sources.every(({ epochs }) => Number.isFinite(epochs))) {
    tokens = Math.min(tokens, read);
  }
  const steps = stepsOfTokens(recipe, tokens / devices);
  const { rows, length, accumulate, ramp } = recipe;
  // Where shapes change, the mean.
  const stepTokens = ramp.length > 0 && steps > 0 ? Math.round(tokens / steps) : rows * length * accumulate * devices;
  const kept = keptCheckpoints(recipe, steps);
  return {
    memory,
    availableBytes,
    verdict: verdictOf(memory.totalBytes, availableBytes),
    tokens,
    steps,
    stepTokens,
    sources,
    rate,
    run: planRun({ tokens, tokensPerSecond: rate.tokensPerSecond, efficiency, assumptions }),
    assumptions,
    checkpoints: {
      kept,
      bytes: checkpointDiskBytes(memory.parameters, kept, recipe.optimizer.ema !== undefined),
    },
  };
}

export function verdictOf(totalBytes: number, availableBytes: number): RunPlan["verdict"] {
  if (totalBytes > availableBytes) return "tooLarge";
  return totalBytes > tightShare * availableBytes ? "tight" : "fits";
}

/** How many checkpoints the rule leaves on the disk at the end. */
function keptCheckpoints({ retention, every }: PlannedTraining, steps: number): number {
  if (every.checkpoint === 0) return 1;
  const written = Math.max(1, Math.ceil(steps / every.checkpoint));
  const regular = retention.every > 0 ? Math.floor(steps / retention.every) : 0;
  return Math.min(written, retention.last + regular + Number(retention.best));
}
