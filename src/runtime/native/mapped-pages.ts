/**
 * Pages of a mapped file: asking the system to read them ahead, and to let them go.
 *
 * What is let go costs no memory of the process until it is touched again; its pages stay in the file cache for as long as
 * the system likes. Linux only: elsewhere pages are dropped when the system needs their room, and nobody can say when.
 */
import { readFileSync, realpathSync } from "node:fs";
import koffi from "koffi";
import type { ProgramPages } from "../runtime.ts";

/** From Linux's mman-common.h. `cold` (since 5.4) lets the file cache part with these pages before others. */
const advice = { willNeed: 3, dontNeed: 4, cold: 20 } as const;

interface Region {
  readonly start: number;
  readonly bytes: number;
}

type Madvise = (address: number, bytes: number, advice: number) => number;
let madvise: Madvise | undefined;

/** The pages of a file that the process has mapped, or undefined where the platform has no say in them. */
export function pagesOfFile(path: string, bytes: number): ProgramPages | undefined {
  if (process.platform !== "linux") return undefined;
  madvise ??= koffi.load(null).func("madvise", "int", ["uintptr_t", "size_t", "int"]) as unknown as Madvise;
  let regions: readonly Region[] | undefined;
  const advise = (kind: number) => {
    regions ??= regionsOf(realpathSync(path));
    for (const region of regions) madvise!(region.start, region.bytes, kind);
  };
  return {
    bytes,
    prefetch: () => advise(advice.willNeed),
    evict: () => {
      advise(advice.cold);
      advise(advice.dontNeed);
    },
  };
}

/** Where a file is mapped: lines `from-to permissions offset device inode path`. */
function regionsOf(path: string): Region[] {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.endsWith(` ${path}`))
    .map((line) => {
      const [from, to] = line.slice(0, line.indexOf(" ")).split("-") as [string, string];
      const start = Number.parseInt(from, 16);
      return { start, bytes: Number.parseInt(to, 16) - start };
    });
}
