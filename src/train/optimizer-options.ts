/**
 * Settings of the optimizer as a recipe states them, and which parameters they are of.
 *
 * A group is named by a pattern over parameters' names: norms without decay, tables at a rate of their own. Groups become
 * ranges of the arena (`arenaLayout`), so the update stays a pass over flat memory whatever their number.
 */
import { z } from "zod";
import type { Parameter } from "../model/parameters.ts";
import { ConfigError } from "../util/error.ts";

export const parameterGroupSchema = z.strictObject({
  /** Names of parameters, `*` for anything: `*layernorm*`, `input_embedding.weight`. The first group that fits counts. */
  match: z.string().min(1).max(256),
  /** In place of the optimizer's. */
  weightDecay: z.number().min(0).optional(),
  /** A factor of the schedule's rate; 0 keeps the group as it is. */
  rateFactor: z.number().min(0).default(1),
});
export type ParameterGroup = z.output<typeof parameterGroupSchema>;

export const emaSchema = z.strictObject({
  /** d of e ← d·e + (1−d)·p after each update. */
  decay: z.number().min(0).lt(1),
  /** Starts with a shorter memory: d = min(decay, (1+t)/(10+t)) at update t. */
  warmup: z.boolean().default(true),
  /** Held-out losses and samples are taken with the averaged weights. */
  validate: z.boolean().default(true),
});
export type EmaOptions = z.output<typeof emaSchema>;

export const optimizerSchema = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.999),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().min(0).default(0.01),
  clipNorm: z.number().min(0).default(1),
  groups: z.array(parameterGroupSchema).max(32).default([]),
  ema: emaSchema.optional(),
});

export type OptimizerOptions = z.output<typeof optimizerSchema>;

/** d of the average after update `t`, which counts from 1. */
export function emaDecayAt({ decay, warmup }: Pick<EmaOptions, "decay" | "warmup">, t: number): number {
  return warmup ? Math.min(decay, (1 + t) / (10 + t)) : decay;
}

/**
 * Which group each parameter is in: the index of the first one that fits, and `groups.length` for those that none fits.
 *
 * @throws ConfigError CPM_TRAIN_GROUP where a group fits no parameter, or only those of groups before it
 */
export function groupOf(
  groups: readonly Pick<ParameterGroup, "match">[],
  parameters: readonly Pick<Parameter, "name">[],
): (parameter: Pick<Parameter, "name">) => number {
  const indices = new Map<string, number>();
  for (const { name } of parameters) {
    const found = groups.findIndex(({ match }) => fits(match, name));
    indices.set(name, found < 0 ? groups.length : found);
  }
  groups.forEach(({ match }, i) => {
    if ([...indices.values()].includes(i)) return;
    throw new ConfigError("CPM_TRAIN_GROUP", "a group of the optimizer has no parameters", {
      where: `optimizer.groups.${i}`,
      got: match,
      expected: "a name, with * for anything, that no earlier group takes",
      hint: "cpm inspect lists the parameters' names.",
    });
  });
  return ({ name }) => indices.get(name)!;
}

/** Whether a pattern's parts occur in the name in order, the first at its start and the last at its end. */
function fits(pattern: string, name: string): boolean {
  const parts = pattern.split("*");
  if (parts.length === 1) return pattern === name;
  const [first, last] = [parts[0]!, parts.at(-1)!];
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}
