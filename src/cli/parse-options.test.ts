import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { z } from "zod";
import { CpmError } from "../util/error.ts";
import { defineCommand } from "./command.ts";
import { fieldsOf, kebabCase } from "./fields.ts";
import { helpText, jsonSchemaOf, parseRequest } from "./parse-options.ts";
import { bytesSchema, durationSchema } from "./quantity.ts";
import { textWidth } from "./text-width.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-options-"));
after(() => rmSync(folder, { recursive: true }));

const command = defineCommand({
  name: "sample",
  summary: { zh: "示例", en: "a sample" },
  json: true,
  schema: z.object({
    input: z.string().describe("input").meta({ zh: "输入", positional: true, placeholder: "FILE" }),
    rest: z.array(z.string()).default([]).describe("more").meta({ zh: "更多", positional: true, placeholder: "TEXT" }),
    maxNewTokens: z.int().min(1).default(16).describe("how many").meta({ zh: "几个", unit: "tokens", alias: "n" }),
    rate: z.number().optional().describe("rate").meta({ zh: "学习率" }),
    greedy: z.boolean().default(false).describe("greedy").meta({ zh: "贪心" }),
    cache: z.boolean().default(true).describe("cache").meta({ zh: "缓存" }),
    precision: z.enum(["fp32", "int8"]).default("fp32").describe("precision").meta({ zh: "精度" }),
    layers: z.array(z.int()).default([]).describe("layers").meta({ zh: "层" }),
    memoryBytes: bytesSchema().optional().describe("memory").meta({ zh: "内存", flag: "memory" }),
    time: durationSchema().default(180_000).describe("time").meta({ zh: "时间" }),
    seed: z
      .union([z.int(), z.literal("auto")])
      .default("auto")
      .describe("seed")
      .meta({ zh: "种子" }),
    optimizer: z
      .object({
        rate: z.number().default(0.001).describe("rate").meta({ zh: "学习率" }),
        name: z.string().default("adamw"),
      })
      .prefault({}),
  }),
  async run() {},
});

function parse(words: readonly string[]) {
  const request = parseRequest(command, words, "en", 80);
  assert.ok(request.kind === "run");
  return request;
}

function failure(words: readonly string[], locale: "zh" | "en" = "en"): CpmError {
  try {
    parseRequest(command, words, locale, 80);
  } catch (error) {
    assert.ok(error instanceof CpmError, String(error));
    return error;
  }
  return assert.fail("no error");
}

test("flags are read by the schema's types", () => {
  const { options, json } = parse(
    "in.txt a b --max-new-tokens 5 --rate 1e-3 --greedy --no-cache --precision int8 --layers 1,2 --layers 7 --memory 4GiB --time 1h30m --seed 3 --json".split(
      " ",
    ),
  );
  assert.deepEqual(options, {
    input: "in.txt",
    rest: ["a", "b"],
    maxNewTokens: 5,
    rate: 0.001,
    greedy: true,
    cache: false,
    precision: "int8",
    layers: [1, 2, 7],
    memoryBytes: 4 * 2 ** 30,
    time: 5_400_000,
    seed: 3,
    optimizer: { rate: 0.001, name: "adamw" },
  });
  assert.equal(json, true);
});

test("without flags the defaults hold; short flags and = work; -- ends the flags", () => {
  const { options } = parse(["in.txt", "-n", "3", "--rate=2", "--", "--greedy"]);
  assert.equal(options.maxNewTokens, 3);
  assert.equal(options.rate, 2);
  assert.equal(options.greedy, false);
  assert.equal(options.cache, true);
  assert.equal(options.time, 180_000);
  assert.deepEqual(options.rest, ["--greedy"]);
});

test("a recipe is below --set, and --set below flags", () => {
  const recipe = join(folder, "recipe.yaml");
  writeFileSync(
    recipe,
    "input: from-recipe\nrate: 0.1\ncache: false\nmaxNewTokens: 7\noptimizer:\n  rate: 0.5\ntime: 2m\n",
  );
  const { options } = parse([
    "-c",
    recipe,
    "--set",
    "optimizer.rate=1e-4",
    "--set",
    "rate=0.2",
    "--set",
    "layers=[4, 5]",
    "-n",
    "9",
  ]);
  assert.equal(options.input, "from-recipe");
  assert.equal(options.rate, 0.2);
  assert.equal(options.maxNewTokens, 9);
  assert.equal(options.cache, false);
  assert.deepEqual(options.layers, [4, 5]);
  assert.deepEqual(options.optimizer, { rate: 0.0001, name: "adamw" });
  assert.equal(options.time, 120_000);
  assert.equal(parse(["-c", recipe, "--cache"]).options.cache, true);
  assert.equal(parse(["-c", recipe, "other"]).options.input, "other");
});

test("what is unknown is an error with the nearest known name", () => {
  assert.equal(failure(["x", "--rat", "1"]).hint, "did you mean --rate?");
  assert.equal(failure(["x", "--set", "optimizer.rte=1"]).hint, "did you mean rate?");
  assert.match(failure(["x", "--set", "optimizer.rte=1"]).what, /optimizer\.rte/);
  assert.equal(failure(["x", "--set", "maxNewToken=1"]).hint, "did you mean maxNewTokens?");
  const recipe = join(folder, "typo.yaml");
  writeFileSync(recipe, "input: a\nprecison: int8\n");
  assert.equal(failure(["-c", recipe]).code, "CPM_CLI_UNKNOWN_KEY");
});

test("wrong values name the flag, what was got and what was expected", () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ["--max-new-tokens x", "--max-new-tokens", "a number"],
    ["--max-new-tokens 0", "--max-new-tokens", "≥ 1"],
    ["--max-new-tokens 1.5", "--max-new-tokens", "a whole number"],
    ["--precision int3", "--precision", "fp32 · int8"],
    ["--memory 4G", "--memory", "bytes with a unit, as 4GiB or 4GB"],
    ["--time 180", "--time", "a duration with a unit, as 3m or 90s"],
    ["--set optimizer.rate=fast", "optimizer.rate", "a number"],
    ["--set rest=a", "<TEXT>", "a list"],
  ];
  for (const [words, where, expected] of cases) {
    const error = failure(["x", ...words.split(" ")]);
    assert.equal(error.where, where, words);
    assert.equal(error.expected, expected, words);
  }
  assert.equal(failure([]).code, "CPM_CLI_MISSING");
  assert.match(failure([]).what, /<FILE>/);
  assert.equal(failure(["x", "--rate"]).code, "CPM_CLI_USAGE");
  assert.equal(failure(["x", "--set", "rate"]).where, "--set");
  assert.equal(failure(["x", "--set", "rate.a=1", "--set", "rate.a.b=2"]).code, "CPM_CLI_USAGE");
});

test("bad recipes are errors that say where", () => {
  const write = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  assert.match(failure(["-c", write("syntax.yaml", "a: 1\nb: [\n")]).where!, /syntax\.yaml:\d+:\d+$/);
  assert.equal(failure(["-c", write("list.yaml", "- a\n")]).code, "CPM_CLI_RECIPE");
  assert.equal(failure(["-c", write("twice.yaml", "a: 1\na: 2\n")]).code, "CPM_CLI_RECIPE");
  assert.equal(failure(["-c", join(folder, "absent.yaml")]).code, "CPM_CLI_RECIPE_READ");
  const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"];
  for (let i = 0; i < 8; i++) {
    const before = String.fromCharCode(97 + i);
    const name = String.fromCharCode(98 + i);
    bomb.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(", ")}]`);
  }
  assert.equal(failure(["-c", write("bomb.yaml", bomb.join("\n"))]).code, "CPM_CLI_RECIPE");
});

test("no setting reaches the prototype", () => {
  assert.equal(failure(["x", "--set", "__proto__.polluted=1"]).code, "CPM_CLI_USAGE");
  const recipe = join(folder, "proto.yaml");
  writeFileSync(recipe, "input: a\n__proto__:\n  polluted: 1\n");
  try {
    parse(["-c", recipe]);
  } catch (error) {
    assert.ok(error instanceof CpmError);
  }
  assert.equal(({} as { polluted?: number }).polluted, undefined);
  assert.equal(failure(["x", "--set", "constructor.a=1"]).code, "CPM_CLI_UNKNOWN_KEY");
});

test("the JSON Schema describes what a recipe holds", () => {
  const schema = jsonSchemaOf(command) as {
    required: string[];
    additionalProperties: boolean;
    properties: Record<string, Record<string, unknown>>;
  };
  assert.equal(schema.additionalProperties, false);
  assert.deepEqual(schema.required, ["input"]);
  assert.deepEqual(schema.properties.precision, {
    default: "fp32",
    description: "precision",
    zh: "精度",
    type: "string",
    enum: ["fp32", "int8"],
  });
});

test("help fits its columns in both languages and names every flag", () => {
  for (const locale of ["zh", "en"] as const) {
    const help = helpText(command, locale, 72);
    for (const line of help.split("\n")) assert.ok(textWidth(line) <= 72, `${textWidth(line)}: ${line}`);
    for (const field of fieldsOf(command.schema)) {
      const name = field.positional
        ? field.placeholder
        : field.kind === "object"
          ? `${field.key}.rate`
          : `-${field.flag}`;
      assert.ok(help.includes(name), `${name} is not in the help`);
    }
  }
  assert.match(helpText(command, "zh", 80), /--no-cache/);
  assert.match(helpText(command, "zh", 80), /用法：cpm sample <FILE> \[TEXT\.\.\.\] \[选项\]/);
  assert.doesNotMatch(helpText(command, "zh", 80), /--no-greedy/);
});

test("kinds of fields", () => {
  const kinds = Object.fromEntries(fieldsOf(command.schema).map(({ key, kind }) => [key, kind]));
  assert.deepEqual(kinds, {
    input: "string",
    rest: "string",
    maxNewTokens: "integer",
    rate: "number",
    greedy: "boolean",
    cache: "boolean",
    precision: "choice",
    layers: "integer",
    memoryBytes: "bytes",
    time: "duration",
    seed: "any",
    optimizer: "object",
  });
});

test("kebab case", () => {
  assert.equal(kebabCase("maxNewTokens"), "max-new-tokens");
  assert.equal(kebabCase("int8Base"), "int8-base");
});
