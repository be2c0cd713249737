/**
 * From the words after the verb to checked options. Commander does the parsing and lays out the help; the values come
 * from, in rising order: the schema's defaults, the recipe (`-c`), `--set`, flags and arguments.
 */
import { Argument, Command, CommanderError, Option } from "commander";
import { z } from "zod";
import { ConfigError, type ErrorDetails } from "../util/error.ts";
import type { CommandDefinition } from "./command.ts";
import { type Field, fieldsOf } from "./fields.ts";
import { configureHelp, fieldDescription, settingsHelp, usageLine } from "./help.ts";
import type { Locale } from "./locale.ts";
import { frame } from "./messages/frame.ts";
import { text } from "./messages/message.ts";
import { applySet, checkKeys, readRecipe, type Tree, yamlValue } from "./recipe.ts";
import { nearest } from "./suggest.ts";

/** What the words after a verb ask for. */
export type Request<S extends z.ZodObject> =
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "schema"; readonly schema: unknown }
  | { readonly kind: "run"; readonly options: z.output<S>; readonly json: boolean };

/** Keys of Commander's option store that are not the schema's; camelCase keys cannot collide with them. */
const common = { recipe: "recipe", set: "set", json: "json", jsonSchema: "jsonSchema", lang: "lang" } as const;

/** Parses the words after the verb. Throws `ConfigError` with `CPM_CLI_…` codes. */
export function parseRequest<S extends z.ZodObject>(
  definition: CommandDefinition<S>,
  words: readonly string[],
  locale: Locale,
  columns: number,
): Request<S> {
  const fields = fieldsOf(definition.schema);
  const program = buildCommand(definition, fields, locale, columns);
  try {
    program.parse([...words], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed") return { kind: "help", text: helpText(definition, locale, columns) };
    throw usageError(error, definition.name, program, locale);
  }
  const given = program.opts<Record<string, unknown>>();
  if (given[common.jsonSchema] === true) return { kind: "schema", schema: jsonSchemaOf(definition) };

  const tree: Tree = given[common.recipe] === undefined ? {} : readRecipe(String(given[common.recipe]), locale);
  for (const assignment of (given[common.set] as string[] | undefined) ?? []) applySet(tree, assignment, locale);
  checkKeys(definition.schema, tree, [], locale);
  for (const field of fields) {
    if (field.flag === undefined) continue;
    const value = given[optionKey(field)];
    if (value !== undefined) tree[field.key] = flagValue(field, value, locale);
  }
  takeArguments(
    fields.filter((field) => field.positional),
    program.args,
    tree,
    definition.name,
    locale,
  );
  const result = definition.schema.safeParse(tree, {
    error: (locale === "zh" ? z.locales.zhCN() : z.locales.en()).localeError,
  });
  if (!result.success) throw invalidOption(result.error.issues[0]!, fields, tree, definition.name, locale);
  return { kind: "run", options: result.data, json: given[common.json] === true };
}

/** The help page of a command. */
export function helpText(definition: CommandDefinition, locale: Locale, columns: number): string {
  const fields = fieldsOf(definition.schema);
  const program = buildCommand(definition, fields, locale, columns);
  return `${program.helpInformation()}${settingsHelp(definition, fields, locale, columns)}`;
}

/** The JSON Schema of a command's options, as a recipe holds them. */
export function jsonSchemaOf(definition: CommandDefinition): unknown {
  return {
    ...z.toJSONSchema(definition.schema.strict(), {
      io: "input",
      // These say how a flag looks, which a recipe does not care about.
      override: ({ jsonSchema }) => {
        for (const key of ["placeholder", "positional", "alias", "flag"]) delete jsonSchema[key];
      },
    }),
    title: `cpm ${definition.name}`,
    description: definition.summary.en,
  };
}

function buildCommand(
  definition: CommandDefinition,
  fields: readonly Field[],
  locale: Locale,
  columns: number,
): Command {
  const program = new Command(`cpm ${definition.name}`);
  configureHelp(program, locale, columns);
  program.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  program.allowExcessArguments(true).helpCommand(false);
  program.usage(usageLine(fields, locale));
  program.description(text(locale, definition.description ?? definition.summary));
  for (const field of fields) {
    if (field.positional) {
      const name = field.list ? `${field.placeholder}...` : field.placeholder;
      // A recipe may give it: the schema, not Commander, says what is missing.
      program.addArgument(new Argument(`[${name}]`, fieldDescription(field, locale)));
    } else if (field.flag !== undefined) {
      addFlag(program, field, locale);
    }
  }
  program.optionsGroup(frame.commonOptionsTitle[locale]);
  program.option("-c, --recipe <FILE>", frame.recipeOption[locale]);
  program.addOption(new Option("--set <KEY=VALUE>", frame.setOption[locale]).argParser(collect));
  if (definition.json === true) program.option("--json", frame.jsonOption[locale]);
  program.option("--json-schema", frame.schemaOption[locale]);
  program.option("--lang <LANG>", frame.langOption[locale]);
  program.helpOption("-h, --help", frame.helpOption[locale]);
  return program;
}

function addFlag(program: Command, field: Field, locale: Locale): void {
  const short = field.alias === undefined ? "" : `-${field.alias}, `;
  const description = fieldDescription(field, locale);
  if (field.kind === "boolean" && !field.list) {
    const on = new Option(`${short}--${field.flag}`, description);
    const off = new Option(`--no-${field.flag}`, description);
    // The help shows the one that changes something; the other overrides a recipe.
    program.addOption(field.defaultValue === true ? on.hideHelp() : on);
    program.addOption(field.defaultValue === true ? off : off.hideHelp());
    return;
  }
  const option = new Option(`${short}--${field.flag} <${field.placeholder}>`, description);
  program.addOption(field.list ? option.argParser(collect) : option);
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** Commander's key for a flag: its long name in camelCase. */
function optionKey(field: Field): string {
  return field.flag!.replaceAll(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** A flag's text as the value that the schema expects. Lists of numbers and choices may be separated by commas. */
function flagValue(field: Field, value: unknown, locale: Locale): unknown {
  if (typeof value === "boolean") return value;
  if (Array.isArray(value)) {
    const plain = field.kind === "string" || field.kind === "any";
    const items = plain ? value : value.flatMap((item: string) => item.split(","));
    return items.map((item: string) => scalar(field, item, locale));
  }
  return scalar(field, String(value), locale);
}

function scalar(field: Field, value: string, locale: Locale): unknown {
  const wrong = (expected: string) =>
    new ConfigError("CPM_CLI_OPTION", frame.invalidOptions[locale], { where: `--${field.flag}`, got: value, expected });
  switch (field.kind) {
    case "number":
    case "integer": {
      const number = Number(value);
      if (value.trim() === "" || Number.isNaN(number)) throw wrong(frame.notANumber[locale]);
      return number;
    }
    case "boolean":
      if (value !== "true" && value !== "false") throw wrong(frame.notABoolean[locale]);
      return value === "true";
    case "any":
      return yamlValue(value);
    default:
      return value;
  }
}

function takeArguments(
  positionals: readonly Field[],
  words: readonly string[],
  tree: Tree,
  verb: string,
  locale: Locale,
): void {
  let next = 0;
  for (const field of positionals) {
    if (next >= words.length) return;
    if (field.list) {
      tree[field.key] = words.slice(next).map((word) => scalar(field, word, locale));
      next = words.length;
    } else {
      tree[field.key] = scalar(field, words[next++]!, locale);
    }
  }
  if (next < words.length) {
    throw new ConfigError("CPM_CLI_USAGE", text(locale, frame.excessArgument, { name: words[next]! }), {
      hint: text(locale, frame.seeHelp, { command: `cpm ${verb}` }),
    });
  }
}

function usageError(error: CommanderError, verb: string, program: Command, locale: Locale): ConfigError {
  const name = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  const help = text(locale, frame.seeHelp, { command: `cpm ${verb}` });
  const details: ErrorDetails = { where: `cpm ${verb}`, hint: help };
  if (error.code === "commander.unknownOption") {
    const known = program.options.flatMap((option) => [option.long, option.short]).filter((flag) => flag != null);
    const suggestion = nearest(name, known);
    return new ConfigError("CPM_CLI_USAGE", text(locale, frame.unknownOption, { command: `cpm ${verb}`, name }), {
      ...details,
      hint: suggestion === undefined ? help : text(locale, frame.didYouMean, { name: suggestion }),
    });
  }
  if (error.code === "commander.optionMissingArgument") {
    return new ConfigError("CPM_CLI_USAGE", text(locale, frame.optionArgument, { name }), details);
  }
  return new ConfigError("CPM_CLI_USAGE", text(locale, frame.commandLineWrong, { what: error.message }), details);
}

/** The first issue of the schema as an error that names the flag or the key. */
function invalidOption(
  issue: z.core.$ZodIssue,
  fields: readonly Field[],
  tree: Tree,
  verb: string,
  locale: Locale,
): ConfigError {
  const path = issue.path.map(String);
  const field = fields.find(({ key }) => key === path[0]);
  const value = path.reduce<unknown>((node, key) => (node as Tree | undefined)?.[key], tree);
  const name = field === undefined || path.length > 1 ? path.join(".") : nameOf(field);
  const hint = text(locale, frame.seeHelp, { command: `cpm ${verb}` });
  if (value === undefined) {
    return new ConfigError("CPM_CLI_MISSING", text(locale, frame.missingValue, { name }), {
      expected: field?.summary[locale],
      hint,
    });
  }
  return new ConfigError("CPM_CLI_OPTION", frame.invalidOptions[locale], {
    where: name,
    got: JSON.stringify(value),
    expected: expectedBy(issue, path.length > 1 ? undefined : field, locale),
    hint,
  });
}

/** What the schema wanted where it found something else, in few words. */
function expectedBy(issue: z.core.$ZodIssue, field: Field | undefined, locale: Locale): string {
  if (field?.kind === "bytes") return frame.aQuantityOfBytes[locale];
  if (field?.kind === "duration") return frame.aDuration[locale];
  switch (issue.code) {
    case "invalid_value":
      return issue.values.map(String).join(" · ");
    case "too_small":
      if (issue.origin === "number") return `${issue.inclusive === false ? ">" : "≥"} ${issue.minimum}`;
      return issue.message;
    case "too_big":
      if (issue.origin === "number") return `${issue.inclusive === false ? "<" : "≤"} ${issue.maximum}`;
      return issue.message;
    case "invalid_type": {
      const words: Readonly<Record<string, keyof typeof frame>> = {
        number: "notANumber",
        int: "aWholeNumber",
        boolean: "notABoolean",
        string: "aText",
        array: "aList",
        object: "aMap",
      };
      const word = words[issue.expected];
      return word === undefined ? issue.message : frame[word][locale];
    }
    default:
      return issue.message;
  }
}

function nameOf(field: Field): string {
  if (field.positional) return `<${field.placeholder}>`;
  return field.flag === undefined ? field.key : `--${field.flag}`;
}
