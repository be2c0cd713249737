/**
 * A LoRA step (rank 8 on project_q and project_v) beside PyTorch with PEFT on Hugging Face's `cpmant`: the same weights,
 * factors, batch and threads; here with a base of float32, of 8 bits, and of 8 bits multiplied in whole numbers.
 *
 *     node bench/lora.ts [--shape 100m] [--rows 1] [--columns 512] [--threads 2] [--rounds 7] [--python python3]
 *                        [--recompute none] [--logits all,targets]
 *
 * Processes take turns, one step each; medians of the steps, ratios of neighbouring ones, by the clock and by processor
 * time. Where other programs want the processor, PyTorch's threads wait for each other: `--threads 1` is fair there. Memory
 * is each process's largest resident size. `--logits targets` lets PEFT compute scores only for the half of a row that is
 * predicted (`logits_to_keep`), as is done here; `all` is its ordinary call with labels. Losses of the first step and of the
 * last must agree, or it ends with an error.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parameterCount } from "../src/model/parameters.ts";
import { learningRate, writeLoraFixture } from "./lora-fixture.ts";
import { machine, median } from "./report.ts";
import { benchConfig } from "./step-fixture.ts";
import { type Side, startSide } from "./worker-side.ts";

const { values } = parseArgs({
  options: {
    shape: { type: "string", default: "100m" },
    rows: { type: "string", default: "1" },
    columns: { type: "string", default: "512" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
    python: { type: "string", default: "python3" },
    recompute: { type: "string", default: "none" },
    logits: { type: "string", default: "all,targets" },
  },
});
const [rows, columns, rounds] = [values.rows, values.columns, values.rounds].map(Number) as [number, number, number];
/** Relative; of 8 bits the weights are others. */
const closest = 1e-3;
const warmups = 1;

interface StepLine {
  readonly ms: number;
  /** Of all threads: it tells more where other processes want the processor too. */
  readonly processorMs: number;
  readonly loss: number;
  readonly peakBytes: number;
}

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cpm-lora-"));
const sides: Side[] = [];
try {
  await compare();
} finally {
  for (const side of sides) side.end();
  rmSync(folder, { recursive: true });
}

async function compare(): Promise<void> {
  console.log(machine());
  const config = benchConfig(values.shape);
  const fixture = await writeLoraFixture(folder, config, rows, columns);
  const ours = (base: string, products = "float32") => [
    ...[here("./lora-worker.ts"), base, fixture.adapter, fixture.batch, values.threads, values.recompute, products],
  ];
  const theirs = (logits: string) => [
    ...[here("./peers/cpm_ant_lora.py"), fixture.exported, fixture.adapter, fixture.batch],
    ...["--threads", values.threads, "--rate", String(learningRate), "--logits", logits],
  ];
  const start = async (name: string, command: string, words: readonly string[]) => {
    const side = await startSide(name, command, words);
    sides.push(side);
    return side;
  };
  const float = await start("here, float32", process.execPath, ours(fixture.base));
  const packed = await start("here, int8", process.execPath, ours(fixture.int8));
  const whole = await start("here, int8 products", process.execPath, ours(fixture.int8, "int8"));
  const peers: Side[] = [];
  for (const logits of values.logits.split(","))
    peers.push(await start(`PEFT, logits ${logits}`, values.python, theirs(logits)));
  const steps = new Map<Side, StepLine[]>(sides.map((side) => [side, []]));
  for (let round = 0; round < warmups + rounds; round++) {
    for (const side of sides) steps.get(side)!.push((await side.ask("step")) as unknown as StepLine);
  }
  const { peft, torch, transformers } = peers[0]!.hello;
  console.log(
    `${values.shape}: ${(parameterCount(config) / 1e6).toFixed(1)} M parameters, ${float.hello.trained} trained, ` +
      `${rows} × ${columns} tokens, ${values.threads} threads; PEFT ${peft}, Transformers ${transformers}, ` +
      `PyTorch ${torch}; ONNX Runtime ${float.hello.runtime}`,
  );
  for (const side of sides) show(side, steps, [float, packed, whole]);
  const losses = (side: Side) => [steps.get(side)![0]!.loss, steps.get(side)!.at(-1)!.loss];
  for (const peer of peers) {
    for (const [i, loss] of losses(peer).entries()) {
      const own = losses(float)[i]!;
      if (Math.abs(own / loss - 1) > closest) throw new Error(`${peer.name}: loss ${loss}, here ${own}`);
    }
  }
}

function show(side: Side, steps: ReadonlyMap<Side, readonly StepLine[]>, ours: readonly Side[]): void {
  const all = steps.get(side)!;
  const timed = (of: Side) => steps.get(of)!.slice(warmups);
  const ms = median(timed(side).map((line) => line.ms));
  const processorMs = median(timed(side).map((line) => line.processorMs));
  const peak = all.at(-1)!.peakBytes;
  const { importedBytes, readyBytes } = side.hello as { readonly importedBytes: number; readonly readyBytes: number };
  const own = peak - importedBytes;
  const ratios = ours.includes(side)
    ? []
    : ours.map((our) => {
        const speed = median(timed(side).map((line, i) => line.ms / timed(our)[i]!.ms));
        const work = median(timed(side).map((line, i) => line.processorMs / timed(our)[i]!.processorMs));
        const ourPeak = steps.get(our)!.at(-1)!.peakBytes;
        const ourOwn = ourPeak - Number(our.hello.importedBytes);
        return (
          `\n    ${our.name}: ${speed.toFixed(2)} × tokens/s, ${work.toFixed(2)} × by processor time; ${(ourPeak / peak).toFixed(2)} × peak, ` +
          `${(ourOwn / own).toFixed(2)} × of it since the libraries were loaded`
        );
      });
  console.log(
    `  ${side.name.padEnd(20)} ${ms.toFixed(0).padStart(6)} ms, ${((rows * columns * 1000) / ms).toFixed(0).padStart(5)} tokens/s, ${processorMs.toFixed(0)} ms of processor time; ` +
      `peak ${mib(peak)} MiB: libraries ${mib(importedBytes)}, before the first step ${mib(readyBytes)}; ` +
      `loss ${all[0]!.loss.toFixed(5)} → ${all.at(-1)!.loss.toFixed(5)}${ratios.join("")}`,
  );
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
