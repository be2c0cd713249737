/**
 * Ten billion parameters on this machine: tokens a second and peak resident memory under limits.
 *
 *     node bench/ten-billion.ts [--folder FOLDER] [--precision int4] [--limits none,4GiB,2GiB] [--group 6000000000]
 *                               [--tokens 24] [--threads 2] [--rounds 1]
 *
 * The model (random weights, 4.7 GiB at int4) is made on first use, and so is the cache of its programs (about 10 GB); both
 * stay in the folder. Each limit is a process of `cpm generate --memory`; `--group` puts each into a control group of that
 * many bytes as well, where one may be made (Linux, as root): there the file cache counts. What the memory gives is a sum
 * over as many bytes as a token touches, split in two parts of at most a gigabyte.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint } from "../src/checkpoint/index.ts";
import { readRate } from "./read-rate.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    folder: { type: "string", default: join(tmpdir(), "cpm-ten-billion") },
    precision: { type: "string", default: "int4" },
    limits: { type: "string", default: "none,4GiB,2GiB" },
    group: { type: "string" },
    tokens: { type: "string", default: "24" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "1" },
  },
});
const cpm = join(import.meta.dirname, "..", "bin", "cpm.js");
const model = join(values.folder, `10b-${values.precision}`);
mkdirSync(values.folder, { recursive: true });

/** Runs `cpm` with these words, in a control group if there is one. */
function run(words: readonly string[], procs?: string): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, CPM_LIVE_CACHE: join(values.folder, "cache"), CPM_LANG: "en" };
  const command = procs === undefined ? 'exec "$@"' : `echo $$ > '${procs}' && exec "$@"`;
  const child = spawn("sh", ["-c", command, "sh", process.execPath, cpm, ...words], { env });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (text) => {
    output.stdout += text;
  });
  child.stderr.on("data", (text) => {
    output.stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on("close", (code) => (code === 0 ? resolve(output) : reject(new Error(output.stderr))));
  });
}

/** A control group of so many bytes, in either version's layout; undefined where none may be made. */
function controlGroup(bytes: number): { readonly procs: string; remove(): void } | undefined {
  for (const [root, limit] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
    ["/sys/fs/cgroup", "memory.max"],
  ] as const) {
    const group = join(root, "cpm-ten-billion");
    try {
      mkdirSync(group, { recursive: true });
      writeFileSync(join(group, limit), String(bytes));
      return { procs: join(group, "cgroup.procs"), remove: () => rmdirSync(group) };
    } catch {
      // The other version's layout, or no right to make one.
    }
  }
  return undefined;
}

if (!existsSync(model)) await run(["init", model, "--preset", "10b", "--precision", values.precision]);
const bytes = readdirSync(model).reduce((sum, name) => sum + statSync(join(model, name)).size, 0);
await using checkpoint = await openCheckpoint(model);
const touched = checkpoint
  .names()
  .flatMap((name) => checkpoint.tensor(name).packed ?? [])
  .flatMap(({ packed, scales }) => [packed, scales])
  .reduce((sum, { shape, dtype }) => sum + shape.reduce((a, b) => a * b, 1) * (dtype === "uint8" ? 1 : 4), 0);
const group = values.group === undefined ? undefined : controlGroup(Number(values.group));
console.log(machine());
console.log(
  `10b, ${values.precision}: ${(bytes / 2 ** 30).toFixed(2)} GiB on disk, ${(touched / 1e9).toFixed(2)} GB a token`,
);
if (values.group !== undefined && group === undefined) console.log("no control group may be made here: without one");
const prompt = ["generate", model, "春天来了，", "--mode", "greedy", "--json", "--threads", values.threads];
// The first run makes the cache.
await run([...prompt, "--max-tokens", "1"]);
for (const limit of values.limits.split(",")) {
  const rates: number[] = [];
  const peaks: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const words = [...prompt, "--max-tokens", values.tokens, ...(limit === "none" ? [] : ["--memory", limit])];
    const { stdout } = await run(words, group?.procs);
    const { timing, usage, peakResidentBytes } = JSON.parse(stdout.trim().split("\n")[0]!);
    rates.push((1000 * (usage.generatedTokens - 1)) / timing.stepMs);
    peaks.push(peakResidentBytes);
  }
  const memory = await readRate(Math.min(touched, 1e9), Number(values.threads));
  const used = (median(rates) * touched) / 1e9;
  console.log(
    `  limit ${limit}: ${median(rates).toFixed(2)} tokens/s, peak resident ${(median(peaks) / 2 ** 30).toFixed(2)} GiB; weights at ${used.toFixed(1)} GB/s, ${(used / memory).toFixed(2)} of the ${memory.toFixed(1)} that memory gives`,
  );
}
group?.remove();
