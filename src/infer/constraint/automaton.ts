/**
 * Running a grammar over the bytes of UTF-8 text: a pushdown automaton, made deterministic as far as texts go.
 *
 * A state is the set of all places in the grammar where a text may be, each with its stack (rules and repetitions that are
 * under way). Stacks share their lower parts and equal states are one, so following known text is one look into a table.
 * States are numbers; they are made when they are first reached.
 */
import type { CharacterRanges, Expression, Grammar } from "./grammar.ts";

export interface ByteAutomaton {
  readonly start: number;
  /** The state after a byte, or `dead`. */
  next(state: number, byte: number): number;
  /** Whether the text may end here. */
  accepts(state: number): boolean;
  /** States so far; each takes about a kilobyte. */
  readonly stateCount: number;
}

/** No text goes on from here. */
export const dead = -1;
const unknown = -2;

/** A place in the compiled grammar. */
type Place =
  /** Where each byte leads; −1: nowhere. */
  | { readonly kind: "bytes"; readonly to: Int32Array }
  | { readonly kind: "split"; readonly to: readonly number[] }
  /** Goes through another part, then on to `then`. */
  | { readonly kind: "call"; readonly to: () => number; readonly then: number }
  /** Repeats the part at `item`, which ends in `again`. */
  | { readonly kind: "loop"; item: number; readonly min: number; readonly max: number; readonly then: number }
  /** A repetition's item is done. */
  | { readonly kind: "again" }
  /** The end of a part. */
  | { readonly kind: "return" };

/** What is under way below a place: where a call goes on, or a loop and how often its item has been. */
interface Frame {
  readonly place: number;
  readonly count: number;
  readonly below: number;
}

const bottom = -1;

export function createAutomaton(grammar: Grammar): ByteAutomaton {
  const places: Place[] = [];
  const add = (place: Place): number => places.push(place) - 1;
  const ending = add({ kind: "return" });
  const again = add({ kind: "again" });
  const ruleStarts = new Map<string, number>();
  const characterParts = new Map<string, number>();
  const utf8 = new TextEncoder();

  const bytePlace = (first: number, last: number, to: number): number => {
    const table = new Int32Array(256).fill(dead);
    table.fill(to, first, last + 1);
    return add({ kind: "bytes", to: table });
  };

  /** The place at which the expression begins and after which the text goes on at `then`. */
  function compile(expression: Expression, then: number): number {
    switch (expression.kind) {
      case "text":
        return utf8.encode(expression.text).reduceRight((next, byte) => bytePlace(byte, byte, next), then);
      case "character":
        return call(() => characterPart(expression.ranges), then);
      case "sequence":
        return expression.items.reduceRight((next, item) => compile(item, next), then);
      case "choice":
        return add({ kind: "split", to: expression.options.map((option) => compile(option, then)) });
      case "repeat": {
        const { min, max, item } = expression;
        if (max === 0) return then;
        const loop: Place & { kind: "loop" } = { kind: "loop", item: dead, min, max, then };
        const at = add(loop);
        loop.item = compile(item, again);
        return at;
      }
      case "rule":
        return call(() => ruleStarts.get(expression.name)!, then);
    }
  }

  const call = (to: () => number, then: number) => add({ kind: "call", to, then });

  /** The part for one character of a set; equal sets share one. */
  function characterPart(ranges: CharacterRanges): number {
    const key = ranges.map(([first, last]) => `${first}-${last}`).join();
    const known = characterParts.get(key);
    if (known !== undefined) return known;
    const part = compileSequences(ranges.flatMap(([first, last]) => byteSequences(first, last)));
    characterParts.set(key, part);
    return part;
  }

  /** One of several sequences of byte ranges, all different in some byte. */
  function compileSequences(sequences: readonly ByteSequence[]): number {
    const parts = new Map<string, number>();
    const build = (tails: readonly ByteSequence[]): number => {
      if (tails[0]!.length === 0) return ending;
      const key = tails.map((tail) => tail.join("-")).join(" ");
      const known = parts.get(key);
      if (known !== undefined) return known;
      const byByte: ByteSequence[][] = Array.from({ length: 256 }, () => []);
      for (const [[first, last], ...rest] of tails as readonly [ByteRange, ...ByteRange[]][]) {
        for (let byte = first; byte <= last; byte++) byByte[byte]!.push(rest);
      }
      const table = Int32Array.from(byByte, (rest) => (rest.length === 0 ? dead : build(rest)));
      const place = add({ kind: "bytes", to: table });
      parts.set(key, place);
      return place;
    };
    return build(sequences);
  }

  for (const [name, expression] of grammar.rules) ruleStarts.set(name, compile(expression, ending));

  const frames: Frame[] = [];
  const frameIds = new Map<string, number>();
  const frame = (place: number, count: number, below: number): number => {
    const key = `${place} ${count} ${below}`;
    let id = frameIds.get(key);
    if (id === undefined) {
      id = frames.push({ place, count, below }) - 1;
      frameIds.set(key, id);
    }
    return id;
  };

  interface State {
    /** Pairs of a place of kind "bytes" and the stack below it. */
    readonly at: readonly (readonly [place: number, stack: number])[];
    readonly accepts: boolean;
    readonly next: Int32Array;
  }
  const states: State[] = [];
  const stateIds = new Map<string, number>();

  /** The state of these places, gone on to where bytes are read. */
  function stateOf(from: readonly (readonly [number, number])[]): number {
    const seen = new Set<string>();
    const at: (readonly [number, number])[] = [];
    let accepts = false;
    const pending = [...from];
    for (let pair = pending.pop(); pair !== undefined; pair = pending.pop()) {
      const [placeId, stack] = pair;
      const key = `${placeId} ${stack}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const place = places[placeId]!;
      switch (place.kind) {
        case "bytes":
          at.push(pair);
          break;
        case "split":
          for (const to of place.to) pending.push([to, stack]);
          break;
        case "call":
          // What would only return again leaves nothing behind, so that rules which end with themselves do not pile up.
          pending.push([place.to(), place.then === ending ? stack : frame(place.then, 0, stack)]);
          break;
        case "loop":
          if (place.min === 0) pending.push([place.then, stack]);
          pending.push([place.item, frame(placeId, 0, stack)]);
          break;
        case "again": {
          const { place: loopId, count, below } = frames[stack]!;
          const loop = places[loopId] as Place & { kind: "loop" };
          const done = count + 1;
          if (done >= loop.min) pending.push([loop.then, below]);
          // Without a limit, repetitions beyond the least number are all the same.
          const counted = loop.max === Number.POSITIVE_INFINITY ? Math.min(done, loop.min) : done;
          if (done < loop.max) pending.push([loop.item, frame(loopId, counted, below)]);
          break;
        }
        case "return":
          if (stack === bottom) accepts = true;
          else {
            const { place: then, below } = frames[stack]!;
            pending.push([then, below]);
          }
          break;
      }
    }
    if (at.length === 0 && !accepts) return dead;
    const key = `${accepts} ${at
      .map((pair) => pair.join(":"))
      .sort()
      .join(" ")}`;
    let id = stateIds.get(key);
    if (id === undefined) {
      id = states.push({ at, accepts, next: new Int32Array(256).fill(unknown) }) - 1;
      stateIds.set(key, id);
    }
    return id;
  }

  return {
    start: stateOf([[ruleStarts.get(grammar.start)!, bottom]]),
    next(state, byte) {
      const { at, next } = states[state]!;
      if (next[byte] === unknown) {
        const reached: (readonly [number, number])[] = [];
        for (const [placeId, stack] of at) {
          const to = (places[placeId] as Place & { kind: "bytes" }).to[byte]!;
          if (to !== dead) reached.push([to, stack]);
        }
        next[byte] = reached.length === 0 ? dead : stateOf(reached);
      }
      return next[byte]!;
    },
    accepts: (state) => states[state]!.accepts,
    get stateCount() {
      return states.length;
    },
  };
}

type ByteRange = readonly [first: number, last: number];
type ByteSequence = readonly ByteRange[];

/** Last code points of one, two and three bytes of UTF-8. */
const lastOfLength = [0x7f, 0x7ff, 0xffff];

/** The UTF-8 of code points `first` to `last` as sequences of byte ranges, all of whose combinations are meant. */
function byteSequences(first: number, last: number): ByteSequence[] {
  for (const border of lastOfLength) {
    if (first <= border && border < last) return [...byteSequences(first, border), ...byteSequences(border + 1, last)];
  }
  const bytes = encode(first);
  // Below some byte everything must be complete: cut where the lower bytes do not span all of 80 to BF.
  for (let low = 1; low < bytes.length; low++) {
    const mask = (1 << (6 * low)) - 1;
    if ((first & ~mask) === (last & ~mask)) break;
    if ((first & mask) !== 0)
      return [...byteSequences(first, first | mask), ...byteSequences((first | mask) + 1, last)];
    if ((last & mask) !== mask)
      return [...byteSequences(first, (last & ~mask) - 1), ...byteSequences(last & ~mask, last)];
  }
  const end = encode(last);
  return [bytes.map((byte, index) => [byte, end[index]!] as const)];
}

function encode(codePoint: number): number[] {
  return Array.from(new TextEncoder().encode(String.fromCodePoint(codePoint)));
}
