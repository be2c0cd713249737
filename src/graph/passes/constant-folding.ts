/** Nodes whose inputs are all literals become literals: above all the arithmetic of shapes, once sizes are known. */
import { elementCount } from "../../runtime/dtype.ts";
import { resolveShape, type Shape } from "../dim.ts";
import { allocateArray } from "../ndarray.ts";
import type { NdArray } from "../operator.ts";
import { constant, constantOperator } from "../operators/constant.ts";
import type { Node, Tensor } from "../tensor.ts";
import { hasSymbolicSize } from "./literal.ts";

/** Results above this size stay computed: a program should not grow by what it can make itself. */
const largestElements = 1024;

/** A replacement for `rewrite`. */
export function constantFolding(node: Node): readonly Tensor[] | undefined {
  if (node.operator === constantOperator || node.operator.name === "input") return undefined;
  if (hasSymbolicSize(node.attributes)) return undefined;
  if (!node.inputs.every((tensor) => tensor.node.operator === constantOperator)) return undefined;
  if (!node.outputs.every((output) => isKnown(output.shape) && elementCount(output.shape) <= largestElements)) {
    return undefined;
  }
  const values = node.operator.evaluate(
    node.inputs.map(({ node: { attributes } }): NdArray => attributes),
    {
      attributes: node.attributes,
      shapes: node.outputs.map(({ shape }) => shape as number[]),
      resolve: (shape) => resolveShape(shape, new Map()),
      allocate: (dtype, shape) => allocateArray(dtype, shape, "float64"),
    },
  );
  return values.map(({ data, dtype, shape }) => constant(data, dtype, shape));
}

function isKnown(shape: Shape): shape is readonly number[] {
  return shape.every((size) => typeof size === "number");
}
