/** Request bodies made from an OpenAPI document: values that its schemas allow, and the same values spoiled. */
import fc from "fast-check";

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly additionalProperties?: Schema | boolean;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly requestBody?: unknown }>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** For every path that takes a body: bodies of which some are good, most are not, and some are no JSON. */
export function bodiesFor(openapi: unknown): { readonly path: string; readonly bodies: fc.Arbitrary<string> }[] {
  const document = openapi as Document;
  return Object.entries(document.paths).flatMap(([path, { post }]) => {
    if (post?.requestBody === undefined) return [];
    const [, name] = /"#\/components\/schemas\/(\w+)"/.exec(JSON.stringify(post.requestBody))!;
    const good = allowedBy(document.components.schemas[name!]!);
    const spoiled = good.chain((value) => spoil(value));
    const bodies = fc.oneof(
      { weight: 2, arbitrary: good.map((value) => JSON.stringify(value)) },
      { weight: 3, arbitrary: spoiled.map((value) => JSON.stringify(value)) },
      { weight: 1, arbitrary: fc.json() },
      { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 200 }) },
      { weight: 1, arbitrary: cut(good) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }).map((depth) => "[".repeat(depth)) },
    );
    return [{ path, bodies }];
  });
}

function cut(good: fc.Arbitrary<unknown>): fc.Arbitrary<string> {
  return fc.tuple(good, fc.nat(200)).map(([value, at]) => JSON.stringify(value).slice(0, at));
}

/** Values that a schema allows, small ones. */
function allowedBy(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return fc.oneof(...choices.map(allowedBy));
  switch (schema.type) {
    case "object": {
      const fields = Object.entries(schema.properties ?? {}).map(([name, field]) => {
        const value = allowedBy(field);
        return [name, schema.required?.includes(name) ? value : fc.option(value, { nil: undefined, freq: 1 })] as const;
      });
      return fc.record(Object.fromEntries(fields));
    }
    case "array":
      return fc.array(allowedBy(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: (schema.minItems ?? 0) + 2,
      });
    case "string":
      return fc.oneof(
        fc.constantFrom("春天来了，", "small", "花____开", "</s>", "\n", "\ud83c\udf38"),
        fc.string({
          unit: "grapheme",
          minLength: schema.minLength ?? 0,
          maxLength: Math.min(schema.maxLength ?? 20, 20),
        }),
      );
    case "integer": {
      const low = schema.minimum ?? 0;
      return fc.oneof(
        fc.integer({ min: low, max: Math.max(low, Math.min(schema.maximum ?? 40, low + 40)) }),
        fc.constantFrom(low, schema.maximum ?? low),
      );
    }
    case "number":
      return fc.double({
        min: schema.minimum ?? schema.exclusiveMinimum ?? -10,
        max: Math.min(schema.maximum ?? 10, 10),
        noNaN: true,
      });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

const odd = fc.constantFrom<unknown>(
  null,
  -1,
  0,
  1e300,
  -1e-300,
  2 ** 53,
  1.5,
  "",
  "\0",
  "\ud800",
  [],
  {},
  [[]],
  true,
  "9".repeat(5000),
  Array(300).fill(0),
  { __proto__: null, constructor: 1 },
);

/** One place of a value replaced, removed or added. */
function spoil(value: unknown): fc.Arbitrary<unknown> {
  if (typeof value !== "object" || value === null) return odd;
  const keys = Object.keys(value);
  const add = fc.tuple(fc.constantFrom("x", "__proto__", "constructor", "n", "stream"), odd).map(([key, strange]) => {
    return Array.isArray(value) ? [...value, strange] : Object.fromEntries([...Object.entries(value), [key, strange]]);
  });
  if (keys.length === 0) return add;
  const replace = fc.constantFrom(...keys).chain((key) => {
    const inner = (value as Record<string, unknown>)[key];
    const put = (changed: unknown) => {
      if (Array.isArray(value)) return value.map((each, at) => (String(at) === key ? changed : each));
      return { ...value, [key]: changed };
    };
    return fc.oneof(odd.map(put), spoil(inner).map(put), fc.constant(put(undefined)));
  });
  return fc.oneof({ weight: 4, arbitrary: replace }, { weight: 1, arbitrary: add });
}
