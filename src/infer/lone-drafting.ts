/**
 * Guessing ahead in a running batch while it has one row only: then a pass over several tokens costs little more than over
 * one, whereas with company the passes are wide already.
 *
 * The text must not depend on who else was there. So guesses are never drawn: each stands for itself, a token is chosen
 * behind it with the same number as without guesses, and the guess is accepted where it is that token (`speculative.ts`).
 * That accepts fewer sampled tokens than drawing guesses would, and leaves every text as it is by itself.
 */

import type { Drafter, DraftRules } from "./draft.ts";
import { createDraftPace, type DraftPace } from "./draft-pace.ts";
import type { GeneratedRow } from "./generated-row.ts";
import type { Choice, Sampler } from "./sample.ts";
import type { DecodingSession } from "./session.ts";
import { verifyDraft } from "./speculative.ts";

/** The row that is alone. */
export interface LoneRow {
  readonly prompt: readonly number[];
  readonly text: GeneratedRow;
  readonly sampler: Sampler;
  readonly isGreedy: boolean;
  readonly uniform: () => number;
  readonly maxTokens: number;
  /** Greedy, by the same rules. */
  readonly rules: DraftRules;
}

export interface LoneDrafting {
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  /**
   * One pass of the session, which has this row alone and lacks the text's last token. Resolves to the next tokens, of which
   * the session lacks the last again.
   */
  step(row: LoneRow): Promise<readonly Choice[]>;
}

export function createLoneDrafting(session: DecodingSession, drafter: Drafter, maxDraftTokens: number): LoneDrafting {
  const { vocabSize: V } = session;
  /** What the drafter has begun; it catches up with what was generated since it was last asked. */
  let followed: { readonly text: GeneratedRow; readonly pace: DraftPace } | undefined;
  let draftedTokens = 0;
  let acceptedTokens = 0;

  return {
    get draftedTokens() {
      return draftedTokens;
    },
    get acceptedTokens() {
      return acceptedTokens;
    },
    async step({ prompt, text, sampler, isGreedy, uniform, maxTokens, rules }) {
      if (followed?.text !== text) {
        followed = undefined;
        await drafter.begin([prompt], rules);
        followed = { text, pace: createDraftPace(drafter.cost) };
      }
      const { pace } = followed;
      // The last token that may come needs no guess.
      const count = pace.asks() ? Math.min(maxDraftTokens, maxTokens - text.ids.length - 1) : 0;
      const row = { prompt, generated: text.ids, uniform: undrawn, row: 0 };
      const [draft] = await drafter.propose([row], [count], [pace]);
      const { tokens, confidences } = draft!;
      const logits = await session.extend([[text.ids.at(-1)!, ...tokens]]);
      const at = (guess: number) => logits.subarray(guess * V, (guess + 1) * V);
      const { choices, accepted } = verifyDraft(sampler, at, text.ids, draft!, uniform, isGreedy, 0);
      session.truncate([tokens.length - accepted]);
      pace.observe(confidences, accepted);
      draftedTokens += tokens.length;
      acceptedTokens += accepted;
      return choices;
    },
  };
}

function undrawn(): number {
  throw new Error("internal: a guess was to be drawn");
}
