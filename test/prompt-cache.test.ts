/** Texts that were read before: the same numbers as reading them again, and only where that is so. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { generate } from "../src/infer/generate.ts";
import { createPromptCache } from "../src/infer/prompt-cache.ts";
import type { DecodingSession } from "../src/infer/session.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { assertClose } from "./support/close.ts";
import { createFakeSession } from "./support/fake-session.ts";
import { everyMask, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const configs: Readonly<Record<string, ModelConfig>> = {
  plain: tinyConfig,
  "heads of 12": { ...tinyConfig, heads: 2, dimHead: 12 },
  pruned: { ...tinyConfig, layers: everyMask.length, maskModules: everyMask },
};
const V = tinyConfig.vocabSize;
const row = (logits: Float32Array, index: number) => Array.from(logits.subarray(index * V, (index + 1) * V));

/** Logits after a prompt and after tokens fed behind it, by plain reading. */
async function plainly(session: DecodingSession, prompt: readonly number[], tokens: readonly number[] = []) {
  let logits = await session.prefill([prompt]);
  for (const token of tokens) logits = await session.step(Int32Array.of(token));
  return Array.from(logits);
}

suite("prompt cache", () => {
  for (const [name, config] of Object.entries(configs)) {
    test(`${name}: known, unknown and continued texts in one batch are what each is when read`, async () => {
      using runtime = createNativeRuntime({ threads: 1 });
      const parameters = uploadWeights(runtime, config);
      const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 20 });
      const larger = await createCpmAntSession(runtime, config, parameters, { capacityTokens: 30, rowCapacity: 2 });
      const cache = createPromptCache(1 << 24);
      const [a, b] = [
        [6, 9, 12, 7, 30],
        [8, 11],
      ];
      const turns = [3, 39, 0];
      const expected = {
        a: await plainly(session, a),
        b: await plainly(session, b),
        aTurns: await plainly(session, a, turns),
        aMore: await plainly(session, a, [...turns, 4]),
        whole: await plainly(session, [...a, ...turns]),
      };
      assertClose(await cache.prefill(session, [{ ids: a }]), expected.a, 1e-5);
      // Known, unknown, and a conversation that goes on behind a known prompt.
      const conversation = { ids: [...a, ...turns], contextTokens: a.length };
      const mixed = await cache.prefill(session, [{ ids: b }, { ids: a }, conversation]);
      assertClose(row(mixed, 0), expected.b, 1e-5);
      assertClose(row(mixed, 1), expected.a, 1e-5);
      assertClose(row(mixed, 2), expected.aTurns, 1e-5);
      // The rows go on as rows that were read.
      const stepped = await session.step(Int32Array.of(2, 3, 4));
      assertClose(row(stepped, 2), expected.aMore, 1e-5);
      const after = await cache.prefill(larger, [{ ids: [...a, ...turns, 4], contextTokens: a.length }]);
      assertClose(after, expected.aMore, 1e-5, "in a session with more room");
      // The same ids as one prompt are another computation.
      const reused = cache.use().reusedTokens;
      assertClose(await cache.prefill(session, [{ ids: [...a, ...turns] }]), expected.whole, 1e-5);
      assert.ok(expected.whole.some((value, i) => Math.abs(value - expected.aTurns[i]!) > 1e-3));
      assert.equal(cache.use().reusedTokens, reused, "nothing of it was reused");
      session.dispose();
      larger.dispose();
      for (const tensor of parameters.values()) tensor.dispose();
      assert.equal(runtime.memory().tensors, 0);
    });
  }

  test("holds no more bytes than it may, the last used the longest", async () => {
    const session = createFakeSession({ vocabSize: 10 });
    // An entry of three tokens: 12 bytes of state, 40 of logits, 24 of ids.
    const cache = createPromptCache(3 * 76);
    const text = (id: number) => ({ ids: [id, id, id] });
    for (const id of [1, 2, 3]) await cache.prefill(session, [text(id)]);
    assert.deepEqual(cache.use(), { bytes: 228, entries: 3, reusedTokens: 0 });
    await cache.prefill(session, [text(1)]);
    await cache.prefill(session, [text(4)]); // instead of 2
    assert.deepEqual(cache.use(), { bytes: 228, entries: 3, reusedTokens: 3 });
    const before = session.calls.length;
    for (const id of [1, 3, 4]) await cache.prefill(session, [text(id)]);
    assert.deepEqual(session.calls.slice(before), ["load 1", "load 1", "load 1"]);
    await cache.prefill(session, [text(2)]);
    assert.equal(session.calls.at(-1), "prefill 1");
    await cache.prefill(session, [{ ids: Array(100).fill(1) }]);
    assert.equal(cache.use().entries, 3, "what is larger than all is not kept");
    cache.clear();
    assert.deepEqual(cache.use(), { bytes: 0, entries: 0, reusedTokens: 12 });
  });

  test("generation is the same with it, for samples, beams and later turns", async () => {
    const tokenizer = { eosId: 0, createDetokenizer: () => ({ push: String, flush: () => "" }) };
    const prompts = [
      [3, 4, 5],
      [6, 7],
    ];
    const promptCache = createPromptCache(1 << 20);
    for (const settings of [
      { samples: 2, maxTokens: 8 },
      { mode: "beam" as const, maxTokens: 5 },
    ]) {
      const plain = await generate(createFakeSession({ vocabSize: 12 }), tokenizer, prompts, settings);
      for (let i = 0; i < 2; i++) {
        const session = createFakeSession({ vocabSize: 12 });
        const cached = await generate(session, tokenizer, prompts, settings, { promptCache });
        assert.deepEqual(cached.texts, plain.texts);
      }
    }
    const session = createFakeSession({ vocabSize: 12 });
    const turns = { promptCache, contextTokens: [3, 2] };
    await generate(
      session,
      tokenizer,
      [
        [3, 4, 5, 9, 8],
        [6, 7],
      ],
      { maxTokens: 3 },
      turns,
    );
    assert.deepEqual(session.calls.slice(0, 2), ["load 2", "extend 2"]);
    for (const contextTokens of [[3], [3, 0], [3, 6], [1.5, 2]]) {
      const wrong = generate(session, tokenizer, prompts, {}, { contextTokens });
      await assert.rejects(wrong, { code: "CPM_INFER_OPTIONS" });
    }
  });
});
