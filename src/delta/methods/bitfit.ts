/**
 * BitFit (Ben Zaken et al., arXiv 2106.10199): biases alone. CPM-Ant has none, so they are added, at zero, to linear
 * layers and norms:
 *
 *     y′ = y + b
 */
import { z } from "zod";
import { add } from "../../graph/index.ts";
import { placeWidths, plusBias, zeroParameter } from "../bottleneck.ts";
import { defineMethod } from "../method.ts";

export const bitFit = defineMethod({
  name: "bitfit",
  summary: { zh: "只训练偏置：加在线性层与归一化之后", en: "biases alone, added to linear layers and norms" },
  options: z.object({}),
  kinds: ["linear", "norm"],
  defaultPlaces: ["attn", "ffn", "output_norm"],
  startsAs: "same",
  attach(place) {
    const W = placeWidths(place).output;
    return {
      place,
      parameters: [zeroParameter(place, "bias", [W])],
      edits: {
        output: ({ y }, delta) => (place.kind === "norm" ? add(y, delta("bias")) : plusBias(y, delta("bias"))),
      },
    };
  },
});
