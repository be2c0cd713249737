/**
 * The reference runtime: implements `Runtime` by evaluating graphs directly. For tests, and for reading.
 *
 * It takes only programs of this folder's `Graph` type, has one thread and no speed at all.
 */
import {
  byteLength,
  type DType,
  elementCount,
  type HostArray,
  hostArray,
  isFloat,
  newHostArray,
} from "../runtime/dtype.ts";
import type {
  CompileOptions,
  DeviceTensor,
  MemoryReport,
  Port,
  Program,
  ProgramSource,
  Runtime,
} from "../runtime/runtime.ts";
import { RuntimeError, UnsupportedError } from "../util/error.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "../util/float16.ts";
import { evaluateGraph } from "./evaluate.ts";
import type { Graph } from "./graph.ts";
import { newArray, type Precision } from "./ndarray.ts";
import type { NdArray } from "./operator.ts";

/** Memory that several tensors may lie over; freed with the last. */
interface Storage {
  readonly bytes: Uint8Array<ArrayBuffer>;
  owners: number;
}

interface ReferenceTensor extends DeviceTensor {
  readonly storage: Storage;
  readonly byteOffset: number;
}

export function createReferenceRuntime(options: { readonly precision?: Precision } = {}): Runtime {
  const precision = options.precision ?? "float32";
  const storages = new Set<Storage>();
  const programs = new Set<Program>();
  const tensors = new Set<DeviceTensor>();
  let peakTensorBytes = 0;
  let ended = false;

  const tensorBytes = () => [...storages].reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const alive = (what: string, gone: boolean) => {
    if (gone || ended) throw new RuntimeError("CPM_RUNTIME_DISPOSED", `${what} was used after its end`);
  };

  function createTensor(storage: Storage, dtype: DType, shape: readonly number[], byteOffset: number): ReferenceTensor {
    let disposed = false;
    storage.owners++;
    const bytes = byteLength(dtype, shape);
    const tensor: ReferenceTensor = {
      dtype,
      shape,
      byteLength: bytes,
      storage,
      byteOffset,
      get disposed() {
        return disposed;
      },
      view() {
        alive("a tensor", disposed);
        return hostArray(dtype, storage.bytes.buffer, byteOffset, bytes);
      },
      alias(newShape, offset = 0, newDType = dtype) {
        alive("a tensor", disposed);
        if (offset < 0 || offset + byteLength(newDType, newShape) > bytes) {
          throw new RuntimeError("CPM_RUNTIME_ALIAS", "an alias reaches beyond its tensor", {
            got: `${newDType}[${newShape}] from byte ${offset}`,
            expected: `at most ${bytes} bytes`,
          });
        }
        return createTensor(storage, newDType, newShape, byteOffset + offset);
      },
      dispose() {
        alive("a tensor", disposed);
        disposed = true;
        tensors.delete(tensor);
        if (--storage.owners === 0) {
          storages.delete(storage);
          storage.bytes.buffer.transfer(0);
        }
      },
      [Symbol.dispose]() {
        tensor.dispose();
      },
    };
    tensors.add(tensor);
    return tensor;
  }

  function allocate(dtype: DType, shape: readonly number[]): ReferenceTensor {
    alive("the runtime", ended);
    const storage: Storage = {
      bytes: new Uint8Array(new ArrayBuffer(Math.ceil(byteLength(dtype, shape) / 8) * 8)),
      owners: 0,
    };
    storages.add(storage);
    const tensor = createTensor(storage, dtype, shape, 0);
    peakTensorBytes = Math.max(peakTensorBytes, tensorBytes());
    return tensor;
  }

  function compile(source: ProgramSource, { constants = {} }: CompileOptions = {}): Promise<Program> {
    alive("the runtime", ended);
    if (!("nodes" in source)) {
      throw new UnsupportedError("CPM_RUNTIME_UNSUPPORTED", "the reference runtime evaluates graphs, not ONNX bytes", {
        where: source.name,
      });
    }
    const graph = source as Graph;
    let disposed = false;
    const inputs = graph.inputs.filter(({ name }) => !(name in constants));
    const execute = (given: Readonly<Record<string, DeviceTensor>>) => {
      alive(`the program ${graph.name}`, disposed);
      checkPorts(graph.name, inputs, given);
      const values: Record<string, NdArray> = {};
      for (const [name, tensor] of Object.entries({ ...given, ...constants }))
        values[name] = toNdArray(tensor, precision);
      return evaluateGraph(graph, values, precision);
    };
    const store = (value: NdArray, into: DeviceTensor | undefined, name: string) => {
      const tensor = into ?? allocate(graph.outputs.find((port) => port.name === name)!.dtype, value.shape);
      if (String(tensor.shape) !== String(value.shape)) {
        throw new RuntimeError("CPM_RUNTIME_RUN", `the output ${name} of ${graph.name} has another shape`, {
          got: `[${tensor.shape}]`,
          expected: `[${value.shape}]`,
        });
      }
      fromNdArray(value, tensor);
      return tensor;
    };
    const program: Program = {
      name: graph.name,
      inputs,
      outputs: graph.outputs,
      get disposed() {
        return disposed;
      },
      bind(given, outputs) {
        alive(`the program ${graph.name}`, disposed);
        checkPorts(graph.name, inputs, given);
        checkPorts(graph.name, graph.outputs, outputs);
        let unbound = false;
        const runSync = () => {
          alive(`a binding of ${graph.name}`, unbound);
          for (const [name, value] of Object.entries(execute(given))) store(value, outputs[name], name);
        };
        return {
          run: async () => runSync(),
          runSync,
          dispose() {
            alive(`a binding of ${graph.name}`, unbound);
            unbound = true;
          },
        };
      },
      async run(given, outputs = {}) {
        const results = execute(given);
        return Object.fromEntries(
          Object.entries(results).map(([name, value]) => [name, store(value, outputs[name], name)]),
        );
      },
      dispose() {
        alive(`the program ${graph.name}`, disposed);
        disposed = true;
        programs.delete(program);
      },
      [Symbol.dispose]() {
        program.dispose();
      },
    };
    programs.add(program);
    return Promise.resolve(program);
  }

  const runtime: Runtime = {
    info: {
      kind: "reference",
      version: precision,
      device: "cpu",
      provider: "reference",
      availableProviders: ["reference"],
      threads: 1,
    },
    compile,
    allocate,
    upload(data, dtype, shape) {
      const tensor = allocate(dtype, shape);
      runtime.write(tensor, data.length === tensor.view().length ? data : data.subarray(0, tensor.view().length));
      return tensor;
    },
    write(tensor, data, elementOffset = 0) {
      const view = tensor.view();
      if (elementOffset + data.length > view.length) {
        throw new RuntimeError("CPM_RUNTIME_WRITE", "more data than the tensor holds", {
          got: `${data.length} elements from ${elementOffset}`,
          expected: `at most ${view.length}`,
        });
      }
      view.set(data as never, elementOffset);
    },
    async download(tensor) {
      return tensor.view().slice();
    },
    memory(): MemoryReport {
      return {
        tensorBytes: tensorBytes(),
        peakTensorBytes,
        tensors: tensors.size,
        programs: programs.size,
        residentBytes: process.memoryUsage.rss(),
      };
    },
    dispose() {
      alive("the runtime", ended);
      for (const program of programs) program.dispose();
      for (const tensor of tensors) tensor.dispose();
      ended = true;
    },
    [Symbol.dispose]() {
      runtime.dispose();
    },
  };
  return runtime;
}

function checkPorts(program: string, ports: readonly Port[], given: Readonly<Record<string, DeviceTensor>>): void {
  for (const name of Object.keys(given)) {
    if (!ports.some((port) => port.name === name)) {
      throw new RuntimeError("CPM_RUNTIME_PORT", `${program} has no port ${name}`, {
        expected: ports.map((port) => port.name).join(", "),
      });
    }
  }
  for (const { name, dtype, shape } of ports) {
    const tensor = given[name];
    if (tensor === undefined) throw new RuntimeError("CPM_RUNTIME_PORT", `${program} was not given ${name}`);
    const fits =
      tensor.shape.length === shape.length && shape.every((s, i) => typeof s === "string" || s === tensor.shape[i]);
    if (tensor.dtype === dtype && fits) continue;
    throw new RuntimeError("CPM_RUNTIME_PORT", `${name} of ${program} does not fit`, {
      got: `${tensor.dtype}[${tensor.shape.join(", ")}]`,
      expected: `${dtype}[${shape.join(", ")}]`,
    });
  }
}

/** A tensor's elements as numbers. */
export function toNdArray(tensor: DeviceTensor, precision: Precision): NdArray {
  const { dtype, shape } = tensor;
  const view = tensor.view();
  const data = newArray(dtype, elementCount(shape), precision);
  for (let i = 0; i < data.length; i++) {
    const value = Number(view[i]!);
    data[i] = dtype === "float16" ? float16ToNumber(value) : dtype === "bfloat16" ? bfloat16ToNumber(value) : value;
  }
  return { dtype, shape, data };
}

function fromNdArray({ data }: NdArray, tensor: DeviceTensor): void {
  const view: HostArray = tensor.view();
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    if (view instanceof BigInt64Array) view[i] = BigInt(value);
    else if (tensor.dtype === "float16") view[i] = numberToFloat16(value);
    else if (tensor.dtype === "bfloat16") view[i] = numberToBfloat16(value);
    else view[i] = value;
  }
}

/** Plain numbers as a host array of a dtype. */
export function hostArrayFrom(values: ArrayLike<number>, dtype: DType): HostArray {
  const out = newHostArray(dtype, [values.length]);
  for (let i = 0; i < values.length; i++) {
    if (out instanceof BigInt64Array) out[i] = BigInt(values[i]!);
    else if (dtype === "float16") out[i] = numberToFloat16(values[i]!);
    else out[i] = isFloat(dtype) ? values[i]! : Math.trunc(values[i]!);
  }
  return out;
}
