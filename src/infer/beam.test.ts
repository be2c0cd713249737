import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ngramLogits } from "../../test/support/fake-session.ts";
import { type BeamSettings, createBeamSearch, type Hypothesis } from "./beam.ts";
import { createLogitEditor, type LogitRules } from "./logits.ts";

type LogitsOf = (tokens: readonly number[]) => Float32Array;

const eos = 0;
const newline = 1;
const ends = new Set([eos]);
const rules: LogitRules = {
  repetitionPenalty: 1,
  repetitionWindow: 0,
  bias: [],
  forbidden: [],
  forbiddenFirst: [eos, newline],
  ends: [eos],
  minTokens: 0,
};

/** The n-gram logits with the end made likelier, so that searches end before their last step. */
function endingLogits(vocabSize: number, seed: number, endBonus: number): LogitsOf {
  const logitsOf = ngramLogits(vocabSize, seed);
  return (tokens) => {
    const row = logitsOf(tokens);
    row[eos]! += endBonus;
    return row;
  };
}

function search(logitsOf: LogitsOf, vocabSize: number, settings: Omit<BeamSettings, "ends">, given = rules) {
  const editor = createLogitEditor(vocabSize, given);
  const beams = createBeamSearch({ ...settings, ends }, editor);
  let live: number[][] = [[]];
  let steps = 0;
  for (let done = false; !done; steps++) {
    const next = beams.advance(live.map(logitsOf), { row: 0, step: steps });
    live = next.sources.map((source, i) => [...live[source]!, next.tokens[i]!]);
    assert.equal(beams.width, live.length);
    done = next.done;
  }
  return { hypotheses: beams.hypotheses(), steps };
}

/** log-softmax of a row after penalty and forbidden tokens, the slow way. */
function slowLogprobs(logits: Float32Array, generated: readonly number[], given: LogitRules): number[] {
  const row = [...logits];
  if (generated.length === 0) for (const id of given.forbiddenFirst) row[id] = -Infinity;
  const seen = given.repetitionWindow > 0 ? generated.slice(-given.repetitionWindow) : generated;
  for (const id of new Set(seen)) {
    const { repetitionPenalty: penalty } = given;
    row[id] = Math.fround(row[id]! < 0 ? row[id]! * penalty : row[id]! / penalty);
  }
  const max = Math.max(...row);
  const logSumExp = max + Math.log(row.reduce((sum, value) => sum + Math.exp(value - max), 0));
  return row.map((value) => value - logSumExp);
}

/** The original's rules word for word over full arrays: equal beams at −1e9, a sort of everything, all pushed at the end. */
function slowSearch(
  logitsOf: LogitsOf,
  { size, lengthPenalty, maxTokens }: Omit<BeamSettings, "ends">,
  given: LogitRules,
) {
  let beams = Array.from({ length: size }, (_, i) => ({ ids: [] as number[], sum: i === 0 ? 0 : -1e9 }));
  let kept: { ids: number[]; score: number }[] = [];
  let worst = 1e9;
  let step = 0;
  for (; step <= maxTokens; step++) {
    const candidates = beams.flatMap(({ ids, sum }, beam) =>
      slowLogprobs(logitsOf(ids), ids, given).map((logprob, id) => ({ beam, id, sum: sum + logprob })),
    );
    candidates.sort((a, b) => b.sum - a.sum || a.beam - b.beam || a.id - b.id);
    const looked = candidates.slice(0, 2 * size);
    if (kept.length >= size && worst >= looked[0]!.sum / step ** lengthPenalty) break;
    const next: typeof beams = [];
    for (const { beam, id, sum } of looked) {
      const ids = beams[beam]!.ids;
      if (id === eos || step === maxTokens) {
        const score = sum / ids.length ** lengthPenalty;
        if (kept.length < size || score > worst) {
          kept.push({ ids, score });
          if (kept.length > size) {
            const ranked = [...kept].sort((a, b) => a.score - b.score);
            kept = kept.filter((each) => each !== ranked[0]);
            worst = ranked[1]!.score;
          } else {
            worst = Math.min(worst, score);
          }
        }
      } else {
        next.push({ ids: [...ids, id], sum });
      }
      if (next.length === size) break;
    }
    if (step === maxTokens) break;
    beams = next;
  }
  return { best: kept.reduce((a, b) => (b.score > a.score ? b : a)), steps: step + 1 };
}

/** The best text of at most `maxTokens` tokens by trying all of them. */
function exhaustiveBest(
  logitsOf: LogitsOf,
  lengthPenalty: number,
  maxTokens: number,
): { ids: number[]; score: number } {
  let best = { ids: [] as number[], score: -Infinity };
  const visit = (ids: number[], sum: number) => {
    for (const [id, logprob] of slowLogprobs(logitsOf(ids), ids, rules).entries()) {
      if (logprob === -Infinity) continue;
      if (id === eos || ids.length === maxTokens) {
        const score = (sum + logprob) / ids.length ** lengthPenalty;
        if (score > best.score) best = { ids, score };
      } else {
        visit([...ids, id], sum + logprob);
      }
    }
  };
  visit([], 0);
  return best;
}

function assertHypothesis(actual: Hypothesis, expected: { ids: number[]; score: number }) {
  assert.deepEqual(actual.ids, expected.ids);
  assert.ok(Math.abs(actual.score - expected.score) < 2e-6, `${actual.score} is not ${expected.score}`);
}

describe("createBeamSearch", () => {
  test("a beam wide enough finds the best of all texts", () => {
    for (let seed = 0; seed < 6; seed++) {
      for (const lengthPenalty of [0, 1, 2]) {
        const logitsOf = endingLogits(4, seed, 1);
        const { hypotheses } = search(logitsOf, 4, { size: 300, lengthPenalty, maxTokens: 4 });
        assertHypothesis(hypotheses[0]!, exhaustiveBest(logitsOf, lengthPenalty, 4));
      }
    }
  });

  test("equals the rules of the original, written out slowly, in text, score and number of steps", () => {
    const settings = fc.record({
      size: fc.integer({ min: 1, max: 5 }),
      lengthPenalty: fc.constantFrom(0.5, 1, 1.5),
      maxTokens: fc.integer({ min: 1, max: 8 }),
    });
    const penalty = fc.record({ repetitionPenalty: fc.constantFrom(1, 1.4), repetitionWindow: fc.nat(3) });
    let early = 0;
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 12, max: 30 }),
        fc.constantFrom(0, 2, 4),
        settings,
        penalty,
        (seed, vocabSize, bonus, given, repetition) => {
          const logitsOf = endingLogits(vocabSize, seed, bonus);
          const allRules = { ...rules, ...repetition };
          const fast = search(logitsOf, vocabSize, given, allRules);
          const slow = slowSearch(logitsOf, given, allRules);
          assertHypothesis(fast.hypotheses[0]!, slow.best);
          assert.equal(fast.steps, slow.steps);
          if (fast.steps <= given.maxTokens) early++;
        },
      ),
      { numRuns: 300 },
    );
    assert.ok(early > 20, `only ${early} searches were done before their last step`);
  });

  test("a vocabulary smaller than the beam, where the original's extra beams hold rubbish, gives the same best text", () => {
    for (let seed = 0; seed < 40; seed++) {
      const logitsOf = endingLogits(4, seed, 1);
      const settings = { size: 4, lengthPenalty: 1, maxTokens: 5 };
      assertHypothesis(search(logitsOf, 4, settings).hypotheses[0]!, slowSearch(logitsOf, settings, rules).best);
    }
  });

  test("hypotheses are different texts, from the best, with log probabilities that add up to the score", () => {
    const logitsOf = endingLogits(20, 11, 1);
    const { hypotheses } = search(logitsOf, 20, { size: 5, lengthPenalty: 1, maxTokens: 6 });
    assert.equal(new Set(hypotheses.map(({ ids }) => ids.join(" "))).size, hypotheses.length);
    assert.ok(hypotheses.length > 1);
    for (const [i, { ids, logprobs, score }] of hypotheses.entries()) {
      if (i > 0) assert.ok(score <= hypotheses[i - 1]!.score);
      let sum = 0;
      for (const [at, id] of ids.entries()) {
        const expected = slowLogprobs(logitsOf(ids.slice(0, at)), ids.slice(0, at), rules)[id]!;
        assert.ok(Math.abs(logprobs[at]! - expected) < 2e-6);
        sum += expected;
      }
      const rest = slowLogprobs(logitsOf(ids), ids, rules);
      const closings = ids.length === 6 ? rest : [rest[eos]!];
      assert.ok(closings.some((closing) => Math.abs((sum + closing) / ids.length - score) < 2e-6));
    }
  });

  test("size 1 is greedy decoding up to the first end", () => {
    const logitsOf = endingLogits(30, 3, 2);
    const { hypotheses } = search(logitsOf, 30, { size: 1, lengthPenalty: 1, maxTokens: 12 });
    const greedy: number[] = [];
    for (;;) {
      const logprobs = slowLogprobs(logitsOf(greedy), greedy, rules);
      const id = logprobs.indexOf(Math.max(...logprobs));
      if (id === eos || greedy.length === 12) break;
      greedy.push(id);
    }
    // The end of the second best is looked at as well (2·size candidates), so the text may end earlier, never differ.
    assert.deepEqual(greedy.slice(0, hypotheses[0]!.ids.length), hypotheses[0]!.ids);
  });

  test("live beams stand in where the search is cut off; NaN names row and step", () => {
    const editor = createLogitEditor(8, rules);
    const settings = { size: 2, lengthPenalty: 1, maxTokens: 9, ends };
    const beams = createBeamSearch(settings, editor);
    assert.deepEqual(beams.hypotheses(), [{ ids: [], logprobs: [], score: 0, ended: false }]);
    const { tokens } = beams.advance([ngramLogits(8, 5)([])], { row: 3, step: 0 });
    assert.deepEqual(
      beams.hypotheses().map(({ ids, ended }) => [ids, ended]),
      tokens.map((id) => [[id], false]),
    );
    const bad = new Float32Array(8).fill(Number.NaN);
    assert.throws(() => beams.advance([new Float32Array(8), bad], { row: 3, step: 1 }), {
      code: "CPM_INFER_NAN",
      where: "row 3, step 1",
    });
  });
});
