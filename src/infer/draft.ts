/**
 * Guesses of how texts go on, for speculative decoding: by a smaller model with the same vocabulary, or by looking up
 * what followed the last tokens earlier in the prompt and the text.
 *
 * A guess comes with the distribution it was drawn from where there is one; without, it stands for a distribution with
 * all its weight on it. How many tokens are guessed is decided by what came before a token, never by the token itself:
 * the verification is exact only then.
 */
import { draw, type Kept, type Sampler } from "./sample.ts";
import type { DecodingSession } from "./session.ts";

/** A text under way that is to be continued. */
export interface DraftRow {
  readonly prompt: readonly number[];
  readonly generated: readonly number[];
  /** Numbers in [0, 1) of the row's own, for drawing guesses. */
  readonly uniform: () => number;
  /** Index of the prompt, for messages. */
  readonly row: number;
}

export interface Draft {
  readonly tokens: readonly number[];
  /** What each token was drawn from; absent: it was not drawn. */
  readonly distributions?: readonly Kept[];
  /** How sure the drafter was at each token, 0 to 1: the probability of its likeliest token, say. */
  readonly confidences: readonly number[];
}

/** Decides how many tokens are guessed for one text. */
export interface GuessLimit {
  /** Whether to work out another guess after some with these confidences, not knowing how sure it will be. */
  seeks(confidences: readonly number[]): boolean;
  /** Whether to take a guess as sure as `next`, now that it has been worked out. */
  takes(confidences: readonly number[], next: number): boolean;
}

/** What a guess costs beside a pass of the model over one token. */
export interface GuessCost {
  /** Working it out. */
  readonly drafting: number;
  /** A token more in the model's pass. */
  readonly verifying: number;
}

/** How the texts are drawn that are guessed at. */
export interface DraftRules {
  /** Not used while a drafter is at work. */
  readonly sampler: Sampler;
  readonly greedy: boolean;
  /** Tokens that end a text: nothing is guessed after them. */
  readonly ends: ReadonlySet<number>;
}

export interface Drafter {
  /** Decides how many tokens are guessed, never what comes out. */
  readonly cost: GuessCost;
  /** Starts over with these prompts, one a row. */
  begin(prompts: readonly (readonly number[])[], rules: DraftRules): Promise<void>;
  /** Row i becomes what row `sources[i]` was. */
  reorder(sources: Int32Array): Promise<void>;
  /** Guesses at most `counts[row]` tokens for each row; `limits[row]` is asked before each of them. */
  propose(rows: readonly DraftRow[], counts: readonly number[], limits: readonly GuessLimit[]): Promise<Draft[]>;
}

/**
 * Costs of guesses from sizes: a token step takes as long as its weights take to read; choosing among the vocabulary takes as
 * long as some 160 bytes for each of its tokens, and starting programs as long as some 1 MB; a token more in a pass costs 3 %
 * of the pass and is chosen as well. (From steps of models of 1.8 M and 14.6 M parameters on a processor. Sizes rather than a
 * clock, so that a text depends on its seed alone.)
 *
 * @param draftBytes weights of the drafting model; 0 where none runs
 */
export function guessCost(vocabSize: number, modelBytes: number, draftBytes: number): GuessCost {
  const choosing = 160 * vocabSize;
  const starting = 1e6;
  const step = modelBytes + choosing + starting;
  const drafting = draftBytes === 0 ? 0 : draftBytes + choosing + starting;
  return { drafting: drafting / step, verifying: choosing / step + 0.03 };
}

/**
 * Guesses by looking up: where the last tokens stood before, most of them first, what followed them is guessed to follow
 * again. Costs nothing but verification; good for texts that quote, list or repeat.
 *
 * @param longest how many last tokens are looked for at most; the fewest are `shortest`
 */
export function createLookupDrafter(cost: GuessCost, { longest = 4, shortest = 2 } = {}): Drafter {
  return {
    cost,
    begin: async () => {},
    reorder: async () => {},
    propose: async (rows, counts, limits) =>
      rows.map(({ prompt, generated }, row) => {
        const text = [...prompt, ...generated];
        const tokens: number[] = [];
        const confidences: number[] = [];
        const found = lastOccurrence(text, longest, shortest);
        // One token in two is right after one equal token; each equal token more halves the doubt.
        const sure = found === undefined ? 0 : 1 - 2 ** -found.length;
        for (let at = found?.end ?? text.length; at < text.length && tokens.length < counts[row]!; at++) {
          if (!limits[row]!.takes(confidences, sure)) break;
          tokens.push(text[at]!);
          confidences.push(sure);
        }
        return { tokens, confidences };
      }),
  };
}

/** Where the text's end last stood before in it: `end` is behind it, `length` how many tokens are equal (at most `longest`). */
function lastOccurrence(
  text: readonly number[],
  longest: number,
  shortest: number,
): { readonly end: number; readonly length: number } | undefined {
  let best: { readonly end: number; readonly length: number } | undefined;
  for (let end = text.length - 1; end >= shortest; end--) {
    let length = 0;
    while (length < longest && length < end && text[end - 1 - length] === text[text.length - 1 - length]) length++;
    if (length >= shortest && length > (best?.length ?? 0)) best = { end, length };
    if (best?.length === longest) break;
  }
  return best;
}

/** How many first entries are equal. */
function commonStart(a: readonly number[], b: readonly number[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

/**
 * Guesses by a smaller model. Its session is the drafter's alone while texts are generated, and holds rows as long as the
 * verifying session does.
 */
export function createModelDrafter(session: DecodingSession, cost: GuessCost): Drafter {
  const V = session.vocabSize;
  let rules: DraftRules | undefined;
  /** What each row of the session has been fed after its prompt. */
  let fed: number[][] = [];

  return {
    cost,
    async begin(prompts, given) {
      rules = given;
      await session.prefill(prompts);
      fed = prompts.map(() => []);
    },
    async reorder(sources) {
      await session.reorder(sources);
      fed = Array.from(sources, (source) => [...fed[source]!]);
    },
    async propose(rows, counts, limits) {
      const { sampler, greedy, ends } = rules!;
      const isSought = (row: number, confidences: readonly number[]) =>
        confidences.length < counts[row]! && limits[row]!.seeks(confidences);
      const sought = rows.map((_, row) => isSought(row, []));
      if (!sought.includes(true)) return rows.map(() => ({ tokens: [], confidences: [] }));
      // Guesses that were refused are forgotten, and what was chosen instead is fed.
      const removed = fed.map((own, row) => own.length - commonStart(own, rows[row]!.generated));
      if (removed.some((count) => count > 0)) session.truncate(removed);
      const drafts = rows.map(() => ({
        tokens: [] as number[],
        distributions: [] as Kept[],
        confidences: [] as number[],
      }));
      let next = rows.map(({ generated }, row) => {
        fed[row]!.length -= removed[row]!;
        return sought[row] ? generated.slice(fed[row]!.length) : [];
      });
      while (next.some((tokens) => tokens.length > 0)) {
        const logits = await session.extend(next, "last");
        let at = 0;
        next = next.map((tokens, row) => {
          if (tokens.length === 0) return [];
          fed[row]!.push(...tokens);
          const own = logits.subarray(at * V, ++at * V);
          const { generated, uniform, row: prompt } = rows[row]!;
          const { tokens: guessed, distributions, confidences } = drafts[row]!;
          const text = [...generated, ...guessed];
          const { kept, logSumExp } = sampler.prepare(own, text, { row: prompt, step: text.length });
          // The heaviest weighs 1.
          const sure = greedy ? Math.exp(own[kept.ids[0]!]! - logSumExp) : 1 / kept.total;
          if (!limits[row]!.takes(confidences, sure)) return [];
          const id = greedy ? kept.ids[0]! : draw(kept, uniform());
          guessed.push(id);
          confidences.push(sure);
          if (!greedy) distributions.push({ ids: kept.ids.slice(), weights: kept.weights.slice(), total: kept.total });
          return ends.has(id) || !isSought(row, confidences) ? [] : [id];
        });
      }
      return drafts.map(({ tokens, distributions, confidences }) =>
        greedy ? { tokens, confidences } : { tokens, distributions, confidences },
      );
    },
  };
}
