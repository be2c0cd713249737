/**
 * Splitting a traced function into a forward and a backward program.
 *
 * The forward program gives the function's results and what the backward program will need of its inside (*residuals*);
 * the backward program takes those, the arguments and the results' gradients (*cotangents*), and gives the arguments'
 * gradients. What is stored and what is computed again is a policy:
 *
 * - `none`: every value that the backward program reads is stored, but those that cheap operators make from stored ones:
 *   measured, reading such a value back from memory takes as long as making it again;
 * - `block`: only values marked with `boundary()` are stored, everything between them is recomputed;
 * - `all`: nothing is stored, the backward program starts from the arguments.
 */
import { isFloat } from "../runtime/dtype.ts";
import { vjp } from "./gradient.ts";
import { createGraph, type Graph, inputsFor, type NamedTensor, named, nodesFor, type TensorsOf } from "./graph.ts";
import { boundaryOperator, input } from "./operators/mark.ts";
import { dropUnusedInputs, optimize } from "./passes/optimize.ts";
import { rewrite } from "./rewrite.ts";
import { nextNodeId, type Tensor } from "./tensor.ts";
import type { Tree } from "./tree.ts";

export type RecomputePolicy = "none" | "block" | "all";

export interface SplitOptions {
  /** Paths of the arguments whose gradients are wanted: a path covers everything below it (`params` all parameters). */
  readonly wanted: readonly string[];
  readonly recompute: RecomputePolicy;
}

export interface SplitProgram {
  /** Arguments in; the function's results, then residuals `residual.0`, `residual.1`, … out. */
  readonly forward: Graph;
  /** Arguments that it needs, residuals and `cotangent.<result>` in; `grad.<argument>` out. */
  readonly backward: Graph;
  /** The residuals' names, in order. */
  readonly residuals: readonly string[];
  /** Wanted arguments that the results do not depend on: they have no output in `backward`. */
  readonly unused: readonly string[];
}

/** Traces `fn` on `args` (a tree of specs) and splits it. Only floating results get cotangents. */
export function splitGradient<Specs extends object>(
  name: string,
  fn: (args: TensorsOf<Specs>) => Tree<Tensor>,
  args: Specs,
  { wanted, recompute }: SplitOptions,
): SplitProgram {
  const argumentTree = inputsFor(args);
  const inputs = named(argumentTree as Tree<Tensor>);
  const results = named(fn(argumentTree));
  const firstBackwardId = nextNodeId();

  const differentiable = results.filter(([, tensor]) => isFloat(tensor.dtype));
  const cotangents = differentiable.map(([path, tensor]) => input(`cotangent.${path}`, tensor));
  const chosen = inputs.filter(
    ([path, tensor]) =>
      isFloat(tensor.dtype) && wanted.some((prefix) => path === prefix || path.startsWith(`${prefix}.`)),
  );
  const found = vjp(
    differentiable.map(([, tensor]) => tensor),
    cotangents,
    chosen.map(([, tensor]) => tensor),
  );
  const gradients = chosen.flatMap(([path], i): NamedTensor[] => (found[i] ? [[`grad.${path}`, found[i]]] : []));
  const gradientTensors = gradients.map(([, tensor]) => tensor);

  const stored = storedValues(gradientTensors, new Set(cotangents), firstBackwardId, recompute);
  const residuals = stored.map((_, i) => `residual.${i}`);
  const residualInputs = stored.map((tensor, i) => input(residuals[i]!, tensor));
  const backwardOutputs = rewrite(gradientTensors, new Map(stored.map((tensor, i) => [tensor, residualInputs[i]!])));

  const forward = createGraph(`${name}.forward`, inputs, [
    ...results,
    ...stored.map((tensor, i): NamedTensor => [residuals[i]!, tensor]),
  ]);
  const backward = createGraph(
    `${name}.backward`,
    [
      ...inputs,
      ...residualInputs.map((tensor, i): NamedTensor => [residuals[i]!, tensor]),
      ...cotangents.map((tensor): NamedTensor => [tensor.node.attributes.name, tensor]),
    ],
    gradients.map(([path], i): NamedTensor => [path, backwardOutputs[i]!]),
  );
  return {
    forward: optimize(forward),
    backward: dropUnusedInputs(optimize(backward)),
    residuals,
    unused: chosen.flatMap(([path], i) => (found[i] ? [] : [path])),
  };
}

/** Values of the forward trace that the backward program takes as inputs: where its walk towards the arguments stops. */
function storedValues(
  gradients: readonly Tensor[],
  cotangents: ReadonlySet<Tensor>,
  firstBackwardId: number,
  recompute: RecomputePolicy,
): Tensor[] {
  const stored = new Set<Tensor>();
  const seen = new Set<Tensor>();
  const open: Tensor[] = [];
  const walk = (tensor: Tensor) => {
    if (seen.has(tensor)) return;
    seen.add(tensor);
    open.push(...tensor.node.inputs);
  };
  for (const node of nodesFor(gradients)) if (node.id >= firstBackwardId) open.push(...node.inputs);
  open.push(...gradients);
  for (let tensor = open.pop(); tensor !== undefined; tensor = open.pop()) {
    const { operator, id } = tensor.node;
    if (id >= firstBackwardId || cotangents.has(tensor) || operator.name === "input") continue;
    const isStored = recompute === "none" ? !isFree(tensor) : recompute === "block" && operator === boundaryOperator;
    if (isStored) stored.add(tensor);
    else walk(tensor);
  }
  const inOrder = [...stored].sort((a, b) => a.node.id - b.node.id || a.index - b.index);
  if (recompute !== "none") return inOrder;
  const kept = new Set<Tensor>();
  const known = new Map<Tensor, boolean>();
  /** Whether the backward program has a value, or makes it from values that it has by operators that cost little. */
  const isAtHand = (tensor: Tensor): boolean => {
    const found = known.get(tensor);
    if (found !== undefined) return found;
    const again = isFree(tensor) || (tensor.node.operator.cost === "cheap" && stored.has(tensor));
    const result =
      kept.has(tensor) || tensor.node.operator.name === "input" || (again && tensor.node.inputs.every(isAtHand));
    known.set(tensor, result);
    return result;
  };
  // In order of execution: what a value is made from has been decided before it.
  return inOrder.filter((tensor) => {
    const derivable = tensor.node.operator.cost === "cheap" && tensor.node.inputs.every(isAtHand);
    if (!derivable) kept.add(tensor);
    return !derivable;
  });
}

/** Costs nothing to make again: views of arguments or of other stored values, literals, broadcasts. */
function isFree(tensor: Tensor): boolean {
  return tensor.node.operator.cost === "free";
}
