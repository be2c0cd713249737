/**
 * Beam search for one prompt: pure bookkeeping over rows of logits, with the rules of CPM-Live's generation.
 *
 * At step i every live beam has i tokens. The 2·size best (beam, token) pairs by summed log probability are looked at
 * from the best: an end token files the beam's text as a hypothesis, another token makes it a beam of the next step, until
 * there are `size`. At the last step (i = maxTokens) every pair files its beam's text. Log probabilities are log-softmax
 * after penalties and forbidden tokens. A hypothesis scores sum / length^lengthPenalty, where the sum includes the
 * token that ended it and the length does not; the best `size` are kept. The search is done when `size` are kept and the
 * worst is at least (best sum of this step) / i^lengthPenalty.
 *
 * Two departures that leave the best text as it is. The original starts from `size` equal beams with −1e9 on all but
 * the first; here it starts from one. At the last step the original files one beam's text again for each token that could
 * have followed; here once, with its best score, so that several results are different texts. And one that does not: the
 * original's beam search adds one to the length that it was given, here `maxTokens` is the most.
 */
import { type LogitEditor, type LogitsOrigin, rowStatistics, topEntries } from "./logits.ts";

export interface BeamSettings {
  readonly size: number;
  readonly lengthPenalty: number;
  readonly maxTokens: number;
  /** Tokens that end a text. */
  readonly ends: ReadonlySet<number>;
}

export interface Hypothesis {
  /** Without the end token. */
  readonly ids: readonly number[];
  /** ln p of each of `ids`, after penalties and forbidden tokens. */
  readonly logprobs: readonly number[];
  /** sum / length^lengthPenalty. */
  readonly score: number;
  /** Ended by an end token, not by its length. */
  readonly ended: boolean;
}

/** What feeds the next step: beam j of it is beam `sources[j]` of this one, followed by `tokens[j]`. */
export interface BeamStep {
  readonly sources: readonly number[];
  readonly tokens: readonly number[];
  /** Nothing to feed: take `hypotheses()`. */
  readonly done: boolean;
}

export interface BeamSearch {
  /** Live beams: 1 at first, then up to `size`, 0 when done. */
  readonly width: number;
  /** Takes the logits of every live beam, in order. `origin` is for messages. */
  advance(rows: readonly Float32Array[], origin: LogitsOrigin): BeamStep;
  /** Kept hypotheses from the best; live beams stand in (not ended) where the search was cut off before any was kept. */
  hypotheses(): Hypothesis[];
}

interface Beam {
  readonly ids: readonly number[];
  readonly logprobs: readonly number[];
  readonly sum: number;
}

interface Candidate {
  readonly beam: number;
  readonly id: number;
  readonly logprob: number;
  readonly sum: number;
}

/** A search over rows of logits that `editor` prepares. */
export function createBeamSearch(settings: BeamSettings, editor: LogitEditor): BeamSearch {
  const { size, lengthPenalty, maxTokens, ends } = settings;
  let beams: Beam[] = [{ ids: [], logprobs: [], sum: 0 }];
  const kept: Hypothesis[] = [];
  let step = 0;

  const scoreOf = (sum: number, length: number) => sum / Math.max(1, length) ** lengthPenalty;
  const worstKept = () => kept.reduce((worst, each) => Math.min(worst, each.score), Infinity);

  function file(beam: Beam, sum: number, ended: boolean): void {
    const score = scoreOf(sum, beam.ids.length);
    if (kept.length >= size && score <= worstKept()) return;
    kept.push({ ids: beam.ids, logprobs: beam.logprobs, score, ended });
    if (kept.length > size) {
      const worst = worstKept();
      kept.splice(
        kept.findIndex((each) => each.score === worst),
        1,
      );
    }
  }

  return {
    get width() {
      return beams.length;
    },
    advance(rows, origin) {
      if (rows.length !== beams.length) throw new Error(`internal: ${rows.length} rows for ${beams.length} beams`);
      const candidates: Candidate[] = [];
      for (const [index, beam] of beams.entries()) {
        const row = rows[index]!;
        editor.apply(row, beam.ids);
        try {
          const { logSumExp } = rowStatistics(row, origin);
          const { ids, values } = topEntries(row, 2 * size);
          for (const [rank, id] of ids.entries()) {
            const logprob = values[rank]! - logSumExp;
            if (logprob > -Infinity) candidates.push({ beam: index, id, logprob, sum: beam.sum + logprob });
          }
        } finally {
          editor.restore(row);
        }
      }
      // Stable: equal sums stay in order of beam, then of rank in the row.
      candidates.sort((a, b) => b.sum - a.sum);
      const looked = candidates.slice(0, 2 * size);

      const last = step === maxTokens;
      const next: Beam[] = [];
      const sources: number[] = [];
      const tokens: number[] = [];
      const filed = new Set<number>();
      const finished = kept.length >= size && worstKept() >= scoreOf(looked[0]!.sum, step);
      for (const candidate of finished ? [] : looked) {
        const beam = beams[candidate.beam]!;
        const ended = ends.has(candidate.id);
        if (last) {
          if (!filed.has(candidate.beam)) file(beam, candidate.sum, ended);
          filed.add(candidate.beam);
        } else if (ended) {
          file(beam, candidate.sum, true);
        } else {
          next.push({
            ids: [...beam.ids, candidate.id],
            logprobs: [...beam.logprobs, candidate.logprob],
            sum: candidate.sum,
          });
          sources.push(candidate.beam);
          tokens.push(candidate.id);
          if (next.length === size) break;
        }
      }
      step++;
      beams = next;
      return { sources, tokens, done: next.length === 0 };
    },
    hypotheses() {
      const found =
        kept.length > 0
          ? kept
          : beams.map(({ ids, logprobs, sum }) => ({ ids, logprobs, score: scoreOf(sum, ids.length), ended: false }));
      return [...found].sort((a, b) => b.score - a.score);
    },
  };
}
