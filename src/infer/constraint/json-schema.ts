/**
 * JSON Schemas as grammars: every text of the grammar is JSON that the schema accepts.
 *
 * The other way round not every accepted text is in the grammar: properties come in the order in which the schema names
 * them and none that it does not name, there is at most one space after `:` and `,`, numbers have at most 16 digits before
 * and after the point, and a `pattern` is matched as a whole. Of keywords that restrict, a schema may have those below;
 * others are refused, since ignoring them would give texts that the schema does not accept.
 *
 *     type (one or several) · enum · const · anyOf · $ref to "#/$defs/…" or "#/definitions/…"
 *     object: properties, required, additionalProperties · array: items, minItems, maxItems
 *     string: minLength, maxLength, or pattern
 */
import { ConfigError } from "../../util/error.ts";
import {
  type CharacterRanges,
  character,
  choice,
  complement,
  contains,
  type Expression,
  type Grammar,
  intersection,
  repeat,
  rule,
  sequence,
  text,
} from "./grammar.ts";
import { maxRepeats, parseRegularExpression } from "./regular-expression.ts";

const maxDepth = 64;
const maxSchemas = 5_000;

/** What says something about a value, but restricts nothing. */
const annotations = new Set([
  "$schema",
  "$id",
  "$comment",
  "$defs",
  "definitions",
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
]);
/** Keywords that restrict values of one type only. */
const keywordsOf: Readonly<Record<string, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "pattern"],
};
const types = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;
type TypeName = (typeof types)[number];

const controlRanges: CharacterRanges = [[0, 0x1f]];
/** What must be escaped in a JSON string: quote, backslash, controls. */
const escapedRanges: CharacterRanges = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const plainCharacter = character(complement(escapedRanges));
const hexDigit = character([
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
]);
const digit = character([[0x30, 0x39]]);

/** Rules that every schema may use. */
const commonRules: ReadonlyMap<string, Expression> = new Map([
  // Of \u escapes only those below the surrogates, which would have to come in pairs.
  [
    "character",
    choice(
      plainCharacter,
      sequence(
        text("\\"),
        choice(
          character([...'"\\/bfnrt'].map((each) => [each.charCodeAt(0), each.charCodeAt(0)] as const)),
          sequence(
            text("u"),
            character([
              [0x30, 0x39],
              [0x41, 0x43],
              [0x61, 0x63],
            ]),
            repeat(hexDigit, 3, 3),
          ),
        ),
      ),
    ),
  ],
  ["string", sequence(text('"'), repeat(rule("character"), 0), text('"'))],
  [
    "whole",
    sequence(repeat(text("-"), 0, 1), choice(text("0"), sequence(character([[0x31, 0x39]]), repeat(digit, 0, 15)))),
  ],
  [
    "number",
    sequence(
      rule("whole"),
      repeat(sequence(text("."), repeat(digit, 1, 16)), 0, 1),
      repeat(
        sequence(
          character([
            [0x45, 0x45],
            [0x65, 0x65],
          ]),
          repeat(
            character([
              [0x2b, 0x2b],
              [0x2d, 0x2d],
            ]),
            0,
            1,
          ),
          repeat(digit, 1, 2),
        ),
        0,
        1,
      ),
    ),
  ],
  ["space", repeat(text(" "), 0, 1)],
  ["comma", sequence(text(","), rule("space"))],
  ["colon", sequence(text(":"), rule("space"))],
  ["member", sequence(rule("string"), rule("colon"), rule("value"))],
  [
    "object",
    sequence(
      text("{"),
      repeat(sequence(rule("member"), repeat(sequence(rule("comma"), rule("member")), 0)), 0, 1),
      text("}"),
    ),
  ],
  [
    "array",
    sequence(
      text("["),
      repeat(sequence(rule("value"), repeat(sequence(rule("comma"), rule("value")), 0)), 0, 1),
      text("]"),
    ),
  ],
  [
    "value",
    choice(rule("object"), rule("array"), rule("string"), rule("number"), text("true"), text("false"), text("null")),
  ],
]);

/** Any JSON object. */
export function jsonObjectGrammar(): Grammar {
  return { rules: commonRules, start: "object" };
}

/** The grammar of a schema. Throws CPM_INFER_SCHEMA naming the place and what is not supported there. */
export function jsonSchemaGrammar(schema: unknown): Grammar {
  const rules = new Map(commonRules);
  const references = new Map<string, string>();
  let count = 0;

  const refuse = (path: string, what: string, detail: { got?: string; expected?: string; hint?: string } = {}) =>
    new ConfigError("CPM_INFER_SCHEMA", what, { where: `schema ${path === "" ? "(root)" : path}`, ...detail });

  /** The expression as a rule: what is used in several places is compiled once. */
  function named(name: string, expression: Expression): Expression {
    rules.set(name, expression);
    return rule(name);
  }

  function visit(part: unknown, path: string, depth: number): Expression {
    if (++count > maxSchemas || depth > maxDepth)
      throw refuse(path, "the schema is too large", { expected: `at most ${maxSchemas} parts, ${maxDepth} deep` });
    if (part === true) return rule("value");
    if (part === false) throw refuse(path, "the schema accepts nothing here");
    if (typeof part !== "object" || part === null || Array.isArray(part))
      throw refuse(path, "this is no schema", { got: excerpt(part), expected: "an object" });
    const found = part as Readonly<Record<string, unknown>>;
    const restricting = Object.keys(found).filter((key) => !annotations.has(key));
    /** Fails for keywords beside these. */
    const only = (...allowed: string[]) => {
      const other = restricting.find((key) => !allowed.includes(key));
      if (other !== undefined) {
        throw refuse(`${path}/${other}`, `"${other}" is not supported here`, {
          got: excerpt(found[other]),
          expected: allowed.length > 0 ? `${allowed.join(", ")}` : "nothing else",
          hint: "Leave the keyword out and check the value afterwards.",
        });
      }
    };
    if (found.$ref !== undefined) {
      only("$ref");
      return reference(found.$ref, path, depth);
    }
    if (found.const !== undefined) {
      only("const", "type");
      return literal(found.const, path);
    }
    if (found.enum !== undefined) {
      only("enum", "type");
      if (!Array.isArray(found.enum) || found.enum.length === 0)
        throw refuse(`${path}/enum`, "an enum is a list of values", { got: excerpt(found.enum) });
      const wanted = typesOf(found.type, path);
      const values = found.enum.filter((value) => wanted === undefined || wanted.some((type) => isOfType(value, type)));
      if (values.length === 0) throw refuse(`${path}/enum`, "no value of the enum has the type");
      return choice(...values.map((value) => literal(value, path)));
    }
    if (found.anyOf !== undefined) {
      only("anyOf");
      if (!Array.isArray(found.anyOf) || found.anyOf.length === 0)
        throw refuse(`${path}/anyOf`, "anyOf is a list of schemas", { got: excerpt(found.anyOf) });
      return choice(...found.anyOf.map((option, index) => visit(option, `${path}/anyOf/${index}`, depth + 1)));
    }
    const wanted = typesOf(found.type, path) ?? impliedTypes(restricting);
    only("type", ...wanted.flatMap((type) => keywordsOf[type] ?? []));
    return choice(...wanted.map((type) => ofType(type, found, path, depth)));
  }

  function typesOf(given: unknown, path: string): readonly TypeName[] | undefined {
    if (given === undefined) return undefined;
    const list = Array.isArray(given) ? given : [given];
    const wrong = list.find((name) => !types.includes(name as TypeName));
    if (list.length === 0 || wrong !== undefined)
      throw refuse(`${path}/type`, "there is no such type", { got: excerpt(given), expected: types.join(", ") });
    return list as TypeName[];
  }

  function ofType(type: TypeName, found: Readonly<Record<string, unknown>>, path: string, depth: number): Expression {
    switch (type) {
      case "object":
        return objectOf(found, path, depth);
      case "array":
        return arrayOf(found, path, depth);
      case "string":
        return stringOf(found, path);
      case "number":
        return rule("number");
      case "integer":
        return rule("whole");
      case "boolean":
        return choice(text("true"), text("false"));
      case "null":
        return text("null");
    }
  }

  function reference(target: unknown, path: string, depth: number): Expression {
    if (typeof target !== "string" || !/^#(\/|$)/.test(target)) {
      throw refuse(`${path}/$ref`, "only references into the schema itself are supported", {
        got: excerpt(target),
        expected: "#/$defs/NAME",
      });
    }
    const known = references.get(target);
    if (known !== undefined) return rule(known);
    let part: unknown = schema;
    for (const key of target.split("/").slice(1)) {
      const name = key.replaceAll("~1", "/").replaceAll("~0", "~");
      part =
        typeof part === "object" && part !== null && Object.hasOwn(part, name)
          ? (part as Record<string, unknown>)[name]
          : undefined;
    }
    if (part === undefined) throw refuse(`${path}/$ref`, "the reference leads nowhere", { got: target });
    const name = `reference ${target}`;
    references.set(target, name);
    rules.set(name, visit(part, target.slice(1), depth + 1));
    return rule(name);
  }

  function literal(value: unknown, path: string): Expression {
    const json = JSON.stringify(value);
    if (json === undefined) throw refuse(path, "this value is no JSON", { got: String(value) });
    return text(json);
  }

  function whole(value: unknown, path: string, missing: number): number {
    if (value === undefined) return missing;
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxRepeats) return value as number;
    throw refuse(path, "this must be a whole number", { got: excerpt(value), expected: `0 to ${maxRepeats}` });
  }

  function range(found: Readonly<Record<string, unknown>>, low: string, high: string, path: string): [number, number] {
    const min = whole(found[low], `${path}/${low}`, 0);
    const max = whole(found[high], `${path}/${high}`, Number.POSITIVE_INFINITY);
    if (min > max) throw refuse(path, `${low} exceeds ${high}`, { got: `${min} and ${max}` });
    return [min, max];
  }

  function stringOf(found: Readonly<Record<string, unknown>>, path: string): Expression {
    if (found.pattern === undefined) {
      const [min, max] = range(found, "minLength", "maxLength", path);
      return sequence(text('"'), repeat(rule("character"), min, max), text('"'));
    }
    if (found.minLength !== undefined || found.maxLength !== undefined) {
      throw refuse(path, "pattern together with minLength or maxLength is not supported", {
        hint: "Say the length in the pattern: ^.{2,8}$.",
      });
    }
    if (typeof found.pattern !== "string")
      throw refuse(`${path}/pattern`, "a pattern is a text", { got: excerpt(found.pattern) });
    return sequence(text('"'), insideString(parseRegularExpression(found.pattern)), text('"'));
  }

  function arrayOf(found: Readonly<Record<string, unknown>>, path: string, depth: number): Expression {
    const [min, max] = range(found, "minItems", "maxItems", path);
    if (max === 0) return text("[]");
    const items = `${path}/items`;
    const item = found.items === undefined ? rule("value") : named(items, visit(found.items, items, depth + 1));
    const full = sequence(item, repeat(sequence(rule("comma"), item), Math.max(0, min - 1), max - 1));
    return sequence(text("["), min === 0 ? repeat(full, 0, 1) : full, text("]"));
  }

  function objectOf(found: Readonly<Record<string, unknown>>, path: string, depth: number): Expression {
    const { properties = {}, required = [], additionalProperties = true } = found;
    if (typeof properties !== "object" || properties === null || Array.isArray(properties))
      throw refuse(`${path}/properties`, "properties are an object of schemas", { got: excerpt(properties) });
    if (!Array.isArray(required) || required.some((name) => typeof name !== "string"))
      throw refuse(`${path}/required`, "required is a list of names", { got: excerpt(required) });
    const names = Object.keys(properties);
    const absent = required.find((name) => !names.includes(name as string));
    if (absent !== undefined)
      throw refuse(`${path}/required`, "a required property has no schema", {
        got: String(absent),
        expected: names.join(", "),
      });
    if (names.length === 0) {
      if (additionalProperties === false) return text("{}");
      if (additionalProperties === true) return rule("object");
      const values = `${path}/additionalProperties`;
      const member = named(
        values,
        sequence(rule("string"), rule("colon"), visit(additionalProperties, values, depth + 1)),
      );
      return sequence(text("{"), repeat(sequence(member, repeat(sequence(rule("comma"), member), 0)), 0, 1), text("}"));
    }
    const members = names.map((name) => ({
      required: required.includes(name),
      expression: sequence(
        text(JSON.stringify(name)),
        rule("colon"),
        visit((properties as Record<string, unknown>)[name], `${path}/properties/${name}`, depth + 1),
      ),
    }));
    return sequence(text("{"), membersFrom(members, `${path || "(root)"} members`), text("}"));
  }

  /**
   * Members in their order, of which some may be left out, with commas between those that are there. A rule says what comes
   * from a member on: one where nothing came before it, one where something did.
   */
  function membersFrom(members: readonly { required: boolean; expression: Expression }[], stem: string): Expression {
    const name = (kind: "first" | "more", index: number) => `${stem} ${kind} ${index}`;
    members.forEach(({ required: isRequired, expression }, index) => {
      const last = index === members.length - 1;
      const rest = last ? text("") : rule(name("more", index + 1));
      const leftOut = (kind: "first" | "more") => (last ? text("") : rule(name(kind, index + 1)));
      const taken = sequence(expression, rest);
      const more = sequence(rule("comma"), taken);
      rules.set(name("first", index), isRequired ? taken : choice(taken, leftOut("first")));
      rules.set(name("more", index), isRequired ? more : choice(more, leftOut("more")));
    });
    return rule(name("first", 0));
  }

  rules.set("schema", visit(schema, "", 0));
  return { rules, start: "schema" };
}

/** Without a type, keywords say which they are for; without those, any value is meant. */
function impliedTypes(keywords: readonly string[]): readonly TypeName[] {
  const found = Object.entries(keywordsOf).filter(([, own]) => own.some((key) => keywords.includes(key)));
  return found.length === 0 ? types.filter((type) => type !== "integer") : (found.map(([type]) => type) as TypeName[]);
}

function isOfType(value: unknown, type: TypeName): boolean {
  switch (type) {
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    case "null":
      return value === null;
    default:
      return typeof value === type;
  }
}

/** An expression over a string's characters as they are written in JSON: quote, backslash and controls escaped. */
function insideString(expression: Expression): Expression {
  switch (expression.kind) {
    case "text":
      return text(JSON.stringify(expression.text).slice(1, -1));
    case "character": {
      const plain = intersection(expression.ranges, complement(escapedRanges));
      const escapes = ['"', "\\"]
        .filter((each) => contains(expression.ranges, each.charCodeAt(0)))
        .map((each) => text(`\\${each}`));
      const controls = intersection(expression.ranges, controlRanges).flatMap(([first, last]) =>
        Array.from({ length: last - first + 1 }, (_, i) =>
          text(JSON.stringify(String.fromCharCode(first + i)).slice(1, -1)),
        ),
      );
      return choice(...(plain.length > 0 ? [character(plain)] : []), ...escapes, ...controls);
    }
    case "sequence":
      return { kind: "sequence", items: expression.items.map(insideString) };
    case "choice":
      return { kind: "choice", options: expression.options.map(insideString) };
    case "repeat":
      return { ...expression, item: insideString(expression.item) };
    case "rule":
      return expression;
  }
}

function excerpt(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}
