/**
 * A vocabulary of single characters, and of pairs of them where more tokens are wanted: for models with random weights,
 * which need one of a certain size and learn from none.
 */
import { antSpecials } from "./vocabulary.ts";

function* characters(): Generator<string> {
  for (let code = 0x21; code < 0x7f; code++) yield String.fromCodePoint(code);
  yield* "，。、；：？！“”‘’（）《》…—";
  for (let code = 0x4e00; code <= 0x9fa5; code++) yield String.fromCodePoint(code);
}

/** The lines of a vocabulary file with this many tokens. */
export function placeholderVocabulary(size: number): string {
  const tokens = new Set<string>(antSpecials);
  for (const character of characters()) {
    if (tokens.size >= size) break;
    tokens.add(character);
  }
  for (let first = 0x4e00; tokens.size < size; first++) {
    for (let second = 0x4e00; second <= 0x9fa5 && tokens.size < size; second++) {
      tokens.add(String.fromCodePoint(first, second));
    }
  }
  return `${[...tokens].slice(0, size).join("\n")}\n`;
}
