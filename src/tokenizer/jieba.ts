/**
 * Chinese word segmentation exactly as Python's jieba 0.42.1 does it in precise mode (精确模式) with its hidden Markov
 * model on: `createJieba().cut(text)` gives the words of `list(jieba.cut(text))`.
 *
 * The algorithm (Sun Junyi and others, MIT licence; written anew here):
 *  1. Text falls into blocks of Han characters, ASCII letters and digits and `+ # & . _ % -`; everything else stands
 *     alone, character by character, except that CR LF stays together.
 *  2. In a block, the words of the dictionary span a directed acyclic graph (词图). From right to left, the best path to
 *     the end maximises the sum of log(frequency) − log(total); a tie goes to the longer first word. A character that
 *     begins no word counts as a word of frequency 1.
 *  3. Runs of single characters on that path are looked at again: a run that is itself in the dictionary stays single
 *     characters (it lost to them on purpose); in others the model of unknown words (新词) cuts the Han
 *     stretches, and the pattern `[a-zA-Z0-9]+(\.[0-9]+)?%?` the rest, what lies between two matches being one word.
 *
 * Why the Rust port on npm (@node-rs/jieba 2.0.3) differs: in its form of step 3's pattern the dot is not escaped, so
 * any character before digits glues them on: `test-90` is one word there and `test`, `-`, `90` in Python. With that one
 * change this file gives its words on all of the reference texts, of which it gets a fifth wrong. What remains of the
 * difference elsewhere is its wider notion of Han (extensions and compatibility characters; Python stops at U+9FD5).
 * Smaller traps: ties must fall the same way (嗡嗡嗡 is 嗡嗡 and 嗡), the logarithms should equal Python's to the last bit
 * (see jieba-data.ts), and the total counts the dictionary's one duplicate line (B超) twice.
 *
 * Not here: full mode, search mode, user dictionaries, part-of-speech tags.
 */
import { type JiebaData, parseJiebaData, readPackedJieba } from "./jieba-data.ts";
import { absent, child, type Trie } from "./trie.ts";
import { createWordModel } from "./word-model.ts";

export interface Jieba {
  /** The words of a text, in order; joined they are the text. */
  cut(text: string): string[];
  /** The UTF-16 offset after each word, ascending; the last one is the length of the text. */
  wordEnds(text: string): Int32Array;
}

const otherUnit = 0;
const hanUnit = 1;
const letterOrDigit = 2;
const digitUnit = 3;
const markUnit = 4;

/** Class of every UTF-16 unit; not `otherUnit` for what may stand in a block. */
const unitClass = new Uint8Array(65536);
unitClass.fill(hanUnit, 0x4e00, 0x9fd5 + 1);
for (const letter of "abcdefghijklmnopqrstuvwxyz") {
  unitClass[letter.charCodeAt(0)] = letterOrDigit;
  unitClass[letter.toUpperCase().charCodeAt(0)] = letterOrDigit;
}
for (const digit of "0123456789") unitClass[digit.charCodeAt(0)] = digitUnit;
for (const mark of "+#&._%-") unitClass[mark.charCodeAt(0)] = markUnit;

const dot = 0x2e;
const percent = 0x25;

let shared: Jieba | undefined;

/**
 * The segmenter. Without data it is the one that travels with the package: loaded by the first call (about 70 ms,
 * 13 MB) and shared by all later ones. `data` are the packed bytes from elsewhere, as in a browser.
 */
export function createJieba(data?: Uint8Array): Jieba {
  if (data !== undefined) return segmenter(parseJiebaData(data));
  shared ??= segmenter(parseJiebaData(readPackedJieba()));
  return shared;
}

function segmenter(data: JiebaData): Jieba {
  const { words, weights } = data;
  const unknownWeight = weights[0]!;
  const model = createWordModel(data);

  // Of the block at hand: its units, the best score from each index to the end, and where the best first word ends.
  let units = new Uint16Array(1024);
  let best = new Float64Array(1025);
  let next = new Int32Array(1025);
  let ends = new Int32Array(1024);
  let endCount = 0;
  let blockStart = 0;

  function emit(end: number): void {
    ends[endCount++] = blockStart + end;
  }

  /** Step 2: fills `next` for the block in `units[0, length)`. */
  function findBestPath(length: number): void {
    best[length] = 0;
    for (let i = length - 1; i >= 0; i--) {
      let bestScore = Number.NEGATIVE_INFINITY;
      let bestEnd = i + 1;
      let node = words.first[units[i]!]!;
      for (let end = i + 1; node !== absent; ) {
        const mark = words.marks[node]!;
        if (mark > 1) {
          const score = weights[(mark >> 1) - 1]! + best[end]!;
          if (score >= bestScore) {
            bestScore = score;
            bestEnd = end;
          }
        }
        if ((mark & 1) === 0 || end === length) break;
        node = child(words, node, units[end++]!);
      }
      best[i] = bestScore === Number.NEGATIVE_INFINITY ? unknownWeight + best[i + 1]! : bestScore;
      next[i] = bestEnd;
    }
  }

  /** Step 3 for `units[from, to)`, which the best path leaves as single characters. */
  function cutSingles(from: number, to: number): void {
    if (to - from === 1 || isWord(words, units, from, to)) {
      for (let i = from; i < to; i++) emit(i + 1);
      return;
    }
    for (let i = from; i < to; ) {
      const han = unitClass[units[i]!] === hanUnit;
      let end = i + 1;
      while (end < to && (unitClass[units[end]!] === hanUnit) === han) end++;
      if (han) model.cut(units, i, end, emit);
      else cutMixed(i, end);
      i = end;
    }
  }

  /** Letters, digits and marks: matches of `[a-zA-Z0-9]+(\.[0-9]+)?%?` and what lies between them. */
  function cutMixed(from: number, to: number): void {
    for (let i = from; i < to; ) {
      let end = i;
      while (end < to && unitClass[units[end]!] === markUnit) end++;
      if (end === i) {
        while (end < to && unitClass[units[end]!] !== markUnit) end++;
        if (end + 1 < to && units[end] === dot && unitClass[units[end + 1]!] === digitUnit) {
          end += 2;
          while (end < to && unitClass[units[end]!] === digitUnit) end++;
        }
        if (end < to && units[end] === percent) end++;
      }
      emit(end);
      i = end;
    }
  }

  function cutBlock(text: string, start: number, end: number): void {
    const length = end - start;
    if (length > units.length) {
      const capacity = 2 ** Math.ceil(Math.log2(length));
      units = new Uint16Array(capacity);
      best = new Float64Array(capacity + 1);
      next = new Int32Array(capacity + 1);
    }
    for (let i = 0; i < length; i++) units[i] = text.charCodeAt(start + i);
    blockStart = start;
    findBestPath(length);
    let singles = 0; // where the run of single characters at hand began
    for (let i = 0; i < length; ) {
      const wordEnd = next[i]!;
      if (wordEnd - i > 1) {
        if (singles < i) cutSingles(singles, i);
        emit(wordEnd);
        singles = wordEnd;
      }
      i = wordEnd;
    }
    if (singles < length) cutSingles(singles, length);
  }

  function wordEnds(text: string): Int32Array {
    endCount = 0;
    for (let i = 0; i < text.length; ) {
      const unit = text.charCodeAt(i);
      let end = i + 1;
      if (unitClass[unit] !== otherUnit)
        while (end < text.length && unitClass[text.charCodeAt(end)] !== otherUnit) end++;
      if (endCount + end - i > ends.length) {
        const longer = new Int32Array(2 * (endCount + end - i));
        longer.set(ends);
        ends = longer;
      }
      if (unitClass[unit] !== otherUnit) {
        cutBlock(text, i, end);
      } else {
        if (unit === 0x0d && text.charCodeAt(end) === 0x0a) end++;
        else if (isHighSurrogate(unit) && isLowSurrogate(text.charCodeAt(end))) end++;
        ends[endCount++] = end;
      }
      i = end;
    }
    return ends.slice(0, endCount);
  }

  function cut(text: string): string[] {
    let start = 0;
    return Array.from(wordEnds(text), (end) => {
      const word = text.slice(start, end);
      start = end;
      return word;
    });
  }

  return { cut, wordEnds };
}

function isWord(words: Trie, units: Uint16Array, from: number, to: number): boolean {
  let node = words.first[units[from]!]!;
  for (let i = from + 1; i < to && node !== absent; i++) node = child(words, node, units[i]!);
  return node !== absent && words.marks[node]! > 1;
}

function isHighSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}

function isLowSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00;
}
