/** The same operator on the same inputs is computed once. */
import { isSymbolic } from "../dim.ts";
import type { Replace } from "../rewrite.ts";
import type { Node, Tensor } from "../tensor.ts";
import { isPlain } from "./literal.ts";

/** A replacement for `rewrite` that remembers what it has seen: use a new one for each graph. */
export function commonSubexpressions(): Replace {
  const seen = new Map<string, readonly Tensor[]>();
  return (node: Node) => {
    if (node.operator.name === "input" || !isPlain(node.attributes)) return undefined;
    const inputs = node.inputs.map((tensor) => `${tensor.node.id}.${tensor.index}`).join(" ");
    const key = `${node.operator.name}(${inputs})${JSON.stringify(node.attributes, exactText)}`;
    const found = seen.get(key);
    if (found === undefined) seen.set(key, node.outputs);
    return found;
  };
}

/**
 * For JSON: symbolic sizes by their text; arrays of numbers as arrays, so that equal literals are one; and the numbers that
 * JSON would confuse (−0 with 0, infinities and NaN with null) by name.
 */
function exactText(_: string, value: unknown): unknown {
  if (Object.is(value, -0)) return "-0";
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  return isSymbolic(value) ? value.text : value;
}
