/** The same operator on the same inputs is computed once. */

import type { Replace } from "../rewrite.ts";
import type { Node, Tensor } from "../tensor.ts";
import { isPlain } from "./literal.ts";

/** A replacement for `rewrite` that remembers what it has seen: use a new one for each graph. */
export function commonSubexpressions(): Replace {
  const seen = new Map<string, readonly Tensor[]>();
  return (node: Node) => {
    if (node.operator.name === "input" || !isPlain(node.attributes)) return undefined;
    const inputs = node.inputs.map((tensor) => `${tensor.node.id}.${tensor.index}`).join(" ");
    const key = `${node.operator.name}(${inputs})${JSON.stringify(node.attributes, dimText)}`;
    const found = seen.get(key);
    if (found === undefined) seen.set(key, node.outputs);
    return found;
  };
}

/** Symbolic sizes by their text; numbers' arrays by their numbers, so that equal literals are one. */
function dimText(_: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  return typeof value === "object" && value !== null && "terms" in value
    ? (value as unknown as { text: string }).text
    : value;
}
