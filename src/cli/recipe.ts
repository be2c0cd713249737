/**
 * Where a command's options come from besides flags: a YAML recipe and `--set a.b=value`. Both build one plain tree,
 * which is checked for keys that the schema does not have before the schema judges the values.
 */
import { readFileSync, statSync } from "node:fs";
import { parse, parseDocument } from "yaml";
import type { z } from "zod";
import { ConfigError, FileError } from "../util/error.ts";
import { unwrap } from "./fields.ts";
import type { Locale } from "./locale.ts";
import { frame } from "./messages/frame.ts";
import { text } from "./messages/message.ts";
import { nearest } from "./suggest.ts";

export type Tree = { [key: string]: unknown };

/** A recipe is written by hand: anything larger is some other file. */
const maxRecipeBytes = 1024 * 1024;

/** Reads a YAML recipe: a map, without aliases that expand beyond reason (the parser's own limit of 100 holds). */
export function readRecipe(path: string, locale: Locale): Tree {
  let source: string;
  try {
    if (statSync(path).size > maxRecipeBytes) {
      throw new ConfigError("CPM_CLI_RECIPE", text(locale, frame.recipeTooLarge, { path }), {
        where: path,
        got: `${statSync(path).size} B`,
        expected: `≤ ${maxRecipeBytes} B`,
      });
    }
    source = readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new FileError("CPM_CLI_RECIPE_READ", text(locale, frame.recipeUnreadable, { path }), { where: path, cause });
  }
  const document = parseDocument(source, { prettyErrors: true, uniqueKeys: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const at = problem.linePos?.[0];
    throw new ConfigError("CPM_CLI_RECIPE", text(locale, frame.recipeSyntax, { path }), {
      where: at === undefined ? path : `${path}:${at.line}:${at.col}`,
      got: problem.message.split("\n")[0]?.replace(/ at line \d+, column \d+:?$/, ""),
    });
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new ConfigError("CPM_CLI_RECIPE", text(locale, frame.recipeSyntax, { path }), { where: path, cause });
  }
  if (value === null) return {};
  if (!isTree(value)) {
    throw new ConfigError("CPM_CLI_RECIPE", text(locale, frame.recipeNotAMap, { path }), { where: path });
  }
  return value;
}

/** Applies one `--set a.b=value` to a tree; the value is read as YAML, so `1e-4`, `true`, `[1, 2]` mean what they say. */
export function applySet(tree: Tree, assignment: string, locale: Locale): void {
  const equals = assignment.indexOf("=");
  const keys = assignment.slice(0, Math.max(0, equals)).split(".");
  if (equals < 1 || keys.some((key) => key === "" || key === "__proto__")) {
    throw new ConfigError("CPM_CLI_USAGE", text(locale, frame.setForm), { where: "--set", got: assignment });
  }
  let node = tree;
  for (const [index, key] of keys.slice(0, -1).entries()) {
    const next = Object.hasOwn(node, key) ? (node[key] ?? {}) : {};
    if (!isTree(next)) {
      const name = keys.slice(0, index + 1).join(".");
      throw new ConfigError("CPM_CLI_USAGE", text(locale, frame.setThroughScalar, { name }), { where: "--set" });
    }
    node = node[key] = next;
  }
  node[keys.at(-1)!] = yamlValue(assignment.slice(equals + 1));
}

/** A value from the command line as YAML reads it; what is no YAML is text. */
export function yamlValue(source: string): unknown {
  try {
    return parse(source) ?? (source.trim() === "" ? source : null);
  } catch {
    return source;
  }
}

/** Throws for the first key that the schema does not have, with the nearest one that it does. */
export function checkKeys(schema: z.core.$ZodType, value: unknown, path: readonly string[], locale: Locale): void {
  const { type } = unwrap(schema);
  const def = type._zod.def;
  if (def.type === "array" && Array.isArray(value)) {
    const { element } = def as z.core.$ZodArrayDef;
    for (const [index, item] of value.entries()) checkKeys(element, item, [...path, String(index)], locale);
  } else if (def.type === "object" && isTree(value)) {
    const { shape } = def as z.core.$ZodObjectDef;
    for (const [key, item] of Object.entries(value)) {
      const inner = Object.hasOwn(shape, key) ? shape[key] : undefined;
      if (inner === undefined) throw unknownKey([...path, key].join("."), key, Object.keys(shape), locale);
      checkKeys(inner, item, [...path, key], locale);
    }
  }
}

function unknownKey(name: string, key: string, known: readonly string[], locale: Locale): ConfigError {
  const suggestion = nearest(key, known);
  return new ConfigError("CPM_CLI_UNKNOWN_KEY", text(locale, frame.unknownKey, { name }), {
    got: key,
    hint:
      suggestion === undefined
        ? text(locale, frame.knownNames, { names: known.join(locale === "zh" ? "、" : ", ") })
        : text(locale, frame.didYouMean, { name: suggestion }),
  });
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
