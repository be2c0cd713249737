/**
 * Finds and loads libonnxruntime, which the npm package `onnxruntime-node` carries for linux, darwin and win32 on x64
 * and arm64. Only the shared library is used: the package's own JavaScript and addon are never loaded.
 */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import { UnsupportedError } from "../../util/error.ts";

/**
 * koffi runs C code on stacks of its own. ONNX Runtime's optimizers recurse and its GEMM keeps panels on the stack; the
 * default 128 KiB of asynchronous calls overflow, which kills the process. Pages that are not touched cost nothing.
 */
const stackBytes = 8 * 2 ** 20;

/** Path of the shared library for this platform. */
export function libraryPath(platform: string = process.platform, arch: string = process.arch): string {
  let root: string;
  try {
    root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  } catch (cause) {
    throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "The package onnxruntime-node is not installed.", {
      hint: "Run npm ci in a checkout, or npm install cpm-live elsewhere.",
      cause,
    });
  }
  const bin = join(root, "bin");
  const folders = existsSync(bin) ? readdirSync(bin).filter((name) => name.startsWith("napi-v")) : [];
  for (const folder of folders) {
    const directory = join(bin, folder, platform, arch);
    if (!existsSync(directory)) continue;
    const name = readdirSync(directory)
      .sort()
      .find((file) => /^(libonnxruntime(\.so|\..*dylib)|onnxruntime\.dll$)/.test(file));
    if (name !== undefined) return join(directory, name);
  }
  throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "onnxruntime-node has no shared library for this platform.", {
    where: bin,
    got: `${platform} ${arch}`,
    expected: "linux, darwin or win32 on x64 or arm64",
    hint: "Use a supported platform, or give the path of a libonnxruntime as libraryPath.",
  });
}

/**
 * koffi closes a library when its handle is collected, also while functions of it are still in use: the handles stay for
 * the life of the process. (With a thread pool the library's own threads keep it open, so this shows only without one.)
 */
const pinned: LibraryHandle[] = [];

/** Loads a libonnxruntime; it stays loaded until the process ends. */
export function loadLibrary(path: string): LibraryHandle {
  configureNativeCalls();
  try {
    const library = koffi.load(path);
    pinned.push(library);
    return library;
  } catch (cause) {
    throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "The ONNX Runtime library cannot be loaded.", {
      where: path,
      got: cause instanceof Error ? cause.message : String(cause),
      hint: process.platform === "linux" ? "It needs glibc 2.28 or newer and libstdc++ (not musl)." : undefined,
      cause,
    });
  }
}

let configured = false;

/**
 * Sets up the process for native calls. koffi accepts this only before the first library is loaded: whoever binds
 * another library calls this first. Later calls do nothing.
 */
export function configureNativeCalls(): void {
  if (configured) return;
  const { sync_stack_size: sync = 0, async_stack_size: async = 0 } = koffi.config();
  if (Math.min(sync, async) < stackBytes) {
    try {
      koffi.config({ sync_stack_size: stackBytes, async_stack_size: stackBytes, max_async_calls: 1024 });
    } catch (cause) {
      throw new UnsupportedError("CPM_RUNTIME_LIBRARY", "Another native library was loaded through koffi before.", {
        got: `stacks of ${sync} and ${async} bytes`,
        expected: `${stackBytes} bytes`,
        hint: "Open the runtime first, or call configureNativeCalls() before the other library is loaded.",
        cause,
      });
    }
  }
  configured = true;
}

let trim: (() => void) | undefined;

/**
 * Gives freed memory back to the system. glibc keeps freed blocks of up to 32 MiB for each thread that once had such
 * blocks, which on several compiling threads adds up to hundreds of megabytes of weights long gone.
 */
export function returnFreedMemory(): void {
  trim ??= findTrim();
  trim();
}

function findTrim(): () => void {
  if (process.platform === "linux") {
    try {
      const mallocTrim = koffi.load(null).func("malloc_trim", "int", ["size_t"]);
      return () => mallocTrim(0);
    } catch {
      // Another C library than glibc, which has no such habit.
    }
  }
  return () => {};
}
