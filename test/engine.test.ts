/** Continuous batching: each request gets what it gets alone, whoever comes and goes; failures stay where they are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { createEngine, type Engine, type EngineOptions } from "../src/infer/engine.ts";
import { generate } from "../src/infer/generate.ts";
import type { GeneratedText, TokenEvent } from "../src/infer/generated-row.ts";
import { type GenerateOptionsInput, parseGenerateOptions } from "../src/infer/options.ts";
import type { GenerationTokenizer } from "../src/infer/row-text.ts";
import type { ContinuousSession } from "../src/infer/session.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
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

async function withEngine(
  use: (engine: Engine, session: ContinuousSession) => Promise<void>,
  options: Partial<EngineOptions> = {},
  around: (session: ContinuousSession) => ContinuousSession = (session) => session,
): Promise<void> {
  using runtime = createNativeRuntime({ threads: 1 });
  const parameters = uploadWeights(runtime, tinyConfig);
  const session = await createCpmAntSession(runtime, tinyConfig, parameters, { capacityTokens, rowCapacity: 4 });
  const engine = createEngine(around(session), tokenizer, { rows: 4, clock: () => performance.now(), ...options });
  await use(engine, session);
  await engine.close();
  session.dispose();
  for (const tensor of parameters.values()) tensor.dispose();
  assert.deepEqual([runtime.memory().tensors, runtime.memory().programs], [0, 0]);
}

function textOf({ text, ids, finish }: GeneratedText) {
  return { text, ids, finish };
}

interface Case {
  readonly prompt: readonly number[];
  readonly settings: GenerateOptionsInput;
}

/** Requests of every kind. */
function cases(count: number): Case[] {
  const random = createRandom(3, "requests");
  return Array.from({ length: count }, (_, index) => ({
    prompt: Array.from({ length: 1 + random.integer(12) }, () => 2 + random.integer(V - 2)),
    settings: {
      mode: index % 5 === 0 ? "greedy" : "sample",
      seed: random.integer(1000),
      temperature: 0.5 + random.uniform(),
      topP: index % 3 === 0 ? 1 : 0.9,
      topK: index % 4 === 0 ? 8 : 0,
      maxTokens: 1 + random.integer(index % 7 === 0 ? 60 : 20),
      samples: index % 6 === 5 ? 3 : 1,
      repetitionPenalty: index % 4 === 1 ? 1.3 : 1,
      stop: index % 8 === 2 ? [letter(7), letter(9) + letter(11)] : [],
      topLogprobs: index % 9 === 4 ? 3 : 0,
      logitBias: index % 10 === 3 ? { "5": 3 } : {},
    } satisfies GenerateOptionsInput,
  }));
}

const settle = () =>
  new Promise<void>((resolve) => {
    setImmediate(resolve);
  });

test("requests that come one after another get what each gets alone", { timeout: 60_000 }, async () => {
  const requests = cases(40);
  const alone: GeneratedText[][] = [];
  await withEngine(async (_, session) => {
    for (const { prompt, settings } of requests)
      alone.push([...(await generate(session, tokenizer, [prompt], settings)).texts]);
  });
  // Prompts whole, and layer by layer.
  for (const prefillTokens of [256, 4]) {
    let most = 0;
    await withEngine(
      async (engine, session) => {
        const random = createRandom(4, "arrivals");
        const running = [];
        for (const { prompt, settings } of requests) {
          const events: TokenEvent[] = [];
          const onEvent = (event: TokenEvent) => {
            events.push(event);
            most = Math.max(most, engine.rows);
          };
          running.push(
            engine
              .generate({ prompt, settings: parseGenerateOptions(settings), onEvent })
              .then((result) => ({ result, events })),
          );
          for (let wait = random.integer(6); wait > 0; wait--) await settle();
        }
        for (const [index, { result, events }] of (await Promise.all(running)).entries()) {
          assert.deepEqual(result.texts.map(textOf), alone[index]!.map(textOf), `request ${index}`);
          for (const [sample, text] of result.texts.entries()) {
            const own = events.filter((event) => event.sample === sample);
            assert.equal(own.map((event) => event.text).join(""), text.text);
            assert.equal(own.at(-1)!.finish, text.finish);
            for (const [at, logprob] of text.logprobs.entries())
              assert.ok(Math.abs(logprob - alone[index]![sample]!.logprobs[at]!) < 1e-4);
            assert.deepEqual(
              text.top.map((top) => top.map(({ id }) => id)),
              alone[index]![sample]!.top.map((top) => top.map(({ id }) => id)),
            );
          }
          assert.equal(result.promptTokens, requests[index]!.prompt.length);
          assert.ok(result.computeMs > 0);
        }
        assert.equal(session.rows, 0);
        assert.equal(engine.waiting, 0);
      },
      { prefillTokens },
    );
    assert.ok(most >= 3, `at most ${most} rows at once`);
  }
});

test("a request that is cancelled leaves at once, with what it has; the others do not notice", async () => {
  const [one, two] = cases(2).map(({ prompt }) => prompt);
  const settings = parseGenerateOptions({ maxTokens: 25, forbiddenIds: [0], seed: 5 });
  let expected = "";
  await withEngine(async (engine) => {
    expected = (await engine.generate({ prompt: two!, settings })).texts[0]!.text;
  });
  await withEngine(async (engine, session) => {
    const stop = new AbortController();
    let seen = 0;
    const onEvent = () => {
      if (++seen === 4) stop.abort();
    };
    const cancelled = engine.generate({ prompt: one!, settings, signal: stop.signal, onEvent });
    const other = engine.generate({ prompt: two!, settings });
    const { texts } = await cancelled;
    assert.equal(texts[0]!.finish, "cancelled");
    assert.equal(texts[0]!.ids.length, 4);
    assert.ok(session.rows <= 1);
    assert.equal((await other).texts[0]!.text, expected);
    // Before it ever ran, and while it waits for a row.
    const before = await engine.generate({ prompt: one!, settings, signal: AbortSignal.abort() });
    assert.deepEqual([before.texts[0]!.finish, before.texts[0]!.ids], ["cancelled", []]);
    const full = Array.from({ length: 4 }, () => engine.generate({ prompt: two!, settings }));
    const late = new AbortController();
    const waits = engine.generate({ prompt: one!, settings, signal: late.signal });
    while (engine.rows < 4) await settle();
    assert.equal(engine.waiting, 1);
    late.abort();
    assert.equal((await waits).texts[0]!.ids.length, 0);
    for (const each of await Promise.all(full)) assert.equal(each.texts[0]!.text, expected);
  });
});

test("what cannot be is refused before it waits; closing ends what runs", async () => {
  await withEngine(async (engine) => {
    const refuse = (settings: GenerateOptionsInput, prompt: number[], code: string) =>
      assert.rejects(engine.generate({ prompt, settings: parseGenerateOptions(settings) }), { code });
    await refuse({ mode: "beam" }, [3], "CPM_INFER_OPTIONS");
    await refuse({ samples: 5 }, [3], "CPM_INFER_OPTIONS");
    await refuse({ stopIds: [V] }, [3], "CPM_INFER_OPTIONS");
    await refuse({}, [], "CPM_INFER_PROMPT");
    await refuse({}, [V], "CPM_INFER_PROMPT");
    await refuse({}, Array(capacityTokens).fill(3), "CPM_INFER_CAPACITY");
    const settings = parseGenerateOptions({ maxTokens: 30, forbiddenIds: [0] });
    const running = [1, 2, 3, 4, 5, 6].map((id) => engine.generate({ prompt: [id], settings }));
    while (engine.rows < 4) await settle();
    await engine.close();
    for (const { texts } of await Promise.all(running)) assert.equal(texts[0]!.finish, "cancelled");
    await refuse({}, [3], "CPM_CANCELLED");
  });
});

test("passes run between the steps and give what they give alone", async () => {
  await withEngine(
    async (engine) => {
      const rows = [{ ids: [3, 4, 5] }, { ids: [6, 7] }];
      const read = () =>
        engine.pass(rows, async (pass) => Array.from(await pass.logits(Int32Array.of(tinyConfig.promptLength))));
      const alone = await read();
      const settings = parseGenerateOptions({ maxTokens: 30, forbiddenIds: [0] });
      const generating = engine.generate({ prompt: [8, 9], settings });
      const during = await read();
      assert.deepEqual(during.value, alone.value);
      assert.ok(during.computeMs > 0);
      assert.equal((await generating).texts[0]!.ids.length, 30);
      await assert.rejects(
        engine.pass(rows, async () => {
          throw new Error("unreadable");
        }),
        /unreadable/,
      );
      await assert.rejects(
        engine.pass([{ ids: [V] }], async () => 1),
        { code: "CPM_INFER_PROMPT" },
      );
      await assert.rejects(
        engine.pass(rows, async () => 1, { signal: AbortSignal.abort() }),
        { code: "CPM_CANCELLED" },
      );
    },
    { prefillTokens: 2 },
  );
});

test("a session that fails ends what it was doing, and the engine with it", async () => {
  let steps = 0;
  const failing = (session: ContinuousSession): ContinuousSession => {
    const broken: ContinuousSession = Object.create(session);
    broken.step = async (tokens) => {
      if (++steps > 3) throw new Error("the device is gone");
      return await session.step(tokens);
    };
    return broken;
  };
  await withEngine(
    async (engine) => {
      const settings = parseGenerateOptions({ maxTokens: 30, forbiddenIds: [0] });
      const running = [1, 2, 3, 4, 5, 6].map((id) => engine.generate({ prompt: [id], settings }));
      for (const result of await Promise.allSettled(running))
        assert.match(String((result as PromiseRejectedResult).reason), /the device is gone/);
      assert.match(String(engine.failure), /the device is gone/);
      await assert.rejects(engine.generate({ prompt: [3], settings }), { code: "CPM_CANCELLED" });
    },
    {},
    failing,
  );
});
