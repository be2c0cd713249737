/**
 * A model's weights on a runtime: mapped from their file where they lie there as they are needed, read and converted
 * where not.
 *
 * Mapped weights cost no memory of the process: their pages are the file cache's, shared by all that use the file.
 */
import type { Checkpoint, PackedPart } from "../checkpoint/index.ts";
import { parameterTable } from "../model/parameters.ts";
import type { DType } from "../runtime/dtype.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";

/** Parameters by their CPM-Live names, float32; of packed ones the parts (`NAME.packed`, `NAME.scales`, `NAME.zeros`). */
export interface Weights {
  readonly tensors: ReadonlyMap<string, DeviceTensor>;
  /** Bytes that are mapped rather than held. */
  readonly mappedBytes: number;
  dispose(): void;
}

/** A runtime that can lay tensors over files. */
interface MappingRuntime extends Runtime {
  mapTensor(path: string, byteOffset: number, dtype: DType, shape: readonly number[]): DeviceTensor;
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
    const load = async (name: string, { dtype, shape, location, read }: PackedPart): Promise<void> => {
      if (location && canMap(runtime)) {
        const tensor = runtime.mapTensor(location.file, location.byteOffset, dtype, shape);
        tensors.set(name, tensor);
        mappedBytes += tensor.byteLength;
      } else tensors.set(name, runtime.upload(await read(), dtype, shape));
    };
    for (const { name } of parameterTable(checkpoint.config)) {
      const tensor = checkpoint.tensor(name);
      if (tensor.packed) {
        const { packed, scales, zeros } = tensor.packed;
        await load(`${name}.packed`, packed);
        await load(`${name}.scales`, scales);
        if (zeros) await load(`${name}.zeros`, zeros);
        continue;
      }
      const isReady = tensor.dtype === "float32";
      await load(name, {
        dtype: "float32",
        shape: tensor.shape,
        location: isReady ? tensor.location : undefined,
        read: () => tensor.readFloat32(),
      });
    }
  } catch (error) {
    dispose();
    throw error;
  }
  return { tensors, mappedBytes, dispose };
}
