/**
 * The training step beside PyTorch's, eager and compiled, on the same weights and batch with the same threads.
 *
 *     node bench/pytorch.ts [--shapes 5m,25m,100m] [--rows 1] [--columns 512] [--threads 2] [--rounds 7]
 *                           [--python python3] [--recompute none] [--attention explicit]
 *
 * Three processes take turns, one step each; medians of the steps, ratios of neighbouring ones. Peak memory is the
 * largest resident size of each process, with and without what its libraries took before the model was made. Needs a
 * Python with torch and safetensors; losses must agree before anything is compared.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../src/checkpoint/safetensors-writer.ts";
import { configToJson } from "../src/model/config.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { machine, median } from "./report.ts";
import { batchTensors, benchBatch, benchConfig, benchStep } from "./step-fixture.ts";
import { type Peer, type StepLine, startPeer } from "./step-peer.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "5m,25m,100m" },
    rows: { type: "string", default: "1" },
    columns: { type: "string", default: "512" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
    python: { type: "string", default: "python3" },
    recompute: { type: "string", default: "none" },
    attention: { type: "string", default: "explicit" },
  },
});
const [rows, columns, threads, rounds] = [values.rows, values.columns, values.threads, values.rounds].map(Number) as [
  number,
  number,
  number,
  number,
];
const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "cpm-bench-"));
try {
  console.log(machine());
  for (const shape of values.shapes.split(",")) await compare(shape);
} finally {
  rmSync(folder, { recursive: true });
}

async function compare(shape: string): Promise<void> {
  const config = benchConfig(shape);
  const batch = benchBatch(config, rows, columns);
  const fixture = join(folder, `${shape}.safetensors`);
  const configFile = join(folder, `${shape}.json`);
  writeFileSync(configFile, JSON.stringify(configToJson(config)));
  {
    using runtime = createNativeRuntime({ threads });
    const { parameters } = await benchStep(runtime, config, batch);
    const weights = [...parameters.tensors].map(([name, tensor]) => ({
      name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      read: () => tensor.view(),
    }));
    const inputs = batchTensors(config, batch).map(({ data, ...rest }) => ({
      ...rest,
      dtype: "int32" as const,
      read: () => data,
    }));
    await writeSafetensors(fixture, [...weights, ...inputs]);
  }
  const python = [here("./peers/cpm_ant_torch.py"), fixture, configFile];
  const flags = ["--threads", String(threads), "--attention", values.attention];
  const args = [shape, rows, columns, threads, values.recompute].map(String);
  const started = [
    await startPeer("cpm-live", process.execPath, [here("./step-worker.ts"), ...args]),
    await startPeer("eager", values.python, [...python, ...flags, "--mode", "eager"]),
    await startPeer("compiled", values.python, [...python, ...flags, "--mode", "compile"]),
  ];
  const peers = started.filter((peer) => peer !== undefined);
  const steps = new Map<Peer, StepLine[]>(peers.map((peer) => [peer, []]));
  for (let round = -2; round < rounds; round++) {
    for (const peer of peers) {
      const line = await peer.step();
      if (round === -2)
        console.log(`${shape} ${peer.name}: loss ${line.loss.toFixed(5)}, |g| ${line.gradientNorm.toFixed(4)}`);
      if (round >= 0) steps.get(peer)!.push(line);
    }
  }
  for (const peer of peers) peer.stop();
  const [ours] = peers as [Peer, ...Peer[]];
  const mine = steps.get(ours)!;
  const parameters = Number(ours.about.parameters);
  console.log(
    `${shape}: ${(parameters / 1e6).toFixed(1)} M parameters, ${rows} × ${columns} tokens, ${threads} threads`,
  );
  for (const peer of peers) {
    const lines = steps.get(peer)!;
    const ms = median(lines.map((line) => line.ms));
    const ratio = median(lines.map((line, i) => line.ms / mine[i]!.ms));
    const peak = lines.at(-1)!.peakBytes;
    const own = peak - Number(peer.about.importedBytes);
    const minePeak = mine.at(-1)!.peakBytes;
    const mineOwn = minePeak - Number(ours.about.importedBytes);
    console.log(
      `  ${peer.name.padEnd(9)} ${ms.toFixed(0).padStart(6)} ms, ${((rows * columns * 1000) / ms).toFixed(0).padStart(6)} tokens/s, ` +
        `ours ${ratio.toFixed(2)} × as fast; peak ${mib(peak)} MiB (ours ${(minePeak / peak).toFixed(2)} ×), ` +
        `${mib(own)} MiB of it since the libraries were loaded (ours ${(mineOwn / own).toFixed(2)} ×)` +
        (peer.about.torch ? `; PyTorch ${peer.about.torch}` : `; ONNX Runtime ${peer.about.runtime}`),
    );
  }
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
