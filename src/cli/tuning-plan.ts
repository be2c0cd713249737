/** What tuning will take before it runs: shown by `cpm plan --method` and by `cpm tune --dry-run`. */
import type { Delta } from "../delta/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { MemoryPlan, PlannedTuning } from "../train/memory-plan.ts";
import type { TuneRecipe } from "./tune-recipe.ts";

/** How a base is kept that is not there yet. */
export interface PlannedPrecision {
  readonly precision: "float32" | "int8" | "int4";
  readonly group: number | "channel";
}

type Recipe = Pick<
  TuneRecipe,
  "rows" | "recompute" | "zLoss" | "compute" | "accumulate" | "dropout" | "seed" | "optimizer" | "every"
>;

export interface TuningShape {
  /** Of a row of a batch, the delta's soft prompt included. */
  readonly columns: number;
  /** Positions with a target. */
  readonly targets: number;
  readonly packed: boolean;
}

/** Plans the tuning of a delta on a base. */
export async function planTuning(
  delta: Delta,
  base: PlannedTuning["base"],
  recipe: Recipe & { readonly products?: "float32" | "int8" },
  { columns, targets, packed }: TuningShape,
): Promise<MemoryPlan> {
  const { planMemory } = await import("../train/memory-plan.ts");
  const { rows, recompute, zLoss, compute, accumulate, dropout, seed, optimizer, every, products } = recipe;
  return planMemory(delta.base, {
    ...{ rows, columns, targets, packed, recompute, zLoss, compute, accumulate, optimizer },
    ...(dropout > 0 && { dropout: { rate: dropout, seed } }),
    snapshot: true,
    validation: every.validation > 0,
    tuned: { delta, base, products },
  });
}

/**
 * The shape of a batch that a recipe asks for. Where it has no length, rows are as long as the task allows; of each, the
 * answer's share is targets.
 */
export async function tuningShape(
  { task: name, rows, length, lengthTokens, answerTokens, onePerRow }: Partial<TuneRecipe> & { readonly rows: number },
  delta: Delta,
): Promise<TuningShape> {
  const { promptLength } = delta.grafts.config;
  const task = name === undefined ? undefined : (await import("../data/index.ts")).tasks[name];
  const longest = lengthTokens ?? task?.lengthTokens ?? 512;
  const columns = length ?? Math.ceil((promptLength + longest) / 8) * 8;
  const answer = Math.min(answerTokens ?? task?.answerTokens ?? longest, longest);
  const textColumns = rows * (columns - promptLength);
  return { columns, targets: Math.max(1, Math.ceil((textColumns * answer) / longest)), packed: !onePerRow };
}

/** The tensors of a base that is to be made in a precision. */
export async function baseInPrecision(
  config: ModelConfig,
  { precision, group }: PlannedPrecision,
): Promise<PlannedTuning["base"]> {
  const [{ parameterTable }, { formatFor }, { quantizedShapes }] = await Promise.all([
    import("../model/parameters.ts"),
    import("../compress/index.ts"),
    import("../graph/index.ts"),
  ]);
  const base = new Map<string, { dtype: "float32" | "uint8"; shape: readonly number[] }>();
  const options = { bits: precision === "int4" ? 4 : 8, group, symmetric: true, embedding: true } as const;
  for (const parameter of parameterTable(config)) {
    const { name, shape } = parameter;
    const format = precision === "float32" ? undefined : formatFor(parameter, options);
    if (format === undefined) {
      base.set(name, { dtype: "float32", shape });
      continue;
    }
    const { packed, scales } = quantizedShapes(shape[0]!, shape[1]!, format);
    base.set(`${name}.packed`, { dtype: "uint8", shape: packed });
    base.set(`${name}.scales`, { dtype: "float32", shape: scales });
  }
  return base;
}

/** The tensors of a base that is there; headers alone are read. */
export async function baseOnDisk(path: string): Promise<{ config: ModelConfig; base: PlannedTuning["base"] }> {
  const [{ openCheckpoint }, { parameterTable }] = await Promise.all([
    import("../checkpoint/index.ts"),
    import("../model/parameters.ts"),
  ]);
  await using checkpoint = await openCheckpoint(path);
  const base = new Map<string, PlannedTuning["base"] extends ReadonlyMap<string, infer V> ? V : never>();
  for (const { name } of parameterTable(checkpoint.config)) {
    const { packed, shape } = checkpoint.tensor(name);
    if (packed === undefined) base.set(name, { dtype: "float32", shape });
    else {
      for (const part of ["packed", "scales", "zeros"] as const) {
        const own = packed[part];
        if (own) base.set(`${name}.${part}`, { dtype: own.dtype, shape: own.shape });
      }
    }
  }
  return { config: checkpoint.config, base };
}
