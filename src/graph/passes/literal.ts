/** Reading literals back out of a graph. */
import { isSymbolic } from "../dim.ts";
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

/** Whether attributes depend on sizes that are not known yet. */
export function hasSymbolicSize(attributes: Attributes): boolean {
  return Object.values(attributes).some(
    (value) => isSymbolic(value) || (Array.isArray(value) && value.some(isSymbolic)),
  );
}

/** The number that a scalar literal holds; undefined for anything else. */
export function literalNumber(tensor: Tensor): number | undefined {
  if (tensor.node.operator !== constantOperator || tensor.shape.length !== 0) return undefined;
  return tensor.node.attributes.data[0];
}
