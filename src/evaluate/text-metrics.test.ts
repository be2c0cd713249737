/** BLEU, ROUGE, distinct, ranking and tests against established implementations: bench/peers/evaluation_metrics.py. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { bleuCounts, bleuMetrics, bleuOf } from "./bleu.ts";
import { distinctMetric } from "./distinct.ts";
import { averagePrecision, ndcg, rankBy, reciprocalRank } from "./ranking.ts";
import { longestCommonSubsequence, rougeF, rougeMetrics } from "./rouge.ts";
import { type TextUnit, unitsOf } from "./text-units.ts";

const hypotheses = [
  "春天来了，公园里的花都开了。",
  "我国成功发射一颗通信卫星",
  "他说明天会下雨，我们还去吗？",
  "好的好的好的好的",
  "GDP 增长 5.2%",
];
const references = [
  ["春天到了，公园里开满了花。", "公园的花在春天都开了。"],
  ["我国成功发射通信技术试验卫星", "中国发射一颗新的通信卫星"],
  ["他说明天下雨，我们就不去了。", "明天会下雨，还去不去？"],
  ["好的，明天见。", "好的。"],
  ["去年 GDP 增长 5.2%", "经济增长 5.2%"],
];

function near(actual: number, expected: number, what?: string, tolerance = 1e-9): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what ?? ""} ${actual} is not ${expected}`);
}

suite("BLEU", () => {
  // sacrebleu 2.6.0, tokenize="none", smooth_method="exp"; the orders with matches alone agree with nltk 3.10.4.
  const expected: Record<TextUnit, number[]> = {
    characters: [0.8596491228070172, 0.7925939239012165, 0.7206436268987118, 0.6497339931184388],
    words: [0.7631578947368424, 0.6270103234983657, 0.5018161339925105, 0.32376806158674604],
  };
  for (const unit of ["characters", "words"] as const) {
    test(`corpus of several references, ${unit}`, () => {
      for (const [index, metric] of bleuMetrics(hypotheses, references, unit).entries()) {
        assert.equal(metric.name, `bleu${index + 1}.${unit}`);
        near(metric.value(), expected[unit][index]!, metric.name);
      }
    });
  }

  test("orders without a match are smoothed as sacrebleu does, or make it 0", () => {
    const counts = bleuCounts(unitsOf(hypotheses[3]!, "characters"), [unitsOf(references[3]![0]!, "characters")]);
    near(bleuOf(counts, 4), 0.1104479556707894);
    assert.equal(bleuOf(counts, 4, "none"), 0);
    assert.equal(bleuOf(bleuCounts([..."春"], [[..."花"]]), 1), 0, "nothing in common is not smoothed");
    assert.equal(bleuOf(bleuCounts([], [[..."花"]]), 1), 0);
  });

  test("short hypotheses pay, long ones do not; of two references the nearest counts", () => {
    const one = (own: string, ...others: string[]) =>
      bleuOf(
        bleuCounts(
          [...own],
          others.map((text) => [...text]),
        ),
        1,
      );
    near(one("春天", "春天来了"), Math.exp(1 - 4 / 2));
    assert.equal(one("春天来了", "春天来了花"), Math.exp(1 - 5 / 4));
    assert.equal(bleuCounts([..."春天来"], [[..."春天"], [..."春天来了"]]).at(-1), 2, "the shorter of two as near");
  });
});

suite("ROUGE", () => {
  // rouge-score 0.1.2 with a tokenizer that splits at spaces; ROUGE-L also rouge-chinese 1.0.3.
  const expected: Record<TextUnit, Record<string, number[]>> = {
    characters: {
      1: [0.814814814815, 0.769230769231, 0.72, 0.363636363636, 0.9],
      2: [0.521739130435, 0.583333333333, 0.538461538462, 0.222222222222, 0.888888888889],
      L: [0.740740740741, 0.769230769231, 0.72, 0.363636363636, 0.9],
    },
    words: {
      1: [0.666666666667, 0.545454545455, 0.666666666667, 0.363636363636, 0.857142857143],
      2: [0.315789473684, 0.4, 0.4, 0.222222222222, 0.8],
      L: [0.666666666667, 0.545454545455, 0.666666666667, 0.363636363636, 0.857142857143],
    },
  };
  for (const unit of ["characters", "words"] as const) {
    test(`each text and the mean, the best reference, ${unit}`, () => {
      for (const metric of rougeMetrics(hypotheses, references, unit)) {
        const values = expected[unit][metric.name[5]!]!;
        for (const [index, value] of values.entries()) near(metric.value([index]), value, metric.name, 1e-11);
        near(metric.value(), values.reduce((sum, value) => sum + value, 0) / 5, metric.name, 1e-11);
      }
    });
  }

  test("a subsequence may have gaps but keeps its order", () => {
    assert.equal(longestCommonSubsequence([..."abcdef"], [..."acxfb"]), 3);
    assert.equal(rougeF([], ["a"], "L"), 0);
    assert.equal(rougeF(["a"], ["a"], "2"), 0);
    const letters = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 8 });
    fc.assert(
      fc.property(letters, letters, (a, b) => {
        const length = longestCommonSubsequence(a, b);
        assert.equal(length, longestCommonSubsequence(b, a));
        assert.equal(length, bruteForce(a, b));
      }),
      { numRuns: 60 },
    );
  });
});

/** By trying every subsequence of the first. */
function bruteForce(a: readonly string[], b: readonly string[]): number {
  let best = 0;
  for (let mask = 0; mask < 1 << a.length; mask++) {
    const chosen = a.filter((_, index) => (mask >> index) & 1);
    let at = 0;
    for (const unit of b) if (unit === chosen[at]) at++;
    if (at === chosen.length) best = Math.max(best, at);
  }
  return best;
}

test("distinct-n counts runs over all texts", () => {
  near(distinctMetric(hypotheses, 1, "characters").value(), 0.8070175438596491);
  near(distinctMetric(hypotheses, 2, "characters").value(), 0.9038461538461539);
  near(distinctMetric(hypotheses, 1, "words").value(), 0.7631578947368421);
  near(distinctMetric(hypotheses, 2, "words").value(), 0.8484848484848485);
  const metric = distinctMetric(["ab", "ab", ""], 1, "characters");
  assert.deepEqual([metric.value(), metric.value([0]), metric.value([0, 0]), metric.value([2])], [0.5, 1, 0.5, 0]);
});

suite("ranking", () => {
  const relevance = [
    [0, 1, 0, 1, 1],
    [1, 0, 0, 0, 0],
    [0, 0, 3, 1, 2],
  ];
  const scores = [
    [0.9, 0.8, 0.7, 0.6, 0.1],
    [0.1, 0.5, 0.4, 0.3, 0.2],
    [0.5, 0.9, 0.4, 0.3, 0.2],
  ];
  const ranked = relevance.map((grades, index) => rankBy(scores[index]!, grades, [0, 1, 2, 3, 4]));

  test("NDCG and MAP as scikit-learn 1.9.1, on gains 2^grade − 1", () => {
    for (const [index, value] of [0.6797310500037654, 0.38685280723454163, 0.5420365387171268].entries()) {
      near(ndcg(ranked[index]!), value);
    }
    for (const [index, value] of [0.2960819109658652, 0, 0.3726262671130989].entries())
      near(ndcg(ranked[index]!, 3), value);
    for (const [index, value] of [0.5333333333333333, 0.2, 0.4777777777777778].entries()) {
      near(averagePrecision(ranked[index]!), value);
    }
  });

  test("the first relevant one's rank; nothing relevant is 0; ties by the order that is given", () => {
    assert.deepEqual(ranked.map(reciprocalRank), [1 / 2, 1 / 5, 1 / 3]);
    assert.deepEqual([reciprocalRank([0, 0]), averagePrecision([0, 0]), ndcg([0, 0])], [0, 0, 0]);
    assert.deepEqual(rankBy([1, 1, 2], [1, 2, 3], [1, 0, 2]), [3, 2, 1]);
  });
});
