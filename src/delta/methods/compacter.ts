/**
 * Compacter (Karimi Mahabadi et al., arXiv 2106.04647): an adapter whose matrices are sums of n Kronecker products.
 *
 *     W = Σᵢ Aᵢ ⊗ Bᵢ,    Aᵢ [n, n],  Bᵢ [in/n, out/n]
 *
 * The rules A are shared by all adapters of a model (`shared`), Bᵢ is a product of thin matrices of rank `rank`
 * (`factorized`). The last factor of the way up begins at zero, so that the model begins as it was.
 */
import { z } from "zod";
import { add, matmul, reshape, type Tensor, transpose } from "../../graph/index.ts";
import { fillNormal } from "../../util/random.ts";
import { activate, activationSchema, normalParameter, placeWidths, plusBias, zeroParameter } from "../bottleneck.ts";
import { type DeltaParameter, type DeltaTensors, defineMethod } from "../method.ts";
import { optionError } from "../option-error.ts";

const ruleDeviation = 0.5;

/** The bottleneck's width: a multiple of n. */
function bottleneckOf(
  W: number,
  { reduction, division: n }: { readonly reduction: number; readonly division: number },
) {
  return Math.max(n, Math.round(W / reduction / n) * n);
}

/** Σᵢ Aᵢ ⊗ Bᵢ: A [n, n, n], B [n, p, q] give [n·p, n·q]. */
function kroneckerSum(a: Tensor, b: Tensor): Tensor {
  const [n, p, q] = b.shape as [number, number, number];
  const product = matmul(reshape(a, [n, n * n]), reshape(b, [n, p * q]), { transposeA: true });
  return reshape(transpose(reshape(product, [n, n, p, q]), [0, 2, 1, 3]), [n * p, n * q]);
}

export const compacter = defineMethod({
  name: "compacter",
  summary: {
    zh: "由克罗内克积构成的适配器，规则由各层共享",
    en: "an adapter made of Kronecker products, with rules shared by all layers",
  },
  options: z.object({
    reduction: z.number().min(1).default(16),
    /** n: how many products, and by how much the widths are divided. */
    division: z.int().min(1).max(64).default(4),
    shared: z.boolean().default(true),
    factorized: z.boolean().default(true),
    rank: z.int().min(1).max(256).default(1),
    activation: activationSchema.default("gelu_new"),
    deviation: z.number().positive().default(0.01),
  }),
  kinds: ["sublayer", "linear"],
  defaultPlaces: ["attn", "ffn"],
  startsAs: "same",
  check({ division }, places) {
    for (const place of places) {
      const W = placeWidths(place).output;
      if (W % division !== 0)
        throw optionError("compacter", `division ${division} at ${place.name}`, `a divisor of ${W}`);
    }
  },
  attach(place, options) {
    const { division: n, shared, factorized, rank: k, activation, deviation } = options;
    const W = placeWidths(place).output;
    const b = bottleneckOf(W, options);
    const rule = (local: string): DeltaParameter => {
      const name = shared ? `compacter.${local}` : `${place.module}.${local}`;
      return {
        local,
        name,
        shape: [n, n, n],
        initialize: (out, { seed }) => fillNormal(out, seed, name, 0, ruleDeviation),
      };
    };
    /** Bᵢ of one of the two matrices, whole or as two thin ones; `zero`: the product begins at zero. */
    const factors = (side: "down" | "up", input: number, output: number, zero: boolean): DeltaParameter[] => {
      const [p, q] = [input / n, output / n];
      const last = (local: string, shape: readonly number[], std: number) =>
        zero ? zeroParameter(place, local, shape) : normalParameter(place, local, shape, std);
      if (!factorized) return [last(`compacter_${side}`, [n, p, q], deviation)];
      const std = Math.sqrt(deviation);
      return [
        normalParameter(place, `compacter_${side}_left`, [n, p, k], std),
        last(`compacter_${side}_right`, [n, k, q], std),
      ];
    };
    const weight = (side: "down" | "up", delta: DeltaTensors): Tensor => {
      const inner = factorized
        ? matmul(delta(`compacter_${side}_left`), delta(`compacter_${side}_right`))
        : delta(`compacter_${side}`);
      return kroneckerSum(delta(`compacter_rule_${side}`), inner);
    };
    const change = ({ y }: { readonly y: Tensor }, delta: DeltaTensors): Tensor => {
      const narrow = plusBias(matmul(y, weight("down", delta)), delta("compacter_down_bias"));
      const wide = matmul(activate(activation, narrow), weight("up", delta));
      return add(y, plusBias(wide, delta("compacter_up_bias")));
    };
    return {
      place,
      parameters: [
        rule("compacter_rule_down"),
        rule("compacter_rule_up"),
        ...factors("down", W, b, false),
        ...factors("up", b, W, true),
        zeroParameter(place, "compacter_down_bias", [b]),
        zeroParameter(place, "compacter_up_bias", [W]),
      ],
      edits: place.kind === "sublayer" ? { sublayer: change } : { output: change },
    };
  },
});
