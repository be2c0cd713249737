/** Speculative decoding over sessions without a model: the same texts, or the same distribution. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createFakeSession, ngramLogits } from "../../test/support/fake-session.ts";
import { createLookupDrafter, createModelDrafter, type Drafter } from "./draft.ts";
import { createDraftPace } from "./draft-pace.ts";
import { editorOf, generate, type Prompts } from "./generate.ts";
import { type GenerateOptionsInput, parseGenerateOptions } from "./options.ts";
import type { GenerationTokenizer } from "./row-text.ts";
import { createSampler } from "./sample.ts";
import { verifyDraft } from "./speculative.ts";

const eosId = 0;
const newlineId = 1;
const tokenizer: GenerationTokenizer = {
  eosId,
  newlineId,
  createDetokenizer: () => ({ push: (id) => String.fromCharCode(0x4e01 + id), flush: () => "" }),
};

/** A model that resembles another: its logits with noise of `spread` nats. */
function similar(logitsOf: (tokens: readonly number[]) => Float32Array, vocabSize: number, spread: number) {
  const noise = ngramLogits(vocabSize, 77, spread);
  return (tokens: readonly number[]) => {
    const own = noise(tokens);
    return logitsOf(tokens).map((value, id) => value + own[id]!);
  };
}

interface Models {
  readonly vocabSize: number;
  readonly logitsOf: (tokens: readonly number[]) => Float32Array;
  readonly draftLogitsOf: (tokens: readonly number[]) => Float32Array;
}

/** The function with its results remembered: they depend on a row's last three tokens. */
function remembered(logitsOf: (tokens: readonly number[]) => Float32Array) {
  const known = new Map<string, Float32Array>();
  return (tokens: readonly number[]) => {
    const key = tokens.slice(-3).join(" ");
    const row = known.get(key) ?? logitsOf(tokens);
    known.set(key, row);
    return row;
  };
}

function models(vocabSize: number, { seed = 5, spread = 1, peak = 2 } = {}): Models {
  const logitsOf = remembered(ngramLogits(vocabSize, seed, peak));
  return { vocabSize, logitsOf, draftLogitsOf: remembered(similar(logitsOf, vocabSize, spread)) };
}

type Kind = "model" | "lookup" | "none";

async function run(
  kind: Kind,
  { vocabSize, logitsOf, draftLogitsOf }: Models,
  prompts: Prompts,
  options: GenerateOptionsInput,
  cost = { drafting: 0.01, verifying: 0.03 },
) {
  const session = createFakeSession({ vocabSize, logitsOf });
  const draftSession = createFakeSession({ vocabSize, logitsOf: draftLogitsOf });
  const drafters: Record<Kind, Drafter | undefined> = {
    none: undefined,
    lookup: createLookupDrafter({ drafting: 0, verifying: 0.05 }, { shortest: 1 }),
    model: createModelDrafter(draftSession, cost),
  };
  const result = await generate(session, tokenizer, prompts, options, { drafter: drafters[kind], maxDraftTokens: 5 });
  return { ...result, calls: session.calls };
}

const withoutCounts = ({ texts, usage }: Awaited<ReturnType<typeof run>>) => ({ texts, usage });

const options = fc.record({
  mode: fc.constantFrom("greedy" as const, "sample" as const),
  maxTokens: fc.integer({ min: 1, max: 14 }),
  minTokens: fc.nat(1),
  samples: fc.integer({ min: 1, max: 3 }),
  topK: fc.constantFrom(0, 7),
  topP: fc.constantFrom(1, 0.9),
  temperature: fc.constantFrom(0, 0.4, 1),
  repetitionPenalty: fc.constantFrom(1, 1.3),
  repetitionWindow: fc.nat(3),
  topLogprobs: fc.nat(2),
  stop: fc.constantFrom<string[]>([], [String.fromCharCode(0x4e01 + 9)]),
  seed: fc.nat(1000),
});
const prompts = fc.array(fc.array(fc.integer({ min: 2, max: 19 }), { minLength: 1, maxLength: 6 }), {
  minLength: 1,
  maxLength: 3,
});

describe("speculative decoding", () => {
  test("greedy texts are those of plain decoding, whoever guesses", () =>
    fc.assert(
      fc.asyncProperty(
        prompts,
        options,
        fc.constantFrom("model" as const, "lookup" as const),
        async (given, settings, kind) => {
          const greedy = { ...settings, mode: "greedy" as const };
          const plain = await run("none", models(20), given, greedy);
          assert.deepEqual(withoutCounts(await run(kind, models(20), given, greedy)), withoutCounts(plain));
        },
      ),
      { numRuns: 100 },
    ));

  test("sampled texts with looked-up guesses are those of plain decoding", () =>
    fc.assert(
      fc.asyncProperty(prompts, options, async (given, settings) => {
        const plain = await run("none", models(20), given, settings);
        assert.deepEqual(withoutCounts(await run("lookup", models(20), given, settings)), withoutCounts(plain));
      }),
      { numRuns: 100 },
    ));

  test("a prompt gives the same text in a batch as alone", () =>
    fc.assert(
      fc.asyncProperty(prompts, options, async (given, settings) => {
        const together = await run("model", models(20), given, settings);
        for (const [index, prompt] of given.entries()) {
          const { texts } = await run("model", models(20), [prompt], settings);
          const own = together.texts.filter(({ row }) => row === index);
          assert.deepEqual(
            own.map((text) => ({ ...text, row: 0 })),
            texts,
          );
        }
      }),
      { numRuns: 50 },
    ));

  test("a drafter that is always right saves passes, and one that never is costs none for long", async () => {
    const twin = models(20, { spread: 0, peak: 8 });
    const steps = (calls: readonly string[]) => calls.filter((call) => /^(step|extend)/.test(call)).length;
    const settings = { mode: "greedy" as const, maxTokens: 60, forbiddenIds: [eosId] };
    const plain = await run("none", twin, [[3, 4, 5]], settings);
    assert.equal(steps(plain.calls), 59);
    const right = await run("model", twin, [[3, 4, 5]], settings);
    assert.deepEqual(right.texts[0]!.ids, plain.texts[0]!.ids);
    assert.ok(steps(right.calls) <= 12, `${steps(right.calls)} passes for 60 tokens with 5 guesses each`);
    assert.equal(right.speculation!.acceptedTokens, right.speculation!.draftedTokens);
    const stranger = { ...twin, draftLogitsOf: ngramLogits(20, 1234, 8) };
    const wrong = await run("model", stranger, [[3, 4, 5]], settings, { drafting: 0.15, verifying: 0.08 });
    assert.deepEqual(wrong.texts[0]!.ids, plain.texts[0]!.ids);
    assert.ok(wrong.speculation!.draftedTokens < 60, `${wrong.speculation!.draftedTokens} guesses`);
  });

  test("beam search takes no drafter", async () => {
    await assert.rejects(run("lookup", models(20), [[3]], { mode: "beam" }), { code: "CPM_INFER_OPTIONS" });
  });
});

/** Chance that a χ² variable of `freedom` degrees exceeds this is about 1 in 30,000 (Wilson and Hilferty). */
function bound(freedom: number): number {
  const spread = 2 / (9 * freedom);
  return freedom * (1 - spread + 4 * Math.sqrt(spread)) ** 3;
}

/** Σ (seen − expected)² / expected over outcomes; those expected less than 5 times count as one. */
function chiSquare(seen: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>, total: number) {
  let sum = 0;
  let freedom = -1;
  let rareSeen = 0;
  let rareExpected = 0;
  for (const outcome of new Set([...seen.keys(), ...expected.keys()])) {
    const count = seen.get(outcome) ?? 0;
    const mean = (expected.get(outcome) ?? 0) * total;
    if (mean < 5) {
      rareSeen += count;
      rareExpected += mean;
    } else {
      sum += (count - mean) ** 2 / mean;
      freedom++;
    }
  }
  if (rareSeen > 0 || rareExpected > 0) {
    sum += (rareSeen - rareExpected) ** 2 / Math.max(rareExpected, 1e-9);
    freedom++;
  }
  return { sum, bound: bound(freedom), freedom };
}

describe("distribution of speculative sampling", () => {
  const vocabSize = 7;
  const length = 3;
  const prompt = [4, 2];

  /** Probability of every text of up to `length` tokens, by the sampler's own probabilities, token by token. */
  function exactDistribution(logitsOf: Models["logitsOf"], given: GenerateOptionsInput): Map<string, number> {
    const settings = parseGenerateOptions(given);
    const sampler = createSampler(vocabSize, settings, editorOf(settings, tokenizer, vocabSize));
    const found = new Map<string, number>();
    const visit = (ids: readonly number[], probability: number): void => {
      if (ids.length === length) {
        found.set(ids.join(" "), probability);
        return;
      }
      const { kept } = sampler.prepare(logitsOf([...prompt, ...ids]), ids, { row: 0, step: 0 });
      const left = Array.from(kept.ids, (id, i) => [id, kept.weights[i]! / kept.total] as const);
      for (const [id, share] of left) {
        if (id === eosId) found.set(`${ids.join(" ")} end`, probability * share);
        else visit([...ids, id], probability * share);
      }
    };
    visit([], 1);
    return found;
  }

  async function sampled(kind: Kind, given: Models, settings: GenerateOptionsInput, seeds: number) {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < seeds; seed++) {
      const { texts } = await run(kind, given, [prompt], { ...settings, samples: 1000, seed, maxTokens: length });
      for (const { ids, finish } of texts) {
        const text = finish === "stop" ? `${ids.join(" ")} end` : ids.join(" ");
        counts.set(text, (counts.get(text) ?? 0) + 1);
      }
    }
    return counts;
  }

  const cases: Readonly<Record<string, GenerateOptionsInput>> = {
    plain: { temperature: 1, topP: 1 },
    truncated: { temperature: 0.8, topP: 0.8, topK: 5 },
    "penalties and bias": {
      temperature: 1.2,
      topP: 0.95,
      repetitionPenalty: 1.5,
      logitBias: { 3: 1, 5: -1 },
      forbiddenIds: [6],
    },
    "no early end": { temperature: 1, topP: 1, minTokens: 2, allowEmpty: true },
  };
  for (const [name, settings] of Object.entries(cases)) {
    test(`is that of plain sampling: ${name}`, async () => {
      // A drafter that is often wrong, so that refusals and replacements count.
      const given = models(vocabSize, { seed: 11, spread: 1.2, peak: 1 });
      const expected = exactDistribution(given.logitsOf, settings);
      const total = [...expected.values()].reduce((sum, share) => sum + share, 0);
      assert.ok(Math.abs(total - 1) < 1e-9);
      const seeds = 6;
      const test = chiSquare(await sampled("model", given, settings, seeds), expected, seeds * 1000);
      assert.ok(test.sum < test.bound, `χ² ${test.sum}, ${test.freedom} degrees of freedom, bound ${test.bound}`);
      // The test sees a difference: what the drafter would draw by itself is far outside.
      const other = await sampled("none", { ...given, logitsOf: given.draftLogitsOf }, settings, seeds);
      const control = chiSquare(other, expected, seeds * 1000);
      assert.ok(control.sum > 3 * control.bound, `χ² ${control.sum} of the drafter's own texts`);
    });
  }

  test("a single guess: accepted or replaced so that the token has the model's distribution", () => {
    const size = 12;
    const settings = parseGenerateOptions({ temperature: 1, topP: 1, allowEmpty: true });
    const sampler = createSampler(size, settings, editorOf(settings, tokenizer, size));
    const logits = ngramLogits(size, 3, 1.5)([1]);
    const draftLogits = ngramLogits(size, 4, 1.5)([1]);
    const copy = (row: Float32Array) => {
      const { ids, weights, total } = sampler.keep(row);
      return { ids: ids.slice(), weights: weights.slice(), total };
    };
    const [p, q] = [copy(logits), copy(draftLogits)];
    const draws = 20000;
    // Evenly spread numbers instead of random ones: the frequencies are then the probabilities almost exactly.
    const seen = new Map<number, number>();
    let accepted = 0;
    for (let i = 0; i < draws; i++) {
      const golden = (i * 0.6180339887498949) % 1;
      const numbers = [golden, (i * 0.7548776662466927) % 1];
      let point = ((i + 0.5) / draws) * q.total;
      const guess = q.ids.find((_, at) => (point -= q.weights[at]!) < 0) ?? size - 1;
      const draft = { tokens: [guess], distributions: [q], confidences: [1] };
      const verified = verifyDraft(
        sampler,
        () => logits.slice(),
        [],
        draft,
        () => numbers.shift() ?? 0.5,
        false,
        0,
      );
      accepted += verified.accepted;
      const first = verified.choices[0]!.id;
      seen.set(first, (seen.get(first) ?? 0) + 1);
    }
    let overlap = 0;
    p.ids.forEach((id, at) => {
      const share = p.weights[at]! / p.total;
      overlap += Math.min(share, q.weights[at]! / q.total);
      assert.ok(
        Math.abs((seen.get(id) ?? 0) / draws - share) < 0.005,
        `token ${id}: ${(seen.get(id) ?? 0) / draws} for ${share}`,
      );
    });
    assert.ok(Math.abs(accepted / draws - overlap) < 0.01, `accepted ${accepted / draws}, Σ min(p, q) = ${overlap}`);
  });
});

describe("draft pace", () => {
  const count = (pace: ReturnType<typeof createDraftPace>, confidence: number) => {
    const confidences: number[] = [];
    while (confidences.length < 50 && pace.takes(confidences, confidence)) confidences.push(confidence);
    return confidences.length;
  };

  test("as many guesses as pay, by the formula", () => {
    for (const cost of [0.05, 0.2, 0.6]) {
      for (const rate of [0.3, 0.6, 0.9]) {
        const start = 0.3 + 0.6 * rate;
        const gain = (k: number) => (1 - start ** (k + 1)) / (1 - start) / (1 + cost * k);
        const best = Array.from({ length: 51 }, (_, k) => k).reduce((a, b) => (gain(b) > gain(a) ? b : a));
        assert.equal(
          count(createDraftPace({ drafting: 0, verifying: cost }), rate),
          best,
          `cost ${cost}, rate ${rate}`,
        );
      }
    }
  });

  test("a guess is sought at the price of drafting and verifying, and taken at that of verifying", () => {
    // At first all guesses are taken to be accepted at 0.6, those as sure as 0.5 too.
    const gain = (k: number) => (1 - 0.6 ** (k + 1)) / 0.4;
    for (const [drafting, verifying] of [
      [0.1, 0.02],
      [0.3, 0.1],
    ] as const) {
      const pace = createDraftPace({ drafting, verifying });
      for (let k = 0; k < 20; k++) {
        const confidences = new Array<number>(k).fill(0.5);
        const each = drafting + verifying;
        const pays = gain(k + 1) / (1 + each * (k + 1)) > gain(k) / (1 + each * k);
        assert.equal(pace.seeks(confidences), pays, `seeks after ${k} of ${drafting}, ${verifying}`);
        const spent = 1 + each * k + drafting;
        assert.equal(
          pace.takes(confidences, 0.5),
          gain(k + 1) / (spent + verifying) > gain(k) / spent,
          `takes after ${k}`,
        );
      }
    }
  });

  test("rests longer and longer while there is nothing worth guessing", () => {
    const pace = createDraftPace({ drafting: 0, verifying: 0.2 });
    let asked = 0;
    for (let i = 0; i < 100; i++) {
      if (pace.asks()) asked++;
      pace.observe([], 0);
    }
    assert.ok(asked >= 6 && asked <= 12, `${asked} of 100`);
    for (let i = 0; i < 40; i++)
      if (pace.asks()) pace.observe([0.9], 1);
      else pace.observe([], 0);
    assert.ok(pace.asks());
  });

  test("follows what is seen, and comes back when it is forgotten", () => {
    const pace = createDraftPace({ drafting: 0, verifying: 0.2 });
    const start = count(pace, 0.7);
    for (let i = 0; i < 30; i++) pace.observe([0.7, 0.7], 0);
    assert.equal(count(pace, 0.7), 0);
    for (let i = 0; i < 800; i++) pace.observe([], 0);
    assert.equal(count(pace, 0.7), start);
    for (let i = 0; i < 30; i++) pace.observe([0.7, 0.7], 2);
    assert.ok(count(pace, 0.7) > start);
  });
});
