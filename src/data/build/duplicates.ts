/**
 * Documents that were seen before: the same text, mostly the same paragraphs (the original's rule: a document is a
 * duplicate when at least 70 % of its paragraphs' hashes are known), or nearly the same text (MinHash with banding, Broder
 * 1997).
 *
 * What is costly, a document's *prints*, is a pure function and runs in workers; the decision depends on what came before
 * and is taken in the order of the documents, so results do not depend on how many workers there are.
 */
import { hash } from "node:crypto";
import { z } from "zod";
import { createHashSet } from "../../util/hash-set.ts";

export const duplicatesSchema = z.strictObject({
  /** Leave out a text that is equal to an earlier one. */
  exact: z.boolean().default(true),
  /** Leave out a document of which at least this share of paragraphs is known; 0: off. */
  paragraphShare: z.number().min(0).max(1).default(0.7),
  /** Leave out a document whose estimated Jaccard similarity of 5-character shingles with an earlier one reaches this; 0: off. */
  similarity: z.number().min(0).max(1).default(0.8),
});
export type DuplicateOptions = z.output<typeof duplicatesSchema>;

/** Prints of one text. */
export interface Prints {
  /** First 8 bytes of its SHA-256. */
  readonly hash: bigint;
  /** 53-bit hashes of its paragraphs of ten characters or more. */
  readonly paragraphs: Float64Array;
  /** MinHash signature; empty where it is off or the text is too short. */
  readonly signature: Uint32Array;
}

export const signatureLength = 64;
const rowsPerBand = 4;
const shingleLength = 5;
const minimumParagraph = 10;
/** Texts of one form share bands in their thousands; without a bound, comparing them takes the square of their number. */
const candidatesPerBand = 64;

/** Odd multipliers and offsets of the hash family, from a fixed linear congruence: prints must be the same everywhere. */
const family = (() => {
  const multipliers = new Uint32Array(signatureLength);
  const offsets = new Uint32Array(signatureLength);
  let state = 0x2545f491;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
  for (let i = 0; i < signatureLength; i++) {
    multipliers[i] = next() | 1;
    offsets[i] = next();
  }
  return { multipliers, offsets };
})();

export function printsOf(text: string, options: DuplicateOptions): Prints {
  return {
    hash: hash("sha256", text, "buffer").readBigUInt64BE(0),
    paragraphs: options.paragraphShare > 0 ? paragraphHashes(text) : new Float64Array(0),
    signature: options.similarity > 0 ? signatureOf(text) : new Uint32Array(0),
  };
}

function paragraphHashes(text: string): Float64Array {
  const hashes: number[] = [];
  for (const line of text.split("\n")) {
    const paragraph = line.trim();
    if (paragraph.length >= minimumParagraph) hashes.push(hash53(paragraph));
  }
  return Float64Array.from(hashes);
}

/** Two 32-bit hashes of a string's UTF-16 units as one number of 53 bits. */
export function hash53(text: string): number {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ unit, 0x5bd1e995) ^ (b >>> 15);
  }
  return ((b >>> 0) & 0x1fffff) * 2 ** 32 + (a >>> 0);
}

function signatureOf(text: string): Uint32Array {
  const letters = text.replace(/\s+/g, "");
  if (letters.length < 4 * shingleLength) return new Uint32Array(0);
  const signature = new Uint32Array(signatureLength).fill(0xffffffff);
  const { multipliers, offsets } = family;
  for (let start = 0; start + shingleLength <= letters.length; start++) {
    let shingle = 0x811c9dc5;
    for (let i = 0; i < shingleLength; i++) shingle = Math.imul(shingle ^ letters.charCodeAt(start + i), 0x01000193);
    shingle ^= shingle >>> 15;
    for (let i = 0; i < signatureLength; i++) {
      const value = (Math.imul(shingle, multipliers[i]!) + offsets[i]!) >>> 0;
      if (value < signature[i]!) signature[i] = value;
    }
  }
  return signature;
}

export type DuplicateReason = "duplicate" | "paragraphs" | "nearDuplicate";

/** Remembers what it was shown, in order. */
export interface DuplicateFinder {
  /** Why this document repeats earlier ones; one that does not is remembered. */
  check(prints: Prints): DuplicateReason | undefined;
  /** Remembers a text of which only the hash is left. */
  remember(hash: bigint): void;
}

export function createDuplicateFinder(options: DuplicateOptions): DuplicateFinder {
  const texts = createHashSet();
  const paragraphs = createHashSet();
  /** Signatures of all documents kept, one after the other; bands point into it. */
  let signatures = new Uint32Array(signatureLength * 1024);
  let kept = 0;
  const bands = new Map<number, number[]>();

  const bandKeys = (signature: Uint32Array): number[] =>
    Array.from({ length: signatureLength / rowsPerBand }, (_, band) => {
      let a = band + 1;
      let b = 0x9747b28c ^ band;
      for (let i = 0; i < rowsPerBand; i++) {
        const value = signature[band * rowsPerBand + i]!;
        a = Math.imul(a ^ value, 0x85ebca6b);
        a ^= a >>> 13;
        b = Math.imul(b ^ value, 0xc2b2ae35);
        b ^= b >>> 16;
      }
      return ((b >>> 0) & 0x1fffff) * 2 ** 32 + (a >>> 0);
    });

  function resembles(signature: Uint32Array, keys: readonly number[]): boolean {
    const needed = options.similarity * signatureLength;
    const candidates = new Set<number>();
    for (const key of keys) for (const candidate of bands.get(key) ?? []) candidates.add(candidate);
    for (const candidate of candidates) {
      let equal = 0;
      const from = candidate * signatureLength;
      for (let i = 0; i < signatureLength; i++) if (signatures[from + i] === signature[i]) equal++;
      if (equal >= needed) return true;
    }
    return false;
  }

  function keep(signature: Uint32Array, keys: readonly number[]): void {
    if ((kept + 1) * signatureLength > signatures.length) {
      const grown = new Uint32Array(2 * signatures.length);
      grown.set(signatures);
      signatures = grown;
    }
    signatures.set(signature, kept * signatureLength);
    for (const key of keys) {
      const found = bands.get(key);
      if (found === undefined) bands.set(key, [kept]);
      else if (found.length < candidatesPerBand) found.push(kept);
    }
    kept++;
  }

  return {
    remember: (text) => void texts.add(Number(text & 0x1fffffffffffffn)),
    check({ hash: text, paragraphs: ofText, signature }) {
      const known = !texts.add(Number(text & 0x1fffffffffffffn));
      if (options.exact && known) return "duplicate";
      if (options.paragraphShare > 0 && ofText.length > 0) {
        let seen = 0;
        for (const paragraph of ofText) if (paragraphs.has(paragraph)) seen++;
        if (seen >= options.paragraphShare * ofText.length) return "paragraphs";
      }
      const keys = signature.length > 0 ? bandKeys(signature) : [];
      if (keys.length > 0 && resembles(signature, keys)) return "nearDuplicate";
      for (const paragraph of ofText) paragraphs.add(paragraph);
      if (keys.length > 0) keep(signature, keys);
      return undefined;
    },
  };
}
