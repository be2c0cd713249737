/** The passes that leave a program's meaning as it is, in the order that pays. */
import { createGraph, type Graph, type NamedTensor } from "../graph.ts";
import { type Replace, rewrite } from "../rewrite.ts";
import { algebra } from "./algebra.ts";
import { commonSubexpressions } from "./common-subexpressions.ts";
import { constantFolding } from "./constant-folding.ts";

/** Applies one replacement to a whole graph. What no output needs any more is gone from the result. */
export function applyPass(graph: Graph, replace: Replace): Graph {
  const outputs = rewrite(
    graph.outputTensors.map(([, tensor]) => tensor),
    new Map(),
    replace,
  );
  return createGraph(
    graph.name,
    graph.inputTensors,
    graph.outputTensors.map(([name], i): NamedTensor => [name, outputs[i]!]),
  );
}

/** Constant folding, algebra, common subexpressions; twice, since each gives the others work. Inputs stay as they are. */
export function optimize(graph: Graph): Graph {
  let result = graph;
  for (let round = 0; round < 2; round++) {
    for (const replace of [constantFolding, algebra, commonSubexpressions()]) result = applyPass(result, replace);
  }
  return result;
}

/** Dead code in a signature: inputs that no output needs are dropped. */
export function dropUnusedInputs(graph: Graph): Graph {
  const needed = new Set(graph.nodes);
  return createGraph(
    graph.name,
    graph.inputTensors.filter(([, tensor]) => needed.has(tensor.node)),
    graph.outputTensors,
  );
}
