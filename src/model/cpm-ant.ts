/**
 * CPM-Ant as pure functions over parameter trees: embed → block × L → head. Training, decoding and whatever is traced
 * from a model is traced from these functions.
 *
 * How this architecture differs from a plain decoder:
 * - attention is bidirectional over context and causal over targets; who sees whom arrives as an additive bias
 * - one T5-like position bias table for all layers, with rows for pairs of segments beside the distances
 * - soft prompts of a task stand in front of the text and come from a table of their own
 * - weights are stored unscaled: a linear layer divides by √fan_in when it runs, the tables and the head by √D
 * - RMSNorm before each sub-layer and at the end, a gated feed-forward layer with the exact GELU, no biases
 * - the head is the token table
 * - either sub-layer of a block may be absent (pruned models); heads·dimHead need not be D
 *
 * Legend: B rows, T columns, N = B·T positions, D width, H heads, E width of a head, F width of the feed-forward layer,
 * V vocabulary, P prompt columns, Q queries, K keys.
 */
import {
  add,
  boundary,
  cachedAttention,
  concat,
  crossEntropy,
  type Dim,
  gather,
  gelu,
  matmul,
  mul,
  narrow,
  pad,
  reshape,
  rmsNorm,
  slice,
  softmax,
  softmaxMix,
  spec,
  sub,
  type Tensor,
  type TensorSpec,
  transpose,
  widen,
} from "../graph/index.ts";
import type { LayerMask, ModelConfig } from "./config.ts";

export interface AttentionParams<T = Tensor> {
  /** [D] */
  readonly norm: T;
  /** [H·E, D]; so are k and v. Rows h·E to (h+1)·E belong to head h. */
  readonly q: T;
  readonly k: T;
  readonly v: T;
  /** [D, H·E] */
  readonly out: T;
}

export interface FfnParams<T = Tensor> {
  /** [D] */
  readonly norm: T;
  /** [F, D]: goes through the GELU. */
  readonly gate: T;
  /** [F, D]: is multiplied with it. */
  readonly value: T;
  /** [D, F] */
  readonly out: T;
}

/** A block's parameters; an absent sub-layer has none. */
export interface BlockParams<T = Tensor> {
  readonly attention?: AttentionParams<T>;
  readonly ffn?: FfnParams<T>;
}

export interface EmbeddingParams<T = Tensor> {
  /** [V, D] */
  readonly token: T;
  /** [promptTypes·P, D] */
  readonly prompt: T;
  /** [segmentTypes, D] */
  readonly segment: T;
}

export interface HeadParams<T = Tensor> {
  /** [D] */
  readonly norm: T;
  /** [V, D] */
  readonly token: T;
}

/**
 * Where training may set values to zero, as the original does: attention's weights, what the attention sub-layer adds,
 * the gated product inside the feed-forward layer, what that layer adds.
 */
export type DropPlace = "weights" | "attention" | "inner" | "ffn";
/** x with some values zero and the others scaled so that the mean stays. Nothing is dropped where there is none. */
export type Drop = (x: Tensor, place: DropPlace) => Tensor;

const keepAll: Drop = (x) => x;

/** Dtypes and shapes of a block's parameters. */
export function blockSpecs(config: ModelConfig, [attentionAbsent, ffnAbsent]: LayerMask): BlockParams<TensorSpec> {
  const { dimModel: D, dimFf: F } = config;
  const HE = config.heads * config.dimHead;
  const float = (...shape: number[]) => spec("float32", shape);
  return {
    ...(!attentionAbsent && {
      attention: { norm: float(D), q: float(HE, D), k: float(HE, D), v: float(HE, D), out: float(D, HE) },
    }),
    ...(!ffnAbsent && { ffn: { norm: float(D), gate: float(F, D), value: float(F, D), out: float(D, F) } }),
  };
}

export function embeddingSpecs(config: ModelConfig): EmbeddingParams<TensorSpec> {
  const { vocabSize, dimModel: D, promptTypes, promptLength, segmentTypes } = config;
  return {
    token: spec("float32", [vocabSize, D]),
    prompt: spec("float32", [promptTypes * promptLength, D]),
    segment: spec("float32", [segmentTypes, D]),
  };
}

export function headSpecs(config: ModelConfig): HeadParams<TensorSpec> {
  return { norm: spec("float32", [config.dimModel]), token: spec("float32", [config.vocabSize, config.dimModel]) };
}

/** The position bias table: [buckets + segmentTypes², H]. */
export function biasTableSpec(config: ModelConfig): TensorSpec {
  return spec("float32", [config.positionBuckets + config.segmentTypes ** 2, config.heads]);
}

/** x Wᵀ / √fan_in: x `[…, I]`, W `[O, I]` give `[…, O]`. */
function linear(x: Tensor, weight: Tensor): Tensor {
  return matmul(x, weight, { transposeB: true, alpha: 1 / Math.sqrt(weight.shape[1] as number) });
}

/** Token rows / √D of ids, plus segment rows / √D: ids and segments `[B, T]` give `[B, T, D]`. */
export function embedText(
  config: ModelConfig,
  params: Pick<EmbeddingParams, "token" | "segment">,
  ids: Tensor,
  segments: Tensor,
): Tensor {
  return mul(add(gather(params.token, ids), gather(params.segment, segments)), 1 / Math.sqrt(config.dimModel));
}

/**
 * The residual stream's start: (prompt rows, then token rows, plus segment rows) / √D.
 *
 * promptIds `[B, P]`, tokenIds `[B, T−P]`, segments `[B, T]`, all int32, give `[B, T, D]`.
 */
export function embed(
  config: ModelConfig,
  params: EmbeddingParams,
  promptIds: Tensor,
  tokenIds: Tensor,
  segments: Tensor,
): Tensor {
  const rows = concat([gather(params.prompt, promptIds), gather(params.token, tokenIds)], 1);
  return mul(add(rows, gather(params.segment, segments)), 1 / Math.sqrt(config.dimModel));
}

/**
 * The stream's start of packed rows, where each of several samples has its own prompt: at every position the prompt row or
 * the token row, plus the segment row, / √D.
 *
 * ids `[B, T]` int32 (a row of the table that `isPrompt` `[B, T, 1]`, 0 or 1, chooses), segments `[B, T]` give `[B, T, D]`.
 */
export function embedPacked(
  config: ModelConfig,
  params: EmbeddingParams,
  {
    promptIds,
    tokenIds,
    isPrompt,
  }: { readonly promptIds: Tensor; readonly tokenIds: Tensor; readonly isPrompt: Tensor },
  segments: Tensor,
): Tensor {
  const prompts = mul(gather(params.prompt, promptIds), isPrompt);
  const tokens = mul(gather(params.token, tokenIds), sub(1, isPrompt));
  return mul(add(add(prompts, tokens), gather(params.segment, segments)), 1 / Math.sqrt(config.dimModel));
}

/**
 * What all layers add to their attention scores: the position bias of each pair, and −1e9 where the query does not see
 * the key.
 *
 * buckets `[B, Q, K]` int32 (rows of the table), blocked `[B, Q, K]` float32 give `[B, H, Q, K]`.
 */
export function scoreBias(table: Tensor, buckets: Tensor, blocked: Tensor): Tensor {
  const [B, Q, K] = blocked.shape as [Dim, Dim, Dim];
  const bias_BHQK = transpose(gather(table, buckets), [0, 3, 1, 2]);
  return add(bias_BHQK, reshape(blocked, [B, 1, Q, K]));
}

/** `[B, T, H·E]` as `[B, H, T, E]`. */
export function splitHeads(config: ModelConfig, x: Tensor): Tensor {
  const [B, T] = x.shape as [Dim, Dim];
  return transpose(reshape(x, [B, T, config.heads, config.dimHead]), [0, 2, 1, 3]);
}

/** `[B, H, T, E]` as `[B, T, H·E]`. */
export function mergeHeads(config: ModelConfig, x: Tensor): Tensor {
  const [B, , T] = x.shape as [Dim, Dim, Dim];
  return reshape(transpose(x, [0, 2, 1, 3]), [B, T, config.heads * config.dimHead]);
}

/** Queries, keys and values. */
export interface Projections {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
}

/** Queries, keys and values of a normalised input `[B, T, D]`, each `[B, T, H·E]`. */
export function projectQkv(params: Pick<AttentionParams, "q" | "k" | "v">, x: Tensor): Projections {
  return { q: linear(x, params.q), k: linear(x, params.k), v: linear(x, params.v) };
}

/**
 * softmax(q kᵀ / √E + bias) v, the heads merged: what attention sees, before it is projected.
 *
 * q `[B, H, Q, E]`, k and v `[B, H, K, E]`, bias `[B|1, H, Q, K]`, seen `[B, Q, 1]` (0 for queries that see nothing,
 * whose result is zero; else 1) give `[B, Q, H·E]`.
 */
export function mix(config: ModelConfig, { q, k, v }: Projections, bias: Tensor, seen: Tensor, drop?: Drop): Tensor {
  const scores_BHQK = add(matmul(q, k, { transposeB: true, alpha: 1 / Math.sqrt(config.dimHead) }), bias);
  const mixed_BHQE = drop ? matmul(drop(softmax(scores_BHQK), "weights"), v) : softmaxMix(scores_BHQK, v);
  return mul(mergeHeads(config, mixed_BHQE), seen);
}

/** The attention sub-layer without its residual: h `[B, T, D]` gives `[B, T, D]`. */
export function attention(
  config: ModelConfig,
  params: AttentionParams,
  h: Tensor,
  bias: Tensor,
  seen: Tensor,
  drop?: Drop,
): Tensor {
  const { q, k, v } = projectQkv(params, rmsNorm(h, params.norm, config.eps));
  const heads = { q: splitHeads(config, q), k: splitHeads(config, k), v: splitHeads(config, v) };
  return linear(mix(config, heads, bias, seen, drop), params.out);
}

/** W_out(gelu(W_gate x) ∘ W_value x) of the normalised input, without the residual: `[…, D]` gives `[…, D]`. */
export function feedForward(config: ModelConfig, params: FfnParams, h: Tensor, drop: Drop = keepAll): Tensor {
  const x = rmsNorm(h, params.norm, config.eps);
  return linear(drop(mul(gelu(linear(x, params.gate)), linear(x, params.value)), "inner"), params.out);
}

/** h + attention, then + feed-forward; an absent sub-layer adds nothing. */
export function block(
  config: ModelConfig,
  params: BlockParams,
  h: Tensor,
  bias: Tensor,
  seen: Tensor,
  drop?: Drop,
): Tensor {
  const kept = drop ?? keepAll;
  let attended = params.attention
    ? add(h, kept(attention(config, params.attention, h, bias, seen, drop), "attention"))
    : h;
  // Where a backward pass may start again from, if it does not from the block's input.
  if (params.attention && params.ffn) attended = boundary(attended);
  return params.ffn ? add(attended, kept(feedForward(config, params.ffn, attended, drop), "ffn")) : attended;
}

/** The normalised output and its scores against every token: h `[…, D]` gives hidden `[…, D]`, logits `[…, V]`. */
export function head(config: ModelConfig, params: HeadParams, h: Tensor): { hidden: Tensor; logits: Tensor } {
  const hidden = rmsNorm(h, params.norm, config.eps);
  return { hidden, logits: linear(hidden, params.token) };
}

/**
 * Scores of chosen positions: h_ND `[N, D]`, positions `[M]` int32 (distinct rows of h) give `[M, V]`.
 *
 * Only positions that bear a loss pass through the head: about half of them in training.
 */
export function chosenLogits(config: ModelConfig, params: HeadParams, h_ND: Tensor, positions: Tensor): Tensor {
  return head(config, params, gather(h_ND, positions, { distinct: true })).logits;
}

/** −ln p(target) of chosen positions, with targets `[M]` int32: `[M]`. */
export function tokenLosses(
  config: ModelConfig,
  params: HeadParams,
  h_ND: Tensor,
  positions: Tensor,
  targets: Tensor,
): Tensor {
  return crossEntropy(chosenLogits(config, params, h_ND, positions), targets);
}

/** A layer's keys and values `[B, H, S, E′]` (E′ of `cacheWidth`), filled up to each row's newest token. */
export type LayerCache<T = Tensor> = {
  readonly keys: T;
  readonly values: T;
};

/** What the attention of new tokens reads: the layer's cache, `last` `[B]` the newest's slots, bias `[B, H, Q, S]`. */
export interface DecodeContext {
  readonly cache: LayerCache;
  readonly last: Tensor;
  readonly bias: Tensor;
}

/** E′: a head's width in the cache, E rounded up to a multiple of 8 as the cached attention needs it; the rest is zero. */
export function cacheWidth(config: ModelConfig): number {
  return Math.ceil(config.dimHead / 8) * 8;
}

/** Zeros after each head's width: `[B, H, T, E]` as `[B, H, T, E′]`. */
function padHeads(config: ModelConfig, x: Tensor): Tensor {
  return pad(x, -1, 0, cacheWidth(config) - config.dimHead);
}

/** `[B, Q, H·E]` as `[B, Q, H·E′]`, each head followed by zeros. */
function widenHeads(config: ModelConfig, x: Tensor): Tensor {
  const { heads, dimHead } = config;
  const width = cacheWidth(config);
  if (width === dimHead) return x;
  const [B, T] = x.shape as [Dim, Dim];
  return reshape(pad(reshape(x, [B, T, heads, dimHead]), -1, 0, width - dimHead), [B, T, heads * width]);
}

/** `[B, Q, H·E′]` as `[B, Q, H·E]`. */
function narrowHeads(config: ModelConfig, x: Tensor): Tensor {
  const { heads, dimHead } = config;
  const [B, T] = x.shape as [Dim, Dim];
  const split = reshape(x, [B, T, heads, cacheWidth(config)]);
  return reshape(slice(split, -1, 0, dimHead), [B, T, heads * dimHead]);
}

/** What each position asks, offers and gives: h `[B, T, D]` gives queries, keys and values, each `[B, T, H·E]`. */
export function project(config: ModelConfig, params: Omit<AttentionParams, "out">, h: Tensor): Projections {
  return projectQkv(params, rmsNorm(h, params.norm, config.eps));
}

/**
 * Attention over a whole prompt: what each position sees, `[B, T, H·E]`, and keys and values for the cache,
 * `[B, H, T, E′]` each. bias and seen as in `mix`.
 */
export function mixPrompt(
  config: ModelConfig,
  { q, k, v }: Projections,
  bias: Tensor,
  seen: Tensor,
): { readonly mixed: Tensor; readonly cache: LayerCache } {
  const heads = { q: splitHeads(config, q), k: splitHeads(config, k), v: splitHeads(config, v) };
  return {
    mixed: mix(config, heads, bias, seen),
    cache: { keys: padHeads(config, heads.k), values: padHeads(config, heads.v) },
  };
}

/**
 * Attention of new tokens over the cache that they are added to: `[B, Q, H·E]`, and the caches. There is one token a row
 * or there are several of one row (see `cachedAttention`). Each token sees what came before it and itself: the cache is
 * never computed again, so generated text is causal although its tokens count as context.
 *
 * Over a cache of float16 all operands are rounded to it; sums are of float32.
 */
export function mixCached(
  config: ModelConfig,
  { q, k, v }: Projections,
  { cache, last, bias }: DecodeContext,
): { readonly mixed: Tensor; readonly cache: LayerCache } {
  const widened = { q: widenHeads(config, q), k: widenHeads(config, k), v: widenHeads(config, v) };
  const attributes = { heads: config.heads, scale: 1 / Math.sqrt(config.dimHead) };
  const halves = cache.keys.dtype === "float16";
  const fit = (x: Tensor) => (halves ? narrow(x) : x);
  const operands = { q: fit(widened.q), k: fit(widened.k), v: fit(widened.v), bias: fit(bias) };
  const { mixed, keys, values } = cachedAttention({ ...operands, ...cache, last }, attributes);
  return { mixed: narrowHeads(config, halves ? widen(mixed) : mixed), cache: { keys, values } };
}

/** A block's end: h + what attention saw, projected; then + feed-forward. An absent sub-layer adds nothing. */
export function finishBlock(
  config: ModelConfig,
  params: { readonly attention?: Pick<AttentionParams, "out">; readonly ffn?: FfnParams },
  h: Tensor,
  mixed?: Tensor,
): Tensor {
  const attended = params.attention && mixed ? add(h, linear(mixed, params.attention.out)) : h;
  return params.ffn ? add(attended, feedForward(config, params.ffn, attended)) : attended;
}
