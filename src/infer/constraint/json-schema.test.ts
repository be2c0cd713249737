/** JSON Schemas: whatever a random model writes under one parses and validates. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { createFakeSession, ngramLogits } from "../../../test/support/fake-session.ts";
import { createDetokenizer, type Piece } from "../../tokenizer/index.ts";
import { generate } from "../generate.ts";
import { jsonSchemaGrammar } from "./json-schema.ts";

const texts = [
  ...new Set([
    ...'{}[]":,\\ 0123456789-+.eEtrufalsn天地玄黄宇宙洪荒甲乙丙name',
    '{"',
    '":',
    '", "',
    '"}',
    "true",
    "null",
    "天地",
    '"天',
    "12",
    "0.5",
    '\\"',
    "甲乙",
  ]),
];
const pieces: readonly Piece[] = [
  { kind: "special", text: "</s>" },
  ...texts.map((text): Piece => ({ kind: "text", text })),
  ...Array.from({ length: 256 }, (_, byte): Piece => ({ kind: "byte", byte })),
];
const pieceOf = (id: number) => pieces[id]!;
const tokenizer = { eosId: 0, createDetokenizer: () => createDetokenizer({ pieceOf }), pieceOf };

async function write(schema: Record<string, unknown>, seed: number) {
  const random = ngramLogits(pieces.length, seed, 1);
  /** Ends, quotes, brackets and commas are likelier, so that texts come to an end. */
  const logitsOf = (tokens: readonly number[]) => {
    const row = random(tokens);
    row[0]! += 6;
    for (const [id, piece] of pieces.entries()) if (piece.kind === "text" && /["}\]]/.test(piece.text)) row[id]! += 4;
    return row;
  };
  const session = createFakeSession({ vocabSize: pieces.length, logitsOf });
  const settings = {
    maxTokens: 300,
    temperature: 1,
    topP: 1,
    samples: 3,
    seed,
    responseFormat: { type: "json_schema" as const, schema },
  };
  return (await generate(session, tokenizer, [[3]], settings)).texts;
}

type Json = Record<string, unknown>;

/** A judge of its own, plain and slow: whether a value is what the schema says. */
function validates(schema: unknown, value: unknown, root: Json): boolean {
  if (schema === true) return true;
  const own = schema as Json;
  if (own.$ref !== undefined) {
    const target = (own.$ref as string)
      .split("/")
      .slice(1)
      .reduce<unknown>((part, key) => (part as Json)[key], root);
    return validates(target, value, root);
  }
  if (own.const !== undefined) return JSON.stringify(own.const) === JSON.stringify(value);
  if (own.enum !== undefined)
    return (own.enum as unknown[]).some((each) => JSON.stringify(each) === JSON.stringify(value));
  if (own.anyOf !== undefined) return (own.anyOf as unknown[]).some((each) => validates(each, value, root));
  const kind = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const wanted = own.type === undefined ? undefined : [own.type].flat();
  if (wanted !== undefined && !wanted.some((type) => type === kind || (type === "integer" && Number.isInteger(value))))
    return false;
  if (kind === "string") {
    const length = [...(value as string)].length;
    if (own.pattern !== undefined && !new RegExp(own.pattern as string, "u").test(value as string)) return false;
    return length >= ((own.minLength as number) ?? 0) && length <= ((own.maxLength as number) ?? Infinity);
  }
  if (kind === "array") {
    const items = value as unknown[];
    if (items.length < ((own.minItems as number) ?? 0) || items.length > ((own.maxItems as number) ?? Infinity))
      return false;
    return items.every((item) => validates(own.items ?? true, item, root));
  }
  if (kind === "object") {
    const members = value as Json;
    const properties = (own.properties ?? {}) as Json;
    if (((own.required ?? []) as string[]).some((name) => !Object.hasOwn(members, name))) return false;
    return Object.entries(members).every(([name, member]) =>
      Object.hasOwn(properties, name)
        ? validates(properties[name], member, root)
        : own.additionalProperties !== false && validates(own.additionalProperties ?? true, member, root),
    );
  }
  return true;
}

/** Schemas of the supported kind, nested. */
const schemas = fc.letrec<{ schema: Json }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom<Json>(
      { type: "boolean" },
      { type: "null" },
      { type: "integer" },
      { type: "number" },
      { type: ["integer", "null"] },
      { type: "string" },
      { type: "string", pattern: "^[甲乙丙]{1,3}$" },
      { type: "string", pattern: '"\\\\|天+' },
      { enum: ["天地", 3, null, { name: ["甲"] }] },
      { const: '玄"黄\n' },
      { type: "string", enum: ["天", 4, "地"], title: "two" },
      { type: "object" },
    ),
    fc.tuple(fc.nat(3), fc.nat(3)).map(([min, more]) => ({ type: "string", minLength: min, maxLength: min + more })),
    fc
      .tuple(tie("schema"), fc.nat(2), fc.nat(2))
      .map(([items, min, more]) => ({ type: "array", items, minItems: min, maxItems: min + more })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 2 }).map((anyOf) => ({ anyOf })),
    fc
      .uniqueArray(fc.tuple(fc.constantFrom("name", "天地", '引"号', "甲", "乙"), tie("schema"), fc.boolean()), {
        selector: ([name]) => name,
        minLength: 1,
        maxLength: 4,
      })
      .map((members) => ({
        type: "object",
        properties: Object.fromEntries(members.map(([name, schema]) => [name, schema])),
        required: members.filter(([, , required]) => required).map(([name]) => name),
        additionalProperties: false,
      })),
  ),
}));

describe("JSON Schema", () => {
  test("what a random model writes parses and validates", async () => {
    let ended = 0;
    let total = 0;
    await fc.assert(
      fc.asyncProperty(schemas.schema, fc.nat(1000), async (schema, seed) => {
        for (const { text, finish } of await write(schema, seed)) {
          total++;
          if (finish !== "stop") continue;
          ended++;
          assert.ok(validates(schema, JSON.parse(text), schema), `${text} for ${JSON.stringify(schema)}`);
        }
      }),
      { numRuns: 80 },
    );
    assert.ok(ended > total / 2, `${ended} of ${total} texts ended`);
  });

  test("schemas that zod writes: nested objects, optional and nullable members", async () => {
    const Person = z.strictObject({
      name: z.string().min(1).max(4),
      age: z.number().nullable(),
      pets: z.array(z.strictObject({ kind: z.enum(["猫", "狗"]), good: z.boolean().optional() })).max(2),
      note: z.string().max(3).optional(),
    });
    let ended = 0;
    for (let seed = 0; seed < 5; seed++) {
      for (const { text, finish } of await write(z.toJSONSchema(Person) as Json, seed)) {
        if (finish !== "stop") continue;
        ended++;
        Person.parse(JSON.parse(text));
      }
    }
    assert.ok(ended > 5, `${ended} ended`);
  });

  test("references, recursion, additional properties, implied types", async () => {
    const tree: Json = {
      $ref: "#/$defs/node",
      $defs: {
        node: {
          type: "object",
          properties: { 甲: { type: "integer" }, 乙: { anyOf: [{ type: "null" }, { $ref: "#/$defs/node" }] } },
          required: ["甲", "乙"],
        },
      },
    };
    const counts: Json = { type: "object", additionalProperties: { type: "boolean" } };
    const implied: Json = { minItems: 1, items: { type: "null" } };
    for (const schema of [tree, counts, implied]) {
      for (const { text, finish } of await write(schema, 8)) {
        if (finish === "stop") assert.ok(validates(schema, JSON.parse(text), schema), text);
      }
    }
  });

  test("deep arrays do not grow the grammar beyond measure", () => {
    let schema: Json = { type: "null" };
    for (let i = 0; i < 60; i++) schema = { type: "array", items: schema };
    assert.ok(jsonSchemaGrammar(schema).rules.size < 200);
  });

  test("what is not supported is refused with its place", () => {
    const cases: readonly (readonly [unknown, string])[] = [
      [{ type: "number", minimum: 3 }, "schema /minimum"],
      [{ type: "object", properties: { a: { type: "string", format: "date" } } }, "schema /properties/a/format"],
      [{ oneOf: [{ type: "null" }] }, "schema /oneOf"],
      [{ type: "array", items: { not: {} } }, "schema /items/not"],
      [{ type: "text" }, "schema /type"],
      [{ enum: [] }, "schema /enum"],
      [{ type: "string", pattern: "a", maxLength: 3 }, "schema (root)"],
      [{ type: "string", minLength: 3, maxLength: 1 }, "schema (root)"],
      [{ type: "object", required: ["x"] }, "schema /required"],
      [{ $ref: "http://example.org/x" }, "schema /$ref"],
      [{ $ref: "#/$defs/x" }, "schema /$ref"],
      [{ const: 1, minLength: 3 }, "schema /minLength"],
      [{ type: "string", maxItems: 3 }, "schema /maxItems"],
      [false, "schema (root)"],
    ];
    for (const [schema, where] of cases) {
      assert.throws(() => jsonSchemaGrammar(schema), { code: "CPM_INFER_SCHEMA", where }, JSON.stringify(schema));
    }
    let deep: Json = { type: "null" };
    for (let i = 0; i < 100; i++) deep = { type: "array", items: deep };
    assert.throws(() => jsonSchemaGrammar(deep), { code: "CPM_INFER_SCHEMA" });
  });
});
