/**
 * The programs of scoring, traced from the model: the stream of whole rows, and of chosen positions the logit of a token and
 * ln Z. Rows, columns and positions are symbolic: each program is compiled once.
 */
import { dim, type Graph, gather, logSumExp, mul, reduceSum, reshape, sizeOf, spec } from "../graph/index.ts";
import { traced } from "../infer/programs.ts";
import type { LayerMask, ModelConfig } from "../model/config.ts";
import { block, blockSpecs, head, headSpecs } from "../model/cpm-ant.ts";
import type { Graft } from "../model/graft.ts";

const B = dim("B");
const T = dim("T");
const M = dim("M");

/** Stream → stream through one block: h `[B, T, D]`, bias `[B, H, T, T]`, seen `[B, T, 1]` give `[B, T, D]`. */
export function scoreBlockProgram(config: ModelConfig, mask: LayerMask, graft?: Graft): Graph {
  return traced(
    `score-block${mask[0] ? "-" : "A"}${mask[1] ? "-" : "F"}`,
    ({ params, h, bias, seen }) => ({ next: block(config, params, h, bias, seen) }),
    {
      params: blockSpecs(config, mask),
      h: spec("float32", [B, T, config.dimModel]),
      bias: spec("float32", [B, config.heads, T, T]),
      seen: spec("float32", [B, T, 1]),
    },
    graft,
  );
}

/**
 * Of M positions of the stream (rows of `[B·T, D]`), with a token `[M]` for each: the token's logit and
 * logZ = ln Σ exp(logits) over the vocabulary, so that ln p = logit − logZ.
 */
export function scoreHeadProgram(config: ModelConfig, graft?: Graft): Graph {
  return traced(
    "score-head",
    ({ params, h, positions, tokens }) => {
      const h_ND = reshape(h, [sizeOf([B, T]), config.dimModel]);
      const { hidden, logits } = head(config, params, gather(h_ND, positions));
      const logit = mul(reduceSum(mul(hidden, gather(params.token, tokens)), [-1]), 1 / Math.sqrt(config.dimModel));
      return { logit, logZ: logSumExp(logits) };
    },
    {
      params: headSpecs(config),
      h: spec("float32", [B, T, config.dimModel]),
      positions: spec("int32", [M]),
      tokens: spec("int32", [M]),
    },
    graft,
  );
}
