/**
 * One worker of a build: texts in, their prints and token ids out. Everything here is a pure function of the text and the
 * settings, so the number of workers and the order in which they finish change nothing.
 */
import { parentPort, workerData } from "node:worker_threads";
import { createAntTokenizer, parseVocabulary, type Tokenizer } from "../../tokenizer/index.ts";
import { countCodePoints } from "../../util/code-points.ts";
import { type DuplicateOptions, printsOf } from "./duplicates.ts";
import { signatureLength } from "./minhash.ts";

export interface WorkerSettings {
  /** The vocabulary file's text. */
  readonly vocabulary: string;
  readonly unknown: "drop" | "keep";
  readonly duplicates: DuplicateOptions;
}

export interface WorkerTask {
  readonly texts: readonly string[];
  /** Without it only prints are made: the documents are in a shard already. */
  readonly tokenize: boolean;
}

/** Arrays of all texts one after the other. */
export interface WorkerResult {
  readonly ids: Int32Array;
  readonly idCounts: Uint32Array;
  readonly unknownCounts: Uint32Array;
  readonly characters: Uint32Array;
  readonly hashes: BigUint64Array;
  readonly paragraphs: Float64Array;
  readonly paragraphCounts: Uint32Array;
  /** A text without a signature has zeros, and 0 in `signed`. */
  readonly signatures: Uint16Array;
  readonly signed: Uint8Array;
}

/** What the worker does with one task. */
export function createTextWork({
  vocabulary,
  unknown,
  duplicates,
}: WorkerSettings): (task: WorkerTask) => WorkerResult {
  let tokenizer: Tokenizer | undefined;
  return ({ texts, tokenize }) => {
    const count = texts.length;
    const result = {
      idCounts: new Uint32Array(count),
      unknownCounts: new Uint32Array(count),
      characters: new Uint32Array(count),
      hashes: new BigUint64Array(count),
      paragraphCounts: new Uint32Array(count),
      signatures: new Uint16Array(count * signatureLength),
      signed: new Uint8Array(count),
    };
    const ids: Int32Array[] = [];
    const paragraphs: Float64Array[] = [];
    for (const [i, text] of texts.entries()) {
      const prints = printsOf(text, duplicates);
      result.hashes[i] = prints.hash;
      result.paragraphCounts[i] = prints.paragraphs.length;
      paragraphs.push(prints.paragraphs);
      if (prints.signature.length > 0) {
        result.signatures.set(prints.signature, i * signatureLength);
        result.signed[i] = 1;
      }
      result.characters[i] = countCodePoints(text);
      if (!tokenize) continue;
      tokenizer ??= createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabulary)));
      const encoding = tokenizer.encode(text, { unknown });
      ids.push(encoding.ids);
      result.idCounts[i] = encoding.ids.length;
      result.unknownCounts[i] = encoding.unknownCount;
    }
    return { ...result, ids: joined(ids, Int32Array), paragraphs: joined(paragraphs, Float64Array) };
  };
}

function joined<A extends Int32Array | Float64Array>(parts: readonly A[], type: new (length: number) => A): A {
  const all = new type(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

if (parentPort && (workerData as { textWorker?: unknown } | null)?.textWorker === true) {
  const port = parentPort;
  const work = createTextWork((workerData as { settings: WorkerSettings }).settings);
  port.on("message", ({ id, task }: { id: number; task: WorkerTask }) => {
    const result = work(task);
    const buffers = Object.values(result).map((array: ArrayBufferView) => array.buffer as ArrayBuffer);
    port.postMessage({ id, result }, buffers);
  });
}
