/**
 * Choosing places of a model by patterns:
 *
 * - a name or its end, by whole parts: `attn.q`, `layers.1.ffn`, `project_q`; what is named stands for all that is inside
 *   it where the method cannot go to the thing itself (`layers.0-3.ffn` for LoRA: all linear layers of those four)
 * - a range in place of a number: `layers.0-3.attn.q`, `layers.8-.ffn`
 * - a glob: `*` within a part, `**` over parts, `?`, `{q,v}`: `layers.*.attn.{q,v}`
 * - a regular expression over a whole name: `[r]project_[qv]$`, or between slashes
 *
 * Every pattern is held against each of a place's names, the unified and the original ones.
 */
import { ConfigError } from "../util/error.ts";
import type { Place, PlaceKind } from "./places.ts";

export interface PlaceSelection {
  readonly places: readonly string[];
  readonly exclude?: readonly string[] | undefined;
}

/** 0: no match; 1: the place is inside of what the pattern names; 2: the pattern names the place. */
type Fit = 0 | 1 | 2;

/** Patterns of strangers are short. */
const longestPattern = 300;

/**
 * The places that a selection names, of the kinds that a method can go to, in the model's order.
 *
 * @throws ConfigError CPM_DELTA_PLACES for a pattern that is none or that names nothing of these kinds
 */
export function selectPlaces(
  all: readonly Place[],
  { places: patterns, exclude = [] }: PlaceSelection,
  kinds: readonly PlaceKind[],
): readonly Place[] {
  const candidates = all.filter(({ kind }) => kinds.includes(kind));
  const chosen = new Set<Place>();
  for (const pattern of patterns) {
    const fits = candidates.map((place) => [place, fitOf(pattern, place)] as const);
    const exact = fits.filter(([, fit]) => fit === 2);
    const found = exact.length > 0 ? exact : fits.filter(([, fit]) => fit === 1);
    if (found.length === 0) throw nothingFound(pattern, "places", candidates);
    for (const [place] of found) chosen.add(place);
  }
  for (const pattern of exclude) {
    const found = candidates.filter((place) => fitOf(pattern, place) > 0);
    if (found.length === 0) throw nothingFound(pattern, "exclude", candidates);
    for (const place of found) chosen.delete(place);
  }
  if (chosen.size === 0) {
    throw new ConfigError("CPM_DELTA_PLACES", "a delta has no place to go to", {
      where: "exclude",
      got: `${patterns.join(", ")} without ${exclude.join(", ")}`,
      expected: "at least one place",
      hint: "Exclude less.",
    });
  }
  return all.filter((place) => chosen.has(place));
}

function fitOf(pattern: string, place: Place): Fit {
  const matcher = matcherOf(pattern);
  return place.aliases.reduce<Fit>((best, name) => Math.max(best, matcher(name)) as Fit, 0);
}

const matchers = new Map<string, (name: string) => Fit>();

function matcherOf(pattern: string): (name: string) => Fit {
  let matcher = matchers.get(pattern);
  if (matcher === undefined) {
    matcher = createMatcher(pattern);
    if (matchers.size > 1000) matchers.clear();
    matchers.set(pattern, matcher);
  }
  return matcher;
}

function createMatcher(pattern: string): (name: string) => Fit {
  if (pattern.length === 0 || pattern.length > longestPattern)
    throw notPattern(pattern, `1 to ${longestPattern} characters`);
  const source = pattern.startsWith("[r]") ? pattern.slice(3) : /^\/(.*)\/$/.exec(pattern)?.[1];
  if (source !== undefined) {
    let expression: RegExp;
    try {
      expression = new RegExp(source);
    } catch {
      throw notPattern(pattern, "a regular expression after [r]");
    }
    return (name) => (expression.test(name) ? 2 : 0);
  }
  const parts = splitParts(pattern.replace(/\.weight$/, ""));
  const tests = parts.map(partTest);
  return (name) => fitParts(tests, name.split("."));
}

/** Parts between dots, not within braces. */
function splitParts(pattern: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const character of pattern) {
    if (character === "{") depth++;
    if (character === "}") depth--;
    if (character === "." && depth === 0) parts.push("");
    else parts[parts.length - 1] += character;
  }
  if (depth !== 0 || parts.includes("")) throw notPattern(pattern, "parts between dots, braces closed");
  return parts;
}

type PartTest = ((part: string) => boolean) | "anything";

function partTest(part: string): PartTest {
  if (part === "**") return "anything";
  const range = /^(\d+)-(\d*)$/.exec(part);
  if (range) {
    const [from, to] = [Number(range[1]), range[2] === "" ? Number.POSITIVE_INFINITY : Number(range[2])];
    return (text) => /^\d+$/.test(text) && Number(text) >= from && Number(text) <= to;
  }
  const words = /[*?{]/.test(part) ? expandBraces(part) : [part];
  const tests = words.map((word) => {
    const inner = /^(\d+)-(\d*)$/.test(word) ? partTest(word) : undefined;
    if (typeof inner === "function") return inner;
    if (!/[*?]/.test(word)) return (text: string) => text === word;
    const escaped = word
      .replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replaceAll("*", ".*")
      .replaceAll("?", ".");
    const expression = new RegExp(`^${escaped}$`);
    return (text: string) => expression.test(text);
  });
  return (text) => tests.some((test) => test(text));
}

/** `a{b,c}d` as `abd`, `acd`; braces do not nest. */
function expandBraces(part: string): string[] {
  const found = /^([^{]*)\{([^{}]*)\}(.*)$/.exec(part);
  if (!found) return [part];
  const [, before, choices, after] = found as unknown as [string, string, string, string];
  return expandBraces(after).flatMap((rest) => choices.split(",").map((choice) => `${before}${choice}${rest}`));
}

/** Whether tests fit the end of a name (2), or some run of its parts (1). */
function fitParts(tests: readonly PartTest[], parts: readonly string[]): Fit {
  let best: Fit = 0;
  for (let start = 0; start < parts.length; start++) {
    for (const end of endsFrom(tests, parts, start)) {
      if (end === parts.length) return 2;
      best = 1;
    }
  }
  return best;
}

/** Where a run of parts that begins at `start` may end. */
function endsFrom(tests: readonly PartTest[], parts: readonly string[], start: number): number[] {
  let ends = [start];
  for (const test of tests) {
    if (test === "anything") ends = [...new Set(ends.flatMap((end) => rangeTo(end, parts.length)))];
    else ends = ends.filter((end) => end < parts.length && test(parts[end]!)).map((end) => end + 1);
  }
  return ends;
}

function rangeTo(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function notPattern(pattern: string, expected: string): ConfigError {
  return new ConfigError("CPM_DELTA_PLACES", "a pattern of places cannot be read", {
    where: "places",
    got: JSON.stringify(pattern.slice(0, 80)),
    expected,
    hint: "Write a name (attn.q), a glob (layers.*.attn.{q,v}), a range (layers.0-3.ffn), or [r] and a regular expression.",
  });
}

function nothingFound(pattern: string, where: string, candidates: readonly Place[]): ConfigError {
  const examples = [...new Set(candidates.map(({ name }) => name.replace(/^layers\.\d+\./, "")))];
  return new ConfigError("CPM_DELTA_PLACES", "a pattern names no place that this method can go to", {
    where,
    got: pattern,
    expected: `such as ${examples.slice(0, 8).join(", ")}; layers 0 to ${Math.max(0, ...candidates.map(({ layer }) => layer ?? 0))}`,
    hint: "cpm tune --dry-run shows the places of a model.",
  });
}
