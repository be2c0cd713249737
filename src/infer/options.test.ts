import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GenerateOptionsSchema, parseGenerateOptions } from "./options.ts";

describe("parseGenerateOptions", () => {
  test("has the original's defaults", () => {
    const { mode, maxTokens, temperature, topP, topK, beamSize, lengthPenalty, repetitionPenalty } =
      parseGenerateOptions({});
    assert.deepEqual(
      { mode, maxTokens, temperature, topP, topK, beamSize, lengthPenalty, repetitionPenalty },
      {
        mode: "sample",
        maxTokens: 100,
        temperature: 0.9,
        topP: 0.9,
        topK: 0,
        beamSize: 3,
        lengthPenalty: 1,
        repetitionPenalty: 1,
      },
    );
  });

  test("names every setting that is wrong, and unknown ones", () => {
    const wrong: [object, RegExp][] = [
      [{ topP: 0 }, /topP/],
      [{ topP: 1.1, temperature: -1 }, /topP.*temperature|temperature.*topP/],
      [{ maxTokens: 0 }, /maxTokens/],
      [{ maxTokens: 2.5 }, /maxTokens/],
      [{ max_length: 10 }, /max_length/],
      [{ stop: [""] }, /stop\.0/],
      [{ logitBias: { x: 1 } }, /logitBias/],
      [{ minTokens: 5, maxTokens: 4 }, /minTokens: must not exceed maxTokens \(4\)/],
      [{ mode: "beam", samples: 4 }, /samples: must not exceed beamSize/],
      [{ mode: "beam", topLogprobs: 1 }, /topLogprobs/],
      [{ repetitionPenalty: 0.5 }, /repetitionPenalty/],
      [{ seed: -1 }, /seed/],
    ];
    for (const [input, pattern] of wrong) {
      assert.throws(
        () => parseGenerateOptions(input),
        (error: Error & { code: string }) => error.code === "CPM_INFER_OPTIONS" && pattern.test(error.message),
        JSON.stringify(input),
      );
    }
    assert.throws(() => parseGenerateOptions(null), { code: "CPM_INFER_OPTIONS" });
  });

  test("every setting is described in English and Chinese", () => {
    for (const [name, schema] of Object.entries(GenerateOptionsSchema.shape)) {
      const { description, zh } = schema.meta() ?? {};
      assert.match(description ?? "", /^[A-Z][ -~]+$/, name);
      assert.match(String(zh), /\p{Script=Han}/u, name);
    }
  });
});
