/** This kit's side of bench/small-hardware.ts: a packed model, one measurement for each line on standard input. */
import { createInterface } from "node:readline";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { argmax, createCpmAntSession, loadWeights } from "../src/infer/index.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { median } from "./report.ts";

const [folder, threads] = process.argv.slice(2) as [string, string];
const runtime = createNativeRuntime({ threads: Number(threads) });
await using checkpoint = await openCheckpoint(folder);
const { tensors } = await loadWeights(runtime, checkpoint);
const session = await createCpmAntSession(runtime, checkpoint.config, tensors, { capacityTokens: 640 });
const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: true });
const { promptLength } = checkpoint.config;
for await (const line of createInterface({ input: process.stdin })) {
  const [what, count] = line.split(" ") as [string, string];
  const n = Number(count);
  // The soft prompt counts among the columns.
  const length = what === "prefill" ? n - promptLength : 32;
  const began = performance.now();
  let logits = await session.prefill([Array.from({ length }, (_, i) => 100 + ((i * 37) % 900))]);
  if (what === "prefill") {
    say({ ms: performance.now() - began });
    continue;
  }
  const times: number[] = [];
  for (let i = 0; i < n; i++) {
    const start = performance.now();
    logits = await session.step(Int32Array.of(argmax(logits)));
    times.push(performance.now() - start);
  }
  say({ ms: median(times) });
}
process.exit(0);
