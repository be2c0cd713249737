/** What every benchmark prints: the machine, the versions, and medians. */
import { cpus, loadavg } from "node:os";
import type { RuntimeInfo } from "../src/runtime/index.ts";

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One line: processor, cores, load, Node and runtime versions. */
export function machine(info?: RuntimeInfo): string {
  const [cpu] = cpus();
  const parts = [
    `${cpu?.model.trim()}, ${cpus().length} cores, load ${loadavg()[0]!.toFixed(1)}`,
    `Node ${process.versions.node}`,
  ];
  if (info) parts.push(`ONNX Runtime ${info.version}, ${info.threads} threads, ${info.provider}`);
  return parts.join("; ");
}
