/**
 * From ids to text, one id at a time: what `push` returns may be shown at once. Nothing is ever taken back and no half
 * character comes out: the bytes of a character are held until the last one is there. What is joined from all `push`es
 * and `flush` equals the tokenizer's `decode` of the same ids.
 *
 * Combining marks and joined emoji are not held back: each code point is shown when it is complete.
 */
import type { DecodeOptions, Tokenizer } from "./tokenizer.ts";

export interface Detokenizer {
  /** Text that this id completes; empty while a character is not complete. A negative id is skipped. */
  push(id: number): string;
  /** What is still held, as U+FFFD, since its missing bytes will not come. The detokenizer can then be used anew. */
  flush(): string;
}

/** Bytes that are no UTF-8 become U+FFFD, as the WHATWG Encoding Standard replaces them. */
export function createDetokenizer(tokenizer: Pick<Tokenizer, "pieceOf">, options: DecodeOptions = {}): Detokenizer {
  const showSpecials = options.specials !== "drop";
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const one = new Uint8Array(1);
  let holding = false;

  function flush(): string {
    if (!holding) return "";
    holding = false;
    return utf8.decode();
  }

  function push(id: number): string {
    if (id < 0) return "";
    const piece = tokenizer.pieceOf(id);
    if (piece.kind === "byte") {
      holding = true;
      one[0] = piece.byte;
      return utf8.decode(one, { stream: true });
    }
    const held = flush();
    return piece.kind === "special" && !showSpecials ? held : held + piece.text;
  }

  return { push, flush };
}
