/**
 * Regular expressions as grammars: the whole text is one match.
 *
 * Literals, `.`, sets, `\d \w \s` and their opposites, `\t \n \r \f \v \0`, `\xHH`, `\uHHHH`, `\u{…}`, groups,
 * alternatives, and repetitions (a lazy one has the same texts). `^` and `$` stand at the very beginning and end only.
 * What looks around or back has no place here and is refused.
 */
import {
  type CharacterRanges,
  character,
  choice,
  complement,
  type Expression,
  grammarError,
  repeat,
  sequence,
  text,
} from "./grammar.ts";

const maxPatternUnits = 10_000;
const maxNesting = 100;
/** The most that `{m,n}` may ask for. */
export const maxRepeats = 100_000;

const digits: CharacterRanges = [[0x30, 0x39]];
const wordCharacters: CharacterRanges = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const spaces: CharacterRanges = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const lineEnds: CharacterRanges = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 };

/** Throws CPM_INFER_GRAMMAR naming the place. */
export function parseRegularExpression(pattern: string): Expression {
  const refuse = (what: string, at: number, expected?: string) =>
    grammarError(what, {
      where: `regular expression, character ${at + 1}`,
      got: pattern.slice(at, at + 20) || "the end",
      ...(expected === undefined ? {} : { expected }),
    });
  if (pattern.length > maxPatternUnits)
    throw refuse("the expression is too long", 0, `at most ${maxPatternUnits} characters`);
  let at = 0;
  let depth = 0;
  const end = pattern.length;
  const peek = () => pattern[at];
  const take = (expected: string): boolean => {
    if (!pattern.startsWith(expected, at)) return false;
    at += expected.length;
    return true;
  };

  function alternatives(): Expression {
    if (++depth > maxNesting) throw refuse("the expression is nested too deeply", at);
    const options = [terms()];
    while (take("|")) options.push(terms());
    depth--;
    return options.length === 1 ? options[0]! : choice(...options);
  }

  function terms(): Expression {
    const items: Expression[] = [];
    while (at < end && peek() !== "|" && peek() !== ")") {
      if (peek() === "$" && depth === 1 && (at === end - 1 || pattern[at + 1] === "|")) {
        at++;
        continue;
      }
      if (peek() === "^" && depth === 1 && (at === 0 || pattern[at - 1] === "|")) {
        at++;
        continue;
      }
      items.push(repeated(atom()));
    }
    return items.length === 1 ? items[0]! : sequence(...items);
  }

  function repeated(item: Expression): Expression {
    const start = at;
    let range: readonly [number, number];
    if (take("*")) range = [0, Number.POSITIVE_INFINITY];
    else if (take("+")) range = [1, Number.POSITIVE_INFINITY];
    else if (take("?")) range = [0, 1];
    else {
      const found = /^\{(\d+)(,(\d*))?\}/.exec(pattern.slice(at, at + 32));
      if (found === null) return item;
      at += found[0].length;
      const min = Number(found[1]);
      const max = found[2] === undefined ? min : found[3] === "" ? Number.POSITIVE_INFINITY : Number(found[3]);
      if (max < min || min > maxRepeats || (max > maxRepeats && max !== Number.POSITIVE_INFINITY))
        throw refuse("a repetition is wrong", start, `{m,n} with m ≤ n ≤ ${maxRepeats}`);
      range = [min, max];
    }
    take("?");
    if (/^[*+?]/.test(pattern.slice(at))) throw refuse("a repetition is repeated", at, "a group around the first");
    return repeat(item, ...range);
  }

  function atom(): Expression {
    const start = at;
    if (take("(")) {
      if (take("?") && !take(":"))
        throw refuse("what looks around, names or sets flags is not supported", start, "(?:…) or (…)");
      const inner = alternatives();
      if (!take(")")) throw refuse("a group is not closed", start);
      return inner;
    }
    if (take("[")) return set(start);
    if (take(".")) return character(complement(lineEnds));
    if (take("\\")) {
      const found = escaped(start);
      return typeof found === "number" ? text(String.fromCodePoint(found)) : character(found);
    }
    const unit = peek()!;
    if ("*+?{}]^$".includes(unit)) throw refuse(`"${unit}" cannot stand here`, at, `\\${unit} for the character`);
    return text(codePoint());
  }

  function codePoint(): string {
    const each = String.fromCodePoint(pattern.codePointAt(at)!);
    at += each.length;
    return each;
  }

  /** What follows a backslash: a character's code point, or a set. */
  function escaped(start: number): number | CharacterRanges {
    if (at >= end) throw refuse("the expression ends in a backslash", start);
    const sets: Readonly<Record<string, CharacterRanges>> = { d: digits, w: wordCharacters, s: spaces };
    const unit = pattern[at]!;
    const lower = unit.toLowerCase();
    if (sets[lower] !== undefined) {
      at++;
      return unit === lower ? sets[lower] : complement(sets[lower]);
    }
    if (controls[unit] !== undefined && !/^0\d/.test(pattern.slice(at))) {
      at++;
      return controls[unit];
    }
    const hex = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\})/.exec(pattern.slice(at, at + 10));
    if (hex !== null) {
      at += hex[0].length;
      const code = Number.parseInt((hex[1] ?? hex[2] ?? hex[3])!, 16);
      if (code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)) return code;
      throw refuse("this is no character", start);
    }
    if (/[A-Za-z0-9]/.test(unit))
      throw refuse(
        `\\${unit} is not supported`,
        start,
        "\\d \\w \\s \\t \\n \\r \\xHH \\uHHHH or a character after \\",
      );
    return codePoint().codePointAt(0)!;
  }

  function set(start: number): Expression {
    const negated = take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!take("]")) {
      if (at >= end) throw refuse("a set is not closed", start);
      const first = member();
      if (typeof first !== "number") {
        ranges.push(...first);
        continue;
      }
      if (peek() !== "-" || pattern[at + 1] === "]") {
        ranges.push([first, first]);
        continue;
      }
      const dash = at++;
      const last = at < end ? member() : first;
      if (typeof last !== "number" || last < first)
        throw refuse("a range of a set is wrong", dash, "a-z, the lower first");
      ranges.push([first, last]);
    }
    const found = character(negated ? complement(ranges) : ranges);
    if (found.kind === "character" && found.ranges.length === 0) throw refuse("a set has no character", start);
    return found;
  }

  function member(): number | CharacterRanges {
    const start = at;
    return take("\\") ? escaped(start) : codePoint().codePointAt(0)!;
  }

  const found = alternatives();
  if (at < end) throw refuse("a group is closed that was not opened", at);
  return found;
}
