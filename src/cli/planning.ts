/**
 * What a recipe needs: shared by `cpm plan`, which shows it, and `cpm train`, which refuses what does not fit and keeps
 * the plan in the run's folder.
 */
import type { ModelConfig } from "../model/config.ts";
import { type MemoryPlan, planMemory } from "../train/memory-plan.ts";
import type { OptimizerOptions } from "../train/optimizer-options.ts";
import { type GeometryRamp, geometryAt } from "../train/ramp.ts";

/** Of a recipe, what decides about memory. */
export interface PlannedRecipe {
  readonly rows: number;
  readonly length: number;
  readonly accumulate: number;
  readonly ramp: GeometryRamp;
  readonly recompute: "none" | "block";
  readonly zLoss: number;
  readonly compute: "float32" | "float16";
  readonly dropout: number;
  readonly wholeShare: number;
  readonly seed: number;
  readonly sampleTokens: number;
  readonly optimizer: OptimizerOptions;
  readonly every: { readonly validation: number; readonly samples: number; readonly checkpoint: number };
}

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
