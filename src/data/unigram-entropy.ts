/** What held-out text costs whoever guesses each token by its frequency alone: a loss must fall well below it. */
import type { HeldOutBatch } from "./batch-source.ts";
import { bitsPerCharacter, entropyNats } from "./token-corpus.ts";

export interface UnigramEntropy {
  readonly natsPerToken: number;
  readonly bitsPerCharacter: number;
}

/**
 * H = −Σ p ln p over the targets of all batches, with p their own frequencies; bits by the tokens a character that the
 * sources have, weighted by their targets. Undefined without a target.
 */
export function unigramEntropy(batches: Iterable<HeldOutBatch>, vocabSize: number): UnigramEntropy | undefined {
  const counts = new Float64Array(vocabSize);
  let targets = 0;
  let characters = 0;
  for (const { batch, tokensPerCharacter } of batches) {
    for (const id of batch.target) {
      if (id < 0) continue;
      counts[id]!++;
      targets++;
      characters += 1 / tokensPerCharacter;
    }
  }
  if (targets === 0) return undefined;
  const natsPerToken = entropyNats(counts);
  return { natsPerToken, bitsPerCharacter: bitsPerCharacter(natsPerToken, targets / characters) };
}
