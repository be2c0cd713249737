/**
 * Plain evaluation of a graph, node by node: slow, obvious, and the judge of everything fast.
 *
 * In float64 it is exact enough for finite differences; in float32 each operator's result is rounded, sums inside an
 * operator are not.
 */
import { ShapeError } from "../util/error.ts";
import { type Dim, type DimValues, formatShape, namesIn, resolveShape, type Shape } from "./dim.ts";
import type { Graph } from "./graph.ts";
import { allocateArray, type Precision } from "./ndarray.ts";
import type { NdArray } from "./operator.ts";
import { originLine, type Tensor } from "./tensor.ts";

/** What the named sizes are, from the shapes of the inputs. Errors: `CPM_SHAPE_MISMATCH` with the input's name. */
export function solveSizes(graph: Graph, shapes: Readonly<Record<string, readonly number[]>>): DimValues {
  const values = new Map<string, number>();
  const pending: [string, Dim, number][] = [];
  const fail = (name: string, declared: Shape, got: readonly number[]): never => {
    throw new ShapeError("CPM_SHAPE_MISMATCH", `the input ${name} of ${graph.name} has another shape`, {
      got: `[${got.join(", ")}]`,
      expected: formatShape(declared),
    });
  };
  for (const [name, { shape: declared }] of graph.inputTensors) {
    const got = shapes[name];
    if (got === undefined) continue;
    if (got.length !== declared.length) fail(name, declared, got);
    declared.forEach((size, axis) => {
      if (typeof size === "number") {
        if (size !== got[axis]) fail(name, declared, got);
        return;
      }
      const isName = namesIn(size)[0] === size.text;
      if (!isName) pending.push([name, size, got[axis]!]);
      else if ((values.get(size.text) ?? got[axis]) !== got[axis]) fail(name, declared, got);
      else values.set(size.text, got[axis]!);
    });
  }
  for (const [name, size, got] of pending) {
    if (resolveShape([size], values)[0] !== got) fail(name, [size], [got]);
  }
  return values;
}

/**
 * Values of a graph's outputs for values of its inputs, both by name. Inputs that no output needs may be left out.
 *
 * Errors: `CPM_SHAPE_MISMATCH` and `CPM_DTYPE_MISMATCH` with the input's name.
 */
export function evaluateGraph(
  graph: Graph,
  inputs: Readonly<Record<string, NdArray>>,
  precision: Precision = "float64",
): Record<string, NdArray> {
  const sizes = solveSizes(
    graph,
    Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape] as const)),
  );
  const values = new Map<Tensor, NdArray>();
  for (const [name, tensor] of graph.inputTensors) {
    const given = inputs[name];
    if (given === undefined) continue;
    if (given.dtype !== tensor.dtype) {
      throw new ShapeError("CPM_DTYPE_MISMATCH", `the input ${name} of ${graph.name} has another dtype`, {
        got: given.dtype,
        expected: tensor.dtype,
      });
    }
    values.set(tensor, given);
  }
  for (const node of graph.nodes) {
    if (values.has(node.outputs[0]!)) continue;
    const results = node.operator.evaluate(
      node.inputs.map((tensor) => values.get(tensor)!),
      {
        attributes: node.attributes,
        shapes: node.outputs.map((output) => resolveShape(output.shape, sizes)),
        resolve: (shape) => resolveShape(shape, sizes),
        allocate: (dtype, shape) => allocateArray(dtype, shape, precision),
      },
    );
    node.outputs.forEach((output, i) => {
      const expected = resolveShape(output.shape, sizes);
      if (String(results[i]!.shape) !== String(expected)) {
        throw new Error(
          `internal: ${node.operator.name} evaluated to [${results[i]!.shape}], its shape rule says [${expected}] ` +
            `(${originLine(node.origin)})`,
        );
      }
      values.set(output, results[i]!);
    });
  }
  return Object.fromEntries(graph.outputTensors.map(([name, tensor]) => [name, values.get(tensor)!]));
}
