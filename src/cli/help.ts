/** The layout of help pages over Commander's: titles and notes in the reader's language, widths that know Chinese. */
import { type Command, Help } from "commander";
import type { CommandDefinition } from "./command.ts";
import type { Field } from "./fields.ts";
import type { Locale } from "./locale.ts";
import { frame } from "./messages/frame.ts";
import { text } from "./messages/message.ts";
import { padColumns, textWidth, wrapColumns } from "./text-width.ts";

const titles: Readonly<Record<string, keyof typeof frame>> = {
  "Usage:": "usage",
  "Arguments:": "argumentsTitle",
  "Options:": "optionsTitle",
  "Commands:": "commandsTitle",
};

/** Commander's own layout, which asks the helper for every part. */
function defaultLayout(command: Command, helper: Help): string {
  return Help.prototype.formatHelp.call(helper, command, helper);
}

/** Makes Commander's help speak the locale and measure text in terminal columns. */
export function configureHelp(program: Command, locale: Locale, columns: number): void {
  program.configureHelp({
    helpWidth: columns,
    displayWidth: textWidth,
    boxWrap: (description, width) => wrapColumns(description, width),
    // Commander puts a space after "Usage:", which Chinese punctuation has in itself.
    formatHelp: (command, helper) => defaultLayout(command, helper).replace(`${frame.usage.zh} `, frame.usage.zh),
    styleTitle: (title) => {
      const key = titles[title];
      return key === undefined ? title : frame[key][locale];
    },
  });
}

/** The arguments of a command, as `<FILE> [TEXT...] [options]`. */
export function usageLine(fields: readonly Field[], locale: Locale): string {
  const words = fields
    .filter((field) => field.positional)
    .map((field) => {
      const name = field.list ? `${field.placeholder}...` : field.placeholder;
      return field.required ? `<${name}>` : `[${name}]`;
    });
  return [...words, frame.optionsPlaceholder[locale]].join(" ");
}

/** A field's text with what its type adds: choices, unit, default, that it is required or repeatable. */
export function fieldDescription(field: Field, locale: Locale): string {
  const notes: string[] = [];
  if (field.choices.length > 0) notes.push(field.choices.join(" | "));
  if (field.unit !== undefined && field.unit !== "bytes" && field.unit !== "duration") notes.push(field.unit);
  if (field.required) notes.push(frame.requiredNote[locale]);
  else if (isWorthShowing(field.defaultValue)) {
    notes.push(text(locale, frame.defaultNote, { value: shown(field.defaultValue) }));
  }
  if (field.list && !field.positional) notes.push(frame.repeatNote[locale]);
  if (notes.length === 0) return field.summary[locale];
  return locale === "zh" ? `${field.summary.zh}（${notes.join("，")}）` : `${field.summary.en} (${notes.join(", ")})`;
}

/** What follows Commander's page: nested settings and examples. */
export function settingsHelp(
  definition: CommandDefinition,
  fields: readonly Field[],
  locale: Locale,
  columns: number,
): string {
  const sections: string[] = [];
  const settings = nestedSettings(fields);
  if (settings.length > 0) {
    const width = Math.max(...settings.map(([name]) => textWidth(name)));
    const lines = settings.map(([name, field]) => {
      const description = wrapColumns(fieldDescription(field, locale), Math.max(20, columns - width - 4));
      return `  ${padColumns(name, width)}  ${description.replaceAll("\n", `\n${" ".repeat(width + 4)}`)}`;
    });
    sections.push(`\n${frame.settingsTitle[locale]}\n${lines.join("\n")}\n`);
  }
  if (definition.examples !== undefined && definition.examples.length > 0) {
    const lines = definition.examples.map((example) => `  # ${example[locale]}\n  cpm ${example.line}`);
    sections.push(`\n${frame.examplesTitle[locale]}\n${lines.join("\n\n")}\n`);
  }
  return sections.join("");
}

/** The settings that have no flag, with their full names: those inside objects, and those that renounced theirs. */
export function nestedSettings(fields: readonly Field[], prefix = ""): (readonly [string, Field])[] {
  return fields.flatMap((field): (readonly [string, Field])[] => {
    const name = prefix + field.key;
    if (field.kind === "object") return nestedSettings(field.fields, `${name}.`);
    return prefix === "" && (field.flag !== undefined || field.positional) ? [] : [[name, field]];
  });
}

/** False, nothing and empty lists are what a reader expects of an option that was not given. */
function isWorthShowing(value: unknown): boolean {
  return value !== undefined && value !== false && value !== "" && !(Array.isArray(value) && value.length === 0);
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
