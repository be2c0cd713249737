/**
 * How many tokens are worth guessing for one text: learnt from how its earlier guesses fared.
 *
 * With P(i) the probability that the first i guesses are all accepted, d the cost of working a guess out and v that of
 * verifying it beside a plain step, k guesses give 1 + P(1) + … + P(k) tokens at a cost of 1 + (d + v)·k (Leviathan et al. 2023,
 * section 3). Another guess is sought while P(k + 1) / (d + v) is more than what the first k give for their cost; once it is
 * worked out, d is spent, and it is taken while P(k + 1) / v is more. P is a product of acceptance rates: that of all guesses
 * where the drafter's confidence is not known yet, else that of guesses as sure. They start well disposed and follow
 * what is seen, the recent more. (A confidence is no rate: where both models hesitate in the same way, guesses are
 * accepted although nobody is sure.)
 */
import type { GuessCost, GuessLimit } from "./draft.ts";

export interface DraftPace extends GuessLimit {
  /** Whether to ask for guesses at all: after passes for which there were none worth it, only now and then. */
  asks(): boolean;
  /** After a verification: of guesses with these confidences, the first `accepted` were accepted. */
  observe(confidences: readonly number[], accepted: number): void;
}

const buckets = 10;
/** Longest time, in passes, that nothing is asked for. */
const longestRest = 16;
/** The start counts as so many verified guesses. */
const priorWeight = 2;
/** What is left of an observation after one more verification: old ones fade, so that guessing is tried again. */
const fading = 0.99;

export function createDraftPace({ drafting, verifying }: GuessCost): DraftPace {
  const verified = new Float64Array(buckets);
  const accepted = new Float64Array(buckets);
  const bucketOf = (confidence: number) => Math.min(buckets - 1, Math.floor(confidence * buckets));
  const rateOf = (confidence: number) => {
    const bucket = bucketOf(confidence);
    const start = 0.3 + 0.6 * confidence;
    return (accepted[bucket]! + priorWeight * start) / (verified[bucket]! + priorWeight);
  };
  /** Of all guesses, as if the middle one had been seen before. */
  const rateOfAll = () => {
    const sum = (counts: Float64Array) => counts.reduce((a, b) => a + b, 0);
    return (sum(accepted) + priorWeight * 0.6) / (sum(verified) + priorWeight);
  };
  /** How likely guesses with these confidences are all accepted, and how many tokens their pass gives. */
  const outlook = (confidences: readonly number[]) => {
    let reached = 1;
    let tokens = 1;
    for (const confidence of confidences) {
      reached *= rateOf(confidence);
      tokens += reached;
    }
    return { reached, tokens };
  };
  /** Passes until guesses are asked for again, and how long the last such rest was. */
  let rest = 0;
  let lastRest = 0;
  let asked = false;
  return {
    seeks(confidences) {
      const { reached, tokens } = outlook(confidences);
      const each = drafting + verifying;
      return reached * rateOfAll() * (1 + each * confidences.length) > tokens * each;
    },
    takes(confidences, next) {
      const { reached, tokens } = outlook(confidences);
      const spent = 1 + (drafting + verifying) * confidences.length + drafting;
      return reached * rateOf(next) * spent > tokens * verifying;
    },
    asks() {
      asked = rest === 0;
      return asked;
    },
    observe(confidences, count) {
      if (rest > 0) rest--;
      else if (asked) {
        lastRest = confidences.length > 0 ? 0 : Math.min(longestRest, Math.max(1, 2 * lastRest));
        rest = lastRest;
      }
      for (let bucket = 0; bucket < buckets; bucket++) {
        verified[bucket]! *= fading;
        accepted[bucket]! *= fading;
      }
      for (const [index, confidence] of confidences.entries()) {
        if (index > count) break;
        verified[bucketOf(confidence)]!++;
        if (index < count) accepted[bucketOf(confidence)]!++;
      }
    },
  };
}
