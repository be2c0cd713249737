/** The runtime's public surface: open a native runtime, compile programs, hold tensors. */
export * from "./dtype.ts";
export { configureNativeCalls } from "./native/library.ts";
export { createNativeRuntime, type NativeRuntime, type NativeRuntimeOptions } from "./native/runtime.ts";
export type * from "./runtime.ts";
