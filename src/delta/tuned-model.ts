/** A model from disk with a delta on it, ready to generate: the base mapped as it lies, the delta beside it. */
import { hasPacked, type OpenedTextModel, type OpenTextModelOptions, openTextModel } from "../infer/index.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { createOwner } from "../util/owner.ts";
import { baseHash, parameterReader } from "./base-hash.ts";
import { checkBase, type OpenedDelta, openDelta } from "./delta-file.ts";
import { mixDeltas } from "./mixed-deltas.ts";

export interface OpenTunedModelOptions extends OpenTextModelOptions {
  /** Of a state dict of the original: its scale. */
  readonly alpha?: number | undefined;
  /**
   * A packed base is not compared with the one that the delta was tuned on: its numbers are rounded, so those of the base that
   * it was packed from cannot be known.
   */
  readonly trustPackedBase?: boolean | undefined;
}

export interface OpenedTunedModel extends OpenedTextModel {
  readonly delta: OpenedDelta;
}

/** A base with several LoRA deltas at once: each text is written with its own weights of them. */
export interface OpenedMixedModel extends OpenedTextModel {
  readonly deltas: readonly OpenedDelta[];
  /** A text's mix, from a weight of each delta in their order. */
  mix(weights: readonly number[]): Float32Array;
}

/**
 * Opens a base and several deltas of it.
 *
 * @throws UnsupportedError CPM_DELTA_MIX for deltas that are not plain LoRA; else as `openTunedModel`
 */
export async function openMixedModel(
  runtime: Runtime,
  basePath: string,
  deltaPaths: readonly string[],
  { alpha, trustPackedBase, ...options }: OpenTunedModelOptions = {},
): Promise<OpenedMixedModel> {
  const owner = createOwner();
  try {
    const base = owner.own(await openTextModel(runtime, basePath, options));
    const deltas: OpenedDelta[] = [];
    for (const path of deltaPaths) deltas.push(await checkedDelta(runtime, base, path, { alpha, trustPackedBase }));
    const mixed = mixDeltas(base.config, new Map(deltas.map((delta, i) => [`${i + 1}: ${deltaPaths[i]}`, delta])));
    const own = [...mixed.tensors].map(([name, { shape, values }]) => {
      return [name, owner.own(runtime.upload(values, "float32", shape))] as const;
    });
    return {
      ...base,
      cache: undefined,
      parameters: new Map([...base.parameters, ...own]),
      grafts: mixed.grafts,
      deltas,
      mix: (weights) => mixed.weights(Object.fromEntries(mixed.names.map((name, i) => [name, weights[i] ?? 0]))),
      dispose: () => owner.dispose(),
    };
  } catch (error) {
    owner.dispose();
    throw error;
  }
}

/** A delta that is this base's, as far as it says whose it is. */
async function checkedDelta(
  runtime: Runtime,
  base: OpenedTextModel,
  path: string,
  { alpha, trustPackedBase }: Pick<OpenTunedModelOptions, "alpha" | "trustPackedBase">,
): Promise<OpenedDelta> {
  const delta = await openDelta(path, base.config, { alpha });
  if (delta.baseSha256 !== undefined && !(trustPackedBase && hasPacked(base.parameters))) {
    const read = parameterReader(runtime, base.config, base.parameters);
    checkBase(delta, await baseHash(base.config, read), path);
  }
  return delta;
}

/**
 * Opens base and delta.
 *
 * @throws CheckpointError CPM_DELTA_BASE where the delta is another base's; those of `openTextModel` and `openDelta`
 */
export async function openTunedModel(
  runtime: Runtime,
  basePath: string,
  deltaPath: string,
  { alpha, trustPackedBase, ...options }: OpenTunedModelOptions = {},
): Promise<OpenedTunedModel> {
  const owner = createOwner();
  try {
    const base = owner.own(await openTextModel(runtime, basePath, options));
    const delta = await checkedDelta(runtime, base, deltaPath, { alpha, trustPackedBase });
    const own = delta.delta.parameters.map(({ name, shape }) => {
      return [name, owner.own(runtime.upload(delta.values.get(name)!, "float32", shape))] as const;
    });
    return {
      ...base,
      // Programs that are kept on disk hold the base's weights alone.
      cache: undefined,
      parameters: new Map([...base.parameters, ...own]),
      grafts: delta.delta.grafts,
      delta,
      dispose: () => owner.dispose(),
    };
  } catch (error) {
    owner.dispose();
    throw error;
  }
}
