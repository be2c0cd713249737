/**
 * A vocabulary file: UTF-8 text, one token a line, the id is the number of the line.
 *
 * As in the original (CPM-Ant's `ant.txt`): empty lines are skipped, white space around a token is stripped, `</_>`
 * stands for a space and `</n>` for a newline. What the original never writes, we add, so that nothing is lost:
 *
 *  - `<0x00>` … `<0xFF>` are bytes: a character that is no token is spelled in them where all its bytes are there;
 *  - `<U+3000>` is a white-space character that a stripped line cannot hold (here the ideographic space).
 *
 * Files are from strangers: size, count and length are bounded, bad UTF-8 and duplicates are errors that name the line.
 */
import { readFile, stat } from "node:fs/promises";
import { fileErrorOf } from "../util/atomic-file.ts";
import { DataError } from "../util/error.ts";
import type { Piece } from "./tokenizer.ts";

export interface Vocabulary {
  readonly size: number;
  /** By id: the text that a token stands for; of specials and bytes their spelling. */
  readonly tokens: readonly string[];
  readonly pieces: readonly Piece[];
  /** From such a text to its id. */
  readonly ids: ReadonlyMap<string, number>;
  /** Id of each byte, −1 where the vocabulary has no token for it. */
  readonly byteIds: Int32Array;
}

export const maxVocabularyBytes = 16 * 2 ** 20;
export const maxVocabularyTokens = 2 ** 20;
export const maxTokenUnits = 1024;

/** Specials of CPM-Ant in the order of their ids, 0 to 9. */
export const antSpecials = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<d>", "</d>"] as const;

/** What Python's `str.strip` removes; JavaScript's `trim` differs in U+001C to U+001F, U+0085 and U+FEFF. */
const oneSpace =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: Python strips these four separators
  /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/;

const special = /^<(?:pad|unk|mask|sep|s\d*|\/s|d|\/d|eod)>$/;
const byteToken = /^<0x([0-9A-F]{2})>$/;
const spaceToken = /^<U\+([0-9A-F]{4})>$/;

/** Whether a line of the file cannot hold this character as it is, because it would be stripped. */
export function isStripped(character: string): boolean {
  return oneSpace.test(character);
}

/** A loop, not a pattern: a pattern that ends in `+$` takes quadratic time on a hostile line. */
function strip(line: string): string {
  let start = 0;
  let end = line.length;
  while (start < end && isStripped(line.charAt(start))) start++;
  while (end > start && isStripped(line.charAt(end - 1))) end--;
  return line.slice(start, end);
}

/** Spelling of a byte in the file. */
export function byteSpelling(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** Spelling of a text in the file, the inverse of what reading a line does. */
export function tokenSpelling(text: string): string {
  if (text === " ") return "</_>";
  if (text === "\n") return "</n>";
  if (isStripped(text)) return `<U+${text.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`;
  return text;
}

function pieceOfLine(line: string): Piece {
  if (line === "</_>") return { kind: "text", text: " " };
  if (line === "</n>") return { kind: "text", text: "\n" };
  const byte = byteToken.exec(line);
  if (byte) return { kind: "byte", byte: Number.parseInt(byte[1]!, 16) };
  const code = spaceToken.exec(line);
  if (code) {
    const character = String.fromCharCode(Number.parseInt(code[1]!, 16));
    if (isStripped(character)) return { kind: "text", text: character };
  }
  return { kind: special.test(line) ? "special" : "text", text: line };
}

/** Reads a vocabulary file. Throws FileError (see `fileErrorOf`) and what `parseVocabulary` throws. */
export async function readVocabulary(path: string): Promise<Vocabulary> {
  try {
    const { size } = await stat(path);
    if (size > maxVocabularyBytes) throw tooLarge(size, path);
    return parseVocabulary(await readFile(path), path);
  } catch (error) {
    throw fileErrorOf(error, "read", path);
  }
}

function tooLarge(bytes: number, where: string): DataError {
  return new DataError("CPM_VOCABULARY_SIZE", "the vocabulary file is too large", {
    where,
    got: `${bytes} bytes`,
    expected: `at most ${maxVocabularyBytes} bytes`,
    hint: "Give the vocabulary's text file, one token a line, not a model's weights.",
  });
}

/**
 * Reads the bytes of a vocabulary file; `where` names it in errors.
 *
 * Throws DataError `CPM_VOCABULARY_SIZE` (empty, or beyond a limit), `CPM_VOCABULARY_ENCODING` (not UTF-8),
 * `CPM_VOCABULARY_DUPLICATE`.
 */
export function parseVocabulary(bytes: Uint8Array, where = "vocabulary"): Vocabulary {
  if (bytes.length > maxVocabularyBytes) throw tooLarge(bytes.length, where);
  const lines = decodeUtf8(bytes, where).split(/\r\n|\n|\r/);
  const tokens: string[] = [];
  const pieces: Piece[] = [];
  const ids = new Map<string, number>();
  const byteIds = new Int32Array(256).fill(-1);
  for (const [index, rawLine] of lines.entries()) {
    const line = strip(rawLine);
    if (line === "") continue;
    const at = `${where}, line ${index + 1}`;
    if (line.length > maxTokenUnits || tokens.length === maxVocabularyTokens)
      throw new DataError("CPM_VOCABULARY_SIZE", "the file is not a vocabulary, or has too many or too long tokens", {
        where: at,
        got: line.length > maxTokenUnits ? `a line of ${line.length} characters` : `more than ${tokens.length} tokens`,
        expected: `at most ${maxVocabularyTokens} tokens of at most ${maxTokenUnits} UTF-16 units`,
        hint: "Give the vocabulary's text file, one token a line.",
      });
    const piece = pieceOfLine(line);
    const text = piece.kind === "byte" ? line : piece.text;
    const earlier = ids.get(text);
    if (earlier !== undefined)
      throw new DataError("CPM_VOCABULARY_DUPLICATE", "the vocabulary has a token twice", {
        where: at,
        got: `${JSON.stringify(line)}, which is also id ${earlier}`,
        expected: "every token once, since its line is its id",
        hint: "Remove one of the two; mind that all later ids shift, so a model trained with this file needs the file as it was.",
      });
    if (piece.kind === "byte") byteIds[piece.byte] = tokens.length;
    ids.set(text, tokens.length);
    tokens.push(text);
    pieces.push(piece);
  }
  if (tokens.length === 0)
    throw new DataError("CPM_VOCABULARY_SIZE", "the vocabulary is empty", {
      where,
      expected: "one token a line",
      hint: "Check the path, or train one with `cpm tokenizer train`.",
    });
  return { size: tokens.length, tokens, pieces, ids, byteIds };
}

/** A byte order mark at the start is not part of the first token. */
function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError("CPM_VOCABULARY_ENCODING", "the vocabulary is not UTF-8 text", {
      where: `${where}, line ${firstBadLine(bytes)}`,
      expected: "UTF-8, one token a line",
      hint: "Convert the file, for example with `iconv -f GB18030 -t UTF-8`.",
      cause,
    });
  }
}

function firstBadLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let line = 1, start = 0; ; line++) {
    const newline = bytes.indexOf(0x0a, start);
    try {
      decoder.decode(bytes.subarray(start, newline < 0 ? bytes.length : newline));
    } catch {
      return line;
    }
    if (newline < 0) return line;
    start = newline + 1;
  }
}
