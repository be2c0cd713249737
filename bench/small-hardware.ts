/**
 * Packed models on a processor: tokens a second and prefill, beside llama.cpp on matrices of the same shapes, and beside
 * what the memory gives.
 *
 *     node bench/small-hardware.ts --peer FOLDER/node_modules/node-llama-cpp [--shape 1b|3b] [--bits 4,8] [--rounds 5]
 *                                  [--groups 128,channel] [--threads 2] [--scratch FOLDER]
 *
 * Both sides run in processes of their own, in turns; medians of rounds. Shapes are homogeneous (llama.cpp has no layers
 * without attention): `1b` is 18 × 2048 with 5632 in the feed-forward layers, `3b` 36 × 2560 with 6912, vocabulary 30,720.
 * `--groups` says for each of the bits how many inputs share a scale. The limit of the memory is a sum over as many bytes as a
 * token touches, by the same number of threads.
 */
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint, saveCheckpoint } from "../src/checkpoint/index.ts";
import { randomTensors } from "../src/compress/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { ggufBytes, writeRandomGguf } from "./random-gguf.ts";
import { readRate } from "./read-rate.ts";
import { machine, median } from "./report.ts";
import { startSide } from "./worker-side.ts";

const { values } = parseArgs({
  options: {
    peer: { type: "string" },
    shape: { type: "string", default: "1b" },
    bits: { type: "string", default: "4,8" },
    rounds: { type: "string", default: "5" },
    tokens: { type: "string", default: "24" },
    groups: { type: "string", default: "128,channel" },
    threads: { type: "string", default: "2" },
    scratch: { type: "string", default: join(tmpdir(), "cpm-small-hardware") },
  },
});
const threads = Number(values.threads);
const shapes = {
  tiny: { layers: 4, dimModel: 512, heads: 4, dimFf: 1408 },
  "1b": { layers: 18, dimModel: 2048, heads: 16, dimFf: 5632 },
  "3b": { layers: 36, dimModel: 2560, heads: 20, dimFf: 6912 },
} as const;
const shape = shapes[values.shape as keyof typeof shapes];
const config: ModelConfig = { ...preset("10b"), ...shape, dimHead: 128, vocabSize: 30720 };
mkdirSync(values.scratch, { recursive: true });

console.log(machine());
const groups = values.groups.split(",");
for (const [i, bits] of (values.bits.split(",").map(Number) as (4 | 8)[]).entries()) {
  const named = groups.length === 1 ? groups[0] : groups[i];
  const group = named === "channel" ? named : Number(named);
  const folder = join(values.scratch, `${values.shape}-${bits}-${group}`);
  if (!existsSync(folder)) {
    await saveCheckpoint(folder, config, randomTensors(config, { seed: 1, packed: { bits, group } }));
  }
  await using checkpoint = await openCheckpoint(folder);
  const touched = checkpoint
    .names()
    .map((name) => checkpoint.tensor(name).packed)
    .filter((packed) => packed !== undefined)
    .reduce((sum, { packed, scales }) => {
      const count = (numbers: readonly number[]) => numbers.reduce((a, b) => a * b, 1);
      return sum + count(packed.shape) + 4 * count(scales.shape);
    }, 0);
  const weights = parameterCount(config);
  console.log(
    `${values.shape}: ${(weights / 1e9).toFixed(2)} G parameters, int${bits}, ${group === "channel" ? "one scale an output" : `groups of ${group}`}, ${((8 * touched) / weights).toFixed(2)} bits a weight, ${(touched / 1e9).toFixed(2)} GB a token`,
  );
  const ours = await startSide("cpm-live", process.execPath, [
    join(import.meta.dirname, "small-hardware-worker.ts"),
    folder,
    values.threads,
  ]);
  const sides = [ours];
  if (values.peer !== undefined) {
    const gguf = join(values.scratch, `${values.shape}-q${bits}.gguf`);
    if (!existsSync(gguf)) writeRandomGguf(gguf, { ...shape, vocabSize: 30720, context: 1024 }, bits);
    const worker = join(import.meta.dirname, "peers", "llama-worker.js");
    sides.push(await startSide("llama.cpp", process.execPath, [worker, values.peer, gguf, values.threads]));
    console.log(`llama.cpp: Q${bits}_0, ${((8 * ggufBytes(32, bits)) / 32).toFixed(2)} bits a weight`);
  }
  const times = new Map<string, number[]>();
  const rates: number[] = [];
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      for (const line of [`decode ${values.tokens}`, "prefill 512"]) {
        const { ms } = await side.ask(line);
        const key = `${side.name} ${line.split(" ")[0]}`;
        if (round > 0) times.set(key, [...(times.get(key) ?? []), ms]);
      }
    }
    if (round > 0) rates.push(await readRate(touched, threads));
  }
  const of = (name: string) => median([...(times.get(name) ?? [])]);
  const decode = of("cpm-live decode");
  const rate = median([...rates]);
  console.log(`  decode   ${decode.toFixed(1)} ms, ${(1000 / decode).toFixed(1)} tokens/s`);
  console.log(
    `  memory   ${rate.toFixed(1)} GB/s read by ${threads} threads; a token reads ${(touched / decode / 1e6).toFixed(1)} GB/s: ${(touched / decode / 1e6 / rate).toFixed(2)} of it`,
  );
  console.log(`  prefill  512 tokens in ${of("cpm-live prefill").toFixed(0)} ms`);
  if (sides.length > 1) {
    const ratio = (what: string) => {
      const pairs = times.get(`cpm-live ${what}`)!.map((ms, i) => times.get(`llama.cpp ${what}`)![i]! / ms);
      return `${(of(`llama.cpp ${what}`) / of(`cpm-live ${what}`)).toFixed(2)} × by medians, ${median(pairs).toFixed(2)} × by neighbouring pairs`;
    };
    console.log(
      `  llama.cpp: decode ${of("llama.cpp decode").toFixed(1)} ms, prefill ${of("llama.cpp prefill").toFixed(0)} ms`,
    );
    console.log(`  beside llama.cpp: decode ${ratio("decode")}; prefill ${ratio("prefill")}`);
  }
  for (const side of sides) side.end();
}
