/**
 * Keys and values of texts that were read before, to be gone on from instead of read again.
 *
 * What can be reused exactly is narrower than in a causal model. The tokens of a prompt see each other in both directions,
 * so the state of every one of them depends on the whole prompt: a prompt that begins like another shares nothing with it,
 * and only the very same prompt is found here. Text behind a prompt is causal, whether it was generated or fed: there a
 * common beginning is a common state. So a conversation is reused if its first turn is the prompt and later turns are
 * appended behind it (`contextTokens`), as the texts that the model generated were; read as one prompt it would be another
 * computation with other results, and is never mixed up with it.
 *
 * Entries are the least recently used first to go; all together stay within a number of bytes.
 */
import { createRecentEntries } from "../util/recent-entries.ts";
import type { DecodingSession, RowState } from "./session.ts";

/** A text to go on from. */
export interface CachedText {
  readonly ids: readonly number[];
  /** The first so many tokens are the prompt; the others follow as if they had been generated. Default: all. */
  readonly contextTokens?: number | undefined;
}

export interface PromptCacheUse {
  /** Bytes held now. */
  readonly bytes: number;
  readonly entries: number;
  /** Tokens that were not read again. */
  readonly reusedTokens: number;
}

export interface PromptCache {
  /**
   * Makes the session's rows these texts, reading only what is not known. Resolves to the logits after each, [B, V]. The
   * session is the same from call to call, or one with the same model, soft prompt and segment.
   */
  prefill(session: DecodingSession, texts: readonly CachedText[]): Promise<Float32Array>;
  use(): PromptCacheUse;
  clear(): void;
}

interface Entry {
  readonly ids: readonly number[];
  readonly contextTokens: number;
  readonly state: RowState;
  readonly logits: Float32Array;
}

/** A cache of at most `limitBytes`; 0 keeps nothing. */
export function createPromptCache(limitBytes: number): PromptCache {
  const known = createRecentEntries<Entry>(limitBytes);
  let reusedTokens = 0;

  const keyOf = (ids: readonly number[], contextTokens: number) => `${contextTokens}:${ids.join(" ")}`;

  /** The longest known beginning of a text; of its prompt all. */
  function find({ ids, contextTokens = ids.length }: CachedText): Entry | undefined {
    let best: Entry | undefined;
    for (const [, entry] of known.entries()) {
      if (entry.contextTokens !== contextTokens || entry.ids.length > ids.length) continue;
      if (entry.ids.length <= (best?.ids.length ?? 0)) continue;
      if (entry.ids.every((id, at) => id === ids[at])) best = entry;
    }
    return best && known.get(keyOf(best.ids, contextTokens));
  }

  function keep(
    session: DecodingSession,
    row: number,
    ids: readonly number[],
    contextTokens: number,
    logits: Float32Array,
  ) {
    const bytes = session.stateBytes(row) + logits.byteLength + 8 * ids.length;
    const key = keyOf(ids, contextTokens);
    if (bytes > limitBytes || known.has(key)) return;
    known.add(key, { ids: [...ids], contextTokens, state: session.save(row), logits: logits.slice() }, bytes);
  }

  return {
    async prefill(session, texts) {
      const V = session.vocabSize;
      const contexts = texts.map(({ ids, contextTokens = ids.length }) => contextTokens);
      const found = texts.map(find);
      const result = new Float32Array(texts.length * V);
      // Prompts that are not known are read together.
      const missing = [...texts.keys()].filter((row) => found[row] === undefined);
      const states: (RowState | undefined)[] = found.map((entry) => entry?.state);
      if (missing.length > 0) {
        const logits = await session.prefill(missing.map((row) => texts[row]!.ids.slice(0, contexts[row])));
        missing.forEach((row, index) => {
          const own = logits.subarray(index * V, (index + 1) * V);
          result.set(own, row * V);
          keep(session, index, texts[row]!.ids.slice(0, contexts[row]), contexts[row]!, own);
          if (missing.length < texts.length) states[row] = session.save(index);
        });
      }
      if (missing.length < texts.length) session.load(states as RowState[]);
      found.forEach((entry, row) => {
        if (entry === undefined) return;
        result.set(entry.logits, row * V);
        reusedTokens += entry.ids.length;
      });
      const rest = texts.map(({ ids }, row) => ids.slice(found[row]?.ids.length ?? contexts[row]));
      if (rest.some((tokens) => tokens.length > 0)) {
        const logits = await session.extend(rest, "last");
        let at = 0;
        rest.forEach((tokens, row) => {
          if (tokens.length === 0) return;
          const own = logits.slice(at * V, ++at * V);
          result.set(own, row * V);
          keep(session, row, texts[row]!.ids, contexts[row]!, own);
        });
      }
      return result;
    },
    use: () => ({ bytes: known.bytes, entries: known.size, reusedTokens }),
    clear: () => known.clear(),
  };
}
