/**
 * Which tokens of a vocabulary may follow, so that a text keeps to a grammar and can be finished.
 *
 * Text is made by joining tokens, byte tokens included, so tokens are judged by their bytes: a token of several characters,
 * or a byte of a character that others will complete, is allowed where the automaton can go through all of it. The
 * vocabulary is laid out in order of bytes, and a common beginning is followed once for all tokens that have it.
 */
import type { Piece } from "../../tokenizer/index.ts";
import { type ByteAutomaton, createAutomaton, dead } from "./automaton.ts";
import { allCharacters, type CharacterRanges, type Grammar, normalRanges, restrictGrammar } from "./grammar.ts";

export interface TokenConstraint {
  /** What may come after these tokens, which have kept to the grammar. Valid until the next call. */
  after(generated: readonly number[]): Allowed;
}

export interface Allowed {
  /** By id: 1 where the token may follow. Specials never do. */
  readonly tokens: Uint8Array;
  /** Whether the text may end. */
  readonly mayEnd: boolean;
}

/** A vocabulary's tokens in order of their bytes. */
export interface VocabularyBytes {
  readonly size: number;
  /** What its tokens can spell, one character after the other. */
  readonly spellable: CharacterRanges;
  /** Bytes of a token; empty for specials. */
  bytesOf(id: number): Uint8Array;
  /** Ids with bytes, sorted by them. */
  readonly order: Int32Array;
  /** How many first bytes each shares with the one before. */
  readonly shared: Int32Array;
}

export function layOutVocabulary(pieceOf: (id: number) => Piece, size: number): VocabularyBytes {
  const utf8 = new TextEncoder();
  const single: [number, number][] = [];
  const byteTokens = new Set<number>();
  const bytes = Array.from({ length: size }, (_, id) => {
    const piece = pieceOf(id);
    if (piece.kind === "special") return new Uint8Array(0);
    if (piece.kind === "byte") {
      byteTokens.add(piece.byte);
      return Uint8Array.of(piece.byte);
    }
    const code = piece.text.codePointAt(0);
    if (code !== undefined && piece.text.length === (code > 0xffff ? 2 : 1)) single.push([code, code]);
    return utf8.encode(piece.text);
  });
  const order = Int32Array.from(bytes.keys())
    .filter((id) => bytes[id]!.length > 0)
    .sort((a, b) => compareBytes(bytes[a]!, bytes[b]!));
  const shared = order.map((id, index) => (index === 0 ? 0 : commonBytes(bytes[order[index - 1]!]!, bytes[id]!)));
  return {
    size,
    spellable: byteTokens.size === 256 ? allCharacters : normalRanges(single),
    bytesOf: (id) => bytes[id]!,
    order,
    shared,
  };
}

function commonBytes(a: Uint8Array, b: Uint8Array): number {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = commonBytes(a, b);
  return (a[common] ?? -1) - (b[common] ?? -1);
}

/** Masks that are kept, and automaton states after which everything is made anew: bounds for long texts. */
const maxMasks = 256;
const maxStates = 20_000;

/**
 * The constraint of a grammar on a vocabulary. Throws CPM_INFER_GRAMMAR where the grammar cannot be used, and
 * CPM_INFER_UNSPELLABLE where the vocabulary can spell none of its texts.
 */
export function createTokenConstraint(grammar: Grammar, vocabulary: VocabularyBytes): TokenConstraint {
  const { size, order, shared, bytesOf } = vocabulary;
  const restricted = restrictGrammar(grammar, vocabulary.spellable);
  let automaton: ByteAutomaton = createAutomaton(restricted);
  let masks = new Map<number, Uint8Array>();
  /** How far the texts were followed that may have grown since. */
  let followed = new WeakMap<readonly number[], { count: number; state: number }>();
  const longest = order.reduce((most, id) => Math.max(most, bytesOf(id).length), 0);
  const path = new Int32Array(longest + 1);

  function advance(state: number, id: number): number {
    const bytes = bytesOf(id);
    if (bytes.length === 0) return dead;
    for (let i = 0; i < bytes.length && state !== dead; i++) state = automaton.next(state, bytes[i]!);
    return state;
  }

  function stateAfter(generated: readonly number[]): number {
    const known = followed.get(generated);
    let { count, state } = known ?? { count: 0, state: automaton.start };
    for (; count < generated.length; count++) {
      state = advance(state, generated[count]!);
      if (state === dead) {
        throw new Error(`internal: token ${generated[count]} at ${count} leaves the grammar`);
      }
    }
    followed.set(generated, { count, state });
    return state;
  }

  function maskOf(state: number): Uint8Array {
    const known = masks.get(state);
    if (known !== undefined) return known;
    const mask = new Uint8Array(size);
    path[0] = state;
    // Tokens that share this many bytes with the last one are as dead as it is.
    let deadFrom = Number.POSITIVE_INFINITY;
    for (let index = 0; index < order.length; index++) {
      const from = shared[index]!;
      if (from >= deadFrom) continue;
      deadFrom = Number.POSITIVE_INFINITY;
      const id = order[index]!;
      const bytes = bytesOf(id);
      for (let i = from; i < bytes.length; i++) {
        const next = automaton.next(path[i]!, bytes[i]!);
        if (next === dead) {
          deadFrom = i + 1;
          break;
        }
        path[i + 1] = next;
      }
      if (deadFrom === Number.POSITIVE_INFINITY) mask[id] = 1;
    }
    if (masks.size >= maxMasks) masks.delete(masks.keys().next().value!);
    masks.set(state, mask);
    return mask;
  }

  return {
    after(generated) {
      if (automaton.stateCount > maxStates) {
        automaton = createAutomaton(restricted);
        masks = new Map();
        followed = new WeakMap();
      }
      const state = stateAfter(generated);
      return { tokens: maskOf(state), mayEnd: automaton.accepts(state) };
    },
  };
}
