/**
 * Arithmetic of a model in floating-point operations: what its matrix products need, a product and its sum being two.
 *
 * Element-wise work (norms, activations, softmax, optimizer) is not counted: this is the work that a perfect
 * implementation would spend its time on, so time at the rate of a plain large product gives a bound.
 *
 * Legend: B rows, T columns, N = B·T, D width, H heads, E width of a head, F feed-forward width, V vocabulary.
 */
import { layerMask, type ModelConfig } from "./config.ts";

export interface PassSize {
  /** B */
  readonly rows: number;
  /** T, the prompt included */
  readonly columns: number;
  /** Positions that go through the head. */
  readonly headPositions: number;
}

/** One forward pass. Attention counts all T keys for each query: masked ones are computed too. */
export function forwardFlops(config: ModelConfig, { rows, columns, headPositions }: PassSize): number {
  const N = rows * columns;
  const { dimModel: D, dimFf: F, vocabSize: V } = config;
  const HE = config.heads * config.dimHead;
  let flops = 2 * headPositions * D * V;
  for (let layer = 0; layer < config.layers; layer++) {
    const [attentionAbsent, ffnAbsent] = layerMask(config, layer);
    if (!attentionAbsent) flops += 2 * N * 4 * D * HE + 2 * 2 * N * columns * HE;
    if (!ffnAbsent) flops += 2 * N * 3 * D * F;
  }
  return flops;
}

/** Forward and backward: each product has two of its size in the backward pass. Recomputation is not counted. */
export function trainingFlops(config: ModelConfig, size: PassSize): number {
  return 3 * forwardFlops(config, size);
}
