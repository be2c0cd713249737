/** Making models smaller. */

export {
  type InferencePlan,
  type InferencePlanOptions,
  type InferencePrecision,
  inferencePrecisions,
  planInference,
} from "./inference-plan.ts";
export { kernelRates } from "./kernel-rate.ts";
export {
  formatFor,
  packedBytes,
  type QuantizedParameter,
  type QuantizeOptions,
  quantizeCheckpoint,
  quantizedTensors,
} from "./quantize-model.ts";
export { type RandomModelOptions, randomTensors } from "./random-model.ts";
export {
  fittingGroup,
  type RoundedWeight,
  type RoundingError,
  type RoundingOptions,
  roundToNearest,
} from "./round-to-nearest.ts";
