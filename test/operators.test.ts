/** Every operator on every runtime, and every gradient against finite differences in float64. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import {
  createReferenceRuntime,
  dim,
  evaluateGraph,
  type Graph,
  mul,
  type NdArray,
  operators,
  reduceSum,
  spec,
  type Tensor,
  trace,
  valueAndGrad,
} from "../src/graph/index.ts";
import { elementCount, isFloat } from "../src/runtime/dtype.ts";
import { type CompileOptions, createNativeRuntime, type ProgramSource, type Runtime } from "../src/runtime/index.ts";
import { createRandom } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { type PlainTensor, runOnce } from "./support/device.ts";
import { type OperatorCase, operatorCases } from "./support/operator-cases.ts";

function valuesFor({ operator, name, inputs }: OperatorCase): PlainTensor[] {
  const random = createRandom(7, `${operator} ${name}`);
  return inputs.map(({ shape, dtype = "float32", from = -1, to = 1, values }) => {
    const data = values ?? Array.from({ length: elementCount(shape) }, () => from + (to - from) * random.uniform());
    // Floats are rounded to float32, so that all runtimes start from the same numbers.
    return { dtype, shape, data: data.map(isFloat(dtype) ? Math.fround : Math.floor) };
  });
}

type Arguments = Record<string, Tensor>;

function specsOf({ inputs }: OperatorCase) {
  return Object.fromEntries(
    inputs.map(({ shape, dtype = "float32", symbols = {} }, i) => [
      `x${i}`,
      spec(
        dtype,
        shape.map((size, axis) => (symbols[axis] === undefined ? size : dim(symbols[axis]))),
      ),
    ]),
  );
}

function graphOf(row: OperatorCase): Graph {
  return trace(row.operator, (args) => ({ y: row.fn(...Object.values(args as Arguments)) }), specsOf(row));
}

function asNamed(values: readonly PlainTensor[]): Record<string, PlainTensor> {
  return Object.fromEntries(values.map((value, i) => [`x${i}`, value]));
}

function asArrays(values: readonly PlainTensor[]): Record<string, NdArray> {
  return Object.fromEntries(
    values.map(({ dtype, shape, data }, i) => [
      `x${i}`,
      { dtype, shape, data: isFloat(dtype) ? Float64Array.from(data) : Int32Array.from(data) },
    ]),
  );
}

/** A graph in the form that devices without fused operators get. */
function portable(graph: Graph): ProgramSource {
  return { ...graph, onnx: (options) => graph.onnx({ ...options, target: "webgpu" }) };
}

suite("conformance", () => {
  let reference: Runtime;
  let native: Runtime;
  before(() => {
    reference = createReferenceRuntime();
    native = createNativeRuntime();
  });
  after(() => {
    reference.dispose();
    native.dispose();
  });

  test("every operator has a row", () => {
    const tested = new Set(operatorCases.map((row) => row.operator));
    const indirect = new Set(["input"]);
    assert.deepEqual(
      [...operators.keys()].filter((name) => !tested.has(name) && !indirect.has(name)),
      [],
    );
  });

  for (const row of operatorCases) {
    test(`${row.operator}: ${row.name}`, async () => {
      const values = valuesFor(row);
      const graph = graphOf(row);
      const expected = evaluateGraph(graph, asArrays(values)).y!;
      const compare = async (where: string, runtime: Runtime, source: ProgramSource, options: CompileOptions = {}) => {
        const { y } = await runOnce(runtime, source, asNamed(values), options);
        assert.deepEqual(y!.shape, expected.shape, where);
        assertClose(y!.data, expected.data, 2e-6, where);
      };
      await compare("reference", reference, graph);
      await compare("native", native, graph);
      await compare("native, in one thread", native, graph, { threads: "caller" });
      await compare("native, without fused operators", native, portable(graph));
    });
  }
});

suite("gradients", () => {
  let native: Runtime;
  before(() => {
    native = createNativeRuntime();
  });
  after(() => native.dispose());

  for (const row of operatorCases.filter(({ gradient }) => gradient !== false)) {
    test(`${row.operator}: ${row.name}`, async () => {
      const values = valuesFor(row);
      const specs = specsOf(row);
      const wanted = Object.keys(specs).filter((name) => isFloat(specs[name]!.dtype));
      // The scalar Σ w∘y with fixed random weights w, and its gradients.
      const y = graphOf(row).outputTensors[0]![1];
      const weightShape = evaluateGraph(graphOf(row), asArrays(values)).y!.shape;
      const random = createRandom(11, row.name);
      const weights = Array.from({ length: elementCount(weightShape) }, () => Math.fround(random.uniform() - 0.5));
      const graph = trace(
        row.operator,
        (all) => {
          const { weight, ...args } = all as Arguments;
          const floats = Object.fromEntries(wanted.map((name) => [name, args[name]!]));
          const scalarOf = (chosen: Arguments) =>
            reduceSum(mul(row.fn(...Object.values({ ...args, ...chosen })), weight!));
          const { value, grad } = valueAndGrad(scalarOf)(floats);
          return { value, grad };
        },
        { ...specs, weight: spec(y.dtype, y.shape) },
      );
      const weight = { dtype: "float32" as const, shape: weightShape, data: weights };
      const inputs = { ...asArrays(values), weight: { ...weight, data: Float64Array.from(weights) } };
      const results = evaluateGraph(graph, inputs);
      const onNative = await runOnce(native, graph, { ...asNamed(values), weight });

      for (const name of wanted) {
        const gradient = results[`grad.${name}`]!;
        const array = inputs[name as keyof typeof inputs]! as NdArray;
        const numeric = Array.from({ length: array.data.length }, (_, i) => {
          const at = (delta: number) => {
            const data = Float64Array.from(array.data);
            data[i]! += delta;
            return evaluateGraph(graph, { ...inputs, [name]: { ...array, data } }).value!.data[0]!;
          };
          return (at(1e-5) - at(-1e-5)) / 2e-5;
        });
        assertClose(gradient.data, numeric, 1e-7, `d/d${name}`);
        assertClose(onNative[`grad.${name}`]!.data, gradient.data, 5e-6, `d/d${name} on the native runtime`);
      }
    });
  }
});
