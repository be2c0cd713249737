/**
 * How far a figure can be trusted, and whether two systems differ: bootstrap intervals (Efron), the paired bootstrap and
 * approximate randomisation (Riezler and Maxwell, "On some pitfalls in automatic evaluation and significance testing for
 * MT", 2005), and McNemar's exact test for what is right or wrong. All draws are seeded.
 */
import { createRandom, type Random } from "../util/random.ts";
import type { CorpusMetric } from "./corpus-metric.ts";

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface ResamplingOptions {
  readonly seed: number;
  /** Draws. */
  readonly draws: number;
  /** Share of draws inside the interval. */
  readonly level: number;
}

export const resamplingDefaults: ResamplingOptions = { seed: 1, draws: 1000, level: 0.95 };

/** The percentile interval of a metric over samples drawn with repeats. */
export function bootstrapInterval(metric: CorpusMetric, options = resamplingDefaults): Interval {
  const random = createRandom(options.seed, "bootstrap");
  const values = new Float64Array(options.draws);
  const drawn = new Int32Array(metric.count);
  for (let draw = 0; draw < options.draws; draw++) {
    drawSamples(drawn, random);
    values[draw] = metric.value(drawn);
  }
  return percentiles(values, options.level);
}

function drawSamples(drawn: Int32Array, random: Random): void {
  const count = drawn.length;
  for (let i = 0; i < count; i++) drawn[i] = random.integer(count);
}

function percentiles(values: Float64Array, level: number): Interval {
  const sorted = values.sort();
  const at = (share: number) => {
    const place = share * (sorted.length - 1);
    const below = Math.floor(place);
    const above = Math.min(sorted.length - 1, below + 1);
    return sorted[below]! + (place - below) * (sorted[above]! - sorted[below]!);
  };
  return { low: at((1 - level) / 2), high: at((1 + level) / 2) };
}

/**
 * A metric over the samples of two systems, one after the other: number i is sample i of the first, n + i that of the
 * second.
 */
export type PairedMetric = CorpusMetric;

/** The interval of second − first over samples drawn in pairs. */
export function pairedDifference(metric: PairedMetric, options = resamplingDefaults): Interval {
  const count = metric.count / 2;
  const random = createRandom(options.seed, "bootstrap");
  const values = new Float64Array(options.draws);
  const first = new Int32Array(count);
  for (let draw = 0; draw < options.draws; draw++) {
    drawSamples(first, random);
    const second = first.map((index) => index + count);
    values[draw] = metric.value(second) - metric.value(first);
  }
  return percentiles(values, options.level);
}

/**
 * Approximate randomisation: the chance of a difference at least as large when outputs of the two systems change places at
 * random, two-sided. (draws at least as large + 1) / (draws + 1), so never 0.
 */
export function randomisationTest(metric: PairedMetric, options = resamplingDefaults): number {
  const count = metric.count / 2;
  const random = createRandom(options.seed, "randomisation");
  const first = Int32Array.from({ length: count }, (_, index) => index);
  const second = first.map((index) => index + count);
  const observed = Math.abs(metric.value(second) - metric.value(first));
  let atLeast = 0;
  for (let draw = 0; draw < options.draws; draw++) {
    for (let i = 0; i < count; i++) {
      const swapped = random.integer(2) === 1;
      first[i] = swapped ? count + i : i;
      second[i] = swapped ? i : count + i;
    }
    // Differences that are equal but for rounding count as equal.
    if (Math.abs(metric.value(second) - metric.value(first)) >= observed - 1e-12) atLeast++;
  }
  return (atLeast + 1) / (options.draws + 1);
}

/**
 * McNemar's test, exact: of samples that one system has right and the other wrong, the two-sided chance under a fair coin of
 * a split at least as uneven.
 */
export function mcnemarTest(onlyFirst: number, onlySecond: number): number {
  const total = onlyFirst + onlySecond;
  const fewer = Math.min(onlyFirst, onlySecond);
  let logChoose = 0;
  let tail = 0;
  for (let k = 0; k <= fewer; k++) {
    if (k > 0) logChoose += Math.log((total - k + 1) / k);
    tail += Math.exp(logChoose - total * Math.LN2);
  }
  return Math.min(1, 2 * tail);
}
