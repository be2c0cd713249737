/**
 * The reference runtime: implements `Runtime` by evaluating graphs directly. For tests, and for reading.
 *
 * It takes only programs of this folder's `Graph` type, has one thread and no speed at all. What is right and wrong to do
 * with its handles is what every runtime's contract says; test/runtime-conformance.test.ts holds all of them to it.
 */
import { byteLength, elementCount, type HostArray } from "../runtime/dtype.ts";
import type {
  Binding,
  CompileOptions,
  DeviceTensor,
  MemoryReport,
  Port,
  Program,
  ProgramSource,
  Runtime,
} from "../runtime/runtime.ts";
import { RuntimeError, ShapeError, UnsupportedError } from "../util/error.ts";
import { evaluateGraph } from "./evaluate.ts";
import type { Graph } from "./graph.ts";
import type { Precision } from "./ndarray.ts";
import type { NdArray } from "./operator.ts";
import {
  allocateTensor,
  checkShape,
  describeMemory,
  fromNdArray,
  type Ledger,
  type ReferenceTensor,
  toNdArray,
} from "./reference-tensor.ts";

type Tensors = Readonly<Record<string, DeviceTensor>>;

/** `precision` (default float32) is that of all floats while a program runs; tensors keep their dtypes. */
export function createReferenceRuntime(options: { readonly precision?: Precision } = {}): Runtime {
  const precision = options.precision ?? "float32";
  const ledger: Ledger = { tensors: new Set(), tensorBytes: 0, peakTensorBytes: 0 };
  const programs = new Set<Program>();
  let ended = false;
  const assertAlive = (action: string) => {
    if (ended) throw endedError("a runtime", action);
  };
  const runtime: Runtime = {
    info: {
      kind: "reference",
      version: precision,
      device: "cpu",
      provider: "reference",
      availableProviders: ["reference"],
      threads: 1,
    },
    async compile(source: ProgramSource, { constants = {} }: CompileOptions = {}) {
      assertAlive("compile");
      return createProgram(ledger, programs, graphOf(source), constants, precision);
    },
    allocate(dtype, shape) {
      assertAlive("allocate");
      return allocateTensor(ledger, dtype, shape);
    },
    upload(data, dtype, shape) {
      assertAlive("upload");
      checkShape(dtype, shape);
      if (data.byteLength < byteLength(dtype, shape)) {
        throw new ShapeError("CPM_RUNTIME_SHAPE", "there is not enough data for a tensor", {
          got: `${data.length} elements`,
          expected: `${elementCount(shape)} elements of ${describeMemory({ dtype, shape })}`,
        });
      }
      const tensor = allocateTensor(ledger, dtype, shape);
      try {
        runtime.write(tensor, data.subarray(0, tensor.view().length));
      } catch (error) {
        tensor.dispose();
        throw error;
      }
      return tensor;
    },
    write(tensor, data, elementOffset = 0) {
      assertAlive("write");
      const view: HostArray = ownTensor(ledger, tensor).view();
      if (data.constructor !== view.constructor) {
        throw new ShapeError("CPM_RUNTIME_DTYPE", "data has the wrong element type", {
          got: data.constructor.name,
          expected: view.constructor.name,
        });
      }
      if (!(Number.isInteger(elementOffset) && elementOffset >= 0 && elementOffset + data.length <= view.length)) {
        throw new ShapeError("CPM_RUNTIME_SHAPE", "data reaches outside of its tensor", {
          got: `${data.length} elements from ${elementOffset}`,
          expected: `within the ${view.length} of ${describeMemory(tensor)}`,
        });
      }
      view.set(data as never, elementOffset);
    },
    async download(tensor) {
      assertAlive("download");
      return ownTensor(ledger, tensor).view().slice();
    },
    memory(): MemoryReport {
      assertAlive("memory");
      return {
        tensorBytes: ledger.tensorBytes,
        peakTensorBytes: ledger.peakTensorBytes,
        tensors: ledger.tensors.size,
        programs: programs.size,
        residentBytes: process.memoryUsage.rss(),
      };
    },
    dispose() {
      assertAlive("dispose");
      ended = true;
      for (const program of [...programs]) program.dispose();
      for (const tensor of [...ledger.tensors]) tensor.dispose();
    },
    [Symbol.dispose]() {
      if (!ended) runtime.dispose();
    },
  };
  return runtime;
}

function endedError(what: string, action: string, where?: string): RuntimeError {
  return new RuntimeError("CPM_RUNTIME_DISPOSED", `${what} was used after it was disposed (${action})`, { where });
}

function graphOf(source: ProgramSource): Graph {
  if ("nodes" in source) return source as Graph;
  throw new UnsupportedError("CPM_RUNTIME_UNSUPPORTED", "the reference runtime evaluates graphs, not ONNX bytes", {
    where: source.name,
  });
}

function createProgram(
  ledger: Ledger,
  programs: Set<Program>,
  graph: Graph,
  constants: Tensors,
  precision: Precision,
): Program {
  const where = `program "${graph.name}"`;
  const constantPorts = graph.inputs.filter(({ name }) => name in constants);
  const held = checkPorts(ledger, where, constantPorts, constants);
  const inputs = graph.inputs.filter(({ name }) => !(name in constants));
  let disposed = false;
  const assertAlive = (action: string) => {
    if (disposed) throw endedError("a program", action, where);
  };
  const execute = (given: Tensors): Record<string, NdArray> => {
    const all = Object.entries({ ...given, ...constants });
    return evaluateGraph(
      graph,
      Object.fromEntries(all.map(([name, tensor]) => [name, toNdArray(tensor, precision)])),
      precision,
    );
  };
  const store = (value: NdArray, tensor: DeviceTensor, name: string) => {
    if (String(tensor.shape) !== String(value.shape)) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "an output has another shape than its memory", {
        where: `${where}, output "${name}"`,
        got: `[${tensor.shape.join(", ")}]`,
        expected: `[${value.shape.join(", ")}]`,
      });
    }
    fromNdArray(value, tensor);
  };
  const dtypeOf = (output: string) => graph.outputs.find(({ name }) => name === output)!.dtype;
  const program: Program = {
    name: graph.name,
    inputs,
    outputs: graph.outputs,
    get disposed() {
      return disposed;
    },
    bind(given, outputs): Binding {
      assertAlive("bind");
      const sizes: Sizes = new Map();
      checkPorts(ledger, where, inputs, given, sizes);
      checkPorts(ledger, where, graph.outputs, outputs, sizes);
      let unbound = false;
      const assertBound = (action: string) => {
        if (unbound) throw endedError("a binding", action, where);
      };
      const runSync = () => {
        assertBound("run");
        assertAlive("run of a binding");
        for (const tensor of Object.values({ ...given, ...outputs })) ownTensor(ledger, tensor).view();
        for (const [name, value] of Object.entries(execute(given))) store(value, outputs[name]!, name);
      };
      return {
        run: async () => runSync(),
        runSync,
        dispose() {
          assertBound("dispose");
          unbound = true;
        },
      };
    },
    async run(given, outputs = {}) {
      assertAlive("run");
      const sizes: Sizes = new Map();
      checkPorts(ledger, where, inputs, given, sizes);
      const taken = graph.outputs.filter(({ name }) => name in outputs);
      checkPorts(ledger, where, taken, outputs, sizes);
      const results = Object.entries(execute(given));
      for (const [name, value] of results) if (name in outputs) store(value, outputs[name]!, name);
      return Object.fromEntries(
        results.map(([name, value]) => {
          if (name in outputs) return [name, outputs[name]!];
          const tensor = allocateTensor(ledger, dtypeOf(name), value.shape);
          fromNdArray(value, tensor);
          return [name, tensor];
        }),
      );
    },
    dispose() {
      assertAlive("dispose");
      disposed = true;
      programs.delete(program);
      for (const { constantOf } of held) constantOf.splice(constantOf.indexOf(graph.name), 1);
    },
    [Symbol.dispose]() {
      if (!disposed) program.dispose();
    },
  };
  for (const { constantOf } of held) constantOf.push(graph.name);
  programs.add(program);
  return program;
}

/** What a size's name stands for in one run. */
type Sizes = Map<string, number>;

/** A tensor of this runtime; any other is `CPM_RUNTIME_FOREIGN`. */
function ownTensor(ledger: Ledger, tensor: DeviceTensor): ReferenceTensor {
  if ("ledger" in tensor && tensor.ledger === ledger) return tensor as ReferenceTensor;
  throw new RuntimeError("CPM_RUNTIME_FOREIGN", "a tensor belongs to another runtime", { got: describeMemory(tensor) });
}

/** The tensors given for these ports, each of which must be there and fit. */
function checkPorts(
  ledger: Ledger,
  where: string,
  ports: readonly Port[],
  given: Tensors,
  sizes: Sizes = new Map(),
): ReferenceTensor[] {
  const stranger = Object.keys(given).find((name) => !ports.some((port) => port.name === name));
  if (stranger !== undefined) {
    throw new RuntimeError("CPM_RUNTIME_PORT", "the program has no such port", {
      where,
      got: stranger,
      expected: `one of ${ports.map((port) => port.name).join(", ") || "none"}`,
    });
  }
  return ports.map((port) => {
    if (!(port.name in given)) {
      const expected = `${port.name}: ${describeMemory(port)}`;
      throw new RuntimeError("CPM_RUNTIME_PORT", "the program misses a tensor", { where, expected });
    }
    const tensor = ownTensor(ledger, given[port.name]!);
    tensor.view(); // an error where it is disposed
    const mismatch = { where: `${where}, "${port.name}"`, got: describeMemory(tensor), expected: describeMemory(port) };
    if (tensor.dtype !== port.dtype)
      throw new ShapeError("CPM_RUNTIME_DTYPE", "a tensor has the wrong dtype", mismatch);
    const fits = port.shape.every((size, axis) => {
      const got = tensor.shape[axis]!;
      if (typeof size === "number") return size === got;
      if (!/^\w+$/.test(size)) return true; // an expression: the evaluation will tell
      if (!sizes.has(size)) sizes.set(size, got);
      return sizes.get(size) === got;
    });
    if (tensor.shape.length !== port.shape.length || !fits) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "a tensor has the wrong shape", mismatch);
    }
    return tensor;
  });
}
