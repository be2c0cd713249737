/**
 * Low-rank adapter (the baseline of Karimi Mahabadi et al., arXiv 2106.04647): an adapter whose matrices are products of
 * two thin ones.
 *
 *     y′ = y + act(y L₁ R₁ + d) L₂ R₂ + u,    L₁ [W, k], R₁ [k, b], L₂ [b, k], R₂ [k, W]
 *
 * Thin matrices begin as Glorot's, but R₂ at zero, so that the model begins as it was.
 */
import { z } from "zod";
import { add, matmul, type Tensor } from "../../graph/index.ts";
import { activate, activationSchema, normalParameter, placeWidths, plusBias, zeroParameter } from "../bottleneck.ts";
import { type DeltaTensors, defineMethod } from "../method.ts";

export const lowRankAdapter = defineMethod({
  name: "low-rank",
  summary: {
    zh: "矩阵再分解为低秩乘积的适配器",
    en: "an adapter whose matrices are products of two thin ones",
  },
  options: z.object({
    reduction: z.number().min(1).default(32),
    rank: z.int().min(1).max(4096).default(1),
    activation: activationSchema.default("gelu_new"),
  }),
  kinds: ["sublayer", "linear"],
  defaultPlaces: ["attn", "ffn"],
  startsAs: "same",
  attach(place, { reduction, rank: k, activation }) {
    const W = placeWidths(place).output;
    const b = Math.max(1, Math.floor(W / reduction));
    const glorot = (rows: number, columns: number) => Math.sqrt(2 / (rows + columns));
    const change = ({ y }: { readonly y: Tensor }, delta: DeltaTensors): Tensor => {
      const narrow = matmul(matmul(y, delta("low_rank_down_left")), delta("low_rank_down_right"));
      const inner = activate(activation, plusBias(narrow, delta("low_rank_down_bias")));
      const wide = matmul(matmul(inner, delta("low_rank_up_left")), delta("low_rank_up_right"));
      return add(y, plusBias(wide, delta("low_rank_up_bias")));
    };
    return {
      place,
      parameters: [
        normalParameter(place, "low_rank_down_left", [W, k], glorot(W, k)),
        normalParameter(place, "low_rank_down_right", [k, b], glorot(k, b)),
        zeroParameter(place, "low_rank_down_bias", [b]),
        normalParameter(place, "low_rank_up_left", [b, k], glorot(b, k)),
        zeroParameter(place, "low_rank_up_right", [k, W]),
        zeroParameter(place, "low_rank_up_bias", [W]),
      ],
      edits: place.kind === "sublayer" ? { sublayer: change } : { output: change },
    };
  },
});
