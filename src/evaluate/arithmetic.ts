/**
 * The value of an equation such as Math23K's, by a parser of its own: nothing is ever executed.
 *
 *     equation   side (= side)*      the value is the first side that is not the unknown alone
 *     side       term ((+ | -) term)*
 *     term       factor ((* | /) factor | bracket)*       a bracket behind a factor is a product
 *     factor     (+ | -)* power
 *     power      primary (^ factor)?
 *     primary    (number | bracket) %*                     3(1/2), 3((1)/(2)): a mixed number, three and a half
 *
 * Full-width signs, × ÷ ： and all kinds of brackets are read as theirs. Numbers are doubles.
 */

/** Anything longer is no equation; also bounds the depth of brackets. */
const maxCharacters = 400;
const maxDepth = 60;

const replaced: Readonly<Record<string, string>> = {
  "×": "*",
  "·": "*",
  "∗": "*",
  "÷": "/",
  "∶": "/",
  ":": "/",
  "−": "-",
  "–": "-",
  "[": "(",
  "{": "(",
  "【": "(",
  "〔": "(",
  "]": ")",
  "}": ")",
  "】": ")",
  "〕": ")",
};

/** The value, or undefined where the text is no equation or has no finite value. */
export function evaluateEquation(text: string): number | undefined {
  if (text.length > maxCharacters) return undefined;
  const plain = text
    .normalize("NFKC")
    .replaceAll(/\s+/g, "")
    .replaceAll("**", "^")
    .replaceAll(/./gu, (character) => replaced[character] ?? character);
  const sides = plain.split("=").filter((side) => !/^[a-z]?$/i.test(side));
  if (sides.length === 0) return undefined;
  const value = evaluateSide(sides[0]!);
  return value !== undefined && Number.isFinite(value) ? value : undefined;
}

/** Whether two values are the same within rounding: |a − b| ≤ tolerance · max(1, |b|). */
export function sameValue(a: number, b: number, tolerance = 1e-4): boolean {
  return Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b));
}

function evaluateSide(source: string): number | undefined {
  let at = 0;
  let depth = 0;
  const fail = (): never => {
    throw new NoEquation();
  };
  const take = (sign: string): boolean => {
    if (source[at] !== sign) return false;
    at++;
    return true;
  };

  function sum(): number {
    if (++depth > maxDepth) fail();
    let value = term();
    for (;;) {
      if (take("+")) value += term();
      else if (take("-")) value -= term();
      else break;
    }
    depth--;
    return value;
  }

  function term(): number {
    let value = factor();
    for (;;) {
      if (take("*")) value *= factor();
      else if (take("/")) value /= factor();
      else if (source[at] === "(") value *= factor();
      else return value;
    }
  }

  function factor(): number {
    let sign = 1;
    for (;;) {
      if (take("-")) sign = -sign;
      else if (!take("+")) break;
      if (at >= source.length) fail();
    }
    const base = primary();
    if (!take("^")) return sign * base;
    if (++depth > maxDepth) fail();
    const exponent = factor();
    depth--;
    return sign * base ** exponent;
  }

  function primary(): number {
    let value: number;
    if (take("(")) {
      value = sum();
      if (!take(")")) fail();
    } else {
      value = number();
      const fraction = /^\((?:(\d+)\/(\d+)|\((\d+)\)\/\((\d+)\))\)/.exec(source.slice(at, at + 80));
      if (fraction !== null && Number.isInteger(value)) {
        value += Number(fraction[1] ?? fraction[3]) / Number(fraction[2] ?? fraction[4]);
        at += fraction[0].length;
      }
    }
    while (take("%")) value /= 100;
    return value;
  }

  function number(): number {
    const match = /^(\d+(\.\d*)?|\.\d+)/.exec(source.slice(at, at + 40));
    if (match === null) return fail();
    at += match[0].length;
    return Number(match[0]);
  }

  try {
    const value = sum();
    return at === source.length ? value : undefined;
  } catch (error) {
    if (error instanceof NoEquation) return undefined;
    throw error;
  }
}

class NoEquation extends Error {}
