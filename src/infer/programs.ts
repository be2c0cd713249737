/**
 * The programs of decoding, traced from the model: a whole prompt at once (*prefill*), then one token a row
 * or several.
 *
 * Rows (B) and columns (T, Q new ones) are symbolic: each program is compiled once for all batches. The cache's length S is
 * fixed. A block is three programs: its beginning and its end hold weights and serve prompts and tokens alike, so weights
 * are packed once; attention lies between them and holds none.
 */
import {
  type Dim,
  dim,
  dropUnusedInputs,
  type Graph,
  gather,
  optimize,
  reshape,
  rmsNorm,
  sizeOf,
  spec,
  subDims,
  type Tensor,
  type TensorsOf,
  type Tree,
  trace,
} from "../graph/index.ts";
import { type LayerMask, layerMask, type ModelConfig } from "../model/config.ts";
import {
  biasTableSpec,
  blockSpecs,
  cacheWidth,
  embed,
  embeddingSpecs,
  embedText,
  finishBlock,
  head,
  headSpecs,
  type LayerCache,
  mixCached,
  mixPrompt,
  project,
  scoreBias,
} from "../model/cpm-ant.ts";
import { type Graft, grafted, graftedSpecs } from "../model/graft.ts";

const B = dim("B");
const T = dim("T");
const Q = dim("Q");
const M = dim("M");

function float(...shape: Dim[]) {
  return spec("float32", shape);
}

function int(...shape: Dim[]) {
  return spec("int32", shape);
}

/** A traced program with its graft, which may leave inputs without use or bring some that this program has no use for. */
export function traced<Specs extends object>(
  name: string,
  run: (args: TensorsOf<Specs>) => Tree<Tensor>,
  specs: Specs,
  graft: Graft | undefined,
): Graph {
  if (graft === undefined) return optimize(trace(name, run, specs));
  const changed = grafted(run as (args: object) => object, graft) as typeof run;
  return dropUnusedInputs(optimize(trace(name, changed, graftedSpecs(specs, graft))));
}

/** Ids → stream `[B, T, D]`. */
export function prefillEmbedProgram(config: ModelConfig, graft?: Graft): Graph {
  const P = config.promptLength;
  return traced(
    "prefill-embed",
    ({ params, prompt, tokens, segment }) => ({ h: embed(config, params, prompt, tokens, segment) }),
    { params: embeddingSpecs(config), prompt: int(B, P), tokens: int(B, subDims(T, P)), segment: int(B, T) },
    graft,
  );
}

/** Buckets and mask → what every layer adds to its scores, `[B, H, T, T]`. */
export function prefillBiasProgram(config: ModelConfig): Graph {
  return optimize(
    trace("prefill-bias", ({ table, buckets, blocked }) => ({ bias: scoreBias(table, buckets, blocked) }), {
      table: biasTableSpec(config),
      buckets: int(B, T, T),
      blocked: float(B, T, T),
    }),
  );
}

/** New ids of each row → stream `[B, Q, D]`. */
export function decodeEmbedProgram(config: ModelConfig): Graph {
  const { token, segment } = embeddingSpecs(config);
  return optimize(
    trace("decode-embed", ({ params, tokens, segments }) => ({ h: embedText(config, params, tokens, segments) }), {
      params: { token, segment },
      tokens: int(B, Q),
      segments: int(B, Q),
    }),
  );
}

/** Stream → queries, keys and values `[B, T, H·E]`: a block's beginning, where it has attention. */
export function projectProgram(config: ModelConfig, graft?: Graft): Graph {
  const { norm, q, k, v } = blockSpecs(config, [false, true]).attention!;
  return traced(
    "project",
    ({ params, h }) => ({ ...project(config, params.attention, h) }),
    { params: { attention: { norm, q, k, v } }, h: float(B, T, config.dimModel) },
    graft,
  );
}

function projections(config: ModelConfig, columns: Dim) {
  const each = () => float(B, columns, config.heads * config.dimHead);
  return { q: each(), k: each(), v: each() };
}

/** What keys and values are stored in. */
export const cacheTypes = ["float32", "float16", "int8"] as const;
export type CacheType = (typeof cacheTypes)[number];
/** Those that programs know. */
export type TensorCacheType = Exclude<CacheType, "int8">;

function cacheSpecs(config: ModelConfig, S: number, type: TensorCacheType) {
  const each = () => spec(type, [B, config.heads, S, cacheWidth(config)]);
  return { keys: each(), values: each() };
}

/** Queries, keys and values of a whole prompt → what they see, and `cache.keys`, `cache.values` `[B, H, T, E′]`. */
export function promptAttentionProgram(config: ModelConfig, graft?: Graft): Graph {
  return traced(
    "prompt-attention",
    ({ bias, seen, q, k, v }) => ({ ...mixPrompt(config, { q, k, v }, bias, seen) }),
    { ...projections(config, T), bias: float(B, config.heads, T, T), seen: float(B, T, 1) },
    graft,
  );
}

/**
 * The same of one token a row, or of several of one row, over S slots; `updated.keys` and `updated.values` are the caches,
 * in place.
 */
export function cachedAttentionProgram(config: ModelConfig, S: number, type: TensorCacheType = "float32"): Graph {
  return optimize(
    trace(
      "cached-attention",
      ({ last, bias, cache, ...projected }) => {
        const { mixed, cache: updated } = mixCached(config, projected, { last, bias, cache });
        return { mixed, updated };
      },
      {
        ...projections(config, Q),
        cache: cacheSpecs(config, S, type),
        last: int(B),
        bias: float(B, config.heads, Q, S),
      },
    ),
  );
}

/** Stream and what attention saw → stream: a block's end. */
export function finishProgram(config: ModelConfig, mask: LayerMask, graft?: Graft): Graph {
  const { attention, ffn } = blockSpecs(config, mask);
  const h = float(B, T, config.dimModel);
  const name = `finish${attention ? "A" : "-"}${ffn ? "F" : "-"}`;
  if (!attention) {
    const specs = { params: { ffn: ffn! }, h };
    return traced(name, ({ params, h }) => ({ next: finishBlock(config, params, h) }), specs, graft);
  }
  return traced(
    name,
    ({ params, h, mixed }) => ({ next: finishBlock(config, params, h, mixed) }),
    {
      params: { attention: { out: attention.out }, ...(ffn && { ffn }) },
      h,
      mixed: float(B, T, config.heads * config.dimHead),
    },
    graft,
  );
}

/**
 * A whole step in one program: new ids of each row, or several of one row → logits `[M, V]` of chosen positions, and the
 * caches of the layers with attention, by layer, in place. For models so small that starting programs takes a good part of
 * a step.
 */
export function decodeStepProgram(config: ModelConfig, S: number, type: TensorCacheType = "float32"): Graph {
  const { token, segment } = embeddingSpecs(config);
  const layers = Array.from({ length: config.layers }, (_, layer) => layer);
  const ofLayers = <T>(make: (mask: LayerMask) => T | undefined): Record<string, T> =>
    Object.fromEntries(
      layers.flatMap((layer) => {
        const made = make(layerMask(config, layer));
        return made === undefined ? [] : [[`layer${layer}`, made]];
      }),
    );
  return optimize(
    trace(
      "decode-step",
      ({ params, tokens, segments, positions, last, bias, caches }) => {
        // Positions in one axis: products take and give them so.
        const N = sizeOf([B, Q]);
        const flat = (x: Tensor, ...width: number[]) => reshape(x, [N, ...width]);
        let h = embedText(config, params, flat(tokens), flat(segments));
        const HE = config.heads * config.dimHead;
        const inRows = (x: Tensor) => reshape(x, [B, Q, HE]);
        const updated: Record<string, LayerCache> = {};
        for (const [name, block] of Object.entries(params.blocks)) {
          let mixed: Tensor | undefined;
          if (block.attention) {
            const context = { last, bias, cache: caches[name]! };
            const { q, k, v } = project(config, block.attention, h);
            const seen = mixCached(config, { q: inRows(q), k: inRows(k), v: inRows(v) }, context);
            mixed = flat(seen.mixed, HE);
            updated[name] = seen.cache;
          }
          h = finishBlock(config, block, h, mixed);
        }
        return { logits: head(config, params, gather(h, positions)).logits, updated };
      },
      {
        params: {
          token,
          segment,
          norm: headSpecs(config).norm,
          blocks: ofLayers((mask) => (mask.every(Boolean) ? undefined : blockSpecs(config, mask))),
        },
        tokens: int(B, Q),
        segments: int(B, Q),
        positions: int(M),
        last: int(B),
        bias: float(B, config.heads, Q, S),
        caches: ofLayers(([attentionAbsent]) => (attentionAbsent ? undefined : cacheSpecs(config, S, type))),
      },
    ),
  );
}

/** Chosen positions of the stream (`[M]` rows of `[B·T, D]`) → logits `[M, V]`. */
export function logitsProgram(config: ModelConfig, graft?: Graft): Graph {
  return traced(
    "logits",
    ({ params, h, positions }) => {
      const h_ND = reshape(h, [sizeOf([B, T]), config.dimModel]);
      return { logits: head(config, params, gather(h_ND, positions)).logits };
    },
    { params: headSpecs(config), h: float(B, T, config.dimModel), positions: int(M) },
    graft,
  );
}

/** Chosen positions of the stream (`[M]` rows of `[B·T, D]`) → the normalised output `[M, D]`. */
export function hiddenProgram(config: ModelConfig, graft?: Graft): Graph {
  return traced(
    "hidden",
    ({ params, h, positions }) => {
      const h_ND = reshape(h, [sizeOf([B, T]), config.dimModel]);
      return { hidden: rmsNorm(gather(h_ND, positions), params.norm, config.eps) };
    },
    { params: { norm: headSpecs(config).norm }, h: float(B, T, config.dimModel), positions: int(M) },
    graft,
  );
}
