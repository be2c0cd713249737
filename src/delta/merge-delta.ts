/**
 * Deltas put into weights, and taken out again: W → W′ so that the plain model computes what the model with the delta
 * computes, within rounding.
 */
import type { ModelConfig } from "../model/config.ts";
import { names } from "../model/parameters.ts";
import { UnsupportedError } from "../util/error.ts";
import type { DeltaPart } from "./attach.ts";
import type { DeltaWithValues } from "./finish.ts";
import type { Merge } from "./method.ts";

export interface MergedModel {
  /** A soft prompt makes the prompt longer. */
  readonly config: ModelConfig;
  /** Weights that differ from the base's, by name. */
  readonly changed: ReadonlySet<string>;
  /** A parameter of the merged model. */
  read(name: string): Promise<Float32Array>;
}

/**
 * The model with the delta in it. Weights are made when they are read, one at a time.
 *
 * @throws UnsupportedError CPM_DELTA_MERGE for methods that no weight of the model can hold
 */
export function mergeDelta(
  { delta, values }: DeltaWithValues,
  base: (name: string) => Promise<Float32Array>,
): MergedModel {
  const merges = mergesOf(delta.parts, values, "merge");
  const soft = delta.parts.find(({ method }) => method.name === "soft-prompt");
  const { config } = delta.grafts;
  return {
    config,
    changed: new Set([...merges.keys(), ...(soft ? [names.prompt] : [])]),
    async read(name) {
      if (soft && name === names.prompt) return longerPrompts(await base(name), values.get("soft_prompt")!, delta.base);
      return applied(merges.get(name), await base(name));
    },
  };
}

/**
 * The base of a merged model, within rounding.
 *
 * @throws UnsupportedError CPM_DELTA_MERGE for methods that cannot be taken out
 */
export function unmergeDelta(
  { delta, values }: DeltaWithValues,
  merged: (name: string) => Promise<Float32Array>,
): Omit<MergedModel, "config"> {
  const merges = mergesOf([...delta.parts].reverse(), values, "unmerge");
  return { changed: new Set(merges.keys()), read: async (name) => applied(merges.get(name), await merged(name)) };
}

function applied(changes: readonly ((weight: Float32Array) => void)[] | undefined, weight: Float32Array): Float32Array {
  if (!changes) return weight;
  const own = weight.slice();
  for (const change of changes) change(own);
  return own;
}

/** What happens to each weight, in the order of the parts. */
function mergesOf(
  parts: readonly DeltaPart[],
  values: ReadonlyMap<string, Float32Array>,
  which: "merge" | "unmerge",
): Map<string, ((weight: Float32Array) => void)[]> {
  const found = new Map<string, ((weight: Float32Array) => void)[]>();
  for (const { method, options, places } of parts) {
    if (method.name === "soft-prompt" && which === "merge") continue;
    for (const { place, parameters } of places) {
      const merge: Merge | undefined = method[which]?.(options, place);
      if (!merge) throw unsupported(method.name, which);
      const numbersOf = (local: string) => values.get(parameters.find((each) => each.local === local)!.name)!;
      const changes = found.get(place.parameter!.name) ?? [];
      changes.push((weight) => merge(weight, place.shape as readonly [number, number], numbersOf));
      found.set(place.parameter!.name, changes);
    }
  }
  return found;
}

/** Each task's rows with the soft prompt's before them: [types·(N+P), D]. */
function longerPrompts(table: Float32Array, soft: Float32Array, { promptTypes }: ModelConfig): Float32Array {
  const each = table.length / promptTypes;
  const out = new Float32Array(promptTypes * (each + soft.length));
  for (let task = 0; task < promptTypes; task++) {
    const start = task * (each + soft.length);
    out.set(soft, start);
    out.set(table.subarray(task * each, (task + 1) * each), start + soft.length);
  }
  return out;
}

function unsupported(method: string, which: "merge" | "unmerge"): UnsupportedError {
  const can = which === "merge" ? "lora, ia3, fine-tuning, soft-prompt" : "lora without dora, ia3";
  return new UnsupportedError(
    "CPM_DELTA_MERGE",
    `the weights of the model cannot ${which === "merge" ? "hold" : "give back"} this delta`,
    {
      got: method,
      expected: can,
      hint: "Use the delta beside its base: cpm generate MODEL --delta PATH.",
    },
  );
}
