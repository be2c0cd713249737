/**
 * The places of a model that a delta can go to, under the names that people call them by.
 *
 * | kind | unified names | original names |
 * |---|---|---|
 * | `linear` | `layers.3.attn.q` `.k` `.v` `.out`, `layers.3.ffn.gate` `.value` `.out` | `encoder.layers.3.self_att.self_attention.project_q`, … |
 * | `norm` | `layers.3.attn.norm`, `layers.3.ffn.norm`, `output_norm` | `….layernorm_before_attention`, … |
 * | `sublayer` | `layers.3.attn`, `layers.3.ffn` | `encoder.layers.3.self_att`, `encoder.layers.3.ffn` |
 * | `table` | `embed.token`, `embed.prompt`, `embed.segment`, `position_bias` | `input_embedding`, … |
 *
 * Aliases as elsewhere: `attention` for `attn`, `ff` for `ffn`, `proj` and `o` for `attn.out`, `w1`, `w2`, `w3` for gate,
 * out and value.
 */
import { layerMask, type ModelConfig } from "../model/config.ts";
import { blockParameterNames, blockParameters, names, type Parameter, parameterTable } from "../model/parameters.ts";

export type PlaceKind = "linear" | "norm" | "sublayer" | "table";

export interface Place {
  readonly kind: PlaceKind;
  /** `layers.3.attn.q` */
  readonly name: string;
  /** All names, the first two the unified and the original one. */
  readonly aliases: readonly string[];
  /** `encoder.layers.3.self_att.self_attention.project_q`: what deltas call their parameters by. */
  readonly module: string;
  /** Undefined outside of the blocks. */
  readonly layer: number | undefined;
  /** The path in its program's parameters: `attention.q`, `token`; of a sub-layer `attention` or `ffn`. */
  readonly path: string;
  /** Of its parameter; a sub-layer's is `[D, D]`. */
  readonly shape: readonly number[];
  /** Undefined for a sub-layer. */
  readonly parameter: Parameter | undefined;
}

const unifiedOf: Readonly<Record<string, string>> = {
  "attention.norm": "attn.norm",
  "attention.q": "attn.q",
  "attention.k": "attn.k",
  "attention.v": "attn.v",
  "attention.out": "attn.out",
  "ffn.norm": "ffn.norm",
  "ffn.gate": "ffn.gate",
  "ffn.value": "ffn.value",
  "ffn.out": "ffn.out",
};

/** Other words for parts of unified names. */
const synonyms: readonly (readonly [RegExp, readonly string[]])[] = [
  [/\battn\.out$/, ["attn.proj", "attn.o"]],
  [/\bffn\.gate$/, ["ffn.w1"]],
  [/\bffn\.out$/, ["ffn.w2"]],
  [/\bffn\.value$/, ["ffn.w3"]],
];

function aliasesOf(unified: string, module: string): string[] {
  const own = [unified];
  for (const [pattern, words] of synonyms) {
    if (pattern.test(unified)) for (const word of words) own.push(unified.replace(pattern, word));
  }
  const spelled = own.flatMap((name) => [
    ...(name.includes("attn") ? [name.replace("attn", "attention")] : []),
    ...(name.includes("ffn") ? [name.replace("ffn", "ff")] : []),
  ]);
  return [unified, module, ...own.slice(1), ...spelled];
}

/** Every place of a model, the tables first, then block by block, then the last norm. */
export function placesOf(config: ModelConfig): readonly Place[] {
  const places: Place[] = [];
  const table = new Map(parameterTable(config).map((parameter) => [parameter.name, parameter]));
  const outside = (unified: string, path: string, name: string, kind: PlaceKind) => {
    const parameter = table.get(name)!;
    const module = name.replace(/\.weight$/, "");
    places.push({
      kind,
      name: unified,
      aliases: aliasesOf(unified, module),
      module,
      layer: undefined,
      path,
      shape: parameter.shape,
      parameter,
    });
  };
  outside("embed.token", "token", names.token, "table");
  outside("embed.prompt", "prompt", names.prompt, "table");
  outside("embed.segment", "segment", names.segment, "table");
  outside("position_bias", "table", names.positionBias, "table");
  for (let layer = 0; layer < config.layers; layer++) {
    const mask = layerMask(config, layer);
    const byName = new Map(blockParameters(config, layer, mask).map((parameter) => [parameter.name, parameter]));
    const sublayers = [
      ["attention", "attn", "self_att", mask[0]],
      ["ffn", "ffn", "ffn", mask[1]],
    ] as const;
    for (const [path, unified, original, absent] of sublayers) {
      if (absent) continue;
      const module = `encoder.layers.${layer}.${original}`;
      const name = `layers.${layer}.${unified}`;
      places.push({
        kind: "sublayer",
        name,
        aliases: aliasesOf(name, module),
        module,
        layer,
        path,
        shape: [config.dimModel, config.dimModel],
        parameter: undefined,
      });
    }
    for (const [path, name] of blockParameterNames(layer, mask)) {
      const parameter = byName.get(name)!;
      const module = name.replace(/\.weight$/, "");
      const unified = `layers.${layer}.${unifiedOf[path]!}`;
      places.push({
        kind: parameter.kind === "norm" ? "norm" : "linear",
        name: unified,
        aliases: aliasesOf(unified, module),
        module,
        layer,
        path,
        shape: parameter.shape,
        parameter,
      });
    }
  }
  outside("output_norm", "norm", names.outputNorm, "norm");
  return places;
}
