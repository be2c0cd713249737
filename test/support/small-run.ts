/** A data set and a recorded run that take seconds: for tests that stop, break and resume real processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildDataset } from "../../src/data/build/build-dataset.ts";
import { buildOptionsSchema } from "../../src/data/build/build-options.ts";
import { trainVocabulary } from "../../src/tokenizer/index.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const command = join(root, "bin", "cpm.js");
const corpus = join(root, "corpus");

/** A data set of the text that comes along, below `parent`. */
export async function smallDataset(parent: string): Promise<string> {
  const output = join(parent, "data");
  const names = ["gushi", "kepu", "shenghuo"];
  const texts = names.map((name) => readFileSync(join(corpus, `${name}.txt`), "utf8"));
  const vocabulary = (await trainVocabulary(texts, { size: 600 })).text;
  await buildDataset({
    sources: names.map((name) => ({ name, paths: [join(corpus, `${name}.txt`)] })),
    output,
    vocabulary,
    options: buildOptionsSchema.parse({ filters: { minHanShare: 0 } }),
    workers: 0,
  });
  return output;
}

/** The words of `cpm train` for a run of a tiny model. */
export function smallRun(data: string, run: string, steps: number, changes: readonly string[] = []): string[] {
  const settings = [
    "model.layers=2",
    "model.dimModel=48",
    "model.dimFf=64",
    "model.heads=2",
    "model.dimHead=24",
    "evaluatePieces=1",
    "every.validation=10",
    "every.samples=0",
    "every.parameters=0",
    "every.checkpoint=5",
    "heldOutShare=0.1",
    "guard.lossFactor=0",
    ...changes,
  ];
  const words = [
    "train",
    "--data",
    data,
    "--run",
    run,
    "--steps",
    String(steps),
    "--rows",
    "2",
    "--length",
    "64",
    "--lang",
    "en",
  ];
  return [...words, ...settings.flatMap((setting) => ["--set", setting])];
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** Starts `cpm` as a process of its own; `wrapper` are words before it, as of `prlimit`. */
export function startCpm(
  words: readonly string[],
  wrapper: readonly string[] = [],
): { child: ChildProcess; ended: Promise<Ended> } {
  const [program, ...rest] = [...wrapper, process.execPath, command, ...words] as [string, ...string[]];
  const child = spawn(program, rest, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stderr }));
  });
  return { child, ended };
}

/** Runs `cpm` to its end. */
export const runCpm = (words: readonly string[], wrapper: readonly string[] = []) => startCpm(words, wrapper).ended;

/** The bytes that must be the same after any number of interruptions. */
export function finalWeights(run: string, steps: number): Buffer {
  const folder = join(run, "checkpoints", `step-${String(steps).padStart(8, "0")}`);
  return Buffer.concat(["model.safetensors", "optimizer.safetensors"].map((name) => readFileSync(join(folder, name))));
}
