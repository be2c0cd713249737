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
import { createLikenessIndex } from "./likeness-index.ts";
import { signatureOf } from "./minhash.ts";

export const duplicatesSchema = z.strictObject({
  /** Leave out a text that is equal to an earlier one. */
  exact: z.boolean().default(true),
  /** Leave out a document of which at least this share of paragraphs is known; 0: off. */
  paragraphShare: z.number().min(0).max(1).default(0.7),
  /** Leave out a document whose estimated Jaccard similarity of 5-character shingles with an earlier one reaches this; 0: off. */
  similarity: z.number().min(0).max(1).default(0.8),
  /** Bytes of prints at most that a data set keeps beside its shards, to compare later additions with; 0: none. */
  keptBytes: z
    .int()
    .min(0)
    .default(2 ** 30),
});
export type DuplicateOptions = z.output<typeof duplicatesSchema>;

/** Prints of one text. */
export interface Prints {
  /** First 8 bytes of its SHA-256. */
  readonly hash: bigint;
  /** 53-bit hashes of its paragraphs of ten characters or more. */
  readonly paragraphs: Float64Array;
  /** MinHash; empty where it is off or the text is too short. */
  readonly signature: Uint16Array;
}

const minimumParagraph = 10;

export function printsOf(text: string, options: DuplicateOptions): Prints {
  return {
    hash: hash("sha256", text, "buffer").readBigUInt64BE(0),
    paragraphs: options.paragraphShare > 0 ? paragraphHashes(text) : new Float64Array(0),
    signature: options.similarity > 0 ? signatureOf(text) : new Uint16Array(0),
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

export type DuplicateReason = "duplicate" | "paragraphs" | "nearDuplicate";

/** Remembers what it was shown, in order. */
export interface DuplicateFinder {
  /** Why this document repeats earlier ones; one that does not is remembered. */
  check(prints: Prints): DuplicateReason | undefined;
  /** Remembers a document that stays whatever it repeats. */
  remember(prints: Prints): void;
}

export function createDuplicateFinder(options: DuplicateOptions): DuplicateFinder {
  const texts = createHashSet();
  const paragraphs = createHashSet();
  const likeness = createLikenessIndex(options.similarity);
  const addText = (hash: bigint) => texts.add(Number(hash & 0x1fffffffffffffn));

  function remember({ paragraphs: ofText, signature }: Omit<Prints, "hash">): void {
    if (options.paragraphShare > 0) for (const paragraph of ofText) paragraphs.add(paragraph);
    if (options.similarity > 0 && signature.length > 0) likeness.keep(signature);
  }

  return {
    remember(prints) {
      addText(prints.hash);
      remember(prints);
    },
    check(prints) {
      const { hash: text, paragraphs: ofText, signature } = prints;
      const known = !addText(text);
      if (options.exact && known) return "duplicate";
      if (options.paragraphShare > 0 && ofText.length > 0) {
        let seen = 0;
        for (const paragraph of ofText) if (paragraphs.has(paragraph)) seen++;
        if (seen >= options.paragraphShare * ofText.length) return "paragraphs";
      }
      if (options.similarity > 0 && signature.length > 0 && likeness.resembles(signature)) return "nearDuplicate";
      remember(prints);
      return undefined;
    },
  };
}
