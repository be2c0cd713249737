/**
 * A LoRA step (rank 8 on project_q and project_v) beside PEFT's on Hugging Face's cpmant, on plain and on packed bases, with
 * the same shapes and threads.
 *
 *     node bench/tune-step.ts [--shape 100m] [--rows 1] [--columns 512] [--threads 2] [--rounds 5] [--bases 32,8,4]
 *                             [--python python3]
 *
 * Processes take turns, one step each; medians of the steps, ratios of neighbouring ones. Peak memory is the largest
 * resident size of each process. Weights are random on both sides: losses are not comparable.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { configToHfJson } from "../src/model/config.ts";
import { machine, median } from "./report.ts";
import { benchConfig } from "./step-fixture.ts";
import { type Peer, type StepLine, startPeer } from "./step-peer.ts";

const { values } = parseArgs({
  options: {
    shape: { type: "string", default: "100m" },
    rows: { type: "string", default: "1" },
    columns: { type: "string", default: "512" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    bases: { type: "string", default: "32,8,4" },
    python: { type: "string", default: "python3" },
  },
});
const { shape, rows, columns, threads } = values;
const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cpm-tune-bench-"));
try {
  console.log(machine());
  const configFile = join(folder, "config.json");
  writeFileSync(configFile, JSON.stringify(configToHfJson(benchConfig(shape))));
  const ours = (bits: string) =>
    startPeer(`${bits} bits`, process.execPath, [here("./tune-step-worker.ts"), shape, rows, columns, threads, bits]);
  const peft = [here("./peers/cpm_ant_peft_step.py"), configFile, rows, columns, threads];
  const started = [await startPeer("PEFT", values.python, peft)];
  for (const bits of values.bases.split(",")) started.push(await ours(bits));
  const peers = started.filter((peer) => peer !== undefined);
  const steps = new Map<Peer, StepLine[]>(peers.map((peer) => [peer, []]));
  for (let round = -1; round < Number(values.rounds); round++) {
    for (const peer of peers) {
      const line = await peer.step();
      if (round >= 0) steps.get(peer)!.push(line);
      process.stderr.write(`round ${round}: ${peer.name} ${line.ms.toFixed(0)} ms\n`);
    }
  }
  for (const peer of peers) peer.stop();
  const [first] = peers as [Peer, ...Peer[]];
  const theirs = steps.get(first)!;
  for (const peer of peers) {
    const lines = steps.get(peer)!;
    const ms = median(lines.map((line) => line.ms));
    const ratio = median(lines.map((line, i) => theirs[i]!.ms / line.ms));
    const { peakBytes } = lines.at(-1)!;
    console.log(
      `${peer.name.padEnd(8)} ${(Number(peer.about.parameters) / 1e6).toFixed(1)} M, ${ms.toFixed(0)} ms, ` +
        `${((Number(rows) * Number(columns) * 1000) / ms).toFixed(0)} tokens/s, ${ratio.toFixed(2)} × ${first.name}; ` +
        `peak ${(peakBytes / 2 ** 20).toFixed(0)} MiB, ${(peakBytes / theirs.at(-1)!.peakBytes).toFixed(2)} × ${first.name}`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
