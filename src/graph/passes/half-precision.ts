/**
 * A function in 16 bits, computed in float32: the inputs and every operator's result are rounded to float16 and back.
 *
 * That is what tensor cores do (16-bit operands, sums in float32, a 16-bit result), and what the original's trainer saw:
 * the same overflows beyond 65504, the same lost small gradients. Rounding is part of the graph, so the gradients that
 * flow back through it are rounded at the same places. As in the original RMSNorm's mean of squares stays in float32, and
 * so do the inside of softmax and GELU. What is stored for the backward program is the 16-bit value.
 */

import { scalar } from "../operators/constant.ts";
import { maximum, mul } from "../operators/elementwise.ts";
import { narrow, widen } from "../operators/half.ts";
import { broadcastTo } from "../operators/movement.ts";
import { rmsNorm, softmax } from "../operators/normalization.ts";
import { matmul } from "../operators/product.ts";
import { rewrite } from "../rewrite.ts";
import { type Node, reapply, type Tensor } from "../tensor.ts";

/** Results of these are results of their inputs' rounding already, moved or chosen. */
const exact = new Set([
  "input",
  "constant",
  "size",
  "reshape",
  "transpose",
  "broadcastTo",
  "slice",
  "concat",
  "pad",
  "gather",
  "boundary",
  "stopGradient",
  "neg",
  "narrow",
  "widen",
  "keepFactors",
]);

/** Softmax needs no more to see nothing of what is blocked, and a row in which all is blocked stays finite. */
const lowestScore = -30_000;

/** x rounded to float16. */
function half(x: Tensor): Tensor {
  return x.dtype === "float32" ? widen(narrow(x)) : x;
}

function inHalf(node: Node): readonly Tensor[] | undefined {
  const { operator, inputs, outputs, attributes } = node;
  const [a, b] = inputs as [Tensor, Tensor];
  if (operator.name === "softmaxMix") return [half(matmul(half(softmax(a)), b)), outputs[1]!];
  if (operator.name === "rmsNorm") {
    const ones = broadcastTo(scalar(1), b.shape);
    return [half(mul(half(rmsNorm(a, ones, attributes.eps)), b)), outputs[1]!];
  }
  // Moved as 16 bits, so that what is stored of it is no larger.
  const moves = operator.name === "reshape" || operator.name === "transpose";
  if (moves && a.node.operator.name === "widen") return [widen(reapply(node, [a.node.inputs[0]!]).outputs[0]!)];
  return exact.has(operator.name) ? undefined : outputs.map(half);
}

/**
 * The outputs of a traced function as 16-bit arithmetic gives them. `inputs` are rounded too, but for those that are
 * `blocking`: scores from −1e9 on, which no 16-bit number can be, become large negative ones.
 */
export function halfPrecision(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  blocking: ReadonlySet<Tensor> = new Set(),
): Tensor[] {
  const known = new Map(
    inputs
      .filter(({ dtype }) => dtype === "float32")
      .map((x) => [x, half(blocking.has(x) ? maximum(x, lowestScore) : x)]),
  );
  return rewrite(outputs, known, inHalf);
}
