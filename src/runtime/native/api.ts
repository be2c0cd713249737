/**
 * The C API of ONNX Runtime as a table of typed functions.
 *
 * `OrtGetApiBase()` gives `{ GetApi(version), GetVersionString() }`; `GetApi` gives a struct of function pointers that
 * only ever grows at its end. So an index that was right once is right in every later library; `apiVersion` says
 * how much of the table must be there, and a round trip through four entries checks at load that it is this table.
 *
 * Pointers are plain numbers: addresses in user space fit 2^53, and koffi converts numbers faster than BigInts. A null
 * pointer is 0. This file knows how to call, not when.
 */
import koffi from "koffi";
import { UnsupportedError } from "../../util/error.ts";
import { loadLibrary } from "./library.ts";

/** All the functions below exist since this version of the C API (ONNX Runtime 1.20). */
const apiVersion = 20;

/** What a parameter is in C, and which koffi type carries it. */
const types = {
  pointer: "uintptr_t",
  size: "size_t",
  int: "int",
  text: "str",
  /** `ORTCHAR_T*`: wide on Windows. */
  path: process.platform === "win32" ? "str16" : "str",
  /** An `OrtStatus*`, 0 when all is well: give it to `status.ts`. */
  status: "uintptr_t",
  void: "void",
} as const;

type Kind = keyof typeof types;

/** Name: [index in OrtApi, result, ...parameters]. */
const table = {
  CreateStatus: [0, "pointer", "int", "text"],
  GetErrorCode: [1, "int", "pointer"],
  GetErrorMessage: [2, "text", "pointer"],
  CreateSession: [7, "status", "pointer", "path", "pointer", "pointer"],
  CreateSessionFromArray: [8, "status", "pointer", "pointer", "size", "pointer", "pointer"],
  Run: [9, "status", "pointer", "pointer", "pointer", "pointer", "size", "pointer", "size", "pointer"],
  CreateSessionOptions: [10, "status", "pointer"],
  SetOptimizedModelFilePath: [11, "status", "pointer", "path"],
  EnableProfiling: [14, "status", "pointer", "path"],
  SetSessionLogId: [20, "status", "pointer", "text"],
  SetSessionLogSeverityLevel: [22, "status", "pointer", "int"],
  SetSessionGraphOptimizationLevel: [23, "status", "pointer", "int"],
  SetIntraOpNumThreads: [24, "status", "pointer", "int"],
  SessionGetInputCount: [30, "status", "pointer", "pointer"],
  SessionGetOutputCount: [31, "status", "pointer", "pointer"],
  SessionGetInputName: [36, "status", "pointer", "size", "pointer", "pointer"],
  SessionGetOutputName: [37, "status", "pointer", "size", "pointer", "pointer"],
  CreateTensorWithDataAsOrtValue: [49, "status", "pointer", "pointer", "size", "pointer", "size", "int", "pointer"],
  GetTensorMutableData: [51, "status", "pointer", "pointer"],
  GetTensorElementType: [60, "status", "pointer", "pointer"],
  GetDimensionsCount: [61, "status", "pointer", "pointer"],
  GetDimensions: [62, "status", "pointer", "pointer", "size"],
  GetTensorTypeAndShape: [65, "status", "pointer", "pointer"],
  CreateCpuMemoryInfo: [69, "status", "int", "int", "pointer"],
  AllocatorFree: [76, "status", "pointer", "pointer"],
  GetAllocatorWithDefaultOptions: [78, "status", "pointer"],
  ReleaseEnv: [92, "void", "pointer"],
  ReleaseStatus: [93, "void", "pointer"],
  ReleaseMemoryInfo: [94, "void", "pointer"],
  ReleaseSession: [95, "void", "pointer"],
  ReleaseValue: [96, "void", "pointer"],
  ReleaseTensorTypeAndShapeInfo: [99, "void", "pointer"],
  ReleaseSessionOptions: [100, "void", "pointer"],
  SessionEndProfiling: [110, "status", "pointer", "pointer", "pointer"],
  CreateEnvWithGlobalThreadPools: [119, "status", "int", "text", "pointer", "pointer"],
  DisablePerSessionThreads: [120, "status", "pointer"],
  CreateThreadingOptions: [121, "status", "pointer"],
  ReleaseThreadingOptions: [122, "void", "pointer"],
  GetAvailableProviders: [125, "status", "pointer", "pointer"],
  ReleaseAvailableProviders: [126, "status", "pointer", "int"],
  AddSessionConfigEntry: [130, "status", "pointer", "text", "text"],
  CreateAndRegisterAllocator: [144, "status", "pointer", "pointer", "pointer"],
  SetGlobalIntraOpNumThreads: [147, "status", "pointer", "int"],
  SetGlobalInterOpNumThreads: [148, "status", "pointer", "int"],
  SetGlobalSpinControl: [149, "status", "pointer", "int"],
  AddInitializer: [150, "status", "pointer", "text", "pointer"],
  ReleaseArenaCfg: [157, "void", "pointer"],
  CreateArenaCfgV2: [164, "status", "pointer", "pointer", "size", "pointer"],
  CreatePrepackedWeightsContainer: [166, "status", "pointer"],
  ReleasePrepackedWeightsContainer: [167, "void", "pointer"],
  CreateSessionFromArrayWithPrepackedWeightsContainer: [
    169,
    "status",
    "pointer",
    "pointer",
    "size",
    "pointer",
    "pointer",
    "pointer",
  ],
  AddExternalInitializers: [210, "status", "pointer", "pointer", "pointer", "size"],
  SessionOptionsAppendExecutionProvider: [216, "status", "pointer", "text", "pointer", "pointer", "size"],
} as const satisfies Record<string, readonly [index: number, result: Kind, ...parameters: Kind[]]>;

type Value<K extends Kind> = K extends "text" | "path" ? string : K extends "void" ? undefined : number;
type Values<K extends readonly Kind[]> = { -readonly [I in keyof K]: Value<K[I]> };
type Callable<Entry> = Entry extends readonly [number, infer R extends Kind, ...infer P extends readonly Kind[]]
  ? {
      (...values: Values<P>): Value<R>;
      /** On one of libuv's worker threads; `done` is called on the event loop. */
      async(...values: [...Values<P>, done: (error: unknown, result: Value<R>) => void]): void;
    }
  : never;

export type Api = { readonly [Name in keyof typeof table]: Callable<(typeof table)[Name]> } & {
  /** The library's version, such as "1.30.0". */
  readonly version: string;
};

const loaded = new Map<string, Api>();

/** The functions of the library at this path, loaded once per process. */
export function loadApi(path: string): Api {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  const base: number = loadLibrary(path).func("OrtGetApiBase", types.pointer, [])();
  const entry = (struct: number, index: number) => BigInt(koffi.decode.uint64(BigInt(struct + index * 8)));
  const version: string = koffi.call(entry(base, 1), koffi.proto("str", []));
  const struct: number = koffi.call(entry(base, 0), koffi.proto(types.pointer, ["uint32_t"]), apiVersion);
  if (struct === 0) {
    throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "This ONNX Runtime is too old.", {
      where: path,
      got: `version ${version}`,
      expected: `C API version ${apiVersion} (1.20) or newer`,
    });
  }
  const functions: Record<string, unknown> = { version };
  for (const [name, [index, result, ...parameters]] of Object.entries(table)) {
    const prototype = koffi.proto(
      types[result],
      parameters.map((kind) => types[kind]),
    );
    functions[name] = koffi.decode(entry(struct, index), prototype);
  }
  const api = functions as unknown as Api;
  checkTable(api, path);
  loaded.set(path, api);
  return api;
}

/** A status made, read and released again: entries 0, 1, 2 and 93 are what we take them for. */
function checkTable(api: Api, path: string): void {
  const status = api.CreateStatus(3, "round trip");
  const got = `${api.GetErrorCode(status)} ${api.GetErrorMessage(status)}`;
  api.ReleaseStatus(status);
  if (got !== "3 round trip") {
    throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "This library's function table is not ONNX Runtime's.", {
      where: path,
      got,
      expected: "3 round trip",
    });
  }
}
