/** What the machine is, as far as the platform tells: for `cpm doctor`. Reads only; starts no other program. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";

export interface Machine {
  readonly platform: string;
  readonly arch: string;
  readonly nodeVersion: string;
  readonly cpuModel: string | undefined;
  /** Logical processors of the machine, and those that this process may use. */
  readonly processors: number;
  readonly usableProcessors: number;
  /** The instruction sets that matter to matrix products; undefined where the platform does not tell. */
  readonly instructionSets: readonly string[] | undefined;
  readonly memoryBytes: number;
  readonly freeMemoryBytes: number;
  /** A limit set on this process from outside (a container, a control group). */
  readonly memoryLimitBytes: number | undefined;
  /** "glibc 2.36" or "musl" on Linux. */
  readonly libc: string | undefined;
}

/** In the order that they are shown; as Linux names them in /proc/cpuinfo. */
const notableFlags: Readonly<Record<string, string>> = {
  sse4_2: "SSE4.2",
  avx: "AVX",
  fma: "FMA",
  avx2: "AVX2",
  avx512f: "AVX-512F",
  avx512bw: "AVX-512BW",
  avx512_vnni: "AVX-512 VNNI",
  avx_vnni: "AVX-VNNI",
  avx512_bf16: "AVX-512 BF16",
  avx512_fp16: "AVX-512 FP16",
  amx_int8: "AMX INT8",
  amx_bf16: "AMX BF16",
  asimd: "NEON",
  fphp: "FP16",
  asimddp: "DOTPROD",
  i8mm: "I8MM",
  bf16: "BF16",
  sve: "SVE",
};

/** Looks at this machine. */
export function inspectMachine(): Machine {
  return {
    platform: process.platform,
    arch: process.arch,
    nodeVersion: process.versions.node,
    cpuModel: cpus()[0]?.model.trim() || undefined,
    processors: cpus().length,
    usableProcessors: availableParallelism(),
    instructionSets: instructionSets(process.platform, process.arch, cpuInfo()),
    memoryBytes: totalmem(),
    freeMemoryBytes: freeMemoryBytes(),
    memoryLimitBytes: memoryLimitBytes(),
    libc: process.platform === "linux" ? libc() : undefined,
  };
}

/** A limit set on this process from outside (a container, a control group), file cache included. */
export function memoryLimitBytes(): number | undefined {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : undefined;
}

/** Memory that this process may still take. */
export function freeMemoryBytes(): number {
  return process.availableMemory?.() ?? freemem();
}

/** The instruction sets in the text of /proc/cpuinfo; where there is none, what the architecture guarantees. */
export function instructionSets(platform: string, arch: string, cpuInfo: string | undefined): string[] | undefined {
  const flags = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuInfo ?? "")?.[1]?.split(/\s+/);
  if (flags !== undefined) {
    const found = new Set(flags);
    return Object.entries(notableFlags).flatMap(([flag, name]) => (found.has(flag) ? [name] : []));
  }
  // Every 64-bit Arm has NEON; Apple's have half precision and dot products as well.
  if (arch === "arm64") return platform === "darwin" ? ["NEON", "FP16", "DOTPROD"] : ["NEON"];
  return undefined;
}

function cpuInfo(): string | undefined {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return undefined;
  }
}

function libc(): string {
  // Without this the report looks up host names, which can take seconds.
  (process.report as { excludeNetwork?: boolean }).excludeNetwork = true;
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined ? "musl" : `glibc ${header.glibcVersionRuntime}`;
}
