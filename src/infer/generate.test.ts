import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createFakeSession, ngramLogits } from "../../test/support/fake-session.ts";
import { type GenerationResult, generate, type Prompts, streamGenerate } from "./generate.ts";
import type { TokenEvent } from "./generated-row.ts";
import type { GenerateOptionsInput } from "./options.ts";
import type { GenerationTokenizer } from "./row-text.ts";

const vocabSize = 40;
const eosId = 0;
const newlineId = 1;
/** A rare character in two tokens: the first half shows nothing until the second comes. */
const firstHalf = 2;

/** Token 3 is 丄, token 4 is 丅 … */
const letter = (id: number) => String.fromCharCode(0x4e01 + id);

const tokenizer: GenerationTokenizer = {
  eosId,
  newlineId,
  createDetokenizer() {
    let half = false;
    return {
      push(id) {
        if (id === firstHalf) {
          const shown = half ? "\ufffd" : "";
          half = true;
          return shown;
        }
        const text = half ? `\u{20000}${letter(id)}` : letter(id);
        half = false;
        return text;
      },
      flush: () => (half ? "\ufffd" : ""),
    };
  },
};

/** The whole text of some ids. */
function textOf(ids: readonly number[]): string {
  const detokenizer = tokenizer.createDetokenizer();
  return ids.map((id) => detokenizer.push(id)).join("") + detokenizer.flush();
}

/** A model that writes these tokens after any one-token prompt, over and over. */
function scripted(script: readonly number[], runnerUp = vocabSize - 1) {
  return (tokens: readonly number[]) => {
    const row = new Float32Array(vocabSize);
    row[runnerUp] = 5;
    row[script[(tokens.length - 1) % script.length]!] = 10;
    return row;
  };
}

function run(prompts: Prompts, options: GenerateOptionsInput, logitsOf = ngramLogits(vocabSize, 9)) {
  const session = createFakeSession({ vocabSize, logitsOf });
  return generate(session, tokenizer, prompts, options).then((result) => ({ ...result, session }));
}

const ids = (result: GenerationResult) => result.texts.map((text) => [...text.ids]);

async function collect(events: AsyncGenerator<TokenEvent, GenerationResult, void>) {
  const seen: TokenEvent[] = [];
  for (;;) {
    const next = await events.next();
    if (next.done === true) return { seen, result: next.value };
    seen.push(next.value);
  }
}

describe("generate", () => {
  const option = fc.record({
    mode: fc.constantFrom("greedy" as const, "sample" as const, "beam" as const),
    maxTokens: fc.integer({ min: 1, max: 12 }),
    minTokens: fc.nat(1),
    samples: fc.integer({ min: 1, max: 3 }),
    topK: fc.constantFrom(0, 7),
    repetitionPenalty: fc.constantFrom(1, 1.3),
    repetitionWindow: fc.nat(3),
    stop: fc.constantFrom<string[]>([], [letter(5), letter(7) + letter(8)]),
    seed: fc.nat(1000),
  });
  const prompt = fc.array(fc.integer({ min: 2, max: vocabSize - 1 }), { minLength: 1, maxLength: 5 });
  /** Ends come up often. */
  const ending = (tokens: readonly number[]) => {
    const row = ngramLogits(vocabSize, 9)(tokens);
    row[eosId]! += 3;
    return row;
  };

  test("a prompt gives the same texts in a batch as alone", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(prompt, { minLength: 1, maxLength: 4 }), option, async (prompts, options) => {
        const together = await run(prompts, options, ending);
        const alone = await Promise.all(prompts.map((each) => run([each], options, ending)));
        assert.deepEqual(
          together.texts,
          alone.flatMap(({ texts }, row) => texts.map((text) => ({ ...text, row }))),
        );
      }),
      { numRuns: 150 },
    );
  });

  test("events add up to the texts; rules and limits hold", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(prompt, { minLength: 1, maxLength: 3 }), option, async (prompts, options) => {
        const session = createFakeSession({ vocabSize, logitsOf: ending });
        const { seen, result } = await collect(streamGenerate(session, tokenizer, prompts, options));
        for (const text of result.texts) {
          const own = seen.filter(({ row, sample }) => row === text.row && sample === text.sample);
          assert.equal(own.map((event) => event.text).join(""), text.text);
          assert.deepEqual(
            own.flatMap(({ id }) => (id === null ? [] : [id])),
            text.ids,
          );
          assert.deepEqual(
            own.map(({ finish }) => finish),
            [...own.slice(1).map(() => null), text.finish],
          );
          assert.ok(textOf(text.ids).startsWith(text.text));
          for (const stop of options.stop) assert.ok(!text.text.includes(stop));
          assert.ok(text.ids.length >= 1 && text.ids.length <= options.maxTokens);
          assert.ok(text.ids[0] !== newlineId && !text.ids.includes(eosId));
          assert.ok(text.logprobs.length === text.ids.length && text.logprobs.every((logprob) => logprob <= 0));
          if (text.finish === "length") assert.equal(text.ids.length, options.maxTokens);
        }
        assert.equal(
          result.usage.promptTokens,
          prompts.reduce((sum, each) => sum + each.length, 0),
        );
        assert.equal(
          result.usage.generatedTokens,
          result.texts.reduce((sum, text) => sum + text.ids.length, 0),
        );
      }),
      { numRuns: 150 },
    );
  });

  test("greedy takes the best token; temperature 0 and top-k 1 are the same", async () => {
    const logitsOf = ngramLogits(vocabSize, 4);
    const expected: number[] = [];
    while (expected.length < 10) {
      const row = logitsOf([7, ...expected]);
      if (expected.length === 0) row[eosId] = row[newlineId] = -Infinity;
      const id = row.indexOf(Math.max(...row));
      if (id === eosId) break;
      expected.push(id);
    }
    for (const options of [
      { mode: "greedy" },
      { temperature: 0 },
      { topK: 1 },
      { mode: "sample", topP: 1e-9 },
    ] as const) {
      assert.deepEqual(ids(await run([[7]], { ...options, maxTokens: 10 }, logitsOf)), [expected]);
    }
  });

  test("seeds: the same repeats, another differs, samples differ, each prompt may have its own", async () => {
    const prompts = [[5], [5]];
    const options = { maxTokens: 20, samples: 2, temperature: 2 };
    const first = ids(await run(prompts, { ...options, seed: 3 }));
    assert.deepEqual(ids(await run(prompts, { ...options, seed: 3 })), first);
    const [a, b, c, d] = first;
    assert.deepEqual([c, d], [a, b]);
    assert.notDeepEqual(a, b);
    assert.notDeepEqual(ids(await run(prompts, { ...options, seed: 4 })), first);
    const session = createFakeSession({ vocabSize, logitsOf: ngramLogits(vocabSize, 9) });
    const own = ids(await generate(session, tokenizer, prompts, options, { seeds: [3, 3n] }));
    assert.deepEqual(own, first);
    assert.notDeepEqual(ids(await generate(session, tokenizer, prompts, options, { seeds: [3, 4] })), first);
    await assert.rejects(generate(session, tokenizer, prompts, options, { seeds: [3] }), { code: "CPM_INFER_OPTIONS" });
  });

  test("finished rows leave the batch, samples share one prefill, and nothing is fed after the last token", async () => {
    // The prompt's first token says when the row ends.
    const logitsOf = (tokens: readonly number[]) => {
      const row = new Float32Array(vocabSize);
      row[tokens.length > tokens[0]! ? eosId : 9] = 10;
      return row;
    };
    const { session, texts } = await run([[4], [2], [3]], { mode: "greedy", maxTokens: 10, samples: 2 }, logitsOf);
    assert.deepEqual(
      texts.map((text) => text.ids.length),
      [4, 4, 2, 2, 3, 3],
    );
    assert.deepEqual(session.calls, [
      "prefill 3",
      "reorder 6",
      "step 6",
      "step 6",
      "reorder 4",
      "step 4",
      "reorder 2",
      "step 2",
    ]);
    const limited = await run([[30]], { mode: "greedy", maxTokens: 3 }, logitsOf);
    assert.deepEqual(limited.session.calls, ["prefill 1", "step 1", "step 1"]);
    assert.equal(limited.texts[0]!.finish, "length");
  });

  test("stop strings span tokens and are never shown; stop ids end like the end token", async () => {
    const logitsOf = scripted([5, 6, 7, 8, 9]);
    const events = streamGenerate(createFakeSession({ vocabSize, logitsOf }), tokenizer, [[3]], {
      mode: "greedy",
      stop: [letter(7) + letter(8), letter(6) + letter(9)],
    });
    const { seen, result } = await collect(events);
    assert.deepEqual(
      seen.map(({ id, text, finish }) => [id, text, finish]),
      [
        [5, letter(5), null],
        [6, "", null],
        [7, letter(6), null],
        [8, "", "stop"],
      ],
    );
    assert.equal(result.texts[0]!.text, letter(5) + letter(6));
    const stopped = await run([[3]], { mode: "greedy", stopIds: [8] }, logitsOf);
    assert.deepEqual([stopped.texts[0]!.ids, stopped.texts[0]!.finish], [[5, 6, 7], "stop"]);
  });

  test("half a character is held back, and shown as replaced only if the text ends there", async () => {
    const logitsOf = scripted([5, firstHalf, 6]);
    const whole = await run([[3]], { mode: "greedy", maxTokens: 3 }, logitsOf);
    assert.equal(whole.texts[0]!.text, `${letter(5)}\u{20000}${letter(6)}`);
    const cut = await run([[3]], { mode: "greedy", maxTokens: 2 }, logitsOf);
    assert.equal(cut.texts[0]!.text, `${letter(5)}\ufffd`);
  });

  test("bias, forbidden tokens, minTokens and allowEmpty decide what comes", async () => {
    const logitsOf = scripted([eosId], 6);
    const options = { mode: "greedy", maxTokens: 4 } as const;
    assert.deepEqual(ids(await run([[3]], options, logitsOf)), [[6]]);
    assert.deepEqual(ids(await run([[3]], { ...options, minTokens: 3 }, logitsOf)), [[6, 6, 6]]);
    assert.deepEqual(ids(await run([[3]], { ...options, allowEmpty: true }, logitsOf)), [[]]);
    assert.deepEqual(ids(await run([[3]], { ...options, logitBias: { 8: 20 } }, logitsOf)), [[8, 8, 8, 8]]);
    assert.deepEqual(ids(await run([[3]], { ...options, forbiddenIds: [6, eosId] }, logitsOf)), [[2, newlineId, 1, 1]]);
    assert.deepEqual(ids(await run([[3]], { ...options, mode: "beam", allowEmpty: true }, logitsOf)), [[]]);
    // 6 is penalised from 5 to 0.5, but within the window of one token only.
    const penalised = { ...options, forbiddenIds: [eosId], repetitionPenalty: 10, logitBias: { 7: 4, 9: 3 } };
    assert.deepEqual(ids(await run([[3]], { ...penalised, repetitionWindow: 1 }, logitsOf)), [[6, 7, 6, 7]]);
  });

  test("top log probabilities are of the model's own distribution", async () => {
    const logitsOf = scripted([eosId], 6);
    const result = await run([[3]], { mode: "greedy", topLogprobs: 2, maxTokens: 1 }, logitsOf);
    const [text] = result.texts;
    assert.deepEqual(
      text!.top[0]!.map(({ id }) => id),
      [eosId, 6],
    );
    assert.equal(text!.top[0]![1]!.logprob, text!.logprobs[0]);
  });

  test("runs to the capacity and says so, for all modes; a prompt without room is an error", async () => {
    for (const mode of ["greedy", "sample", "beam"] as const) {
      const session = createFakeSession({ vocabSize, capacityTokens: 8 });
      const options = { mode, maxTokens: 50, forbiddenIds: [eosId] };
      const { texts } = await generate(session, tokenizer, [[3, 4, 5], [3]], options);
      assert.deepEqual(
        texts.map((text) => [text.ids.length, text.finish]),
        [
          [5, "capacity"],
          [7, "capacity"],
        ],
      );
      const full = generate(session, tokenizer, [new Array(8).fill(3)], options);
      await assert.rejects(full, { code: "CPM_INFER_CAPACITY" });
    }
  });

  test("a vocabulary of one token works", async () => {
    const session = createFakeSession({ vocabSize: 1 });
    const single = { ...tokenizer, newlineId: undefined };
    for (const mode of ["greedy", "sample", "beam"] as const) {
      const result = await generate(session, single, [[0]], { mode, allowEmpty: true });
      assert.deepEqual([result.texts[0]!.ids, result.texts[0]!.finish], [[], "stop"]);
      await assert.rejects(generate(session, single, [[0]], { mode }), { code: "CPM_INFER_NO_TOKEN" });
    }
  });

  test("refuses prompts and ids that do not fit the vocabulary", async () => {
    const wrongPrompts: Prompts[] = [[], [[]], [[3], []], [[vocabSize]], [[-1]], [[1.5]], [[Number.NaN]]];
    for (const prompts of wrongPrompts) await assert.rejects(run(prompts, {}), { code: "CPM_INFER_PROMPT" });
    for (const options of [{ stopIds: [99] }, { forbiddenIds: [99] }, { logitBias: { 99: 1 } }]) {
      await assert.rejects(run([[3]], options), { code: "CPM_INFER_OPTIONS" });
    }
    const session = createFakeSession({ vocabSize });
    await assert.rejects(generate(session, { ...tokenizer, eosId: 99 }, [[3]]), { code: "CPM_INFER_OPTIONS" });
    assert.deepEqual(session.calls, []);
  });

  test("a logit that is NaN names prompt and step, and the session can be used again", async () => {
    const fine = ngramLogits(vocabSize, 2);
    const logitsOf = (tokens: readonly number[]) =>
      tokens[0] === 4 && tokens.length === 3 ? fine(tokens).fill(Number.NaN, 7, 8) : fine(tokens);
    const session = createFakeSession({ vocabSize, logitsOf });
    for (const mode of ["greedy", "sample", "beam"] as const) {
      await assert.rejects(generate(session, tokenizer, [[3], [4]], { mode, forbiddenIds: [eosId] }), {
        code: "CPM_INFER_NAN",
        where: "row 1, step 2",
        got: "NaN for token 7",
      });
      const { texts } = await generate(session, tokenizer, [[3]], { mode, maxTokens: 2, minTokens: 2 });
      assert.equal(texts[0]!.ids.length, 2);
    }
  });

  test("times prefill and steps by the clock it is given, and none without", async () => {
    let now = 0;
    const session = createFakeSession({ vocabSize, logitsOf: scripted([5]), onStep: () => void (now += 10) });
    const options = { mode: "greedy", maxTokens: 4 } as const;
    const { timing } = await generate(session, tokenizer, [[3]], options, { clock: () => now });
    assert.deepEqual(timing, { prefillMs: 0, stepMs: 30, chooseMs: 0, steps: 3, msPerStep: 10 });
    assert.equal((await generate(session, tokenizer, [[3]], options)).timing, null);
  });
});

describe("cancellation", () => {
  test("ends texts under way at the next step with what they have; the session goes on with the next prompt", async () => {
    for (const mode of ["greedy", "sample", "beam"] as const) {
      for (const abortAt of [1, 2, 5]) {
        const controller = new AbortController();
        let armed = true;
        const session = createFakeSession({
          vocabSize,
          logitsOf: scripted([5, firstHalf]),
          onStep: (step) => {
            if (armed && step === abortAt) controller.abort();
          },
        });
        const options = { mode, maxTokens: 20 };
        const { texts } = await generate(session, tokenizer, [[3], [3]], options, { signal: controller.signal });
        assert.equal(texts.length, 2);
        for (const text of texts) {
          assert.equal(text.finish, "cancelled");
          assert.equal(text.ids.length, abortAt);
          assert.equal(text.text, textOf(text.ids));
        }
        armed = false;
        const after = await generate(session, tokenizer, [[3]], options);
        assert.deepEqual(after.texts, (await run([[3]], options, scripted([5, firstHalf]))).texts);
      }
    }
  });

  test("a signal that came before leaves the session alone; one from a reader of events stops at once", async () => {
    for (const mode of ["sample", "beam"] as const) {
      const session = createFakeSession({ vocabSize });
      const { texts, usage } = await generate(session, tokenizer, [[3]], { mode }, { signal: AbortSignal.abort() });
      assert.deepEqual([texts[0]!.finish, texts[0]!.text, usage.generatedTokens], ["cancelled", "", 0]);
      assert.deepEqual(session.calls, []);
    }
    const controller = new AbortController();
    const session = createFakeSession({ vocabSize, logitsOf: scripted([5]) });
    const result = await generate(
      session,
      tokenizer,
      [[3]],
      {},
      {
        signal: controller.signal,
        onToken: ({ id }) => {
          if (id !== null) controller.abort();
        },
      },
    );
    assert.deepEqual(session.calls, ["prefill 1"]);
    assert.equal(result.texts[0]!.finish, "cancelled");
  });

  test("breaking off the iteration leaves the session ready", async () => {
    const session = createFakeSession({ vocabSize, logitsOf: scripted([5, 6]) });
    for await (const { id } of streamGenerate(session, tokenizer, [[3]], { mode: "greedy" })) if (id === 6) break;
    assert.deepEqual(session.calls, ["prefill 1", "step 1"]);
    const { texts } = await generate(session, tokenizer, [[3]], { mode: "greedy", maxTokens: 2 });
    assert.deepEqual(texts[0]!.ids, [5, 6]);
  });

  test("an error of the session comes through and the next run works", async () => {
    let fail = true;
    const onStep = () => {
      if (fail) throw new Error("device lost");
    };
    const session = createFakeSession({ vocabSize, onStep });
    await assert.rejects(generate(session, tokenizer, [[3]], { minTokens: 5 }), /device lost/);
    fail = false;
    assert.equal((await generate(session, tokenizer, [[3]], { maxTokens: 5, minTokens: 5 })).texts[0]!.ids.length, 5);
  });
});

describe("beam search over a session", () => {
  test("prompts that are decided leave the batch; texts come by prompt, the best first, with scores", async () => {
    const logitsOf = (tokens: readonly number[]) => {
      const row = ngramLogits(vocabSize, 6, 1)(tokens);
      if (tokens[0] === 4) row[eosId]! += 12;
      else row[eosId] = -20;
      return row;
    };
    const { texts, session } = await run([[3, 3], [4]], { mode: "beam", maxTokens: 6, samples: 3 }, logitsOf);
    assert.deepEqual(
      texts.map(({ row, sample }) => [row, sample]),
      [0, 1, 2].flatMap((sample) => [[0, sample]]).concat([0, 1, 2].map((sample) => [1, sample])),
    );
    for (const row of [0, 1]) {
      const scores = texts.filter((text) => text.row === row).map((text) => text.score!);
      assert.deepEqual(
        scores,
        scores.toSorted((a, b) => b - a),
      );
    }
    assert.ok(texts.every((text) => text.finish === (text.row === 0 ? "length" : "stop")));
    assert.equal(session.calls[0], "prefill 2");
    assert.equal(session.calls[1], "reorder 6");
    assert.ok(session.calls.includes("step 3"), "the decided prompt left");
    assert.equal(session.calls.at(-1), "step 3");
    assert.equal(session.calls.filter((call) => call.startsWith("step")).length, 6);
  });
});
