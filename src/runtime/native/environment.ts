/**
 * The process's one ONNX Runtime environment: its thread pool and the allocator for what programs need while they run.
 *
 * ONNX Runtime allows one environment per process. Runtimes that are alive at the same time share it, so they must agree
 * on its settings; when the last one ends, the next may choose anew. One arena serves all programs: a training step's
 * programs run after one another and reuse the same bytes.
 *
 * Denormal numbers are computed as IEEE 754 has them. ONNX Runtime's switch to flush them reaches only the pool's own
 * threads, not the thread that calls, which takes part in the work: which elements were flushed would depend on how the
 * work was divided, and results would differ from run to run.
 */
import { availableParallelism } from "node:os";
import { ConfigError } from "../../util/error.ts";
import type { Api } from "./api.ts";
import { outSlot, pointers, strings } from "./native-memory.ts";
import { check } from "./status.ts";

export interface EnvironmentSettings {
  /** Threads that one program's nodes are spread over, the calling one included. */
  readonly threads: number;
  /** Idle threads of the pool wait actively for a moment: faster by some µs a node, at the price of a busy core. */
  readonly spin: boolean;
}

export interface Environment {
  readonly settings: EnvironmentSettings;
  /** OrtEnv. */
  readonly pointer: number;
  /** OrtMemoryInfo of host memory. */
  readonly hostMemory: number;
  /** OrtAllocator that owns the names that the C API returns. */
  readonly allocator: number;
}

interface Shared {
  readonly api: Api;
  readonly environment: Environment;
  users: number;
}

let shared: Shared | undefined;

/** The process's environment, made on first use. Give each one back with `releaseEnvironment`. */
export function acquireEnvironment(api: Api, settings: EnvironmentSettings): Environment {
  if (!Number.isInteger(settings.threads) || settings.threads < 1 || settings.threads > 1024) {
    throw new ConfigError("CPM_RUNTIME_THREADS", "The number of threads is out of range.", {
      got: String(settings.threads),
      expected: "a whole number from 1 to 1024",
    });
  }
  if (shared !== undefined) {
    const now = shared.environment.settings;
    if (shared.api !== api || now.threads !== settings.threads || now.spin !== settings.spin) {
      throw new ConfigError("CPM_RUNTIME_THREADS", "Runtimes of one process share their thread pool.", {
        got: `${settings.threads} threads, spin ${settings.spin}`,
        expected: `${now.threads} threads, spin ${now.spin}, as the runtime that is already open`,
        hint: "Use the same settings, or dispose the other runtime first.",
      });
    }
  } else {
    shared = { api, environment: createEnvironment(api, settings), users: 0 };
  }
  shared.users++;
  return shared.environment;
}

export function releaseEnvironment(environment: Environment): void {
  if (shared?.environment !== environment) throw new Error("internal: environment released twice");
  if (--shared.users > 0) return;
  const { api } = shared;
  shared = undefined;
  api.ReleaseMemoryInfo(environment.hostMemory);
  api.ReleaseEnv(environment.pointer);
}

/** The default number of threads: every core that this process may use. */
export function defaultThreads(): number {
  return availableParallelism();
}

function createEnvironment(api: Api, settings: EnvironmentSettings): Environment {
  const out = outSlot();
  const must = (status: number) =>
    check(api, status, { code: "CPM_RUNTIME_START", what: "ONNX Runtime cannot be started." });

  must(api.CreateThreadingOptions(out.address));
  const threading = out.read();
  must(api.SetGlobalIntraOpNumThreads(threading, settings.threads));
  must(api.SetGlobalInterOpNumThreads(threading, 1));
  must(api.SetGlobalSpinControl(threading, settings.spin ? 1 : 0));
  // 4 is "fatal only": every error comes back as a status and is thrown, so it need not be printed as well.
  must(api.CreateEnvWithGlobalThreadPools(4, "cpm-live", threading, out.address));
  const pointer = out.read();
  api.ReleaseThreadingOptions(threading);

  must(api.CreateCpuMemoryInfo(1, 0, out.address)); // an arena's memory, default type
  const hostMemory = out.read();

  // The arena grows by what is asked for (1), not by powers of two, which would keep up to twice as much.
  const keys = strings(["arena_extend_strategy"]);
  const values = pointers([1]);
  must(api.CreateArenaCfgV2(keys.address, values.address, 1, out.address));
  const arena = out.read();
  must(api.CreateAndRegisterAllocator(pointer, hostMemory, arena));
  api.ReleaseArenaCfg(arena);

  must(api.GetAllocatorWithDefaultOptions(out.address));
  return { settings, pointer, hostMemory, allocator: out.read() };
}
