/**
 * jieba's dictionary and hidden Markov model, read from `data/jieba-0.42.1.bin.gz` (MIT licence, see beside it).
 *
 * `tools/jieba-data.py` writes that file from the Python package and documents its layout. It holds every logarithm as
 * the double that Python computes, so that equal sums stay equal whatever `Math.log` of the engine at hand gives (V8's
 * differs in the last bit for 77 of 5,087 frequencies; on 32 MB of text that changed no word, but nothing promises it).
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { DataError } from "../util/error.ts";
import { absent, addChild, createTrie, setValue, type Trie } from "./trie.ts";

/** States of the model in the order of the tables; also the order in which ties are broken (a later letter wins). */
export const stateCount = 4;

export interface JiebaData {
  /** Every word and every prefix of one; a word's value is its index into `weights`. */
  readonly words: Trie;
  /** log(frequency) − log(total); [0] is the weight of a word that is not in the dictionary. */
  readonly weights: Float64Array;
  /** [B, E, M, S] */
  readonly start: Float64Array;
  /** [from, to], each in the order B, E, M, S. */
  readonly transition: Float64Array;
  /** [Han code, state]: the log probability that the state emits the character. */
  readonly emission: Float64Array;
  /** Code of the first row of `emission`. */
  readonly hanFirst: number;
  readonly wordCount: number;
}

const headerBytes = 40;
const maxUnpackedBytes = 64 * 2 ** 20;

/** The packed file that travels with the package, beside this one in `src/` and in `dist/`. */
export function readPackedJieba(): Uint8Array {
  return readFileSync(new URL("./data/jieba-0.42.1.bin.gz", import.meta.url));
}

/** Reads the packed file. Throws DataError `CPM_JIEBA_DATA` where the bytes are not such a file. */
export function parseJiebaData(packed: Uint8Array): JiebaData {
  let bytes: Uint8Array;
  try {
    bytes = gunzipSync(packed, { maxOutputLength: maxUnpackedBytes });
  } catch (cause) {
    throw damaged("it is not a gzip file, or it is cut short", cause);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes || new TextDecoder("latin1").decode(bytes.subarray(0, 8)) !== "CPMJIEBA")
    throw damaged("it does not begin with CPMJIEBA");
  const [version, wordCount, unitCount, weightCount, emissionCount, hanFirst, hanCount] = Array.from(
    { length: 7 },
    (_, i) => view.getUint32(8 + 4 * i, true),
  ) as [number, number, number, number, number, number, number];
  if (version !== 1) throw damaged(`its version is ${version}, not 1`);
  const doubles = weightCount + stateCount + stateCount ** 2 + emissionCount;
  const shorts = stateCount * hanCount + wordCount + unitCount;
  if (bytes.length !== headerBytes + 8 * doubles + 2 * shorts + 2 * wordCount)
    throw damaged(`its ${bytes.length} bytes do not fit the counts in its header`);

  let offset = headerBytes;
  const readDoubles = (count: number) => {
    const values = Float64Array.from({ length: count }, (_, i) => view.getFloat64(offset + 8 * i, true));
    offset += 8 * count;
    return values;
  };
  const readShorts = (count: number) => {
    const values = new Uint16Array(count);
    for (let i = 0; i < count; i++) values[i] = bytes[offset + 2 * i]! | (bytes[offset + 2 * i + 1]! << 8);
    offset += 2 * count;
    return values;
  };
  const weights = readDoubles(weightCount);
  const start = readDoubles(stateCount);
  const transition = readDoubles(stateCount ** 2);
  const emissionValues = readDoubles(emissionCount);
  const emissionIndex = readShorts(stateCount * hanCount);
  const weightIndex = readShorts(wordCount);
  const units = readShorts(unitCount);
  const shared = bytes.subarray(offset, offset + wordCount);
  const following = bytes.subarray(offset + wordCount);

  const emission = new Float64Array(hanCount * stateCount);
  for (let state = 0; state < stateCount; state++)
    for (let han = 0; han < hanCount; han++) {
      const index = emissionIndex[state * hanCount + han]!;
      if (index >= emissionCount) throw damaged("an emission index is out of range");
      emission[han * stateCount + state] = emissionValues[index]!;
    }
  const words = buildWords(shared, following, units, weightIndex, weightCount);
  return { words, weights, start, transition, emission, hanFirst, wordCount };
}

/** Words come sorted, so each is a path that leaves the one before it after `shared` units. */
function buildWords(
  shared: Uint8Array,
  following: Uint8Array,
  units: Uint16Array,
  weightIndex: Uint16Array,
  weightCount: number,
): Trie {
  const trie = createTrie(units.length);
  const path = new Int32Array(512);
  let depth = 0;
  let unit = 0;
  for (let word = 0; word < shared.length; word++) {
    const keep = shared[word]!;
    const length = keep + following[word]!;
    if (keep > depth || length === 0 || unit + following[word]! > units.length || weightIndex[word]! >= weightCount)
      throw damaged(`word ${word} is not well formed`);
    for (let i = keep; i < length; i++) path[i] = addChild(trie, i === 0 ? absent : path[i - 1]!, units[unit++]!);
    setValue(trie, path[length - 1]!, weightIndex[word]!);
    depth = length;
  }
  return trie;
}

function damaged(what: string, cause?: unknown): DataError {
  return new DataError("CPM_JIEBA_DATA", `jieba's dictionary file is damaged: ${what}`, {
    expected: "src/tokenizer/data/jieba-0.42.1.bin.gz as it was published",
    hint: "Install the package again.",
    cause,
  });
}
