/** A model from disk with a delta on it, ready to generate: the base mapped as it lies, the delta beside it. */
import { type OpenedTextModel, type OpenTextModelOptions, openTextModel } from "../infer/index.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { createOwner } from "../util/owner.ts";
import { baseHash, parameterReader } from "./base-hash.ts";
import { checkBase, type OpenedDelta, openDelta } from "./delta-file.ts";

export interface OpenTunedModelOptions extends OpenTextModelOptions {
  /** Of a state dict of the original: its scale. */
  readonly alpha?: number | undefined;
}

export interface OpenedTunedModel extends OpenedTextModel {
  readonly delta: OpenedDelta;
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
  { alpha, ...options }: OpenTunedModelOptions = {},
): Promise<OpenedTunedModel> {
  const owner = createOwner();
  try {
    const base = owner.own(await openTextModel(runtime, basePath, options));
    const delta = await openDelta(deltaPath, base.config, { alpha });
    if (delta.baseSha256 !== undefined) {
      const read = parameterReader(runtime, base.config, base.parameters);
      checkBase(delta, await baseHash(base.config, read), deltaPath);
    }
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
