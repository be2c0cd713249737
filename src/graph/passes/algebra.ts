/** Identities of arithmetic: what multiplies by one, adds zero, transposes twice or scales a product is absorbed. */
import { sameShape } from "../dim.ts";
import { addRows } from "../operators/indexing.ts";
import { reshape, transpose } from "../operators/movement.ts";
import { matmul } from "../operators/product.ts";
import type { Node, Tensor } from "../tensor.ts";
import { literalNumber } from "./literal.ts";

type Uses = (tensor: Tensor) => number;
type Rule = (node: Node, uses: Uses) => Tensor | undefined;

/** The operand that is not this literal, where it already has the result's shape. */
function withoutNeutral(node: Node, neutral: number, commutes: boolean): Tensor | undefined {
  const [a, b] = node.inputs as [Tensor, Tensor];
  const result = node.outputs[0]!;
  if (literalNumber(b) === neutral && sameShape(a.shape, result.shape)) return a;
  if (commutes && literalNumber(a) === neutral && sameShape(b.shape, result.shape)) return b;
  return undefined;
}

/** (α·A·B)·c = (αc)·A·B, where nothing else needs the product. */
function scaledProduct(node: Node, uses: Uses): Tensor | undefined {
  const [a, b] = node.inputs as [Tensor, Tensor];
  for (const [product, factor] of [
    [a, literalNumber(b)],
    [b, literalNumber(a)],
  ] as const) {
    if (factor === undefined || product.node.operator.name !== "matmul" || uses(product) > 1) continue;
    const [left, right] = product.node.inputs as [Tensor, Tensor];
    const { transposeA, transposeB, alpha } = product.node.attributes;
    return matmul(left, right, { transposeA, transposeB, alpha: alpha * factor });
  }
  return undefined;
}

/** x + (zeros with rows added) = x with rows added, where nothing has to be broadcast and nothing else needs the rows. */
function addedRows(node: Node, uses: Uses): Tensor | undefined {
  const [a, b] = node.inputs as [Tensor, Tensor];
  for (const [base, sums] of [
    [a, b],
    [b, a],
  ] as const) {
    if (sums.node.operator.name !== "scatterAddRows" || !sameShape(base.shape, sums.shape) || uses(sums) > 1) continue;
    const [indices, updates] = sums.node.inputs as [Tensor, Tensor];
    return addRows(base, indices, updates, sums.node.attributes);
  }
  return undefined;
}

const rules: Readonly<Record<string, Rule>> = {
  add: (node, uses) => withoutNeutral(node, 0, true) ?? addedRows(node, uses),
  sub: (node) => withoutNeutral(node, 0, false),
  mul: (node, uses) => withoutNeutral(node, 1, true) ?? scaledProduct(node, uses),
  div: (node) => withoutNeutral(node, 1, false),
  neg: ({ inputs: [x] }) => (x!.node.operator.name === "neg" ? x!.node.inputs[0]! : undefined),
  reshape: ({ inputs: [x], outputs: [y] }) => {
    if (x!.node.operator.name !== "reshape") return undefined;
    const source = x!.node.inputs[0]!;
    return sameShape(source.shape, y!.shape) ? source : reshape(source, y!.shape);
  },
  transpose: ({ inputs: [x], attributes: { permutation } }) => {
    if (x!.node.operator.name !== "transpose") return undefined;
    const first: readonly number[] = x!.node.attributes.permutation;
    return transpose(
      x!.node.inputs[0]!,
      (permutation as readonly number[]).map((axis) => first[axis]!),
    );
  },
};

/** A replacement for `rewrite`. */
export function algebra(node: Node, uses: Uses): readonly Tensor[] | undefined {
  const simpler = rules[node.operator.name]?.(node, uses);
  return simpler && [simpler];
}
