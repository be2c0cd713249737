/** A running batch with prompts that it knows and with guesses: every text is what it is without them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { createLookupDrafter, createModelDrafter, type Drafter } from "../src/infer/draft.ts";
import { createEngine, type Engine, type EngineOptions } from "../src/infer/engine.ts";
import { type GenerateOptionsInput, parseGenerateOptions } from "../src/infer/options.ts";
import type { GenerationTokenizer } from "../src/infer/row-text.ts";
import type { ContinuousSession } from "../src/infer/session.ts";
import { createNativeRuntime, type Runtime } from "../src/runtime/index.ts";
import { createRandom } from "../src/util/random.ts";
import { tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const V = tinyConfig.vocabSize;
const capacityTokens = 40;
const letter = (id: number) => String.fromCharCode(0x4e01 + id);
const tokenizer: GenerationTokenizer = {
  eosId: 0,
  newlineId: 1,
  createDetokenizer: () => ({ push: letter, flush: () => "" }),
};

type Use = (engine: Engine, session: ContinuousSession) => Promise<void>;

async function withEngine(
  options: Partial<EngineOptions>,
  use: Use,
  drafterOf?: (session: ContinuousSession) => Drafter,
): Promise<void> {
  using runtime = createNativeRuntime({ threads: 1 });
  const parameters = uploadWeights(runtime, tinyConfig);
  const open = (own: Runtime) => createCpmAntSession(own, tinyConfig, parameters, { capacityTokens, rowCapacity: 3 });
  const session = await open(runtime);
  const draftSession = drafterOf && (await open(runtime));
  const drafter = draftSession && drafterOf(draftSession);
  const clock = () => performance.now();
  const engine = createEngine(session, tokenizer, { rows: 4, clock, ...(drafter && { drafter }), ...options });
  await use(engine, session);
  await engine.close();
  session.dispose();
  draftSession?.dispose();
  for (const tensor of parameters.values()) tensor.dispose();
  assert.deepEqual([runtime.memory().tensors, runtime.memory().programs], [0, 0]);
}

const prompts = Array.from({ length: 5 }, (_, index) => {
  const random = createRandom(5, `prompt ${index}`);
  return Array.from({ length: 3 + 2 * index }, () => 2 + random.integer(V - 2));
});
const settings = (index: number): GenerateOptionsInput => ({
  mode: index % 3 === 0 ? "greedy" : "sample",
  seed: 7 * index,
  temperature: 0.8,
  maxTokens: 20,
  minTokens: 12,
  repetitionPenalty: index % 2 === 0 ? 1.2 : 1,
  samples: index === 4 ? 2 : 1,
});
const ask = (engine: Engine, index: number, more: { owner?: string; maxTokens?: number } = {}) => {
  const { owner, maxTokens } = more;
  return engine.generate({
    prompt: prompts[index]!,
    settings: parseGenerateOptions({ ...settings(index), ...(maxTokens && { maxTokens, minTokens: 0 }) }),
    owner,
  });
};

async function plainTexts(): Promise<string[]> {
  const texts: string[] = [];
  await withEngine({}, async (engine) => {
    for (const index of prompts.keys()) {
      const result = await ask(engine, index, { owner: "a" });
      assert.equal(result.cachedTokens, 0);
      texts.push(result.texts.map(({ text }) => text).join("|"));
    }
    assert.equal(engine.counts.promptCacheBytes, 0);
  });
  return texts;
}
const textOf = (result: Awaited<ReturnType<Engine["generate"]>>) => result.texts.map(({ text }) => text).join("|");

test("a prompt that was read is not read again for its owner, alone or in company", { timeout: 60_000 }, async () => {
  const plain = await plainTexts();
  await withEngine({ promptCacheBytes: 2 ** 20 }, async (engine, session) => {
    let reads = 0;
    const { begin } = session;
    session.begin = (...given) => {
      reads += given[0].length;
      return begin(...given);
    };
    for (const index of prompts.keys()) assert.equal(textOf(await ask(engine, index, { owner: "a" })), plain[index]);
    assert.equal(reads, prompts.length);
    const again = await Promise.all([0, 1, 2, 3, 4, 0, 3].map((index) => ask(engine, index, { owner: "a" })));
    assert.deepEqual(
      again.map(textOf),
      [0, 1, 2, 3, 4, 0, 3].map((index) => plain[index]),
    );
    assert.equal(reads, prompts.length);
    for (const { cachedTokens, promptTokens } of again) assert.equal(cachedTokens, promptTokens);
    // Another owner learns nothing of it, and one without a name is neither helped nor remembered.
    assert.equal((await ask(engine, 2, { owner: "b" })).cachedTokens, 0);
    assert.equal((await ask(engine, 2)).cachedTokens, 0);
    assert.equal(reads, prompts.length + 2);
    assert.ok(engine.counts.promptCacheBytes <= 2 ** 20);
    // Known and unknown ones in turn keep their order, and a known one waits for room as others do.
    const mixed = [4, 1, 4, 2, 0, 4, 3, 1];
    const owners = mixed.map((_, at) => (at % 2 === 0 ? "a" : `stranger ${at}`));
    const results = await Promise.all(mixed.map((index, at) => ask(engine, index, { owner: owners[at]! })));
    assert.deepEqual(
      results.map(textOf),
      mixed.map((index) => plain[index]),
    );
  });
});

test("states stay within their bytes", async () => {
  const limit = 40_000;
  await withEngine({ promptCacheBytes: limit }, async (engine) => {
    for (const index of [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]) {
      await ask(engine, index, { owner: "a", maxTokens: 1 });
      assert.ok(engine.counts.promptCacheBytes <= limit);
    }
    assert.ok(engine.counts.promptCacheBytes > 0);
  });
});

for (const [name, drafterOf] of [
  ["a model", (session: ContinuousSession) => createModelDrafter(session, { drafting: 0.01, verifying: 0.03 })],
  ["looking up", () => createLookupDrafter({ drafting: 0, verifying: 0.05 }, { shortest: 1 })],
] as const) {
  test(`guesses by ${name} leave every text as it is, whoever comes and goes`, { timeout: 60_000 }, async () => {
    const plain = await plainTexts();
    const use: Use = async (engine) => {
      for (const index of prompts.keys()) {
        const before = engine.counts;
        const events: string[] = [];
        const result = await engine.generate({
          prompt: prompts[index]!,
          settings: parseGenerateOptions(settings(index)),
          onEvent: ({ text, sample }) => sample === 0 && events.push(text),
        });
        assert.equal(textOf(result), plain[index]);
        assert.equal(events.join(""), result.texts[0]!.text);
        const drafted = engine.counts.draftedTokens - before.draftedTokens;
        const accepted = engine.counts.acceptedTokens - before.acceptedTokens;
        assert.ok(accepted <= drafted);
        // The drafter is the model itself: what is greedy it guesses right, but for what comes after the end.
        if (name === "a model" && index % 3 === 0) assert.ok(accepted > 10 && drafted - accepted <= 1, `${accepted}`);
      }
      assert.ok(engine.counts.draftedTokens > 0);
      // Company that comes in the middle and leaves before the end.
      for (const index of [0, 3, 1]) {
        let company: Promise<unknown> | undefined;
        let seen = 0;
        const result = await engine.generate({
          prompt: prompts[index]!,
          settings: parseGenerateOptions(settings(index)),
          onEvent: () => {
            if (++seen === 4) company = ask(engine, 2, { maxTokens: 3 });
          },
        });
        await company;
        assert.equal(textOf(result), plain[index]);
      }
    };
    await withEngine({}, use, drafterOf);
  });
}

test("a text that cannot go on fails alone, also where it is guessed at", async () => {
  const use: Use = async (engine, session) => {
    const { extend } = session;
    let calls = 0;
    session.extend = async (...given) => {
      const logits = await extend(...given);
      return ++calls === 3 ? logits.fill(Number.NaN) : logits;
    };
    await assert.rejects(ask(engine, 0), { code: "CPM_INFER_NAN" });
    assert.equal(engine.failure, undefined);
    assert.equal(engine.rows, 0);
    assert.equal((await ask(engine, 1)).texts.length, 1);
  };
  await withEngine({}, use, (session) => createModelDrafter(session, { drafting: 0.01, verifying: 0.03 }));
});
