/**
 * Tensor graphs: tracing, operators, differentiation, passes, emission and plain evaluation.
 *
 * @module
 */
export * from "./dim.ts";
export { evaluateGraph } from "./evaluate.ts";
export { grad, valueAndGrad, vjp, zerosLike } from "./gradient.ts";
export { createGraph, type Graph, inputsFor, type NamedTensor, named, type TensorsOf, trace } from "./graph.ts";
export type { Precision } from "./ndarray.ts";
export { defineOperator, type NdArray, type Operator, operators } from "./operator.ts";
export * from "./operators/index.ts";
export { accumulateOutputs } from "./passes/accumulate.ts";
export { bindSizes } from "./passes/bind-sizes.ts";
export { halfPrecision } from "./passes/half-precision.ts";
export { applyPass, dropUnusedInputs, optimize } from "./passes/optimize.ts";
export { type PackedInput, quantizeWeights } from "./passes/quantized-weights.ts";
export {
  createPlanningRuntime,
  type PlannedAllocation,
  type PlannedProgram,
  type PlanningRuntime,
} from "./planning-runtime.ts";
export { createReferenceRuntime } from "./reference.ts";
export { hostArrayFrom } from "./reference-tensor.ts";
export { rewrite } from "./rewrite.ts";
export { type RecomputePolicy, type SplitProgram, splitGradient } from "./split.ts";
export { isSpec, isTensor, spec, type Tensor, type TensorSpec } from "./tensor.ts";
export { leaves, type MapTree, mapTree, type Tree } from "./tree.ts";
export { type Interval, intermediateBuffers, peakBytes, productFlops } from "./workspace.ts";
