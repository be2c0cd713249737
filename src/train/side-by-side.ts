/** Bindings of programs that each run in one thread, as many at a time as the runtime has threads. */
import type { Binding } from "../runtime/runtime.ts";

/** Runs every binding once. */
export async function runSideBySide(bindings: readonly Binding[], atOnce: number): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < bindings.length) await bindings[next++]!.run();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
