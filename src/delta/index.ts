/** Delta tuning: methods, places, what a delta adds to a model's programs, its files. */
export { attachDelta, type Delta, type DeltaPart } from "./attach.ts";
export { baseHash, parameterReader } from "./base-hash.ts";
export {
  checkBase,
  type DeltaUse,
  deltaFiles,
  type OpenedDelta,
  openDelta,
  type SaveDeltaOptions,
  saveDelta,
  writeDelta,
} from "./delta-file.ts";
export { type DeltaWithValues, finishDelta } from "./finish.ts";
export { initialValues } from "./initial-values.ts";
export { type MergedModel, mergeDelta, unmergeDelta } from "./merge-delta.ts";
export type { DeltaMethod, DeltaParameter, InitialContext } from "./method.ts";
export { type DeltaSpec, methodOf, methods } from "./methods/index.ts";
export { type MixedDeltas, mixDeltas } from "./mixed-deltas.ts";
export { type Place, type PlaceKind, placesOf } from "./places.ts";
export { type PlaceSelection, selectPlaces } from "./select-places.ts";
export { type TrainableTree, type TreeNode, trainableTree } from "./trainable-tree.ts";
export { type OpenedMixedModel, type OpenedTunedModel, openMixedModel, openTunedModel } from "./tuned-model.ts";
