/**
 * Grammars as text, in the notation that llama.cpp made common (GBNF):
 *
 *     # a comment
 *     root  ::= greeting "，" name [。！]
 *     greeting ::= "你好" | "早上好"
 *     name  ::= [一-龥]{2,4}
 *
 * A rule is a name, `::=` and alternatives; it goes on to the next rule's name. Items are texts in double quotes, sets in
 * brackets, `.`, names of rules and groups in parentheses, each with `*`, `+`, `?` or `{m,n}` behind it. The text is what
 * `root` stands for. Escapes are those of regular expressions.
 */
import { choice, type Expression, type Grammar, grammarError, repeat, rule, sequence, text } from "./grammar.ts";
import { maxRepeats, parseRegularExpression } from "./regular-expression.ts";

const maxGrammarUnits = 200_000;
const maxNesting = 100;

interface Token {
  readonly kind: "name" | "define" | "item" | "mark";
  readonly value: string;
  readonly line: number;
}

const tokenPattern =
  /(?<blank>[ \t\r\n]+|#[^\n]*)|(?<define>::=)|(?<name>[A-Za-z_][\w-]*)|(?<item>"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\]|\.)|(?<mark>[|()*+?]|\{\d+(?:,\d*)?\})/uy;

function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  for (let at = 0; at < source.length; ) {
    tokenPattern.lastIndex = at;
    const found = tokenPattern.exec(source);
    if (found === null) {
      throw grammarError("the grammar cannot be read", {
        where: `line ${line}`,
        got: source.slice(at, at + 20).split("\n")[0]!,
      });
    }
    const { define, name, item, mark } = found.groups!;
    if (define !== undefined) tokens.push({ kind: "define", value: define, line });
    else if (name !== undefined) tokens.push({ kind: "name", value: name, line });
    else if (item !== undefined) tokens.push({ kind: "item", value: item, line });
    else if (mark !== undefined) tokens.push({ kind: "mark", value: mark, line });
    line += found[0].split("\n").length - 1;
    at += found[0].length;
  }
  return tokens;
}

/** Reads a grammar. Throws CPM_INFER_GRAMMAR naming the line. */
export function parseGrammar(source: string): Grammar {
  if (source.length > maxGrammarUnits)
    throw grammarError("the grammar is too long", {
      got: `${source.length} characters`,
      expected: `at most ${maxGrammarUnits}`,
    });
  const tokens = tokenize(source);
  let at = 0;
  let depth = 0;
  const refuse = (what: string, expected: string) => {
    const token = tokens[at];
    return grammarError(what, {
      where: `line ${token?.line ?? source.split("\n").length}`,
      got: token?.value ?? "the end",
      expected,
    });
  };
  const take = (value: string): boolean => {
    if (tokens[at]?.kind !== "mark" || tokens[at]!.value !== value) return false;
    at++;
    return true;
  };
  /** A name that is followed by ::= begins the next rule. */
  const isItem = (): boolean => {
    const token = tokens[at];
    if (token === undefined) return false;
    if (token.kind === "name") return tokens[at + 1]?.kind !== "define";
    return token.kind === "item" || (token.kind === "mark" && token.value === "(");
  };

  function alternatives(): Expression {
    if (++depth > maxNesting)
      throw refuse("the grammar is nested too deeply", `at most ${maxNesting} groups in each other`);
    const options = [items()];
    while (take("|")) options.push(items());
    depth--;
    return options.length === 1 ? options[0]! : choice(...options);
  }

  function items(): Expression {
    const found: Expression[] = [];
    while (isItem()) found.push(repeated(item()));
    return found.length === 1 ? found[0]! : sequence(...found);
  }

  function item(): Expression {
    const { kind, value } = tokens[at++]!;
    if (kind === "name") return rule(value);
    if (kind === "mark") {
      const inner = alternatives();
      if (!take(")")) throw refuse("a group is not closed", ")");
      return inner;
    }
    if (!value.startsWith('"')) return parseRegularExpression(value);
    // Inside of quotes only backslashes mean something.
    const body = value.slice(1, -1);
    return body === ""
      ? text("")
      : parseRegularExpression(
          body.replaceAll(/\\.|[[\](){}.*+?^$|]/gu, (each) => (each.length > 1 ? each : `\\${each}`)),
        );
  }

  function repeated(found: Expression): Expression {
    const token = tokens[at];
    if (token?.kind !== "mark") return found;
    const unlimited = Number.POSITIVE_INFINITY;
    if (take("*")) return repeat(found, 0, unlimited);
    if (take("+")) return repeat(found, 1, unlimited);
    if (take("?")) return repeat(found, 0, 1);
    const range = /^\{(\d+)(,(\d*))?\}$/.exec(token.value);
    if (range === null) return found;
    const min = Number(range[1]);
    const max = range[2] === undefined ? min : range[3] === "" ? unlimited : Number(range[3]);
    if (max < min || min > maxRepeats || (max > maxRepeats && max !== unlimited)) {
      throw refuse("a repetition is wrong", `{m,n} with m ≤ n ≤ ${maxRepeats}`);
    }
    at++;
    return repeat(found, min, max);
  }

  const rules = new Map<string, Expression>();
  while (at < tokens.length) {
    const name = tokens[at]!;
    if (name.kind !== "name" || tokens[at + 1]?.kind !== "define") throw refuse("a rule is expected", "name ::= …");
    if (rules.has(name.value)) throw refuse("a rule is there twice", "each name once");
    at += 2;
    rules.set(name.value, alternatives());
  }
  if (!rules.has("root"))
    throw grammarError("the grammar has no root", { expected: "a rule named root, which the text is" });
  return { rules, start: "root" };
}
