/**
 * Adapter (Houlsby et al., arXiv 1902.00751): a bottleneck behind a layer, with a residual of its own.
 *
 *     y′ = y + act(y Dᵀ + d) Uᵀ + u,    D [b, W], U [W, b]
 *
 * It stands after the attention and after the feed-forward layer. D begins normally distributed; U at zero, so that the
 * model begins as it was (the widespread 0.01 for both, `zeroUp: false`, begins close to it).
 */
import { z } from "zod";
import { add, matmul, type Tensor } from "../../graph/index.ts";
import { activate, activationSchema, normalParameter, placeWidths, plusBias, zeroParameter } from "../bottleneck.ts";
import { type DeltaTensors, defineMethod } from "../method.ts";

export const houlsby = defineMethod({
  name: "houlsby",
  summary: {
    zh: "注意力层与前馈层之后的瓶颈适配器",
    en: "a bottleneck after the attention and the feed-forward layer",
  },
  options: z.object({
    bottleneck: z.int().min(1).max(65536).default(24),
    activation: activationSchema.default("gelu_new"),
    deviation: z.number().positive().default(0.01),
    zeroUp: z.boolean().default(true),
  }),
  kinds: ["sublayer", "linear"],
  defaultPlaces: ["attn", "ffn"],
  startsAs: "same",
  attach(place, { bottleneck: b, activation, deviation, zeroUp }) {
    const W = placeWidths(place).output;
    const change = (y: Tensor, delta: DeltaTensors): Tensor => {
      const narrow = matmul(y, delta("adapter_down"), { transposeB: true });
      const inner = activate(activation, plusBias(narrow, delta("adapter_down_bias")));
      return add(y, plusBias(matmul(inner, delta("adapter_up"), { transposeB: true }), delta("adapter_up_bias")));
    };
    return {
      place,
      parameters: [
        normalParameter(place, "adapter_down", [b, W], deviation),
        zeroParameter(place, "adapter_down_bias", [b]),
        zeroUp ? zeroParameter(place, "adapter_up", [W, b]) : normalParameter(place, "adapter_up", [W, b], deviation),
        zeroParameter(place, "adapter_up_bias", [W]),
      ],
      edits:
        place.kind === "sublayer"
          ? { sublayer: ({ y }, delta) => change(y, delta) }
          : { output: ({ y }, delta) => change(y, delta) },
    };
  },
});
