/** Constraints on tokens: what is allowed is what the format has, whatever the vocabulary cuts it into. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createFakeSession, ngramLogits } from "../../../test/support/fake-session.ts";
import { createDetokenizer, type Piece } from "../../tokenizer/index.ts";
import { createLookupDrafter } from "../draft.ts";
import { generate } from "../generate.ts";
import { type GenerateOptionsInput, parseGenerateOptions } from "../options.ts";
import { createAutomaton, dead } from "./automaton.ts";
import { allCharacters, complement, intersection, normalRanges, restrictGrammar } from "./grammar.ts";
import { parseGrammar } from "./grammar-text.ts";
import { parseRegularExpression } from "./regular-expression.ts";
import type { ResponseFormat } from "./response-format.ts";
import { createTokenConstraint, layOutVocabulary } from "./token-constraint.ts";

/** 0 ends a text; then a special, words across borders of JSON's parts, characters, and perhaps all bytes. */
const words = [
  '{"',
  '":',
  '": "',
  '",',
  '", "',
  '"}',
  '"}]',
  "{}",
  "[]",
  '[{"',
  "true",
  "false",
  "null",
  '"名字',
  "名字",
  "年龄",
  "城市",
  "北京",
  "上海",
  "上海市",
  "春天来了",
  "，",
  "，春",
  "天",
  "地",
  "玄",
  "黄",
  "12",
  "0",
  "00",
  "-1",
  "3.14",
  "e5",
  "\\n",
  '\\"',
  "\\u00",
  "\n",
  "  ",
];
const characters = [
  ...'{}[]":,\\ 0123456789-+.eEtrufalsn中文春夏秋冬北京上海名字年龄城市来了abcdefghijklmnopqrstuvwxyz_',
];

function vocabulary(withBytes: boolean, seed = 0): readonly Piece[] {
  const texts = [...new Set([...words.filter((_, i) => seed === 0 || (seed >> (i % 16)) % 2 === 0), ...characters])];
  return [
    { kind: "special", text: "</s>" },
    { kind: "special", text: "<unk>" },
    ...texts.map((each): Piece => ({ kind: "text", text: each })),
    ...(withBytes ? Array.from({ length: 256 }, (_, byte): Piece => ({ kind: "byte", byte })) : []),
  ];
}

function tokenizerOf(pieces: readonly Piece[]) {
  const pieceOf = (id: number) => pieces[id]!;
  return { eosId: 0, newlineId: undefined, createDetokenizer: () => createDetokenizer({ pieceOf }), pieceOf };
}

/** What a model of random weights writes under a format, cut off after some tokens or ended. */
async function write(
  pieces: readonly Piece[],
  responseFormat: ResponseFormat,
  options: GenerateOptionsInput = {},
  endBonus = 0,
) {
  const vocabSize = pieces.length;
  const random = ngramLogits(vocabSize, 3, 2);
  const logitsOf = (tokens: readonly number[]) => {
    const row = random(tokens);
    row[0]! += endBonus;
    return row;
  };
  const session = createFakeSession({ vocabSize, logitsOf });
  const settings = {
    maxTokens: 200,
    temperature: 1,
    topP: 1,
    samples: 5,
    allowEmpty: true,
    ...options,
    responseFormat,
  };
  return (await generate(session, tokenizerOf(pieces), [[5]], settings)).texts;
}

describe("automaton", () => {
  const accepts = (pattern: string, text: string) => {
    const grammar = { rules: new Map([["m", parseRegularExpression(pattern)]]), start: "m" };
    const automaton = createAutomaton(restrictGrammar(grammar, allCharacters));
    let state = automaton.start;
    for (const byte of new TextEncoder().encode(text)) {
      state = automaton.next(state, byte);
      if (state === dead) return false;
    }
    return automaton.accepts(state);
  };

  test("accepts what the engine's own regular expressions match", () => {
    const unit = fc.constantFrom("a", "b", "中", "文", "𠀀", "\n", "-", "]", "9");
    const set = fc.constantFrom(
      ".",
      "\\d",
      "\\W",
      "\\s",
      "[ab]",
      "[^a中]",
      "[a-c-]",
      "[一-龥]",
      "[\\u4e2d\\]]",
      "\\u{20000}",
      "a",
      "中",
      "-",
    );
    const quantifier = fc.constantFrom("", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?");
    const term = fc.tuple(set, quantifier).map(([a, b]) => a + b);
    const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
      pattern: fc.oneof(
        { maxDepth: 3 },
        term,
        fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => a + b),
        fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => `(?:${a}|${b})`),
        fc.tuple(tie("pattern"), fc.constantFrom("{2}", "{1,3}", "?")).map(([a, b]) => `(${a}x)${b}`),
      ),
    }));
    fc.assert(
      fc.property(pattern, fc.array(fc.oneof(unit, fc.constant("x")), { maxLength: 6 }), (source, units) => {
        const text = units.join("");
        assert.equal(
          accepts(source, text),
          new RegExp(`^(?:${source})$`, "u").test(text),
          `${source} on ${JSON.stringify(text)}`,
        );
      }),
      { numRuns: 2000 },
    );
  });

  test("every code point alone is what the set says", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0x10ffff), fc.nat(3000)), { minLength: 1, maxLength: 4 }),
        fc.nat(0x10ffff),
        (pairs, probe) => {
          const ranges = normalRanges(
            pairs.map(([first, length]) => [first, Math.min(0x10ffff, first + length)] as const),
          );
          fc.pre(ranges.length > 0);
          const grammar = { rules: new Map([["m", { kind: "character", ranges } as const]]), start: "m" };
          const automaton = createAutomaton(grammar);
          const probes = [
            probe,
            ...ranges.flat(),
            ...ranges.flat().map((each) => each + 1),
            ...ranges.flat().map((each) => each - 1),
          ];
          for (const code of probes) {
            if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) continue;
            let state = automaton.start;
            for (const byte of new TextEncoder().encode(String.fromCodePoint(code)))
              state = state === dead ? dead : automaton.next(state, byte);
            const inside = ranges.some(([first, last]) => first <= code && code <= last);
            assert.equal(state !== dead && automaton.accepts(state), inside, code.toString(16));
          }
          assert.deepEqual(intersection(ranges, complement(ranges)), []);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("token masks", () => {
  test("a token is allowed where the text with it can be finished, and no other", () => {
    // All texts of a small language, so that "can be finished" is known.
    const language = ["天地", "天地玄黄", "上海市", "上", "北京", "12"];
    const grammar = parseGrammar(`root ::= ${language.map((text) => JSON.stringify(text)).join(" | ")}`);
    for (const withBytes of [false, true]) {
      const pieces = [
        ...vocabulary(withBytes),
        { kind: "text", text: "上" } as const,
        { kind: "text", text: "市" } as const,
      ];
      const { bytesOf } = layOutVocabulary((id) => pieces[id]!, pieces.length);
      const constraint = createTokenConstraint(
        grammar,
        layOutVocabulary((id) => pieces[id]!, pieces.length),
      );
      const byteText = (ids: readonly number[]) => Buffer.concat(ids.map((id) => bytesOf(id))).toString("hex");
      const whole = language.map((text) => Buffer.from(text).toString("hex"));
      let visited = 0;
      const visit = (ids: readonly number[]): void => {
        visited++;
        const { tokens, mayEnd } = constraint.after(ids);
        const allowed = tokens.slice();
        assert.equal(mayEnd, whole.includes(byteText(ids)));
        for (const id of pieces.keys()) {
          const can = bytesOf(id).length > 0 && whole.some((text) => text.startsWith(byteText([...ids, id])));
          assert.equal(allowed[id] === 1, can, `${JSON.stringify(pieces[id])} after ${ids}`);
          if (can && ids.length < 4) visit([...ids, id]);
        }
      };
      visit([]);
      assert.ok(visited > 10);
    }
  });

  test("characters that the vocabulary cannot spell are not begun, and an impossible format is told", async () => {
    const pieces = vocabulary(false);
    const texts = await write(pieces, { type: "regex", regex: "(天地鱼|天玄)|北京" });
    for (const { text } of texts) assert.ok(["天玄", "北京"].includes(text), text);
    const impossible = write(pieces, { type: "regex", regex: "鱼+" });
    await assert.rejects(impossible, { code: "CPM_INFER_UNSPELLABLE" });
    const spelled = await write(vocabulary(true), { type: "regex", regex: "鱼{2}" });
    for (const { text } of spelled) assert.equal(text, "鱼鱼");
  });
});

describe("generation under a format", () => {
  const modes = [
    { mode: "sample" },
    { mode: "greedy", samples: 1 },
    { mode: "beam", samples: 2, maxTokens: 60 },
  ] as const;

  test("any JSON object parses", async () => {
    let ended = 0;
    for (const withBytes of [true, false]) {
      for (const options of modes) {
        for (let seed = 0; seed < 4; seed++) {
          const texts = await write(vocabulary(withBytes, seed), { type: "json_object" }, { ...options, seed }, 3);
          for (const { text, finish } of texts) {
            if (finish !== "stop") continue;
            ended++;
            const value = JSON.parse(text) as unknown;
            assert.ok(typeof value === "object" && value !== null && !Array.isArray(value), text);
          }
        }
      }
    }
    assert.ok(ended > 20, `${ended} ended`);
  });

  test("regular expressions and grammars hold, with a drafter as well", async () => {
    const date = /^(北京|上海)(市)?，[1-9]\d{0,2}年[春夏秋冬]$/u;
    for (const responseFormat of [
      { type: "regex", regex: date.source } as const,
      {
        type: "grammar",
        grammar:
          'root ::= place "市"? "，" year "年" [春夏秋冬]\nplace ::= "北京" | "上海" # two\nyear ::= [1-9] digit{0,2}\ndigit ::= [0-9]',
      } as const,
    ]) {
      const pieces = [...vocabulary(true), { kind: "text", text: "年春" } as const];
      const texts = [
        ...(await write(pieces, responseFormat)),
        ...(await write(pieces, responseFormat, { mode: "greedy", samples: 1 })),
      ];
      for (const { text } of texts) assert.match(text, date);
      const session = createFakeSession({ vocabSize: pieces.length });
      const settings = { maxTokens: 60, samples: 4, responseFormat };
      const drafter = createLookupDrafter({ drafting: 0, verifying: 0.05 }, { shortest: 1 });
      const drafted = await generate(session, tokenizerOf(pieces), [[5, 9, 5]], settings, { drafter });
      for (const { text, finish } of drafted.texts) if (finish === "stop") assert.match(text, date);
    }
  });

  test("a text ends only where it may, and must where it can only end", async () => {
    const texts = await write(vocabulary(false), { type: "regex", regex: "[天地]{3}" }, {}, 20);
    for (const { text, finish } of texts) {
      assert.match(text, /^[天地]{3}$/u);
      assert.equal(finish, "stop");
    }
  });
});

describe("what is refused", () => {
  const refuses = (responseFormat: ResponseFormat, code: string, where?: RegExp) =>
    assert.rejects(write(vocabulary(true), responseFormat), (error: { code?: string; where?: string }) => {
      assert.equal(error.code, code);
      if (where !== undefined) assert.match(error.where ?? "", where);
      return true;
    });

  test("regular expressions", async () => {
    for (const [regex, at] of Object.entries({
      "a(?=b)": 2,
      "(a": 1,
      "a)": 2,
      "[b": 1,
      "*a": 1,
      "a**": 3,
      "a{3,1}": 2,
      "\\b": 1,
      "(a)\\1": 4,
      "a\\": 2,
      "[z-a]": 3,
      "a^b": 2,
      "\\ud800": 1,
      "[]": 1,
    })) {
      await refuses({ type: "regex", regex }, "CPM_INFER_GRAMMAR", new RegExp(`character ${at}$`));
    }
    await refuses({ type: "regex", regex: "(a?)*" }, "CPM_INFER_GRAMMAR", /rule/);
    await refuses({ type: "regex", regex: `${"(".repeat(200)}a${")".repeat(200)}` }, "CPM_INFER_GRAMMAR");
  });

  test("grammars", async () => {
    for (const [grammar, where] of Object.entries({
      'a ::= "x"': /^$/,
      'root ::= "x" | b': /^$/,
      "root ::= root 'x'": /line 1/,
      'root ::= root "x" | "y"': /rule "root"/,
      'root ::= a\na ::= ("x"? b)\nb ::= a "y"': /rule "a"/,
      'root ::= "x"\nroot ::= "y"': /line 2/,
      'root ::= ("x"': /line 1/,
      'root "x"': /line 1/,
      'root ::= ("x"*)+': /rule "root"/,
    })) {
      await refuses({ type: "grammar", grammar }, "CPM_INFER_GRAMMAR", where);
    }
  });

  test("formats that are none, and tokenizers that tell nothing", async () => {
    const wrong = { responseFormat: { type: "xml" } } as unknown as GenerateOptionsInput;
    assert.throws(() => parseGenerateOptions(wrong), { code: "CPM_INFER_OPTIONS" });
    const session = createFakeSession({ vocabSize: 9 });
    const silent = { eosId: 0, createDetokenizer: () => ({ push: () => "", flush: () => "" }) };
    await assert.rejects(generate(session, silent, [[1]], { responseFormat: { type: "json_object" } }), {
      code: "CPM_INFER_OPTIONS",
    });
  });
});
