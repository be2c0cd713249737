/** Weights files: opening, converting, saving. */
export { type InferredConfig, inferConfig } from "./infer-config.ts";
export { type DetectedLayout, deltaKind, detectLayout, type Layout, layouts } from "./layout.ts";
export { type Checkpoint, type CheckpointTensor, type OpenOptions, openCheckpoint, readConfigFile } from "./open.ts";
export { type FoundWeights, findWeights, openRaw } from "./open-raw.ts";
export {
  type PackedFormat,
  type PackedPart,
  type PackedValues,
  type PackedWeight,
  unpackWeight,
} from "./packed-weight.ts";
export { type RawCheckpoint, type RawTensor, type TensorLocation, toFloat32 } from "./raw.ts";
export { openSafetensors } from "./safetensors.ts";
export { type WritableTensor, writeSafetensors, writeShardedSafetensors } from "./safetensors-writer.ts";
export { type SaveOptions, saveCheckpoint, type WeightDType, weightDTypes } from "./save.ts";
export { openTorchFile } from "./torch-file.ts";
