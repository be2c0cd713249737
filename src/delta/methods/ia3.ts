/**
 * IA³ (Liu et al., arXiv 2205.05638): vectors that scale keys, values and what goes into the last layer of the
 * feed-forward block.
 *
 *     y′ = l ∘ y  of k and v,    x′ = l ∘ x  of ffn.out
 *
 * All begin at one.
 */
import { z } from "zod";
import { mul, reshape, type Tensor } from "../../graph/index.ts";
import { defineMethod, type Merge } from "../method.ts";
import type { Place } from "../places.ts";

/** Of the feed-forward block's last layer the input is scaled, of all others the output. */
export function ia3ScalesInput({ path }: Pick<Place, "path">): boolean {
  return path === "ffn.out";
}

export const ia3 = defineMethod({
  name: "ia3",
  summary: {
    zh: "缩放键、值与前馈中间值的向量",
    en: "vectors that scale keys, values and the feed-forward layer's inside",
  },
  options: z.object({}),
  kinds: ["linear"],
  defaultPlaces: ["attn.k", "attn.v", "ffn.out"],
  startsAs: "same",
  attach(place) {
    const input = ia3ScalesInput(place);
    const width = place.shape[input ? 1 : 0]!;
    const scaled = (x: Tensor, l: Tensor) => mul(x, reshape(l, [1, width]));
    return {
      place,
      parameters: [
        {
          local: "ia3_l",
          name: `${place.module}.ia3_l`,
          shape: [width],
          initialize: (out) => {
            out.fill(1);
          },
        },
      ],
      edits: input
        ? { input: (x, delta) => scaled(x, delta("ia3_l")) }
        : { output: ({ y }, delta) => scaled(y, delta("ia3_l")) },
    };
  },
  merge: (_, place) => scaling(place, (w, l) => w * l),
  unmerge: (_, place) => scaling(place, (w, l) => w / l),
});

function scaling(place: Place, combine: (w: number, l: number) => number): Merge {
  const byColumn = ia3ScalesInput(place);
  return (weight, [O, I], delta) => {
    const l = delta("ia3_l");
    for (let o = 0; o < O; o++) {
      for (let i = 0; i < I; i++) weight[o * I + i] = combine(weight[o * I + i]!, l[byColumn ? i : o]!);
    }
  };
}
