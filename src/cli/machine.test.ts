import assert from "node:assert/strict";
import { test } from "node:test";
import { inspectMachine, instructionSets } from "./machine.ts";

test("instruction sets by their common names, from the kernel's list", () => {
  const x64 = "model name\t: X\nflags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_vnni\n";
  assert.deepEqual(instructionSets("linux", "x64", x64), ["SSE4.2", "AVX", "FMA", "AVX2", "AVX-512F", "AVX-512 VNNI"]);
  assert.deepEqual(instructionSets("linux", "arm64", "Features\t: fp asimd fphp asimddp i8mm\n"), [
    "NEON",
    "FP16",
    "DOTPROD",
    "I8MM",
  ]);
  assert.deepEqual(instructionSets("darwin", "arm64", undefined), ["NEON", "FP16", "DOTPROD"]);
  assert.equal(instructionSets("win32", "x64", undefined), undefined);
});

test("this machine", () => {
  const machine = inspectMachine();
  assert.ok(machine.usableProcessors >= 1 && machine.memoryBytes > 0 && machine.freeMemoryBytes > 0);
  assert.equal(machine.nodeVersion, process.versions.node);
});
