/**
 * Compiling: ONNX bytes become an OrtSession, with constants that stay in the caller's memory.
 *
 * Constants are initializers with external data whose location is the input's name; `AddExternalInitializers` puts the
 * caller's memory in their place before the graph is optimized. What a kernel does not pack is read from there.
 */
import { renameSync, statSync } from "node:fs";
import koffi from "koffi";
import { RuntimeError, UnsupportedError } from "../../util/error.ts";
import type { CompileOptions, EmitTarget, Port, ProgramPages, ProgramSource } from "../runtime.ts";
import type { Api } from "./api.ts";
import { returnFreedMemory } from "./library.ts";
import { pagesOfFile } from "./mapped-pages.ts";
import { addressOf, type CArray, outSlot, pointers, strings } from "./native-memory.ts";
import { acquirePackedWeights, type PackedWeights } from "./packed-weights.ts";
import { checkTensor } from "./ports.ts";
import { isCurrent, prepackedCache, writePrepacked } from "./prepacked.ts";
import { check, errorOf } from "./status.ts";
import type { Ledger, NativeTensor } from "./tensor.ts";

/** A compiled program's native side. */
export interface Session {
  readonly name: string;
  /** Without constants. */
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** OrtSession. */
  readonly pointer: number;
  readonly inputNames: CArray;
  readonly outputNames: CArray;
  /** Of a program that was loaded from its cache. */
  readonly pages: ProgramPages | undefined;
  /** Ends it, completes its profile and lets go of its constants. */
  release(): void;
}

/** How a runtime's sessions are made. */
export interface SessionSettings {
  readonly target: EmitTarget;
  /** The provider to ask before the CPU's, which always follows. */
  readonly provider?: { readonly name: string; readonly options: Readonly<Record<string, string>> } | undefined;
}

/** GraphOptimizationLevel of the C API. */
const optimizationLevels = { none: 0, basic: 1, all: 99 } as const;

/** Compiles on a worker thread. Errors: CPM_RUNTIME_COMPILE, CPM_RUNTIME_PREPACKED, and those of `ports.ts`. */
export async function compileSession(
  ledger: Ledger,
  settings: SessionSettings,
  source: ProgramSource,
  options: CompileOptions,
): Promise<Session> {
  const { name } = source;
  const constants = constantsOf(ledger, source, options.constants ?? {});
  const alone = options.threads === "caller" || ledger.environment.settings.threads === 1;
  const model = source.onnx({ target: settings.target, oneThread: alone, constants: new Set(constants.keys()) });
  const level = optimizationLevels[options.optimization ?? "all"];
  const plan = { ledger, settings, name, level, alone, profilePath: options.profilePath };
  // Nobody may dispose the constants while they are read.
  for (const tensor of constants.values()) tensor.runs++;
  let pointer: number;
  let packed: PackedWeights | undefined;
  try {
    if (options.prepackedPath === undefined) {
      packed = acquirePackedWeights(ledger, constants.values());
      pointer = await createSession({ ...plan, model, constants, packed });
    } else {
      const cache = prepackedCache(options.prepackedPath, {
        model,
        constants,
        constantsKey: options.constantsKey,
        settings: JSON.stringify([ledger.api.version, settings, level]),
      });
      const save = () =>
        writePrepacked(cache, async (optimizedPath, dataName) => {
          const saved = { optimizedPath, dataName };
          const saving = await createSession({ ...plan, model, constants, saved, profilePath: undefined });
          ledger.api.ReleaseSession(saving);
        });
      if (!(await isCurrent(cache))) await save();
      // Already optimized when it was saved.
      pointer = await createSession({ ...plan, model: cache.path, level: 0 });
    }
  } catch (error) {
    packed?.release();
    throw error;
  } finally {
    for (const tensor of constants.values()) tensor.runs--;
  }
  // A program that was loaded from its cache has its own constants.
  const users = options.prepackedPath === undefined ? [...constants.values()] : [];
  for (const tensor of users) tensor.constantOf.push(name);
  const release = () => {
    for (const tensor of users) tensor.constantOf.splice(tensor.constantOf.indexOf(name), 1);
    try {
      if (options.profilePath !== undefined) endProfile(ledger, pointer, name, options.profilePath);
    } finally {
      ledger.api.ReleaseSession(pointer);
      packed?.release();
      if (constants.size > 0) returnFreedMemory();
    }
  };
  try {
    const inputs = source.inputs.filter((port) => !constants.has(port.name));
    const { outputs } = source;
    checkNames(ledger, name, pointer, inputs, "input");
    checkNames(ledger, name, pointer, outputs, "output");
    const inputNames = strings(inputs.map((port) => port.name));
    const outputNames = strings(outputs.map((port) => port.name));
    const pages =
      options.prepackedPath === undefined
        ? undefined
        : pagesOfFile(`${options.prepackedPath}.data`, packedBytes(`${options.prepackedPath}.data`, constants));
    return { name, inputs, outputs, pointer, inputNames, outputNames, pages, release };
  } catch (error) {
    release();
    throw error;
  }
}

/** The file has constants as they were given and as they are packed; where it has both, only the latter are ever touched. */
function packedBytes(path: string, constants: ReadonlyMap<string, NativeTensor>): number {
  const givenBytes = [...constants.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  return Math.max(givenBytes, statSync(path).size - givenBytes);
}

function constantsOf(
  ledger: Ledger,
  source: ProgramSource,
  given: NonNullable<CompileOptions["constants"]>,
): Map<string, NativeTensor> {
  const constants = new Map<string, NativeTensor>();
  for (const [name, tensor] of Object.entries(given)) {
    const port = source.inputs.find((input) => input.name === name);
    if (port === undefined) {
      throw new RuntimeError("CPM_RUNTIME_PORT", "The program has no input of a constant's name.", {
        where: `program "${source.name}"`,
        got: name,
        expected: `one of ${source.inputs.map((input) => input.name).join(", ")}`,
      });
    }
    const portCheck = { program: source.name, kind: "constant", ledger, sizes: new Map() } as const;
    constants.set(name, checkTensor(portCheck, port, tensor));
  }
  return constants;
}

interface SessionPlan {
  readonly ledger: Ledger;
  readonly settings: SessionSettings;
  readonly name: string;
  readonly level: number;
  /** Whether every node runs in the thread that calls, without the pool. */
  readonly alone: boolean;
  /** ONNX bytes, or the path of a saved model. */
  readonly model: Uint8Array | string;
  readonly constants?: ReadonlyMap<string, NativeTensor>;
  /** Where packed constants are shared. */
  readonly packed?: PackedWeights | undefined;
  readonly profilePath: string | undefined;
  /** Where to save the optimized model, and its data file's name. */
  readonly saved?: { readonly optimizedPath: string; readonly dataName: string };
}

async function createSession(plan: SessionPlan): Promise<number> {
  const { ledger, model, name } = plan;
  const { api, environment } = ledger;
  const out = outSlot();
  const failure = {
    code: "CPM_RUNTIME_COMPILE",
    what: "A program cannot be compiled.",
    program: name,
  } as const;
  const options = sessionOptions(plan);
  try {
    const values = [...(plan.constants?.values() ?? [])];
    if (values.length > 0) {
      const names = strings([...plan.constants!.keys()]);
      const tensors = pointers(values.map((tensor) => tensor.value));
      check(api, api.AddExternalInitializers(options, names.address, tensors.address, values.length), failure);
    }
    if (plan.packed !== undefined) {
      // Marks them as shared: only the packed forms of such constants go into a container.
      for (const [constant, tensor] of plan.constants ?? []) {
        check(api, api.AddInitializer(options, constant, tensor.value), failure);
      }
    }
    const status = await new Promise<number>((resolve, reject) => {
      if (typeof model === "string") {
        api.CreateSession.async(environment.pointer, model, options, out.address, (error, result) =>
          error ? reject(error) : resolve(result),
        );
        return;
      }
      const bytes = new Uint8Array(new ArrayBuffer(Math.max(1, model.length)));
      bytes.set(model);
      const done = (error: unknown, result: number) => {
        void bytes; // alive until here
        if (error) reject(error);
        else resolve(result);
      };
      const { pointer } = environment;
      const start = addressOf(bytes.buffer);
      if (plan.packed === undefined) {
        api.CreateSessionFromArray.async(pointer, start, model.length, options, out.address, done);
      } else {
        const create = api.CreateSessionFromArrayWithPrepackedWeightsContainer;
        create.async(pointer, start, model.length, options, plan.packed.pointer, out.address, done);
      }
    });
    if (status !== 0) throw errorOf(api, status, failure);
    return out.read();
  } finally {
    api.ReleaseSessionOptions(options);
  }
}

/**
 * Whether the provider finds its device. Errors: CPM_RUNTIME_UNSUPPORTED, so that a missing driver shows when the
 * runtime is opened, not when its first program is compiled.
 */
export function checkProvider(ledger: Ledger, settings: SessionSettings): void {
  if (settings.provider === undefined) return;
  const { name } = settings.provider;
  try {
    const plan = { ledger, settings, name: "", level: 0, alone: false, model: "", profilePath: undefined };
    ledger.api.ReleaseSessionOptions(sessionOptions(plan));
  } catch (cause) {
    throw new UnsupportedError("CPM_RUNTIME_UNSUPPORTED", `The provider ${name} finds no device.`, {
      got: cause instanceof RuntimeError ? cause.got : String(cause),
      hint: 'Install a graphics driver (Vulkan on Linux), or use device "cpu".',
      cause,
    });
  }
}

/** OrtSessionOptions of a plan. */
function sessionOptions(plan: SessionPlan): number {
  const { settings, name, level, profilePath, saved } = plan;
  const { api } = plan.ledger;
  const out = outSlot();
  const must = (status: number) =>
    check(api, status, { code: "CPM_RUNTIME_COMPILE", what: "A compiler setting was refused.", program: name });
  must(api.CreateSessionOptions(out.address));
  const options = out.read();
  const entry = (key: string, value: string) => must(api.AddSessionConfigEntry(options, key, value));
  try {
    // A shared pool of one thread is none, and sessions that were told to use it crash: they get a pool of their own.
    if (plan.alone) must(api.SetIntraOpNumThreads(options, 1));
    else must(api.DisablePerSessionThreads(options));
    must(api.SetSessionLogId(options, name));
    must(api.SetSessionLogSeverityLevel(options, 4));
    must(api.SetSessionGraphOptimizationLevel(options, level));
    entry("session.use_env_allocators", "1"); // one arena for all programs
    entry("session.use_device_allocator_for_initializers", "1"); // packed weights go back to the system at the end
    if (settings.provider !== undefined) {
      const { name: provider, options: providerOptions } = settings.provider;
      const keys = strings(Object.keys(providerOptions));
      const values = strings(Object.values(providerOptions));
      const count = Object.keys(providerOptions).length;
      must(api.SessionOptionsAppendExecutionProvider(options, provider, keys.address, values.address, count));
    }
    if (profilePath !== undefined) must(api.EnableProfiling(options, profilePath));
    if (saved !== undefined) {
      must(api.SetOptimizedModelFilePath(options, saved.optimizedPath));
      entry("session.save_external_prepacked_constant_initializers", "1");
      entry("session.optimized_model_external_initializers_file_name", saved.dataName);
      entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024");
    }
    return options;
  } catch (error) {
    api.ReleaseSessionOptions(options);
    throw error;
  }
}

/** The ONNX bytes must have exactly the ports that the source declares, in any order. */
function checkNames(
  ledger: Ledger,
  program: string,
  session: number,
  ports: readonly Port[],
  kind: "input" | "output",
): void {
  const { api, environment } = ledger;
  const out = outSlot();
  const must = (status: number) =>
    check(api, status, { code: "CPM_RUNTIME_COMPILE", what: "A program's ports cannot be read.", program });
  const input = kind === "input";
  must(input ? api.SessionGetInputCount(session, out.address) : api.SessionGetOutputCount(session, out.address));
  const count = out.read();
  const found: string[] = [];
  for (let index = 0; index < count; index++) {
    const read = input ? api.SessionGetInputName : api.SessionGetOutputName;
    must(read(session, index, environment.allocator, out.address));
    found.push(takeString(api, environment.allocator, out.read()));
  }
  const expected = ports.map((port) => port.name);
  if ([...found].sort().join("\n") !== [...expected].sort().join("\n")) {
    throw new RuntimeError("CPM_RUNTIME_COMPILE", `The ONNX bytes have other ${kind}s than the program declares.`, {
      where: `program "${program}"`,
      got: found.join(", ") || "none",
      expected: expected.join(", ") || "none",
    });
  }
}

/** Reads a string that the C API allocated, and frees it. */
function takeString(api: Api, allocator: number, address: number): string {
  const text = koffi.decode.string(BigInt(address));
  api.AllocatorFree(allocator, address);
  return text;
}

/** ONNX Runtime adds a date to the file's name: give it the name that was asked for. */
function endProfile(ledger: Ledger, session: number, program: string, profilePath: string): void {
  const { api, environment } = ledger;
  const out = outSlot();
  const status = api.SessionEndProfiling(session, environment.allocator, out.address);
  check(api, status, { code: "CPM_RUNTIME_PROFILE", what: "A profile cannot be completed.", program });
  renameSync(takeString(api, environment.allocator, out.read()), `${profilePath}.json`);
}
