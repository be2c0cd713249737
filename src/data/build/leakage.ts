/**
 * Whether training text contains evaluation text: runs of letters that both share.
 *
 * Every run of n letters (Han, Latin, digits; marks and spaces left out, so that punctuation hides nothing) of the
 * evaluation files is hashed, one in four is kept by its hash, and a document that contains one of those kept leaks. A
 * shared passage of n + 16 letters is missed with a chance of about one in a hundred, longer ones hardly ever.
 */
import { z } from "zod";
import { createHashSet, type HashSet } from "../../util/hash-set.ts";
import { type BadLine, expandPaths, readDocuments } from "../read-documents.ts";

export const leakageSchema = z.strictObject({
  /** Evaluation files: text or JSON Lines, of which every string counts. */
  files: z.array(z.string()).default([]),
  /** Letters that a shared passage must have. */
  letters: z.int().min(8).max(200).default(24),
  /** Whether a document that shares one is left out. Both are counted and told. */
  action: z.enum(["drop", "report"]).default("drop"),
});
export type LeakageOptions = z.output<typeof leakageSchema>;

export interface LeakageIndex {
  /** Number of runs kept. */
  readonly size: number;
  /** Adds an evaluation text. */
  add(text: string): void;
  /** Runs of a document that the evaluation texts have too. */
  matches(text: string): number;
}

const sampling = 4;
/** Of nested JSON values. */
const maxDepth = 8;

export function createLeakageIndex(length = 24): LeakageIndex {
  const runs: HashSet = createHashSet();
  return {
    get size() {
      return runs.size;
    },
    add(text) {
      eachRun(text, length, (hash) => void runs.add(hash));
    },
    matches(text) {
      let matches = 0;
      if (runs.size > 0) {
        eachRun(text, length, (hash) => {
          if (runs.has(hash)) matches++;
        });
      }
      return matches;
    },
  };
}

/** Rolling polynomial hashes of every run of `length` letters, those that the sampling keeps. */
function eachRun(text: string, length: number, visit: (hash: number) => void): void {
  const letters = text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const units = letters.length;
  if (units < length) return;
  let a = 0;
  let b = 0;
  let powerA = 1;
  let powerB = 1;
  const [baseA, baseB] = [0x01000193, 0x5bd1e995];
  for (let i = 0; i < length - 1; i++) {
    powerA = Math.imul(powerA, baseA);
    powerB = Math.imul(powerB, baseB);
  }
  for (let i = 0; i < units; i++) {
    if (i >= length) {
      const out = letters.charCodeAt(i - length) + 1;
      a = (a - Math.imul(out, powerA)) | 0;
      b = (b - Math.imul(out, powerB)) | 0;
    }
    const unit = letters.charCodeAt(i) + 1;
    a = (Math.imul(a, baseA) + unit) | 0;
    b = (Math.imul(b, baseB) + unit) | 0;
    if (i < length - 1) continue;
    const mixed = Math.imul(a ^ (a >>> 15), 0x85ebca6b);
    if (((mixed ^ (mixed >>> 13)) & (sampling - 1)) === 0) visit(((b >>> 0) & 0x1fffff) * 2 ** 32 + (a >>> 0));
  }
}

/**
 * An index of every string of the evaluation files; of JSON Lines all values, however deep, so that no field needs naming.
 * Undefined where there are none.
 *
 * @throws FileError CPM_DATA_FILE where a name has no file
 */
export async function readLeakageIndex(
  { files, letters }: LeakageOptions,
  onBadLine?: (bad: BadLine) => void,
): Promise<LeakageIndex | undefined> {
  if (files.length === 0) return undefined;
  const index = createLeakageIndex(letters);
  const add = (value: unknown, depth: number): void => {
    if (typeof value === "string") index.add(value);
    else if (typeof value === "object" && value !== null && depth < maxDepth) {
      for (const item of Object.values(value)) add(item, depth + 1);
    }
  };
  for (const file of await expandPaths(files)) {
    const isJson = /\.(jsonl|ndjson|json)(\.gz|\.zst)?$/i.test(file);
    const options = { format: isJson ? ("lines" as const) : ("auto" as const), ...(onBadLine ? { onBadLine } : {}) };
    for await (const { text } of readDocuments([file], options)) {
      try {
        add(isJson ? JSON.parse(text) : text, 0);
      } catch {
        index.add(text); // a part of an object over several lines: its strings are in it all the same
      }
    }
  }
  return index;
}
