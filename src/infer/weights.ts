/**
 * A model's weights on a runtime: mapped from their file where they lie there as they are needed, read and converted
 * where not.
 *
 * Mapped weights cost no memory of the process: their pages are the file cache's, shared by all that use the file.
 */
import type { Checkpoint } from "../checkpoint/index.ts";
import { parameterTable } from "../model/parameters.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";

/** Parameters by their CPM-Live names, float32. */
export interface Weights {
  readonly tensors: ReadonlyMap<string, DeviceTensor>;
  /** Bytes that are mapped rather than held. */
  readonly mappedBytes: number;
  dispose(): void;
}

/** A runtime that can lay tensors over files. */
interface MappingRuntime extends Runtime {
  mapTensor(path: string, byteOffset: number, dtype: "float32", shape: readonly number[]): DeviceTensor;
}

function canMap(runtime: Runtime): runtime is MappingRuntime {
  return "mapTensor" in runtime && runtime.info.device === "cpu";
}

/** Loads every parameter of an open checkpoint. The checkpoint may be closed afterwards. */
export async function loadWeights(runtime: Runtime, checkpoint: Checkpoint): Promise<Weights> {
  const tensors = new Map<string, DeviceTensor>();
  let mappedBytes = 0;
  const dispose = () => {
    for (const tensor of tensors.values()) tensor.dispose();
    tensors.clear();
  };
  try {
    for (const { name } of parameterTable(checkpoint.config)) {
      const { dtype, shape, location, readFloat32 } = checkpoint.tensor(name);
      if (dtype === "float32" && location && canMap(runtime)) {
        const tensor = runtime.mapTensor(location.file, location.byteOffset, dtype, shape);
        tensors.set(name, tensor);
        mappedBytes += tensor.byteLength;
      } else {
        tensors.set(name, runtime.upload(await readFloat32(), "float32", shape));
      }
    }
  } catch (error) {
    dispose();
    throw error;
  }
  return { tensors, mappedBytes, dispose };
}
