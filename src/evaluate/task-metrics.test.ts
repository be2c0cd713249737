/** Metrics and baselines of records, by hand; windows over texts. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { tasks } from "../data/index.ts";
import { baselinesOf } from "./baselines.ts";
import { compareRecords } from "./compare.ts";
import type { ChoiceRecord, GenerationRecord, RankingRecord, RecordFile, TextRecord } from "./records.ts";
import { windowsOver } from "./run-texts.ts";
import { resamplingDefaults } from "./significance.ts";
import { chosenOption, metricsOf } from "./task-metrics.ts";
import { majorityOf } from "./training-split.ts";

const option = (text: string, logprob: number, tokens: number, logit = 0) => ({ text, logprob, tokens, logit });
const figures = (...[records, options]: Parameters<typeof metricsOf>) =>
  Object.fromEntries(metricsOf(records, options).map((metric) => [metric.name, metric.value()]));

function choice(index: number, answer: number, options: ChoiceRecord["options"]): ChoiceRecord {
  return { kind: "choice", index, id: `c${index}`, answer, options };
}

function generation(index: number, references: string[], text: string, more = {}): GenerationRecord {
  return { kind: "generation", index, id: `g${index}`, references, text, tokens: 3, finish: "stop", ...more };
}

suite("choices", () => {
  const options = [option("短", -4, 1, 2), option("较长的", -5, 2, 1), option("很长很长很长", -6, 3, 3)];

  test("the sum, its mean over tokens and over characters, and the logit choose differently", () => {
    const by = (normalize: "sum" | "tokens" | "characters", method = "likelihood") =>
      chosenOption(options, { task: "c3", method, normalize });
    assert.deepEqual([by("sum"), by("tokens"), by("characters"), by("sum", "yes")], [0, 2, 2, 2]);
    assert.equal(
      chosenOption([option("甲", -4, 2), option("乙乙", -2.5, 1)], { task: "c3", normalize: "characters" }),
      1,
    );
  });

  test("pmi: what the sample adds, whatever an option is by itself; an error where that was not scored", () => {
    const by = { task: "ccpm", method: "likelihood", normalize: "pmi" } as const;
    const usual = { ...option("常见", -4, 2), domainLogprob: -4.5 };
    const rare = { ...option("少见", -9, 2), domainLogprob: -11 };
    assert.equal(chosenOption([usual, rare], by), 1);
    assert.equal(chosenOption([usual, rare], { ...by, normalize: "sum" }), 0);
    assert.throws(() => chosenOption([usual, option("无", -1, 1)], by), /CPM_EVAL_DOMAIN/);
  });

  test("accuracy, the expectation of a draw, the most usual place", () => {
    const records = [choice(0, 0, options), choice(1, 0, options.slice(0, 2)), choice(2, 1, options.slice(0, 2))];
    const by = { task: "c3", method: "likelihood", normalize: "sum" } as const;
    assert.deepEqual(figures(records, by), { accuracy: 2 / 3 });
    const { random, majority } = baselinesOf(records, { ...by, vocabSize: 10 });
    assert.ok(Math.abs(random.accuracy! - (1 / 3 + 1 / 2 + 1 / 2) / 3) < 1e-12);
    assert.equal(majority.accuracy, 2 / 3);
    // The place that is usual elsewhere, right or not here.
    const sample = (answer: number) => ({ kind: "choice", id: "t", fields: {}, options: ["a", "b"], answer }) as const;
    const usual = majorityOf(tasks.c3, [sample(1), sample(0), sample(1)]);
    assert.deepEqual(usual, { samples: 3, option: 1 });
    assert.equal(baselinesOf(records, { ...by, vocabSize: 10, majority: usual }).majority.accuracy, 1 / 3);
  });
});

test("ranking: by score; random is the mean of orders, majority the file's own", () => {
  const record: RankingRecord = {
    kind: "ranking",
    index: 0,
    id: "q",
    relevance: [0, 1, 0],
    options: [option("a", 0, 1, 1), option("b", 0, 1, 2), option("c", 0, 1, 3)],
  };
  const by = { task: "sogou", method: "yes", normalize: "sum" } as const;
  assert.equal(figures([record], by).mrr, 1 / 2);
  const { random, majority } = baselinesOf([record], { ...by, vocabSize: 10 });
  assert.equal(majority.mrr, 1 / 2);
  assert.ok(Math.abs(random.mrr! - (1 + 1 / 2 + 1 / 3) / 3) < 0.08, String(random.mrr));
});

suite("texts that were written", () => {
  test("Math23K: by value, whatever the form", () => {
    const records = [
      generation(0, ["x=5/2", "2.5"], "x=2(1/2)"),
      generation(1, ["x=10%", "10%"], "0.1"),
      generation(2, ["x=3"], "x=3+"),
      generation(3, ["x=1+2", "3"], "x=4"),
    ];
    const by = { task: "math23k", method: "generate", normalize: "tokens" } as const;
    assert.deepEqual(figures(records, by), { answerAccuracy: 0.5, hasValue: 0.75 });
    // 3 is right twice: rows 2 and 3.
    assert.equal(baselinesOf(records, { ...by, vocabSize: 10 }).majority.answerAccuracy, 0.5);
  });

  test("headlines: ROUGE, loss by token, lead, another's answer", () => {
    const records = [
      generation(0, ["春天来了"], "春天来了", { answerNats: 4, answerTokens: 1, lead: "春天" }),
      generation(1, ["花开了"], "", { answerNats: 2, answerTokens: 2, lead: "花开了" }),
    ];
    const by = { task: "headline", method: "generate", normalize: "tokens" } as const;
    const found = figures(records, by);
    assert.deepEqual([found["rouge1.characters"], found["rougeL.words"], found.answerLoss], [0.5, 0.5, 2]);
    const { random, lead } = baselinesOf(records, { ...by, vocabSize: 10 });
    assert.equal(lead!["rouge1.characters"], ((2 * 2) / 6 + 1) / 2);
    assert.equal(random["rouge1.characters"], (2 * 1) / 7, "了 alone is common to both");
    assert.equal(random.answerLoss, Math.log(10));
  });

  test("the usual title and the tokens' frequencies are those of the training split, where there is one", () => {
    const sample = (title: string) => ({ kind: "generation", id: "t", fields: {}, references: [title] }) as const;
    const split = ["春天来了", "春天花开", "冬天来了"].map(sample);
    const usual = majorityOf(tasks.headline, split);
    assert.deepEqual(usual, { samples: 3, answer: "春天来了" }, "the one most like the others");
    const records = [generation(0, ["春"], "", { answerNats: 4, answerTokens: 2, answerUnigramNats: 3 })];
    const by = { task: "headline", method: "generate", normalize: "tokens", vocabSize: 10 } as const;
    const { majority } = baselinesOf(records, { ...by, majority: usual });
    assert.equal(majority["rouge1.characters"], (2 * 1) / 5);
    assert.equal(majority.answerLoss, 3 / 2);
    assert.equal(baselinesOf(records, by).majority["rouge1.characters"], 1, "counted on the record itself it flatters");
  });

  test("kdconv has BLEU and distinct in characters and words", () => {
    const by = { task: "kdconv", method: "generate", normalize: "tokens" } as const;
    const found = figures([generation(0, ["我也喜欢看电影"], "我也喜欢看电影")], by);
    assert.deepEqual([found["bleu4.characters"], found["bleu1.words"], found["distinct2.words"]], [1, 1, 1]);
  });
});

suite("comparing", () => {
  const file = (records: RecordFile["records"], method: string): RecordFile => ({
    header: { format: 1, key: method, name: "c3", task: "c3", method, vocabSize: 10, settings: {} },
    records,
  });
  const by = { ...resamplingDefaults, draws: 200, normalize: "sum" } as const;

  test("files of two methods: each is judged by its own", () => {
    const likely = Array.from({ length: 20 }, (_, i) => choice(i, 0, [option("a", -1, 1, 0), option("b", -2, 1, 9)]));
    const asked = likely.map((record) => ({ ...record }));
    const { metrics } = compareRecords(file(likely, "likelihood"), file(asked, "yes"), by);
    const [{ first, second, difference, p, low, high }] = metrics as [(typeof metrics)[number]];
    assert.deepEqual([first, second, difference, low, high], [1, 0, -1, -1, -1]);
    assert.ok(p < 1e-5);
  });

  test("what is right must be the same", () => {
    const one = choice(0, 0, [option("a", -1, 1), option("b", -2, 1)]);
    assert.throws(
      () => compareRecords(file([one], "yes"), file([{ ...one, answer: 1 }], "yes"), by),
      /CPM_EVAL_COMPARE/,
    );
    assert.throws(() => compareRecords(file([one], "yes"), file([{ ...one, id: "z" }], "yes"), by), /CPM_EVAL_COMPARE/);
  });
});

suite("perplexity", () => {
  test("bits per character weigh texts by length; baselines by token", () => {
    const text = (index: number, nats: number, tokens: number, characters: number): TextRecord => {
      const unigramNats = 2 * tokens;
      return { kind: "text", index, id: `t${index}`, nats, unigramNats, tokens, characters, unknown: 0 };
    };
    const records = [text(0, 10 * Math.LN2, 5, 10), text(1, 90 * Math.LN2, 45, 30)];
    const by = { task: "perplexity", normalize: "sum" } as const;
    const found = figures(records, by);
    assert.equal(found.bitsPerCharacter, 100 / 40);
    assert.ok(Math.abs(found.perplexity! - 4) < 1e-12);
    const { random, majority } = baselinesOf(records, { ...by, vocabSize: 16 });
    assert.ok(Math.abs(random.bitsPerCharacter! - (50 * 4) / 40) < 1e-12);
    assert.equal(majority.natsPerToken, 2);
  });

  test("windows predict every token once, with as much in view as there may be", () => {
    assert.deepEqual(windowsOver(10, { window: 5, stride: 2 }), [
      { contextFrom: 0, from: 0, to: 4 },
      { contextFrom: 2, from: 4, to: 6 },
      { contextFrom: 4, from: 6, to: 8 },
      { contextFrom: 6, from: 8, to: 10 },
    ]);
    assert.deepEqual(windowsOver(0, { window: 5, stride: 2 }), []);
    fc.assert(
      fc.property(
        fc.nat(300),
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        (tokens, window, step) => {
          const stride = Math.min(step, window - 1);
          let at = 0;
          for (const { contextFrom, from, to } of windowsOver(tokens, { window, stride })) {
            assert.equal(from, at);
            assert.ok(to > from && to - contextFrom <= window - 1 && (from === 0 || to - from <= stride));
            assert.ok(from - contextFrom >= Math.min(from, window - 1 - stride));
            at = to;
          }
          assert.equal(at, tokens);
        },
      ),
    );
  });
});
