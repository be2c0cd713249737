/**
 * Parallel adapter (He et al., arXiv 2110.04366): a bottleneck beside a layer, from the layer's input to its output.
 *
 *     y′ = y + scale · (act(x Dᵀ + d) Uᵀ + u),    D [b, I], U [O, b]
 *
 * Beside a sub-layer x is what its norm gives. D begins normally distributed, U at zero.
 */
import { z } from "zod";
import { add, matmul, mul, type Tensor } from "../../graph/index.ts";
import { activate, activationSchema, normalParameter, placeWidths, plusBias, zeroParameter } from "../bottleneck.ts";
import { type DeltaTensors, defineMethod } from "../method.ts";

export const parallelAdapter = defineMethod({
  name: "parallel",
  summary: {
    zh: "与注意力层、前馈层并联的瓶颈适配器",
    en: "a bottleneck beside the attention and the feed-forward layer",
  },
  options: z.object({
    bottleneck: z.int().min(1).max(65536).default(24),
    activation: activationSchema.default("gelu_new"),
    deviation: z.number().positive().default(0.01),
    scale: z.number().positive().default(1),
  }),
  kinds: ["sublayer", "linear"],
  defaultPlaces: ["attn", "ffn"],
  startsAs: "same",
  attach(place, { bottleneck: b, activation, deviation, scale }) {
    const { input: I, output: O } = placeWidths(place);
    const change = ({ x, y }: { readonly x: Tensor; readonly y: Tensor }, delta: DeltaTensors): Tensor => {
      const narrow = matmul(x, delta("parallel_down"), { transposeB: true });
      const inner = activate(activation, plusBias(narrow, delta("parallel_down_bias")));
      const wide = plusBias(matmul(inner, delta("parallel_up"), { transposeB: true }), delta("parallel_up_bias"));
      return add(y, scale === 1 ? wide : mul(wide, scale));
    };
    return {
      place,
      parameters: [
        normalParameter(place, "parallel_down", [b, I], deviation),
        zeroParameter(place, "parallel_down_bias", [b]),
        zeroParameter(place, "parallel_up", [O, b]),
        zeroParameter(place, "parallel_up_bias", [O]),
      ],
      edits: place.kind === "sublayer" ? { sublayer: change } : { output: change },
    };
  },
});
