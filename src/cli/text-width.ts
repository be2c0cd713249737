/**
 * How many columns a text takes on a terminal, and wrapping and padding by columns. Chinese characters and full-width
 * punctuation take two, combining marks none. Ranges after Unicode's East Asian Width (W and F) and emoji presentation,
 * rounded to whole blocks; ambiguous characters count as one column.
 */
import { stripVTControlCharacters } from "node:util";

/** First and last code point of the double-width blocks, ascending. */
const wide: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x231a, 0x231b],
  [0x23e9, 0x23ec],
  [0x2705, 0x2705],
  [0x274c, 0x274c],
  [0x2e80, 0x303e],
  [0x3041, 0xa4cf],
  [0xa960, 0xa97c],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe10, 0xfe19],
  [0xfe30, 0xfe6f],
  [0xff01, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18dff],
  [0x1aff0, 0x1b2ff],
  [0x1f200, 0x1f2ff],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f900, 0x1faff],
  [0x20000, 0x3fffd],
];

const zeroWidth = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}]$/u;

/** Columns of one code point. */
export function codePointWidth(codePoint: number): 0 | 1 | 2 {
  if (codePoint >= 0x20 && codePoint < 0x300) return codePoint >= 0x7f && codePoint < 0xa0 ? 0 : 1;
  if (zeroWidth.test(String.fromCodePoint(codePoint))) return 0;
  let low = 0;
  let high = wide.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [first, last] = wide[middle]!;
    if (codePoint < first) high = middle - 1;
    else if (codePoint > last) low = middle + 1;
    else return 2;
  }
  return 1;
}

/** Columns of a text in one line; terminal control sequences take none. */
export function textWidth(text: string): number {
  let columns = 0;
  for (const character of stripVTControlCharacters(text)) columns += codePointWidth(character.codePointAt(0)!);
  return columns;
}

/** Fills with spaces up to `columns`, on the right (`start` aligned) or the left (`end` aligned). */
export function padColumns(text: string, columns: number, align: "start" | "end" = "start"): string {
  const padding = " ".repeat(Math.max(0, columns - textWidth(text)));
  return align === "start" ? text + padding : padding + text;
}

/** The longest head of `text` that fits into `columns`, ending in … where something was cut. Expects no control sequences. */
export function truncateColumns(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  let kept = "";
  let used = 1; // the ellipsis
  for (const character of text) {
    used += codePointWidth(character.codePointAt(0)!);
    if (used > columns) break;
    kept += character;
  }
  return columns < 1 ? "" : `${kept}…`;
}

/** May not begin a line, and may not end one, in Chinese text. */
const noStart = /^[，。、；：？！）》」』”’…—%,.;:?!)\]}]/u;
const noEnd = /[（《「『“‘([{]$/u;

/**
 * Wraps at spaces and between Chinese characters, never before closing punctuation. A word longer than the width stays
 * whole. Existing line breaks are kept.
 */
export function wrapColumns(text: string, columns: number): string {
  return text
    .split(/\r?\n/)
    .map((line) => wrapLine(line, columns))
    .join("\n");
}

function wrapLine(text: string, columns: number): string {
  const lines: string[] = [];
  let line = "";
  let pendingSpace = "";
  for (const piece of pieces(text)) {
    if (piece.trim() === "") {
      pendingSpace = piece;
      continue;
    }
    if (line !== "" && textWidth(line) + pendingSpace.length + textWidth(piece) > columns) {
      lines.push(line);
      line = piece;
    } else {
      line += (line === "" && lines.length > 0 ? "" : pendingSpace) + piece;
    }
    pendingSpace = "";
  }
  lines.push(line);
  return lines.join("\n");
}

/** Unbreakable pieces and the spaces between them. */
function pieces(text: string): string[] {
  const result: string[] = [];
  for (const [part] of text.matchAll(/\s+|[^\s]/gu)) {
    const last = result.at(-1);
    const breakable =
      last === undefined ||
      part.trim() === "" ||
      last.trim() === "" ||
      ((textWidth(part) === 2 || codePointWidth(last.codePointAt(last.length - 1)!) === 2) &&
        !noStart.test(part) &&
        !noEnd.test(last));
    if (breakable) result.push(part);
    else result[result.length - 1] = last + part;
  }
  return result;
}
