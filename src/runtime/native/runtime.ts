/**
 * The native runtime: ONNX Runtime through its C API, tensors in host memory.
 *
 * With `device: "webgpu"` programs run on that provider while tensors stay on the host: ONNX Runtime copies in and out
 * at each run.
 */
import koffi from "koffi";
import { ConfigError, RuntimeError, ShapeError, UnsupportedError } from "../../util/error.ts";
import { byteLength, type DType, elementCount, type HostArray } from "../dtype.ts";
import type {
  CompileOptions,
  DeviceTensor,
  MemoryReport,
  Program,
  ProgramSource,
  Runtime,
  RuntimeInfo,
} from "../runtime.ts";
import { type Api, loadApi } from "./api.ts";
import { acquireEnvironment, defaultThreads, releaseEnvironment } from "./environment.ts";
import { libraryPath } from "./library.ts";
import { mapTensor } from "./mapped-file.ts";
import { outSlot } from "./native-memory.ts";
import { NativeProgram } from "./program.ts";
import { checkProvider, compileSession, type SessionSettings } from "./session.ts";
import { check } from "./status.ts";
import { allocateTensor, checkShape, describe, type Ledger, NativeTensor } from "./tensor.ts";

export interface NativeRuntimeOptions {
  /** Threads that a program's nodes are spread over. Default: every core that the process may use. */
  readonly threads?: number;
  /** Whether idle threads wait actively for a moment. Default true: best for one busy process per machine. */
  readonly spin?: boolean;
  /** Where programs run. Default "cpu". */
  readonly device?: "cpu" | "webgpu" | "cuda";
  /** Options of the device's provider, as ONNX Runtime names them. */
  readonly providerOptions?: Readonly<Record<string, string>>;
  /** Another libonnxruntime (1.20 or newer) than onnxruntime-node's. */
  readonly libraryPath?: string;
}

export interface NativeRuntime extends Runtime {
  /**
   * A read-only tensor over a part of a file, mapped where the platform can: its pages are the file cache's. It can be
   * an input or a constant, never an output; `view()` may be unsupported, `download()` copies.
   */
  mapTensor(path: string, byteOffset: number, dtype: DType, shape: readonly number[]): DeviceTensor;
}

const providers = {
  cpu: { library: "CPUExecutionProvider", append: undefined },
  webgpu: { library: "WebGpuExecutionProvider", append: "WebGPU" },
  cuda: { library: "CUDAExecutionProvider", append: undefined },
} as const;

/** Opens a runtime. Errors: CPM_RUNTIME_LIBRARY, CPM_RUNTIME_THREADS, CPM_RUNTIME_UNSUPPORTED, CPM_RUNTIME_DEVICE. */
export function createNativeRuntime(options: NativeRuntimeOptions = {}): NativeRuntime {
  const device = options.device ?? "cpu";
  const api = loadApi(options.libraryPath ?? libraryPath());
  const available = availableProviders(api);
  const settings = settingsOf(api, available, device, options);
  const threads = options.threads ?? defaultThreads();
  const environment = acquireEnvironment(api, { threads, spin: options.spin ?? true });
  const info: RuntimeInfo = Object.freeze({
    kind: "native",
    version: api.version,
    device: "cpu",
    provider: device,
    availableProviders: available,
    threads,
  });
  const ledger: Ledger = { api, environment, tensors: new Set(), tensorBytes: 0, peakTensorBytes: 0 };
  try {
    checkProvider(ledger, settings);
  } catch (error) {
    releaseEnvironment(environment);
    throw error;
  }
  return new HostRuntime(info, ledger, settings, options);
}

/** How programs of a device are compiled. Errors: CPM_RUNTIME_DEVICE, CPM_RUNTIME_UNSUPPORTED. */
function settingsOf(
  api: Api,
  available: readonly string[],
  device: keyof typeof providers,
  options: NativeRuntimeOptions,
): SessionSettings {
  if (!Object.hasOwn(providers, device)) {
    throw new ConfigError("CPM_RUNTIME_DEVICE", "There is no such device.", {
      got: String(device),
      expected: Object.keys(providers).join(", "),
    });
  }
  const { library, append } = providers[device];
  if (!available.includes(library) || (append === undefined && device !== "cpu")) {
    throw new UnsupportedError("CPM_RUNTIME_UNSUPPORTED", `This runtime cannot compute on ${device}.`, {
      got: `ONNX Runtime ${api.version} with ${available.join(", ")}`,
      hint: 'Use device "cpu".',
    });
  }
  return {
    target: device === "webgpu" ? "webgpu" : "cpu",
    provider: append === undefined ? undefined : { name: append, options: options.providerOptions ?? {} },
  };
}

class HostRuntime implements NativeRuntime {
  readonly info: RuntimeInfo;
  readonly #ledger: Ledger;
  readonly #settings: SessionSettings;
  readonly #options: NativeRuntimeOptions;
  readonly #programs = new Set<NativeProgram>();
  #compiling = 0;
  #disposed = false;

  constructor(info: RuntimeInfo, ledger: Ledger, settings: SessionSettings, options: NativeRuntimeOptions) {
    this.info = info;
    this.#options = options;
    this.#ledger = ledger;
    this.#settings = settings;
  }

  async compile(source: ProgramSource, options: CompileOptions = {}): Promise<Program> {
    this.#assertAlive("compile");
    this.#compiling++;
    try {
      const session = await compileSession(this.#ledger, this.#settingsFor(options.device), source, options);
      return new NativeProgram(this.#ledger, this.#programs, session);
    } finally {
      this.#compiling--;
    }
  }

  #settingsFor(device: CompileOptions["device"]): SessionSettings {
    if (device === undefined || device === this.info.provider) return this.#settings;
    const settings = settingsOf(this.#ledger.api, this.info.availableProviders, device, this.#options);
    checkProvider(this.#ledger, settings);
    return settings;
  }

  allocate(dtype: DType, shape: readonly number[]): NativeTensor {
    this.#assertAlive("allocate");
    return allocateTensor(this.#ledger, dtype, shape);
  }

  upload(data: HostArray, dtype: DType, shape: readonly number[]): NativeTensor {
    this.#assertAlive("upload");
    checkShape(dtype, shape);
    const bytes = byteLength(dtype, shape);
    if (data.byteLength < bytes) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "There is not enough data for a tensor.", {
        got: `${data.length} elements`,
        expected: `${elementCount(shape)} elements of ${dtype}[${shape.join(", ")}]`,
      });
    }
    const tensor = allocateTensor(this.#ledger, dtype, shape);
    this.write(tensor, bytes < data.byteLength ? data.subarray(0, tensor.view().length) : data);
    return tensor;
  }

  write(tensor: DeviceTensor, data: HostArray, elementOffset = 0): void {
    this.#assertAlive("write");
    const target = this.#own(tensor);
    target.assertAlive("write");
    if (target.memory.readOnly) {
      throw new RuntimeError("CPM_RUNTIME_READ_ONLY", "A tensor over a mapped file cannot be written.", {
        got: describe(target),
      });
    }
    const view = target.view();
    if (data.constructor !== view.constructor) {
      throw new ShapeError("CPM_RUNTIME_DTYPE", "Data has the wrong element type.", {
        where: `tensor ${describe(target)}`,
        got: data.constructor.name,
        expected: view.constructor.name,
      });
    }
    if (!Number.isInteger(elementOffset) || elementOffset < 0 || elementOffset + data.length > view.length) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "Data reaches outside of its tensor.", {
        got: `elements ${elementOffset} to ${elementOffset + data.length}`,
        expected: `within the ${view.length} of ${describe(target)}`,
      });
    }
    (view as { set(data: HostArray, offset: number): void }).set(data, elementOffset);
  }

  async download(tensor: DeviceTensor): Promise<HostArray> {
    this.#assertAlive("download");
    return this.#own(tensor).copy();
  }

  mapTensor(path: string, byteOffset: number, dtype: DType, shape: readonly number[]): NativeTensor {
    this.#assertAlive("mapTensor");
    return mapTensor(this.#ledger, path, byteOffset, dtype, shape);
  }

  memory(): MemoryReport {
    this.#assertAlive("memory");
    return {
      tensorBytes: this.#ledger.tensorBytes,
      peakTensorBytes: this.#ledger.peakTensorBytes,
      tensors: this.#ledger.tensors.size,
      programs: this.#programs.size,
      residentBytes: process.memoryUsage.rss(),
    };
  }

  dispose(): void {
    this.#assertAlive("dispose");
    const running = [...this.#programs].find((program) => program.runs > 0);
    if (running !== undefined || this.#compiling > 0) {
      throw new RuntimeError("CPM_RUNTIME_IN_USE", "A runtime cannot be disposed while it works.", {
        where: running === undefined ? "a compilation" : `program "${running.name}"`,
        hint: "Await runs and compilations first.",
      });
    }
    this.#disposed = true;
    for (const program of [...this.#programs]) program.dispose();
    for (const tensor of [...this.#ledger.tensors]) tensor.dispose();
    releaseEnvironment(this.#ledger.environment);
  }

  [Symbol.dispose](): void {
    if (!this.#disposed) this.dispose();
  }

  #own(tensor: DeviceTensor): NativeTensor {
    if (tensor instanceof NativeTensor && tensor.ledger === this.#ledger) return tensor;
    throw new RuntimeError("CPM_RUNTIME_FOREIGN", "A tensor belongs to another runtime.", { got: describe(tensor) });
  }

  #assertAlive(action: string): void {
    if (!this.#disposed) return;
    throw new RuntimeError("CPM_RUNTIME_DISPOSED", `A runtime was used after it was disposed (${action}).`);
  }
}

/** Names of the library's execution providers. */
function availableProviders(api: Api): readonly string[] {
  const list = outSlot();
  const length = outSlot();
  const failure = { code: "CPM_RUNTIME_START", what: "The library's providers cannot be listed." } as const;
  check(api, api.GetAvailableProviders(list.address, length.address), failure);
  const count = length.read();
  const names: string[] = koffi.decode(BigInt(list.read()), "str", count);
  check(api, api.ReleaseAvailableProviders(list.read(), count), failure);
  return Object.freeze(names);
}
