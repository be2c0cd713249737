/**
 * Grammars of texts, over characters: what the readers of grammar files, regular expressions and JSON Schemas make and
 * `automaton.ts` runs. Before that a grammar is restricted to the characters that a vocabulary can spell, so that whatever
 * is begun can be finished.
 */
import { ConfigError } from "../../util/error.ts";

/** Code points, first and last of each range, ascending and disjoint. */
export type CharacterRanges = readonly (readonly [first: number, last: number])[];

export type Expression =
  | { readonly kind: "text"; readonly text: string }
  /** One character of a set. */
  | { readonly kind: "character"; readonly ranges: CharacterRanges }
  | { readonly kind: "sequence"; readonly items: readonly Expression[] }
  | { readonly kind: "choice"; readonly options: readonly Expression[] }
  /** `max` may be Infinity. */
  | { readonly kind: "repeat"; readonly item: Expression; readonly min: number; readonly max: number }
  | { readonly kind: "rule"; readonly name: string };

export interface Grammar {
  readonly rules: ReadonlyMap<string, Expression>;
  readonly start: string;
}

export const text = (value: string): Expression => ({ kind: "text", text: value });
export const sequence = (...items: Expression[]): Expression => ({ kind: "sequence", items });
export const choice = (...options: Expression[]): Expression => ({ kind: "choice", options });
export const rule = (name: string): Expression => ({ kind: "rule", name });
export const character = (ranges: CharacterRanges): Expression => ({ kind: "character", ranges: normalRanges(ranges) });
export function repeat(item: Expression, min: number, max = Number.POSITIVE_INFINITY): Expression {
  return { kind: "repeat", item, min, max };
}

const lastCodePoint = 0x10ffff;
/** Every character: all code points but surrogates, which have no UTF-8 form. */
export const allCharacters: CharacterRanges = [
  [0, 0xd7ff],
  [0xe000, lastCodePoint],
];

/** Sorted and joined, without surrogates. */
export function normalRanges(ranges: CharacterRanges): CharacterRanges {
  const sorted = [...ranges].filter(([first, last]) => first <= last).sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [first, last] of sorted) {
    const previous = joined.at(-1);
    if (previous !== undefined && first <= previous[1] + 1) previous[1] = Math.max(previous[1], last);
    else joined.push([first, last]);
  }
  return intersection(joined, allCharacters);
}

/** Characters of both sets, which are normal. */
export function intersection(a: CharacterRanges, b: CharacterRanges): CharacterRanges {
  const found: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const first = Math.max(a[i]![0], b[j]![0]);
    const last = Math.min(a[i]![1], b[j]![1]);
    if (first <= last) found.push([first, last]);
    if (a[i]![1] < b[j]![1]) i++;
    else j++;
  }
  return found;
}

/** All characters but these. */
export function complement(ranges: CharacterRanges): CharacterRanges {
  const found: [number, number][] = [];
  let next = 0;
  for (const [first, last] of normalRanges(ranges)) {
    if (first > next) found.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= lastCodePoint) found.push([next, lastCodePoint]);
  return intersection(found, allCharacters);
}

export function contains(ranges: CharacterRanges, codePoint: number): boolean {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle]![1] < codePoint) low = middle + 1;
    else high = middle;
  }
  return low < ranges.length && ranges[low]![0] <= codePoint;
}

/** A grammar that cannot be used; `where` says at which place of what the user wrote. */
export function grammarError(
  what: string,
  detail: { where?: string; got?: string; expected?: string; hint?: string } = {},
) {
  return new ConfigError("CPM_INFER_GRAMMAR", what, detail);
}

/**
 * The grammar without texts that need other characters than these, and without rules that then stand for nothing.
 *
 * Throws CPM_INFER_GRAMMAR for rules that are absent, that begin with themselves or repeat what may be empty, and
 * CPM_INFER_UNSPELLABLE where no text is left.
 */
export function restrictGrammar(grammar: Grammar, spellable: CharacterRanges): Grammar {
  checkRules(grammar);
  const productive = new Set<string>();
  for (let before = -1; before !== productive.size; ) {
    before = productive.size;
    for (const [name, expression] of grammar.rules) {
      if (restrict(expression, spellable, productive) !== undefined) productive.add(name);
    }
  }
  const rules = new Map<string, Expression>();
  for (const name of productive) rules.set(name, restrict(grammar.rules.get(name)!, spellable, productive)!);
  if (rules.has(grammar.start)) return { rules, start: grammar.start };
  throw new ConfigError("CPM_INFER_UNSPELLABLE", "the vocabulary cannot spell any text that is asked for", {
    expected: "characters that are tokens of the vocabulary, or a vocabulary with all 256 bytes",
    hint: "Ask for texts of other characters, or use a model whose vocabulary has byte tokens.",
  });
}

/** The expression over these characters and rules, or undefined if it then has no text. */
function restrict(
  expression: Expression,
  spellable: CharacterRanges,
  productive: ReadonlySet<string>,
): Expression | undefined {
  switch (expression.kind) {
    case "text":
      for (const each of expression.text) if (!contains(spellable, each.codePointAt(0)!)) return undefined;
      return expression;
    case "character": {
      const ranges = intersection(expression.ranges, spellable);
      return ranges.length === 0 ? undefined : { kind: "character", ranges };
    }
    case "sequence": {
      const items: Expression[] = [];
      for (const item of expression.items) {
        const left = restrict(item, spellable, productive);
        if (left === undefined) return undefined;
        items.push(left);
      }
      return { kind: "sequence", items };
    }
    case "choice": {
      const options = expression.options.flatMap((option) => restrict(option, spellable, productive) ?? []);
      return options.length === 0 ? undefined : { kind: "choice", options };
    }
    case "repeat": {
      const item = restrict(expression.item, spellable, productive);
      if (item !== undefined) return { ...expression, item };
      return expression.min === 0 ? text("") : undefined;
    }
    case "rule":
      return productive.has(expression.name) ? expression : undefined;
  }
}

/** Fails for rules that are absent, for left recursion, and for repetitions of what may be empty: both would never end. */
function checkRules({ rules, start }: Grammar): void {
  const find = (name: string): Expression => {
    const found = rules.get(name);
    if (found === undefined)
      throw grammarError(`there is no rule "${name}"`, { expected: [...rules.keys()].slice(0, 20).join(", ") });
    return found;
  };
  const empty = new Set<string>();
  const mayBeEmpty = (expression: Expression): boolean => {
    switch (expression.kind) {
      case "text":
        return expression.text === "";
      case "character":
        return false;
      case "sequence":
        return expression.items.every(mayBeEmpty);
      case "choice":
        return expression.options.some(mayBeEmpty);
      case "repeat":
        return expression.min === 0 || mayBeEmpty(expression.item);
      case "rule":
        return empty.has(expression.name);
    }
  };
  for (let before = -1; before !== empty.size; ) {
    before = empty.size;
    for (const [name, expression] of rules) if (mayBeEmpty(expression)) empty.add(name);
  }
  /** Rules that may stand at the very beginning. */
  const beginnings = (expression: Expression): readonly string[] => {
    switch (expression.kind) {
      case "text":
      case "character":
        return [];
      case "sequence": {
        const found: string[] = [];
        for (const item of expression.items) {
          found.push(...beginnings(item));
          if (!mayBeEmpty(item)) break;
        }
        return found;
      }
      case "choice":
        return expression.options.flatMap(beginnings);
      case "repeat":
        return beginnings(expression.item);
      case "rule":
        return [expression.name];
    }
  };
  const visit = (expression: Expression, of: string): void => {
    if (expression.kind === "rule") find(expression.name);
    if (expression.kind === "sequence") for (const item of expression.items) visit(item, of);
    if (expression.kind === "choice") for (const option of expression.options) visit(option, of);
    if (expression.kind === "repeat") {
      if (mayBeEmpty(expression.item)) {
        throw grammarError("something that may be empty is repeated", {
          where: `rule "${of}"`,
          hint: "Let what is repeated have at least one character: (x?)* is x*.",
        });
      }
      visit(expression.item, of);
    }
  };
  find(start);
  for (const [name, expression] of rules) visit(expression, name);
  const done = new Set<string>();
  const path: string[] = [];
  const follow = (name: string): void => {
    const loop = path.indexOf(name);
    if (loop >= 0) {
      throw grammarError("a rule begins with itself", {
        where: `rule "${name}"`,
        got: [...path.slice(loop), name].join(" → "),
        hint: 'Let it end with itself instead: list ::= item ("," list)?',
      });
    }
    if (done.has(name)) return;
    path.push(name);
    for (const next of beginnings(find(name))) follow(next);
    path.pop();
    done.add(name);
  };
  for (const name of rules.keys()) follow(name);
}
