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

/** Loads a libonnxruntime; it stays loaded until the process ends. */
export function loadLibrary(path: string): LibraryHandle {
  configureStacks();
  try {
    return koffi.load(path);
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

/** Only possible before the process's first native call; another library's binding may have configured koffi already. */
function configureStacks(): void {
  if (configured) return;
  configured = true;
  const now = koffi.config();
  if (Math.min(now.sync_stack_size ?? 0, now.async_stack_size ?? 0) >= stackBytes) return;
  koffi.config({ sync_stack_size: stackBytes, async_stack_size: stackBytes, max_async_calls: 1024 });
}
