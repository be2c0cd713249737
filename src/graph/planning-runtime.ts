/**
 * A runtime that has no memory and runs nothing: it takes note of what is allocated, compiled and bound. Whatever builds
 * on `Runtime` can be built on it to learn what it would need, for models of any size.
 */
import { byteLength, type DType } from "../runtime/dtype.ts";
import type { Binding, DeviceTensor, Port, Program, ProgramSource, Runtime } from "../runtime/runtime.ts";
import type { Graph } from "./graph.ts";

/** Memory that was asked for. */
export interface PlannedAllocation {
  readonly bytes: number;
  /** Names of ports that it was bound to, in the order of binding. */
  readonly ports: Set<string>;
}

export interface PlannedProgram {
  readonly graph: Graph;
  /** How often it was bound: with each set of tensors once. */
  bindings: number;
}

export interface PlanningRuntime extends Runtime {
  readonly allocations: readonly PlannedAllocation[];
  /** In the order of compilation. */
  readonly programs: readonly PlannedProgram[];
}

interface PlannedTensor extends DeviceTensor {
  readonly allocation: PlannedAllocation;
}

/** `threads` is what the runtime says of itself. */
export function createPlanningRuntime(threads = 1): PlanningRuntime {
  const allocations: PlannedAllocation[] = [];
  const programs: PlannedProgram[] = [];
  const refuse = (action: string): never => {
    throw new Error(`internal: a planning runtime does not ${action}`);
  };
  const tensor = (allocation: PlannedAllocation, dtype: DType, shape: readonly number[]): PlannedTensor => ({
    allocation,
    dtype,
    shape,
    byteLength: byteLength(dtype, shape),
    disposed: false,
    view: () => refuse("read"),
    alias: (aliasShape, _byteOffset, aliasDType = dtype) => tensor(allocation, aliasDType, aliasShape),
    dispose() {},
    [Symbol.dispose]() {},
  });
  const note = (tensors: Readonly<Record<string, DeviceTensor>>, ports: readonly Port[]) => {
    for (const { name } of ports) (tensors[name] as PlannedTensor).allocation.ports.add(name);
  };
  const runtime: PlanningRuntime = {
    allocations,
    programs,
    info: {
      kind: "planning",
      version: "",
      device: "cpu",
      provider: "planning",
      availableProviders: [],
      threads,
    },
    async compile(source: ProgramSource): Promise<Program> {
      if (!("nodes" in source)) throw new Error("internal: a planning runtime takes graphs");
      const planned: PlannedProgram = { graph: source as Graph, bindings: 0 };
      programs.push(planned);
      return {
        name: source.name,
        inputs: source.inputs,
        outputs: source.outputs,
        disposed: false,
        bind(inputs, outputs): Binding {
          planned.bindings++;
          note(inputs, source.inputs);
          note(outputs, source.outputs);
          return { run: async () => refuse("run"), runSync: () => refuse("run"), dispose() {} };
        },
        run: async () => refuse("run"),
        dispose() {},
        [Symbol.dispose]() {},
      };
    },
    allocate(dtype, shape) {
      const allocation: PlannedAllocation = { bytes: byteLength(dtype, shape), ports: new Set() };
      allocations.push(allocation);
      return tensor(allocation, dtype, shape);
    },
    upload: () => refuse("upload"),
    write: () => refuse("write"),
    download: async () => refuse("download"),
    memory: () => ({
      tensorBytes: allocations.reduce((sum, { bytes }) => sum + bytes, 0),
      peakTensorBytes: allocations.reduce((sum, { bytes }) => sum + bytes, 0),
      tensors: allocations.length,
      programs: programs.length,
      residentBytes: undefined,
    }),
    dispose() {},
    [Symbol.dispose]() {},
  };
  return runtime;
}
