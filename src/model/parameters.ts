/**
 * Every parameter of a CPM-Ant model: its name (CPM-Live's), shape and kind. What initialises, counts, checks, converts
 * or shows parameters goes through this table, so a model's parameters are defined once.
 *
 * Shapes are `[out, in]` as in PyTorch; there are no biases. A sub-layer that `maskModules` removes has no parameters,
 * its norm included.
 */
import { type LayerMask, layerMask, type ModelConfig } from "./config.ts";

/**
 * - `linear`: run as (x Wᵀ) / √fan_in
 * - `embedding`: a row is divided by √dimModel when it is looked up (and, for the token table, in the head)
 * - `bias-table`: the position bias, used as it is
 * - `norm`: the gain of an RMSNorm
 */
export type ParameterKind = "linear" | "embedding" | "bias-table" | "norm";

export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: ParameterKind;
  /** Width of a linear layer's input. */
  readonly fanIn?: number;
  /** Index of the block, for parameters of a block. */
  readonly layer?: number;
}

/** Names outside of the blocks. */
export const names = {
  token: "input_embedding.weight",
  prompt: "prompt_embedding.weight",
  segment: "segment_embedding.weight",
  positionBias: "position_bias.relative_attention_bias",
  outputNorm: "encoder.output_layernorm.weight",
} as const;

/** Names of one block's attention. */
export function attentionNames(layer: number) {
  const prefix = `encoder.layers.${layer}.self_att`;
  return {
    norm: `${prefix}.layernorm_before_attention.weight`,
    q: `${prefix}.self_attention.project_q.weight`,
    k: `${prefix}.self_attention.project_k.weight`,
    v: `${prefix}.self_attention.project_v.weight`,
    out: `${prefix}.self_attention.attention_out.weight`,
  } as const;
}

/** Names of one block's feed-forward layer: `gate` goes through the GELU, `value` is multiplied with it. */
export function ffnNames(layer: number) {
  const prefix = `encoder.layers.${layer}.ffn`;
  return {
    norm: `${prefix}.layernorm_before_ffn.weight`,
    gate: `${prefix}.ffn.w_in.w_0.weight`,
    value: `${prefix}.ffn.w_in.w_1.weight`,
    out: `${prefix}.ffn.w_out.weight`,
  } as const;
}

/** The names of a block's parameters, by their paths in its parameter tree (`attention.q`, `ffn.gate`). */
export function blockParameterNames(
  layer: number,
  [attentionAbsent, ffnAbsent]: LayerMask,
): [path: string, name: string][] {
  const group = (path: string, keys: Readonly<Record<string, string>>) =>
    Object.entries(keys).map(([key, name]): [string, string] => [`${path}.${key}`, name]);
  return [
    ...(attentionAbsent ? [] : group("attention", attentionNames(layer))),
    ...(ffnAbsent ? [] : group("ffn", ffnNames(layer))),
  ];
}

/** All parameters of a block with this mask. */
export function blockParameters(config: ModelConfig, layer: number, mask: LayerMask): readonly Parameter[] {
  const { dimModel, dimFf } = config;
  const dimHeads = config.heads * config.dimHead;
  const norm = (name: string): Parameter => ({ name, shape: [dimModel], kind: "norm", layer });
  const linear = (name: string, out: number, fanIn: number): Parameter => {
    return { name, shape: [out, fanIn], kind: "linear", fanIn, layer };
  };
  const [attentionAbsent, ffnAbsent] = mask;
  const table: Parameter[] = [];
  if (!attentionAbsent) {
    const { norm: gain, q, k, v, out } = attentionNames(layer);
    table.push(norm(gain), linear(q, dimHeads, dimModel), linear(k, dimHeads, dimModel), linear(v, dimHeads, dimModel));
    table.push(linear(out, dimModel, dimHeads));
  }
  if (!ffnAbsent) {
    const { norm: gain, gate, value, out } = ffnNames(layer);
    table.push(norm(gain), linear(gate, dimFf, dimModel), linear(value, dimFf, dimModel), linear(out, dimModel, dimFf));
  }
  return table;
}

/** All parameters, tables first, then block by block, then the last norm: the order in which a model is read. */
export function parameterTable(config: ModelConfig): readonly Parameter[] {
  const { dimModel } = config;
  const embedding = (name: string, rows: number): Parameter => ({ name, shape: [rows, dimModel], kind: "embedding" });
  const biasRows = config.positionBuckets + config.segmentTypes ** 2;
  const table: Parameter[] = [
    embedding(names.token, config.vocabSize),
    embedding(names.prompt, config.promptTypes * config.promptLength),
    embedding(names.segment, config.segmentTypes),
    { name: names.positionBias, shape: [biasRows, config.heads], kind: "bias-table" },
  ];
  for (let layer = 0; layer < config.layers; layer++) {
    table.push(...blockParameters(config, layer, layerMask(config, layer)));
  }
  table.push({ name: names.outputNorm, shape: [dimModel], kind: "norm" });
  return table;
}

/** Elements of one parameter. */
export function parameterElements(parameter: Pick<Parameter, "shape">): number {
  return parameter.shape.reduce((count, dim) => count * dim, 1);
}

/** The exact number of parameters. The tied head adds none. */
export function parameterCount(config: ModelConfig): number {
  return parameterTable(config).reduce((count, parameter) => count + parameterElements(parameter), 0);
}

/** Elements that share one scale in the 4-bit estimate: measured to cost less time than blocks of 32. */
const int4Block = 128;

/**
 * Bytes of the weights alone (no activations, no cache, no optimizer) in each precision.
 *
 * `int8` and `int4` quantise the linear layers, with a float32 scale per output row and per 128 inputs (rounded up), and keep
 * the rest in float16.
 */
export function memoryByPrecisionBytes(config: ModelConfig): {
  readonly float32: number;
  readonly float16: number;
  readonly int8: number;
  readonly int4: number;
} {
  let linear = 0;
  let other = 0;
  let rows = 0;
  let blocks = 0;
  for (const parameter of parameterTable(config)) {
    const elements = parameterElements(parameter);
    if (parameter.kind !== "linear") {
      other += elements;
      continue;
    }
    linear += elements;
    rows += parameter.shape[0]!;
    blocks += parameter.shape[0]! * Math.ceil(parameter.fanIn! / int4Block);
  }
  return {
    float32: 4 * (linear + other),
    float16: 2 * (linear + other),
    int8: linear + 4 * rows + 2 * other,
    int4: Math.ceil(linear / 2) + 4 * blocks + 2 * other,
  };
}
