/**
 * Reverse-mode differentiation: a function from graph to graph.
 *
 * The gradient of a scalar towards each wanted tensor is built from the operators' gradient rules, walking the nodes
 * between them backward. What does not lie on a path from a wanted tensor to the result is never visited: nothing is
 * computed for frozen parameters, nor below the lowest trained one.
 */
import { isFloat } from "../runtime/dtype.ts";
import { ShapeError, UnsupportedError } from "../util/error.ts";
import { formatShape, sameShape } from "./dim.ts";
import { nodesFor } from "./graph.ts";
import { scalar } from "./operators/constant.ts";
import { add } from "./operators/elementwise.ts";
import { broadcastTo } from "./operators/movement.ts";
import { describeTensor, isTensor, type Node, originLine, type Tensor } from "./tensor.ts";
import { leaves, mapTree, type Tree } from "./tree.ts";

/**
 * Vector-Jacobian product: gradients of Σ ⟨output, cotangent⟩ towards `wanted`.
 *
 * Each cotangent has its output's shape. Undefined for a wanted tensor that no output depends on.
 *
 * Errors: `CPM_GRADIENT_UNSUPPORTED` where an operator on the way cannot be differentiated.
 */
export function vjp(
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  wanted: readonly Tensor[],
): (Tensor | undefined)[] {
  const nodes = nodesFor(outputs);
  const relevant = new Set<Tensor>(wanted);
  for (const node of nodes) {
    const { gradient, refusesGradient } = node.operator;
    if ((gradient || refusesGradient) && node.inputs.some((x) => relevant.has(x) && isFloat(x.dtype))) {
      for (const output of node.outputs) if (isFloat(output.dtype)) relevant.add(output);
    }
  }
  const gradients = new Map<Tensor, Tensor>();
  const accumulate = (tensor: Tensor, gradient: Tensor) => {
    const sum = gradients.get(tensor);
    gradients.set(tensor, sum === undefined ? gradient : add(sum, gradient));
  };
  outputs.forEach((output, i) => {
    const cotangent = cotangents[i];
    if (cotangent === undefined || !relevant.has(output)) return;
    if (!sameShape(cotangent.shape, output.shape)) {
      throw new Error(
        `internal: a cotangent ${formatShape(cotangent.shape)} for an output ${formatShape(output.shape)}`,
      );
    }
    accumulate(output, cotangent);
  });
  for (const node of nodes.reverse()) {
    const own = node.outputs.map((output) => gradients.get(output));
    const needs = node.inputs.map((x) => relevant.has(x));
    if (own.every((g) => g === undefined) || !needs.some(Boolean)) continue;
    if (node.operator.refusesGradient) throw withoutGradient(node);
    if (!node.operator.gradient) continue;
    const { inputs, outputs: results, attributes } = node;
    const found = node.operator.gradient({ attributes, inputs, outputs: results, cotangents: own, needs });
    inputs.forEach((x, i) => {
      const gradient = found[i];
      if (gradient === undefined || !needs[i]) return;
      checkGradient(node, x, gradient);
      accumulate(x, gradient);
    });
  }
  return wanted.map((tensor) => gradients.get(tensor));
}

function withoutGradient({ operator, origin }: Node): UnsupportedError {
  return new UnsupportedError("CPM_GRADIENT_UNSUPPORTED", `${operator.name} cannot be differentiated`, {
    where: originLine(origin),
    hint: "Use other operators in what is trained, or stopGradient() on its result.",
  });
}

function checkGradient(node: Node, x: Tensor, gradient: Tensor): void {
  if (sameShape(x.shape, gradient.shape) && x.dtype === gradient.dtype) return;
  throw new Error(
    `internal: ${node.operator.name} gave a gradient ${gradient.dtype}${formatShape(gradient.shape)} ` +
      `for ${x.dtype}${formatShape(x.shape)} (${originLine(node.origin)})`,
  );
}

/** A zero of a tensor's shape. */
export function zerosLike(tensor: Tensor): Tensor {
  return broadcastTo(scalar(0, tensor.dtype), tensor.shape);
}

/**
 * The gradient of a scalar function towards its first argument, a tree of tensors.
 *
 * Returns a function that gives the value and the tree of gradients; leaves that the value does not depend on get zeros.
 *
 * Errors: `CPM_GRADIENT_NOT_SCALAR` where the function's value has axes or is no floating number, and those of `vjp`.
 */
export function valueAndGrad<Params extends Tree<Tensor>, Rest extends unknown[]>(
  fn: (params: Params, ...rest: Rest) => Tensor,
): (params: Params, ...rest: Rest) => { value: Tensor; grad: Params } {
  return (params, ...rest) => {
    const value = fn(params, ...rest);
    if (value.shape.length !== 0 || !isFloat(value.dtype)) {
      throw new ShapeError("CPM_GRADIENT_NOT_SCALAR", "only a scalar has a gradient", {
        where: originLine(value.node.origin),
        got: describeTensor(value),
        expected: "a floating tensor without axes",
        hint: "Sum or average it with reduceSum() or reduceMean().",
      });
    }
    const wanted = leaves(params as Tree<Tensor>, isTensor).map(([, tensor]) => tensor);
    const found = vjp([value], [scalar(1, value.dtype)], wanted);
    const byTensor = new Map(wanted.map((tensor, i) => [tensor, found[i] ?? zerosLike(tensor)]));
    const grad = mapTree(params as Tree<Tensor>, isTensor, (tensor) => byTensor.get(tensor)!) as Params;
    return { value, grad };
  };
}

/** As `valueAndGrad`, without the value. */
export function grad<Params extends Tree<Tensor>, Rest extends unknown[]>(
  fn: (params: Params, ...rest: Rest) => Tensor,
): (params: Params, ...rest: Rest) => Params {
  const both = valueAndGrad(fn);
  return (params, ...rest) => both(params, ...rest).grad;
}
