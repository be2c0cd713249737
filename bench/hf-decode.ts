/**
 * Decoding with packed weights beside Hugging Face's CpmAnt in PyTorch with the same weights in float32.
 *
 *     node bench/hf-decode.ts --python PATH/python [--layers 16] [--dim 1024] [--bits 4] [--rounds 5] [--threads 2]
 *
 * One model of random weights is written in both forms; both sides run in processes of their own, in turns.
 */
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint, saveCheckpoint } from "../src/checkpoint/index.ts";
import { quantizeCheckpoint, randomTensors } from "../src/compress/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterCount } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { machine, median } from "./report.ts";
import { startSide } from "./worker-side.ts";

const { values } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    layers: { type: "string", default: "16" },
    dim: { type: "string", default: "1024" },
    bits: { type: "string", default: "4" },
    rounds: { type: "string", default: "5" },
    tokens: { type: "string", default: "24" },
    threads: { type: "string", default: "2" },
    scratch: { type: "string", default: join(tmpdir(), "cpm-hf-decode") },
  },
});
const dim = Number(values.dim);
const config: ModelConfig = {
  ...preset("10b"),
  half: false,
  layers: Number(values.layers),
  dimModel: dim,
  dimFf: Math.round((dim * 2.75) / 128) * 128,
  heads: dim / 128,
  dimHead: 128,
};
const bits = Number(values.bits) as 4 | 8;
const at = (name: string) => join(values.scratch, `${values.layers}x${values.dim}-${name}`);
mkdirSync(values.scratch, { recursive: true });
if (!existsSync(at("hf"))) {
  await saveCheckpoint(at("live"), config, randomTensors(config, { seed: 1 }), { overwrite: true });
  await using live = await openCheckpoint(at("live"));
  const tensors = live.names().map((name) => live.tensor(name));
  await saveCheckpoint(at("hf"), config, tensors, { layout: "hf-cpmant", dtype: "float32" });
}
if (!existsSync(at(`int${bits}`))) {
  await using live = await openCheckpoint(at("live"));
  const options = { bits, group: 128, symmetric: true, embedding: true } as const;
  await saveCheckpoint(at(`int${bits}`), config, quantizeCheckpoint(live, options));
}

const peer = join(import.meta.dirname, "peers", "cpm_ant_hf_decode.py");
const worker = join(import.meta.dirname, "small-hardware-worker.ts");
const sides = [
  await startSide("cpm-live", process.execPath, [worker, at(`int${bits}`), values.threads]),
  await startSide("transformers", values.python, [peer, at("hf"), values.threads]),
];
console.log(machine());
console.log(
  `${(parameterCount(config) / 1e6).toFixed(0)} M parameters: int${bits} in groups of 128 beside float32 in transformers ${sides[1]!.hello.transformers}, PyTorch ${sides[1]!.hello.torch}`,
);
const times = sides.map((): number[] => []);
for (let round = 0; round <= Number(values.rounds); round++) {
  for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) {
    const { ms } = await sides[i]!.ask(`decode ${values.tokens}`);
    if (round > 0) times[i]!.push(ms);
  }
}
const [ours, theirs] = times.map(median) as [number, number];
const pairs = times[0]!.map((ms, i) => times[1]![i]! / ms);
console.log(
  `a token: ${ours.toFixed(1)} ms and ${theirs.toFixed(1)} ms: ${(theirs / ours).toFixed(2)} × by medians, ${median(pairs).toFixed(2)} × by neighbouring pairs (bar 4)`,
);
for (const side of sides) side.end();
