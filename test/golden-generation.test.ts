/** `generate` over a real session: the original's greedy ids, and rows that leave, multiply and trade places. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { type GenerateOptionsInput, type GenerationTokenizer, generate } from "../src/infer/index.ts";
import type { DecodingSession } from "../src/infer/session.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { goldenConfig, readGolden } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";

/** Ids as text; no id ends a text unless the settings say so (the last id of the vocabulary is never the best here). */
const tokenizerOf = (vocabSize: number): GenerationTokenizer => ({
  eosId: vocabSize - 1,
  createDetokenizer: () => ({ push: (id) => `${id} `, flush: () => "" }),
});

async function withSession(
  model: string,
  use: (session: DecodingSession, tokenizer: GenerationTokenizer) => Promise<void>,
) {
  using runtime = createNativeRuntime();
  const config = goldenConfig(model);
  const weights = await readGolden(`${model}.model.safetensors`);
  const parameters = new Map(
    parameterTable(config).map(({ name, shape }) => [
      name,
      runtime.upload(Float32Array.from(weights.get(name)!.data), "float32", shape),
    ]),
  );
  const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 64 });
  await use(session, tokenizerOf(config.vocabSize));
  session.dispose();
}

suite("generation over a model", { skip: skipWithoutShared("golden") }, () => {
  for (const model of ["full", "pruned"]) {
    test(`${model}: greedy ids are those of the original, in a batch of unequal prompts`, async () => {
      await withSession(model, async (session, tokenizer) => {
        const golden = await readGolden(`${model}.greedy2.safetensors`);
        const { data: input, shape } = golden.get("input")!;
        const columns = shape[1]!;
        const prompts = Array.from(golden.get("length")!.data, (length, row) =>
          Array.from(input).slice((row + 1) * columns - length, (row + 1) * columns),
        );
        const next = golden.get("next")!;
        const maxTokens = next.shape[1]!;
        const options = { mode: "greedy", maxTokens, allowEmpty: true } as const;
        const { texts } = await generate(session, tokenizer, prompts, options);
        assert.deepEqual(
          texts.flatMap(({ ids }) => [...ids]),
          Array.from(next.data),
        );
      });
    });

    test(`${model}: samples and beams in a batch are those of each prompt alone`, async () => {
      await withSession(model, async (session, tokenizer) => {
        const prompts = [
          [6, 9, 12, 7, 30],
          [8, 11],
          [6, 40, 41],
        ];
        const stopIds = Array.from({ length: 60 }, (_, i) => 5 * i + 4);
        const settings: GenerateOptionsInput[] = [
          { samples: 3, maxTokens: 12, seed: 5, stopIds },
          { mode: "beam", samples: 3, maxTokens: 12, lengthPenalty: 0.5, stopIds },
        ];
        for (const options of settings) {
          const together = await generate(session, tokenizer, prompts, options);
          const lengths = new Set(together.texts.map(({ ids }) => ids.length));
          assert.ok(lengths.size > 1, `rows leave at different steps, not after ${[...lengths]} tokens`);
          for (const [row, prompt] of prompts.entries()) {
            const { texts } = await generate(session, tokenizer, [prompt], options);
            const own = together.texts.filter((text) => text.row === row);
            assert.deepEqual(
              own.map(({ ids, finish }) => ({ ids, finish })),
              texts.map(({ ids, finish }) => ({ ids, finish })),
            );
            for (const [i, text] of own.entries()) {
              for (const [at, logprob] of text.logprobs.entries()) {
                assert.ok(Math.abs(logprob - texts[i]!.logprobs[at]!) < 1e-4);
              }
            }
          }
        }
      });
    });
  }
});
