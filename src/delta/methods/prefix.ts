/**
 * Prefix tuning (Li and Liang, arXiv 2101.00190): keys and values that every layer's attention sees before each row's own.
 *
 * They lie in front of all tokens and have no position: nothing is added to their scores, and every token sees them. With
 * `reparameterize` they come from an embedding of the slots through one hidden layer, of which each layer has its own
 * columns of the last matrix:
 *
 *     [keys, values] of a layer = tanh(E W₁ + b₁) W₂ + b₂,    E [S, h], W₁ [h, h], W₂ [h, 2·H·E]
 *
 * Every layer with attention has one.
 */
import { z } from "zod";
import { matmul, slice, type Tensor, tanh } from "../../graph/index.ts";
import { fillNormal } from "../../util/random.ts";
import { normalParameter, plusBias, zeroParameter } from "../bottleneck.ts";
import { type DeltaParameter, type DeltaValues, defineMethod } from "../method.ts";
import { optionError } from "../option-error.ts";

export const prefix = defineMethod({
  name: "prefix",
  summary: { zh: "每层注意力之前的键与值", en: "keys and values before each layer's attention" },
  options: z.object({
    tokens: z.int().min(1).max(4096).default(6),
    reparameterize: z.boolean().default(true),
    /** h of the hidden layer. */
    hidden: z.int().min(1).max(16384).default(512),
    deviation: z.number().positive().default(1),
  }),
  kinds: ["sublayer"],
  defaultPlaces: ["attn"],
  startsAs: "different",
  check(_, places, config) {
    const attentions = Array.from({ length: config.layers }, (_, l) => !config.maskModules?.[l]?.[0]).filter(Boolean);
    const onlyAttention = places.every(({ path }) => path === "attention");
    if (onlyAttention && places.length === attentions.length) return;
    throw optionError(
      "prefix",
      `${places.length} places`,
      `attn in all ${attentions.length} layers that have attention`,
    );
  },
  attach(place, { tokens: S, reparameterize, hidden, deviation }, config) {
    const HE = config.heads * config.dimHead;
    if (!reparameterize) {
      return {
        place,
        parameters: [
          normalParameter(place, "prefix_keys", [S, HE], deviation),
          normalParameter(place, "prefix_values", [S, HE], deviation),
        ],
        edits: { keysValues: (delta) => ({ keys: delta("prefix_keys"), values: delta("prefix_values") }) },
      };
    }
    const shared = (local: string, shape: readonly number[], std: number): DeltaParameter => ({
      local,
      name: `prefix.${local}`,
      shape,
      initialize: (out, { seed }) => {
        if (std > 0) fillNormal(out, seed, `prefix.${local}`, 0, std);
      },
    });
    return {
      place,
      parameters: [
        shared("prefix_embedding", [S, hidden], 1),
        shared("prefix_hidden", [hidden, hidden], 1 / Math.sqrt(hidden)),
        shared("prefix_hidden_bias", [hidden], 0),
        normalParameter(place, "prefix_out", [hidden, 2 * HE], deviation / Math.sqrt(hidden)),
        zeroParameter(place, "prefix_out_bias", [2 * HE]),
      ],
      edits: {
        keysValues: (delta) => {
          const inner = plusBias(
            matmul(delta("prefix_embedding"), delta("prefix_hidden")),
            delta("prefix_hidden_bias"),
          );
          const both: Tensor = plusBias(matmul(tanh(inner), delta("prefix_out")), delta("prefix_out_bias"));
          return { keys: slice(both, 1, 0, HE), values: slice(both, 1, HE, 2 * HE) };
        },
      },
    };
  },
  finished: ({ reparameterize, ...options }) =>
    reparameterize
      ? { options: { ...options, reparameterize: false }, values: (_, delta) => throughHidden(options, delta) }
      : undefined,
  prefixSlots: ({ tokens }) => tokens,
});

/** What the hidden layer makes of the slots, in plain numbers. */
function throughHidden(
  { tokens: S, hidden: h }: { readonly tokens: number; readonly hidden: number },
  delta: DeltaValues,
): { readonly prefix_keys: Float32Array; readonly prefix_values: Float32Array } {
  const [embedding, matrix, bias] = [delta("prefix_embedding"), delta("prefix_hidden"), delta("prefix_hidden_bias")];
  const [out, outBias] = [delta("prefix_out"), delta("prefix_out_bias")];
  const HE = outBias.length / 2;
  const keys = new Float32Array(S * HE);
  const values = new Float32Array(S * HE);
  for (let s = 0; s < S; s++) {
    const inner = Float64Array.from({ length: h }, (_, j) => {
      let sum = bias[j]!;
      for (let i = 0; i < h; i++) sum += embedding[s * h + i]! * matrix[i * h + j]!;
      return Math.tanh(sum);
    });
    const row = Float64Array.from(outBias);
    inner.forEach((x, i) => {
      for (let j = 0; j < 2 * HE; j++) row[j]! += x * out[i * 2 * HE + j]!;
    });
    keys.set(row.subarray(0, HE), s * HE);
    values.set(row.subarray(HE), s * HE);
  }
  return { prefix_keys: keys, prefix_values: values };
}
