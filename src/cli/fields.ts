/**
 * The fields of a command's schema as flags and arguments: their names, kinds, defaults and texts. Looks through zod's
 * wrappers (optional, default, nullable, transform) to the type that a reader writes.
 */
import type { z } from "zod";
import type { FieldMeta } from "./command.ts";
import type { Bilingual } from "./messages/message.ts";

export type FieldKind =
  | "boolean"
  | "number"
  | "integer"
  | "string"
  | "choice"
  | "bytes"
  | "duration"
  | "object"
  | "any";

export interface Field {
  /** The key in the schema, camelCase. */
  readonly key: string;
  /** The flag's long name without dashes; undefined where the field has no flag. */
  readonly flag: string | undefined;
  readonly alias: string | undefined;
  readonly kind: FieldKind;
  /** The field holds a list of its kind. */
  readonly list: boolean;
  readonly positional: boolean;
  /** Neither optional nor with a default. */
  readonly required: boolean;
  readonly defaultValue: unknown;
  readonly choices: readonly string[];
  readonly placeholder: string;
  readonly unit: string | undefined;
  readonly summary: Bilingual;
  /** The fields inside an object. */
  readonly fields: readonly Field[];
}

interface Unwrapped {
  readonly type: z.core.$ZodType;
  readonly meta: FieldMeta;
  readonly required: boolean;
  readonly defaultValue: unknown;
}

/** The fields of an object schema, in its order. */
export function fieldsOf(schema: z.core.$ZodObject): readonly Field[] {
  return Object.entries(schema._zod.def.shape).map(([key, type]) => fieldOf(key, type));
}

/** camelCase to kebab-case: `maxNewTokens` to `max-new-tokens`. */
export function kebabCase(key: string): string {
  return key.replaceAll(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();
}

function fieldOf(key: string, schema: z.core.$ZodType): Field {
  const outer = unwrap(schema);
  const list = outer.type._zod.def.type === "array";
  const element = list ? unwrap((outer.type._zod.def as z.core.$ZodArrayDef).element) : outer;
  const meta: FieldMeta = { ...element.meta, ...outer.meta };
  const kind = kindOf(element.type, meta);
  const positional = meta.positional === true;
  const noFlag = positional || meta.flag === false || kind === "object";
  const english = meta.description ?? "";
  return {
    key,
    flag: noFlag ? undefined : meta.flag || kebabCase(key),
    alias: meta.alias,
    kind,
    list,
    positional,
    required: outer.required,
    defaultValue: outer.defaultValue,
    choices: kind === "choice" ? choicesOf(element.type) : [],
    placeholder: meta.placeholder ?? placeholderOf(kind),
    unit: meta.unit,
    summary: { en: english, zh: meta.zh ?? english },
    fields: kind === "object" ? fieldsOf(element.type as z.core.$ZodObject) : [],
  };
}

/** Takes optional, default, nullable, readonly and transforms off a schema; the outermost texts win. */
export function unwrap(schema: z.core.$ZodType): Unwrapped {
  let type = schema;
  let meta: FieldMeta = {};
  let required = true;
  let defaultValue: unknown;
  for (;;) {
    const own = (type as z.ZodType).meta?.() as FieldMeta | undefined;
    meta = { ...own, ...meta };
    const def = type._zod.def;
    switch (def.type) {
      case "default":
      case "prefault":
        required = false;
        defaultValue ??= (def as z.core.$ZodDefaultDef).defaultValue;
        type = (def as z.core.$ZodDefaultDef).innerType;
        break;
      case "optional":
        required = false;
        type = (def as z.core.$ZodOptionalDef).innerType;
        break;
      case "nullable":
      case "readonly":
      case "nonoptional":
        type = (def as z.core.$ZodOptionalDef).innerType;
        break;
      case "pipe":
        type = (def as z.core.$ZodPipeDef).in;
        break;
      default:
        return { type, meta, required, defaultValue };
    }
  }
}

function kindOf(type: z.core.$ZodType, meta: FieldMeta): FieldKind {
  if (meta.unit === "bytes" || meta.unit === "duration") return meta.unit;
  switch (type._zod.def.type) {
    case "boolean":
      return "boolean";
    case "number":
      return (type as z.ZodNumber).isInt ? "integer" : "number";
    case "string":
      return "string";
    case "enum":
    case "literal":
      return "choice";
    case "object":
      return "object";
    default:
      return "any";
  }
}

function choicesOf(type: z.core.$ZodType): readonly string[] {
  return [...(type._zod.values ?? [])].map(String);
}

function placeholderOf(kind: FieldKind): string {
  switch (kind) {
    case "integer":
      return "N";
    case "number":
      return "X";
    case "bytes":
      return "4GiB";
    case "duration":
      return "3m";
    case "choice":
      return "NAME";
    default:
      return "VALUE";
  }
}
