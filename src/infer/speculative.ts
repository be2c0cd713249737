/**
 * Speculative sampling (Leviathan, Kalman and Matias 2023, "Fast inference from transformers via speculative decoding"):
 * which guessed tokens stand, and what comes instead of the first that does not.
 *
 * A guess x drawn from q is accepted with probability min(1, p(x)/q(x)), and what replaces a refused one is drawn from
 * max(0, p − q), normalised: then every token is distributed as p, whatever q is. p and q are what temperature,
 * truncation, penalties and bias leave. A guess that was not drawn has q(x) = 1: a token is drawn from p as in plain
 * decoding, with the same number, and the guess stands where it is that token; so the text is that of plain decoding.
 */
import type { Draft } from "./draft.ts";
import { type Choice, draw, type Kept, type Sampler } from "./sample.ts";

export interface Verified {
  /** The accepted guesses and one token more: what replaces the next guess, or follows all of them. */
  readonly choices: readonly Choice[];
  /** How many guesses were accepted. */
  readonly accepted: number;
}

/**
 * Decides over a row's guesses. `logits(i)` are the row's after the first i of them, for i from 0 to their number;
 * `uniform` is asked once for each token where guesses were not drawn, once or twice where they were; `prompt` is the
 * prompt's index, for messages.
 */
export function verifyDraft(
  sampler: Sampler,
  logits: (index: number) => Float32Array,
  generated: readonly number[],
  { tokens, distributions }: Draft,
  uniform: () => number,
  greedy: boolean,
  prompt: number,
): Verified {
  const choices: Choice[] = [];
  const text = [...generated];
  for (let index = 0; ; index++) {
    const row = logits(index);
    const { kept, logSumExp, top } = sampler.prepare(row, text, { row: prompt, step: text.length });
    const guess = tokens[index];
    const from = distributions?.[index];
    let id: number;
    if (guess === undefined || from === undefined) id = greedy ? kept.ids[0]! : draw(kept, uniform());
    else if (uniform() * probabilityOf(from, guess) < probabilityOf(kept, guess)) id = guess;
    else id = drawResidual(kept, from, uniform());
    choices.push({ id, logprob: row[id]! - logSumExp, top });
    text.push(id);
    // A guess that was refused by chance may be drawn again only where p > q, and then it was accepted.
    if (id !== guess) return { choices, accepted: index };
  }
}

function probabilityOf({ ids, weights, total }: Kept, id: number): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return ids[low] === id ? weights[low]! / total : 0;
}

/** A token from max(0, p − q), at `uniform` of the way through it in order of ids. Overwrites p's weights. */
function drawResidual(p: Kept, q: Kept, uniform: number): number {
  let total = 0;
  let at = 0;
  for (let i = 0; i < p.ids.length; i++) {
    const id = p.ids[i]!;
    while (at < q.ids.length && q.ids[at]! < id) at++;
    const other = q.ids[at] === id ? q.weights[at]! / q.total : 0;
    const left = Math.max(0, p.weights[i]! / p.total - other);
    p.weights[i] = left;
    total += left;
  }
  return draw({ ids: p.ids, weights: p.weights, total }, uniform);
}
