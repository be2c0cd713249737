/**
 * How fast `cpm data build` makes a data set out of text, beside the original's tokeniser in Python:
 *
 *     node bench/data-build.ts PATH… [--workers 2] [--rounds 3] [--vocab FILE] [--sample 4] [--python python3] [--json]
 *
 * A build reads, unpacks, normalises, filters, compares, tokenises and writes checksummed shards; the peer only tokenises
 * a sample of the same texts (every n-th document, `--sample` megabytes), already unpacked and in memory. Rounds of the
 * two alternate; medians are printed. "Per core" is megabytes for each second of processor time, which other work on the
 * machine disturbs less than the clock; both are given. Without `--vocab` one is trained first, which is not counted. Tokens
 * of the sample must be the same in number.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildDataset, buildOptionsSchema, expandPaths, readDocuments } from "../src/data/index.ts";
import { createAntTokenizer, createVocabularyTrainer, parseVocabulary } from "../src/tokenizer/index.ts";
import { machine, median } from "./report.ts";

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    workers: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" },
    vocab: { type: "string" },
    sample: { type: "string", default: "4" },
    python: { type: "string", default: "python3" },
    json: { type: "boolean", default: false },
  },
});
const workers = Number(args.workers);
const files = await expandPaths(positionals.length > 0 ? positionals : ["corpus/"]);

let bytes = 0;
for await (const { text } of readDocuments(files)) bytes += Buffer.byteLength(text);
const vocabulary = args.vocab === undefined ? await trained() : await readFile(args.vocab, "utf8");
const folder = mkdtempSync(join(tmpdir(), "cpm-bench-build-"));
const sample = await sampleTexts();
const sampleBytes = sample.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabulary)));
const peer = await startPeer();

const builds: { seconds: number; cpuSeconds: number }[] = [];
const encodes: number[] = [];
const theirs: { seconds: number; cpuSeconds: number; tokens: number }[] = [];
let statistics: Awaited<ReturnType<typeof buildDataset>>["statistics"] | undefined;
let sampleTokens = 0;
for (let round = 0; round < Number(args.rounds); round++) {
  const output = join(folder, `round-${round}`);
  const cpu = process.cpuUsage();
  const start = performance.now();
  const sources = files.map((path, i) => ({ name: `source-${i}`, paths: [path] }));
  const options = buildOptionsSchema.parse({});
  ({ statistics } = await buildDataset({ sources, output, vocabulary, options, workers }));
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  builds.push({ seconds, cpuSeconds: (used.user + used.system) / 1e6 });
  rmSync(output, { recursive: true });
  const answer = await peer?.round();
  if (answer) theirs.push(answer);
  const before = process.cpuUsage();
  sampleTokens = sample.reduce((sum, text) => sum + tokenizer.encode(text).ids.length, 0);
  const encoded = process.cpuUsage(before);
  encodes.push((encoded.user + encoded.system) / 1e6);
}
peer?.end();
rmSync(folder, { recursive: true });

const megabytes = bytes / 1e6;
const seconds = median(builds.map((build) => build.seconds));
const cpuSeconds = median(builds.map((build) => build.cpuSeconds));
const ours = megabytes / cpuSeconds;
const result = {
  machine: machine(),
  peer: peer ? `Python ${peer.python}, jieba ${peer.jieba}` : `absent: ${args.python} with jieba was not found`,
  files: files.length,
  workers,
  megabytes,
  documents: statistics!.documents,
  tokens: statistics!.tokens,
  seconds,
  cpuSeconds,
  megabytesPerSecond: megabytes / seconds,
  tokensPerSecond: statistics!.tokens / seconds,
  megabytesPerCoreSecond: ours,
  tokensPerCoreSecond: statistics!.tokens / cpuSeconds,
  tokenizerAloneMegabytesPerCoreSecond: sampleBytes / 1e6 / median(encodes),
  ...(theirs.length > 0
    ? {
        peerSampleMegabytes: sampleBytes / 1e6,
        peerMegabytesPerCoreSecond: sampleBytes / 1e6 / median(theirs.map((round) => round.cpuSeconds)),
        timesPerCore: ours / (sampleBytes / 1e6 / median(theirs.map((round) => round.cpuSeconds))),
        tokensAgree: theirs.every(({ tokens }) => tokens === sampleTokens),
      }
    : {}),
};
if (args.json) console.log(JSON.stringify(result));
else {
  for (const [name, value] of Object.entries(result))
    console.log(`${name.padEnd(37)} ${typeof value === "number" ? Number(value.toPrecision(4)) : value}`);
}

async function trained(): Promise<string> {
  const trainer = createVocabularyTrainer({ size: 8192 });
  let taken = 0;
  for await (const { text } of readDocuments(files)) {
    trainer.add(text);
    taken += text.length;
    if (taken > 10_000_000) break;
  }
  return trainer.finish().text;
}

/** Documents evenly over all files. */
async function sampleTexts(): Promise<string[]> {
  const wanted = Number(args.sample) * 1e6;
  const share = Math.min(1, wanted / bytes);
  const texts: string[] = [];
  let owed = 0;
  for await (const { text } of readDocuments(files)) {
    owed += Buffer.byteLength(text) * share;
    if (owed < Buffer.byteLength(text)) continue;
    texts.push(text);
    owed -= Buffer.byteLength(text);
  }
  return texts;
}

interface Peer {
  readonly python: string;
  readonly jieba: string;
  round(): Promise<{ seconds: number; cpuSeconds: number; tokens: number }>;
  end(): void;
}

/** Undefined where there is no Python or no jieba for it. */
async function startPeer(): Promise<Peer | undefined> {
  const textsFile = join(folder, "texts.jsonl");
  const vocabularyPath = join(folder, "vocab.txt");
  writeFileSync(textsFile, sample.map((text) => JSON.stringify({ text })).join("\n"));
  writeFileSync(vocabularyPath, vocabulary);
  const script = fileURLToPath(new URL("./peers/ant_tokenizer_speed.py", import.meta.url));
  const child = spawn(args.python, [script, textsFile, vocabularyPath], { stdio: ["pipe", "pipe", "inherit"] });
  const failed = new Promise<undefined>((resolve) => child.once("error", () => resolve(undefined)));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const line = await Promise.race([lines.next(), failed]);
    return line === undefined || line.done ? undefined : JSON.parse(line.value);
  };
  const hello = await answer();
  if (hello === undefined || "missing" in hello) return undefined;
  return {
    ...hello,
    async round() {
      child.stdin.write("\n");
      const round = await answer();
      if (round === undefined) throw new Error("internal: the Python peer ended early");
      return round;
    },
    end: () => child.stdin.end(),
  };
}
