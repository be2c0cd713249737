/**
 * CPM-Ant's tokenizer: jieba cuts the text into words, and each word is spelled, from left to right, with the longest
 * token that the rest of it begins with. No lower-casing, no normalisation, no marks inside words.
 *
 * Specials in a text are not parsed: jieba splits `<s>` into three words, and the matcher leaves specials out besides.
 * A word of more than 200 code points is one `<unk>`, as in the original, unless the vocabulary has all 256 bytes: then
 * nothing is ever unknown, and decode(encode(text)) is the text for every well-formed string (a lone surrogate has no
 * UTF-8 form and becomes U+FFFD).
 */
import { ConfigError, DataError } from "../util/error.ts";
import { createDetokenizer } from "./detokenizer.ts";
import { createJieba, type Jieba } from "./jieba.ts";
import type { DecodeOptions, EncodeOptions, Encoding, Piece, Tokenizer } from "./tokenizer.ts";
import { absent, addKey, child, createTrie, type Trie } from "./trie.ts";
import type { Vocabulary } from "./vocabulary.ts";

export interface AntTokenizerOptions {
  /**
   * The segmenter.
   *
   * @defaultValue the one that travels with the package
   */
  readonly jieba?: Jieba | undefined;
}

/** The original's limit on a word's length, beyond which it is not looked at. */
const maxWordCodePoints = 200;

/** Throws ConfigError `CPM_VOCABULARY_SPECIALS` where the vocabulary lacks a token that the model needs. */
export function createAntTokenizer(vocabulary: Vocabulary, options: AntTokenizerOptions = {}): Tokenizer {
  const jieba = options.jieba ?? createJieba();
  const { pieces, tokens, ids, byteIds, size } = vocabulary;
  const padId = requireToken(vocabulary, "<pad>");
  const unkId = requireToken(vocabulary, "<unk>");
  const bosId = requireToken(vocabulary, "<s>");
  const eosId = requireToken(vocabulary, "</s>");
  const newlineId = requireToken(vocabulary, "\n");
  requireToken(vocabulary, " ");

  const trie = buildTrie(pieces);
  const hasAllBytes = byteIds.every((id) => id >= 0);
  const utf8 = new TextEncoder();
  const characterBytes = new Uint8Array(4);

  let output = new Int32Array(1024);
  let count = 0;

  /** Spells `text[from, to)`; returns how much of it is unknown, in characters. */
  function spell(text: string, from: number, to: number, keepUnknown: boolean): number {
    let unknown = 0;
    for (let i = from; i < to; ) {
      let matched = absent;
      let matchedEnd = i;
      let node = trie.first[text.charCodeAt(i)]!;
      for (let end = i + 1; node !== absent; ) {
        const mark = trie.marks[node]!;
        if (mark > 1) {
          matched = (mark >> 1) - 1;
          matchedEnd = end;
        }
        if ((mark & 1) === 0 || end === to) break;
        node = child(trie, node, text.charCodeAt(end++));
      }
      if (matched !== absent) {
        output[count++] = matched;
        i = matchedEnd;
        continue;
      }
      const character = String.fromCodePoint(text.codePointAt(i)!);
      if (!spellBytes(character)) {
        unknown++;
        if (keepUnknown) output[count++] = unkId;
      }
      i += character.length;
    }
    return unknown;
  }

  function spellBytes(character: string): boolean {
    const { written } = utf8.encodeInto(character, characterBytes);
    for (let i = 0; i < written; i++) if (byteIds[characterBytes[i]!]! < 0) return false;
    for (let i = 0; i < written; i++) output[count++] = byteIds[characterBytes[i]!]!;
    return true;
  }

  function encode(text: string, { unknown = "drop" }: EncodeOptions = {}): Encoding {
    const ends = jieba.wordEnds(text);
    count = 0;
    let unknownCount = 0;
    let start = 0;
    for (const end of ends) {
      // A UTF-16 unit is at most three bytes of UTF-8, so at most three tokens.
      if (count + 3 * (end - start) > output.length) {
        const longer = new Int32Array(2 * (count + 3 * (end - start)));
        longer.set(output.subarray(0, count));
        output = longer;
      }
      if (end - start > maxWordCodePoints && !hasAllBytes && isLong(text, start, end)) {
        unknownCount++;
        if (unknown === "keep") output[count++] = unkId;
      } else {
        unknownCount += spell(text, start, end, unknown === "keep");
      }
      start = end;
    }
    return { ids: output.slice(0, count), unknownCount };
  }

  function pieceOf(id: number): Piece {
    const piece = pieces[id];
    if (piece === undefined)
      throw new DataError("CPM_TOKEN_ID", "there is no such token", {
        got: String(id),
        expected: `a whole number from 0 to ${size - 1}`,
        hint: "Check that the vocabulary is the one that the model was trained with.",
      });
    return piece;
  }

  function decode(idsOfText: Iterable<number>, decodeOptions?: DecodeOptions): string {
    const detokenizer = createDetokenizer({ pieceOf }, decodeOptions);
    let text = "";
    for (const id of idsOfText) text += detokenizer.push(id);
    return text + detokenizer.flush();
  }

  function tokenOf(id: number): string {
    pieceOf(id);
    return tokens[id]!;
  }

  return {
    vocabSize: size,
    padId,
    unkId,
    bosId,
    eosId,
    newlineId,
    encode,
    decode,
    pieceOf,
    tokenOf,
    idOf: (token) => ids.get(token),
  };
}

function buildTrie(pieces: readonly Piece[]): Trie {
  let units = 0;
  for (const piece of pieces) if (piece.kind === "text") units += piece.text.length;
  const trie = createTrie(units);
  for (const [id, piece] of pieces.entries()) if (piece.kind === "text") addKey(trie, piece.text, id);
  return trie;
}

function isLong(text: string, start: number, end: number): boolean {
  let codePoints = 0;
  for (let i = start; i < end; codePoints++) i += text.codePointAt(i)! > 0xffff ? 2 : 1;
  return codePoints > maxWordCodePoints;
}

function requireToken(vocabulary: Vocabulary, token: string): number {
  const id = vocabulary.ids.get(token);
  if (id !== undefined) return id;
  const spelled = token === "\n" ? "</n>" : token === " " ? "</_>" : token;
  throw new ConfigError("CPM_VOCABULARY_SPECIALS", `the vocabulary has no ${spelled}`, {
    expected: "<pad>, <unk>, </n>, </_>, <s> and </s> among its lines, as in CPM-Ant's ant.txt",
    hint: "Give CPM-Ant's vocabulary or one of `cpm tokenizer train`; those of CPM-Ant+ and CPM-Bee need another tokenizer.",
  });
}
