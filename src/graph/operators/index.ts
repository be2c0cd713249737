/** All operators: what a traced function may call. */
export { cachedAttention } from "./cached-attention.ts";
export { constant, iota, type Operand, scalar, size } from "./constant.ts";
export * from "./elementwise.ts";
export { narrow, widen } from "./half.ts";
export { addAt, addRows, gather, gatherElements, scatterAddElements, scatterAddRows } from "./indexing.ts";
export { keepMask, keepWhere } from "./keep-mask.ts";
export { logSumExp } from "./log-sum-exp.ts";
export { boundary, input, stopGradient } from "./mark.ts";
export { broadcastTo, concat, pad, reshape, slice, transpose } from "./movement.ts";
export { crossEntropy, logSoftmax, rmsNorm, softmax, softmaxMix } from "./normalization.ts";
export { matmul, type ProductOptions } from "./product.ts";
export {
  dequantize,
  gatherQuantized,
  type QuantizedFormat,
  type QuantizedWeight,
  quantizedMatmul,
  quantizedShapes,
} from "./quantized.ts";
export { argMax, reduceMax, reduceMean, reduceSum, reduceSumSquare, sumTo } from "./reduction.ts";
export { type SignedWeight, signedFrom, signedMatmul, signedMatmulBack } from "./rounded-product.ts";
