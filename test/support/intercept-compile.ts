/** A runtime that tells when something is compiled, or refuses to. */
import type { ProgramSource, Runtime } from "../../src/runtime/index.ts";

/** The same runtime; `intercept` runs before each compilation and may throw in its place. */
export function interceptCompile(runtime: Runtime, intercept: (source: ProgramSource) => void): Runtime {
  const compile: Runtime["compile"] = async (source, options) => {
    intercept(source);
    return runtime.compile(source, options);
  };
  return new Proxy(runtime, {
    get(target, key) {
      if (key === "compile") return compile;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
