/**
 * The memory that `cpm plan` predicts beside what a process takes: a few steps of each shape in a process of its own.
 *
 *     node bench/memory.ts [--only mini]
 *
 * Predicted is the plan's total; measured the growth of the largest resident size (VmHWM) from before the runtime is
 * opened to after four updates. Every row must agree within 15 %.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { planMemory } from "../src/train/memory-plan.ts";
import { machine } from "./report.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const { values, positionals } = parseArgs({
  options: { only: { type: "string", default: "" } },
  allowPositionals: true,
});
const cases = [
  "tiny 8 128 none",
  "tiny 8 128 block",
  "5m 1 512 none",
  "25m 1 512 none",
  "mini 4 256 none",
  "mini 4 256 block",
  "mini 8 512 none",
  "mini 8 512 block",
  "100m 1 512 none",
  "100m 2 512 block",
];

/** The process's largest resident size so far. */
function peakResidentBytes(): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}

async function measure([shape, rows, columns, recompute]: string[]): Promise<void> {
  const config = benchConfig(shape!);
  const batch = benchBatch(config, Number(rows), Number(columns));
  const before = peakResidentBytes();
  const runtime = createNativeRuntime({ threads: 2, spin: false });
  const { update } = await benchStep(runtime, config, batch, recompute as "none" | "block");
  for (let i = 0; i < 4; i++) await update();
  console.log(JSON.stringify({ peak: peakResidentBytes() - before, tensors: runtime.memory().tensorBytes }));
  process.exit(0);
}

if (positionals.length > 0) await measure(positionals);
console.log(machine());
for (const name of cases.filter((each) => each.includes(values.only))) {
  const [shape, rows, columns, recompute] = name.split(" ") as [string, string, string, "none" | "block"];
  const geometry = { rows: Number(rows), columns: Number(columns) };
  const targets = (geometry.rows * geometry.columns) / 2;
  const plan = await planMemory(benchConfig(shape), { ...geometry, recompute, targets });
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...name.split(" ")], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { peak, tensors } = JSON.parse(child.stdout) as { peak: number; tensors: number };
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0).padStart(6);
  const off = (100 * (plan.totalBytes - peak)) / peak;
  const exact = Math.abs(plan.tensorBytes - tensors) < 4096 ? "exact" : `${plan.tensorBytes - tensors} B off`;
  console.log(
    `${name.padEnd(20)} predicted ${mib(plan.totalBytes)} MiB, measured ${mib(peak)} MiB, ${off.toFixed(1).padStart(6)} %; tensors ${mib(tensors)} MiB (${exact}), workspace ${mib(plan.bytes.workspace)} MiB`,
  );
}
