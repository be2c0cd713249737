/**
 * Speed of segmentation and encoding, in MB of UTF-8 a second, beside Python's jieba on the same texts:
 *
 *     node bench/tokenizer.ts [FILE …] [--megabytes 4] [--rounds 7] [--vocab FILE] [--python python3] [--json]
 *
 * FILE is plain text, one text a line, or JSON Lines with `text`, either of them gzipped too. Without one, texts are put
 * together from a small built-in stock, seeded, so that every run has the same. Rounds of the two alternate, the first
 * of each only warms up, medians are printed; words must agree, which a checksum tells. Without `--vocab` the vocabulary
 * is trained on the texts first. The peer is left out, and that is said, where Python or its jieba is not installed.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import {
  createAntTokenizer,
  createJieba,
  createVocabularyTrainer,
  readVocabulary,
  type Vocabulary,
} from "../src/tokenizer/index.ts";
import { machine, median } from "./report.ts";

const { values: args, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    megabytes: { type: "string", default: "4" },
    rounds: { type: "string", default: "7" },
    vocab: { type: "string" },
    python: { type: "string", default: "python3" },
    json: { type: "boolean", default: false },
  },
});

const loadStart = performance.now();
const jieba = createJieba();
const loadMs = performance.now() - loadStart;

const texts = limit(files.length > 0 ? files.flatMap(readTexts) : builtInTexts(), Number(args.megabytes) * 1e6);
const megabytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0) / 1e6;
const tokenizer = createAntTokenizer(args.vocab === undefined ? trained() : await readVocabulary(args.vocab));

const peer = await startPeer();
const seconds = { cut: [] as number[], encode: [] as number[], peer: [] as number[] };
const checksums = new Set<string>();
let tokens = 0;
for (let round = 0; round <= Number(args.rounds); round++) {
  let start = performance.now();
  const words = texts.map((text) => jieba.cut(text));
  const cut = (performance.now() - start) / 1000;
  checksums.add(checksum(words));
  start = performance.now();
  tokens = texts.reduce((sum, text) => sum + tokenizer.encode(text).ids.length, 0);
  const encode = (performance.now() - start) / 1000;
  const theirs = await peer?.round();
  if (theirs) checksums.add(theirs.checksum);
  if (round === 0) continue;
  seconds.cut.push(cut);
  seconds.encode.push(encode);
  if (theirs) seconds.peer.push(theirs.seconds);
}
peer?.end();

const characters = texts.reduce((sum, text) => sum + [...text].length, 0);
const result = {
  machine: machine(),
  peer: peer ? `Python ${peer.python}, jieba ${peer.jieba}` : `absent: ${args.python} with jieba was not found`,
  texts: files.length > 0 ? files.length : "built-in",
  megabytes,
  loadMs,
  cutMegabytesPerSecond: megabytes / median(seconds.cut),
  encodeMegabytesPerSecond: megabytes / median(seconds.encode),
  tokensPerCharacter: tokens / characters,
  ...(peer
    ? {
        peerLoadMs: peer.loadSeconds * 1000,
        peerCutMegabytesPerSecond: megabytes / median(seconds.peer),
        timesFaster: median(seconds.peer) / median(seconds.cut),
        wordsAgree: checksums.size === 1,
      }
    : {}),
};
if (args.json) console.log(JSON.stringify(result));
else
  for (const [name, value] of Object.entries(result))
    console.log(`${name.padEnd(26)} ${typeof value === "number" ? Number(value.toPrecision(4)) : value}`);
if (peer && checksums.size !== 1) process.exitCode = 1;

function readTexts(file: string): string[] {
  const bytes = readFileSync(file);
  const lines = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("utf8").split("\n");
  const json = lines[0]!.startsWith("{");
  return lines.filter((line) => line !== "").map((line) => (json ? (JSON.parse(line) as { text: string }).text : line));
}

/** Texts from the start until they make up so many bytes. */
function limit(all: readonly string[], bytes: number): string[] {
  const some: string[] = [];
  let sum = 0;
  for (const text of all) {
    if (sum >= bytes) break;
    some.push(text);
    sum += Buffer.byteLength(text);
  }
  return some;
}

/** Sentences of subject, place, verb and object with figures and names, by a linear congruential generator. */
function builtInTexts(): string[] {
  const slots = [
    "我们|研究人员|这位老师|隔壁的小王|上海的工程师|欧阳明远|孩子们|一支五人的小队".split("|"),
    "昨天|在实验室里|2022年8月5日|从早到晚|在杭州西湖边|趁着周末|用了3.5个小时|凌晨1点20分".split("|"),
    "训练|整理|讨论|记录|翻译|观察|修好了|第一次见到".split("|"),
    "中文语言模型|一台旧收音机|GPU-80的说明书|山谷里的桃花|v1.2.3版的程序|桌上的红烧肉|一份12.5%的折扣|窗外的鸟鸣".split(
      "|",
    ),
    "，|。|；|……|，大家都很高兴。|，于是写了一封信。|！\n|，真是意料之外。".split("|"),
  ];
  let state = 20_221_124;
  const pick = (choices: readonly string[]) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return choices[(state >>> 16) % choices.length]!;
  };
  const sentence = () => slots.map(pick).join("");
  return Array.from({ length: Math.ceil((Number(args.megabytes) * 1e6) / 1000) }, () =>
    Array.from({ length: 20 }, sentence).join(""),
  );
}

function trained(): Vocabulary {
  const trainer = createVocabularyTrainer({ size: 8192, jieba });
  for (const text of texts) trainer.add(text);
  return trainer.finish().vocabulary;
}

/** As in peers/jieba_speed.py. */
function checksum(wordsOfTexts: readonly string[][]): string {
  let value = 0x811c9dc5;
  let count = 0;
  for (const words of wordsOfTexts) {
    count += words.length;
    for (const word of words) value = Math.imul(value ^ word.length, 0x01000193) >>> 0;
  }
  return `${count}:${value.toString(16).padStart(8, "0")}`;
}

interface Peer {
  readonly python: string;
  readonly jieba: string;
  readonly loadSeconds: number;
  round(): Promise<{ seconds: number; checksum: string }>;
  end(): void;
}

/** Starts the Python process; undefined where there is no Python or no jieba for it. */
async function startPeer(): Promise<Peer | undefined> {
  const folder = mkdtempSync(join(tmpdir(), "cpm-bench-"));
  const textsFile = join(folder, "texts.json");
  writeFileSync(textsFile, JSON.stringify(texts));
  const script = fileURLToPath(new URL("./peers/jieba_speed.py", import.meta.url));
  const child = spawn(args.python, [script, textsFile], { stdio: ["pipe", "pipe", "inherit"] });
  const failed = new Promise<undefined>((resolve) => child.once("error", () => resolve(undefined)));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const line = await Promise.race([lines.next(), failed]);
    return line === undefined || line.done ? undefined : JSON.parse(line.value);
  };
  const hello = await answer();
  rmSync(folder, { recursive: true });
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
