/**
 * JSON from strangers: parsed with `JSON.parse`, but only after a scan has bounded its depth and its number of values
 * and found no key twice in one object. (`JSON.parse` would keep the last of two equal keys, so two readers of one file
 * could see different tensors.)
 */
import { CheckpointError } from "../util/error.ts";

export interface JsonLimits {
  /** Objects and arrays inside each other. */
  readonly depth: number;
  /** Values and keys in all. */
  readonly values: number;
}

const quote = 0x22;
const backslash = 0x5c;

/**
 * @throws CheckpointError `CPM_CHECKPOINT_JSON` for text that is no JSON, has a key twice or passes a limit
 */
export function parseStrictJson(bytes: Uint8Array, where: string, limits: JsonLimits): unknown {
  const bad = (what: string, cause?: unknown): CheckpointError =>
    new CheckpointError("CPM_CHECKPOINT_JSON", what, { where, cause });
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw bad("the JSON is not valid UTF-8", cause);
  }
  /** The keys seen in each open object, undefined for an open array. */
  const open: (Set<string> | undefined)[] = [];
  let values = 0;
  const count = (): void => {
    values += 1;
    if (values > limits.values) throw bad(`the JSON has more than ${limits.values} values`);
  };
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === quote) {
      const start = i;
      for (i++; i < text.length && text.charCodeAt(i) !== quote; i++) if (text.charCodeAt(i) === backslash) i++;
      if (i >= text.length) throw bad("a string in the JSON does not end");
      count();
      let next = i + 1;
      while (isSpace(text.charCodeAt(next))) next++;
      const keys = open.at(-1);
      if (keys === undefined || text[next] !== ":") continue;
      const raw = text.slice(start, i + 1);
      const key = raw.includes("\\") ? unescapeKey(raw, bad) : raw.slice(1, -1);
      if (keys.has(key)) throw bad(`the key ${JSON.stringify(key.slice(0, 200))} stands twice in one object`);
      keys.add(key);
    } else if (char === 0x7b || char === 0x5b) {
      open.push(char === 0x7b ? new Set() : undefined);
      if (open.length > limits.depth) throw bad(`the JSON is deeper than ${limits.depth}`);
      count();
    } else if (char === 0x7d || char === 0x5d) {
      open.pop();
    } else if (char === 0x2c) {
      count();
    }
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw bad("the JSON cannot be parsed", cause);
  }
}

function isSpace(char: number): boolean {
  return char === 0x20 || char === 0x0a || char === 0x0d || char === 0x09;
}

function unescapeKey(raw: string, bad: (what: string, cause?: unknown) => CheckpointError): string {
  try {
    return JSON.parse(raw);
  } catch (cause) {
    throw bad("a key of the JSON cannot be parsed", cause);
  }
}
