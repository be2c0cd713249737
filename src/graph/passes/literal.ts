/** Reading literals back out of a graph. */
import { constantOperator } from "../operators/constant.ts";
import type { Attributes, Tensor } from "../tensor.ts";

/** Literals above this many elements are not compared or folded. */
const smallElements = 4096;

/** Whether attributes are small enough to be compared by their text. */
export function isPlain(attributes: Attributes): boolean {
  return Object.values(attributes).every(
    (value) => !ArrayBuffer.isView(value) || value.byteLength <= smallElements * 8,
  );
}

/** The number that a scalar literal holds; undefined for anything else. */
export function literalNumber(tensor: Tensor): number | undefined {
  if (tensor.node.operator !== constantOperator || tensor.shape.length !== 0) return undefined;
  return tensor.node.attributes.data[0];
}
