/**
 * Deltas as the original tuned them: a state dict of OpenDelta with `lora_A` and `lora_B` of each layer, saved by torch or as
 * safetensors. It tells ranks; alpha is not in it and must be known (16 in the published recipes).
 */
import type { ModelConfig } from "../model/config.ts";
import { type LoraSettings, loraOf, notRead, type ReadDelta, type ReadTensor } from "./peft.ts";
import { type Place, placesOf } from "./places.ts";

export const publishedAlpha = 16;

/** Whether a file's names are those of such a state dict. */
export function isOriginalDelta(names: Iterable<string>): boolean {
  const all = [...names];
  return all.length > 0 && all.every((name) => /(^|\.)lora_[AB]$/.test(name));
}

/** @throws CheckpointError CPM_DELTA_PEFT where names or shapes are not this model's */
export function fromOriginal(
  tensors: ReadonlyMap<string, ReadTensor>,
  base: ModelConfig,
  where: string,
  alpha: number = publishedAlpha,
): ReadDelta {
  const places = new Map(placesOf(base).flatMap((place) => (place.kind === "linear" ? [[place.module, place]] : [])));
  const modules = new Map<Place, Map<string, ReadTensor>>();
  for (const [name, tensor] of tensors) {
    // `…project_q.lora.lora_A`, also behind `module.` or the like.
    const match = /(encoder\..*?)(?:\.lora)?\.(lora_[AB])$/.exec(name);
    const place = match && places.get(match[1]!);
    if (!match || !place) throw notRead(where, name, "lora_A and lora_B of the linear layers of this model");
    const own = modules.get(place) ?? new Map<string, ReadTensor>();
    own.set(match[2]!, tensor);
    modules.set(place, own);
  }
  const settings: LoraSettings = { dora: false, rankStabilized: false, alphaOf: () => alpha };
  return loraOf(modules, where, settings);
}
