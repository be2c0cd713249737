/**
 * What executes programs: one small interface, implemented by `native/` (ONNX Runtime through its C API), by the
 * reference interpreter beside the operator table (`graph/reference.ts`) and later by the browser's runtime.
 *
 * A runtime knows no graph and no model: it takes programs as ONNX bytes and tensors as memory. It gives no meaning to
 * either. Memory and programs are owned by whoever made them: dispose each exactly once. Using or disposing anything
 * after its end is a `RuntimeError` (`CPM_RUNTIME_DISPOSED`), never a crash; only a `using` declaration that ends after an
 * explicit dispose does nothing. Disposing what a run still uses is `CPM_RUNTIME_IN_USE`.
 */
import type { DType, HostArray } from "./dtype.ts";

/** A tensor's size along one axis: a number, or the name (or expression) of a size that is known only at run time. */
export type PortDim = number | string;

/** A named input or output of a program. A size's name stands for one number within a run, in all its inputs. */
export interface Port {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly PortDim[];
}

/** Which lowering of operators a program is emitted for. */
export type EmitTarget = "cpu" | "webgpu";

export interface EmitOptions {
  readonly target: EmitTarget;
  /** The program will run with `threads: "caller"`. */
  readonly oneThread?: boolean;
  /**
   * Inputs that become initializers with external data (location: the input's name), whose memory the runtime supplies
   * when it compiles. Their shapes must be fully known.
   */
  readonly constants?: ReadonlySet<string>;
}

/** A program before it is compiled. The graph layer's programs implement it. */
export interface ProgramSource {
  /** Appears in errors, profiles and reports. */
  readonly name: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** A serialised ONNX ModelProto. */
  onnx(options: EmitOptions): Uint8Array;
}

/** Dense row-major memory on a runtime's device. */
export interface DeviceTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly disposed: boolean;
  /**
   * The memory itself, without a copy, where the device is the host; else `CPM_RUNTIME_UNSUPPORTED`. It is valid until
   * the tensor is disposed: afterwards it has length 0.
   */
  view(): HostArray;
  /**
   * Another tensor over the same memory, or a part of it. The memory lives until the last tensor over it is disposed.
   * `byteOffset` (default 0) counts from this tensor's first byte.
   */
  alias(shape: readonly number[], byteOffset?: number, dtype?: DType): DeviceTensor;
  dispose(): void;
  [Symbol.dispose](): void;
}

/** A program with all its inputs and outputs fixed to memory: the cheapest way to run the same thing again. */
export interface Binding {
  /** Runs and leaves the event loop free meanwhile. */
  run(): Promise<void>;
  /** Runs and blocks: saves some 20 µs, for the steps of a decoding loop. */
  runSync(): void;
  dispose(): void;
}

/** The constants of a program that lie in a mapped file. */
export interface ProgramPages {
  /** About what they take when all of them have been touched. */
  readonly bytes: number;
  /** Asks the system to read them soon, without waiting. */
  prefetch(): void;
  /** Lets them go: they take no memory until they are touched again. Not while the program runs. */
  evict(): void;
}

export interface Program {
  readonly name: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly disposed: boolean;
  /** Present where its constants are mapped and the platform lets one say when. */
  readonly pages?: ProgramPages | undefined;
  /**
   * Fixes every input and output to memory. An output may share memory with an input (an update in place) where each of
   * the program's nodes that reads the input runs before the node that writes the output, element by element.
   */
  bind(inputs: Readonly<Record<string, DeviceTensor>>, outputs: Readonly<Record<string, DeviceTensor>>): Binding;
  /**
   * Runs once. Outputs that are not given are allocated, with the shapes that the run finds, and belong to the caller.
   * Returns all outputs by name.
   */
  run(
    inputs: Readonly<Record<string, DeviceTensor>>,
    outputs?: Readonly<Record<string, DeviceTensor>>,
  ): Promise<Record<string, DeviceTensor>>;
  dispose(): void;
  [Symbol.dispose](): void;
}

export interface CompileOptions {
  /**
   * Inputs fixed for the program's life. The runtime may pre-pack them; it never copies what it does not pack, and
   * several programs may share one tensor, which must outlive them. They leave the list of inputs.
   */
  readonly constants?: Readonly<Record<string, DeviceTensor>>;
  /**
   * A file (and its `.data` beside it) for the compiled program with its pre-packed constants. Written when absent,
   * mapped when present and made by this runtime on this instruction set for these bytes; else rebuilt. A cache, never a
   * format.
   */
  readonly prepackedPath?: string;
  /**
   * With `prepackedPath`: a name for the content of the constants (a checkpoint's digest, say). It stands for them in the
   * key of the cache, so that they need not be read; without it their bytes are hashed at each compilation.
   */
  readonly constantsKey?: string;
  /** Writes a Chrome trace of every node of every run: a path without its ending. The file is complete after dispose. */
  readonly profilePath?: string;
  /**
   * "pool" (default) spreads each node over the runtime's threads; "caller" runs every node in the thread that calls.
   * For many small nodes the second is faster: run several bindings at once instead.
   */
  readonly threads?: "pool" | "caller";
  /** Where this program runs, if not on the runtime's own device. Its tensors stay where the runtime's are. */
  readonly device?: "cpu" | "webgpu" | "cuda";
  /** How much the runtime may rewrite the program. Default "all". */
  readonly optimization?: "none" | "basic" | "all";
}

export interface RuntimeInfo {
  /** "native", "reference" or "web". */
  readonly kind: string;
  readonly version: string;
  /** "cpu", "webgpu" or "cuda": where tensors live. */
  readonly device: string;
  readonly provider: string;
  readonly availableProviders: readonly string[];
  readonly threads: number;
}

export interface MemoryReport {
  /** Bytes of tensors now alive, counted once for memory that several tensors share. */
  readonly tensorBytes: number;
  readonly peakTensorBytes: number;
  readonly tensors: number;
  readonly programs: number;
  /** Bytes that the process keeps resident, where the platform tells. */
  readonly residentBytes: number | undefined;
}

export interface Runtime {
  readonly info: RuntimeInfo;
  compile(source: ProgramSource, options?: CompileOptions): Promise<Program>;
  /** Zeroed memory. */
  allocate(dtype: DType, shape: readonly number[]): DeviceTensor;
  /** New memory filled from the host. `data` holds at least the tensor's elements, in the dtype's host array. */
  upload(data: HostArray, dtype: DType, shape: readonly number[]): DeviceTensor;
  /** Copies host data into existing memory from its element `elementOffset` (default 0) on. */
  write(tensor: DeviceTensor, data: HostArray, elementOffset?: number): void;
  /** A copy on the host. */
  download(tensor: DeviceTensor): Promise<HostArray>;
  memory(): MemoryReport;
  /** Ends the runtime. Programs and tensors that are still alive are disposed with it. */
  dispose(): void;
  [Symbol.dispose](): void;
}
