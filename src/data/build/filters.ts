/**
 * Which documents are worth training on: cheap rules of language and quality, each with a name that is counted. They are
 * meant to catch what is plainly not Chinese prose, poetry or documentation, not to judge style.
 */
import { z } from "zod";

export const filtersSchema = z.strictObject({
  /** Code points at least. */
  minCharacters: z.int().min(0).default(10),
  /** Code points at most; 0: no limit. */
  maxCharacters: z.int().min(0).default(0),
  /** Share of Han characters among all letters, at least. */
  minHanShare: z.number().min(0).max(1).default(0.2),
  /** Share of what is neither letter, digit, space nor common punctuation, at most. */
  maxSymbolShare: z.number().min(0).max(1).default(0.3),
  /** Share of characters in lines that stood in the document before, at most. */
  maxRepeatedShare: z.number().min(0).max(1).default(0.5),
});
export type FilterOptions = z.output<typeof filtersSchema>;

export type FilterReason = "short" | "long" | "language" | "symbols" | "repetition";

/** Why a document is to be left out, or undefined where it may stay. */
export function filterReason(text: string, options: FilterOptions): FilterReason | undefined {
  let characters = 0;
  let letters = 0;
  let han = 0;
  let symbols = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if ((unit & 0xfc00) === 0xdc00) continue; // counted with its first half
    characters++;
    if (isHan(unit) || (unit >= 0xd840 && unit <= 0xd88d)) {
      han++;
      letters++;
    } else if ((unit >= 0x41 && unit <= 0x5a) || (unit >= 0x61 && unit <= 0x7a) || (unit >= 0xc0 && unit < 0x2000)) {
      letters++;
    } else if ((unit >= 0x3040 && unit <= 0x30ff) || (unit >= 0xac00 && unit <= 0xd7a3)) {
      letters++; // kana, Hangul
    } else if (!isOrdinary(unit)) {
      symbols++;
    }
  }
  if (characters < options.minCharacters) return "short";
  if (options.maxCharacters > 0 && characters > options.maxCharacters) return "long";
  if (options.minHanShare > 0 && han < options.minHanShare * letters) return "language";
  if (symbols > options.maxSymbolShare * characters) return "symbols";
  if (options.maxRepeatedShare < 1 && repeatedShare(text) > options.maxRepeatedShare) return "repetition";
  return undefined;
}

function isHan(unit: number): boolean {
  return (unit >= 0x4e00 && unit <= 0x9fff) || (unit >= 0x3400 && unit <= 0x4dbf) || (unit >= 0xf900 && unit <= 0xfaff);
}

/** Digits, spaces and punctuation as prose has them. */
function isOrdinary(unit: number): boolean {
  if (unit <= 0x20 || (unit >= 0x30 && unit <= 0x39)) return true;
  if (unit < 0x80) return "!\"'(),-.:;?[]%/".includes(String.fromCharCode(unit));
  return (unit >= 0x2010 && unit <= 0x2027) || (unit >= 0x3000 && unit <= 0x301f) || (unit >= 0xff00 && unit <= 0xff5e);
}

/** Share of characters in lines of four or more that occurred before in the same text. */
function repeatedShare(text: string): number {
  const lines = text.split("\n");
  if (lines.length < 3) return 0;
  const seen = new Set<string>();
  let repeated = 0;
  let total = 0;
  for (const line of lines) {
    const trimmed = line.trim();
    if (trimmed.length < 4) continue;
    total += trimmed.length;
    if (seen.has(trimmed)) repeated += trimmed.length;
    else seen.add(trimmed);
  }
  return total === 0 ? 0 : repeated / total;
}
