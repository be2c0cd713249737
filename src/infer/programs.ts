/**
 * The programs of decoding, traced from the model: a whole prompt at once (*prefill*), then one token a row.
 *
 * Rows (B) and prompt length (T) are symbolic: each program is compiled once for all batches. The cache's length S is
 * fixed. A block is one program for all layers of its kind.
 */
import {
  addDims,
  type Dim,
  dim,
  type Graph,
  gather,
  optimize,
  reshape,
  rmsNorm,
  sizeOf,
  spec,
  subDims,
  trace,
} from "../graph/index.ts";
import type { LayerMask, ModelConfig } from "../model/config.ts";
import {
  biasTableSpec,
  blockSpecs,
  cacheWidth,
  decodeBlock,
  embed,
  embeddingSpecs,
  embedText,
  extendBlock,
  head,
  headSpecs,
  prefillBlock,
  scoreBias,
} from "../model/cpm-ant.ts";

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

/** Ids → stream `[B, T, D]`. */
export function prefillEmbedProgram(config: ModelConfig): Graph {
  const P = config.promptLength;
  return optimize(
    trace(
      "prefill-embed",
      ({ params, prompt, tokens, segment }) => ({ h: embed(config, params, prompt, tokens, segment) }),
      { params: embeddingSpecs(config), prompt: int(B, P), tokens: int(B, subDims(T, P)), segment: int(B, T) },
    ),
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

/** Stream → stream, and the layer's keys and values `cache.keys`, `cache.values` `[B, H, T, E′]`. */
export function prefillBlockProgram(config: ModelConfig, mask: LayerMask): Graph {
  return optimize(
    trace(
      programName("prefill-block", mask),
      ({ params, h, bias, seen }) => ({ ...prefillBlock(config, params, h, bias, seen) }),
      {
        params: blockSpecs(config, mask),
        h: float(B, T, config.dimModel),
        bias: float(B, config.heads, T, T),
        seen: float(B, T, 1),
      },
    ),
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

/** Stream → stream for one token a row; `updated.keys` and `updated.values` are the caches, in place. */
export function decodeBlockProgram(config: ModelConfig, mask: LayerMask, S: number): Graph {
  const { heads: H, dimModel: D } = config;
  const E = cacheWidth(config);
  const cache = { keys: float(B, H, S, E), values: float(B, H, S, E) };
  const stream = { params: blockSpecs(config, mask), h: float(B, 1, D) };
  const context = { cache, last: int(B), bias: float(B, H, 1, S) };
  const name = programName("decode-block", mask);
  if (mask[0]) {
    return optimize(trace(name, ({ params, h }) => ({ next: decodeBlock(config, params, h, undefined).next }), stream));
  }
  return optimize(
    trace(
      name,
      ({ params, h, ...read }) => {
        const { next, cache: updated } = decodeBlock(config, params, h, read);
        return { next, updated };
      },
      { ...stream, ...context },
    ),
  );
}

/** Stream → stream for Q new tokens a row, and their keys and values `added.keys`, `added.values` `[B, H, Q, E′]`. */
export function extendBlockProgram(config: ModelConfig, mask: LayerMask, S: number): Graph {
  const { heads: H, dimModel: D } = config;
  const E = cacheWidth(config);
  const stream = { params: blockSpecs(config, mask), h: float(B, Q, D) };
  const context = {
    cache: { keys: float(B, H, S, E), values: float(B, H, S, E) },
    bias: float(B, H, Q, addDims(Q, S)),
  };
  const name = programName("extend-block", mask);
  if (mask[0]) {
    return optimize(trace(name, ({ params, h }) => ({ next: extendBlock(config, params, h, undefined).next }), stream));
  }
  return optimize(
    trace(
      name,
      ({ params, h, ...read }) => {
        const { next, cache: added } = extendBlock(config, params, h, read);
        return { next, added };
      },
      { ...stream, ...context },
    ),
  );
}

/** Which sub-layers a block's program has, in its name: `prefill-blockA-`. */
function programName(stem: string, [attentionAbsent, ffnAbsent]: LayerMask): string {
  return `${stem}${attentionAbsent ? "-" : "A"}${ffnAbsent ? "-" : "F"}`;
}

/** Chosen positions of the stream (`[M]` rows of `[B·T, D]`) → logits `[M, V]`. */
export function logitsProgram(config: ModelConfig): Graph {
  return optimize(
    trace(
      "logits",
      ({ params, h, positions }) => {
        const h_ND = reshape(h, [sizeOf([B, T]), config.dimModel]);
        return { logits: head(config, params, gather(h_ND, positions)).logits };
      },
      { params: headSpecs(config), h: float(B, T, config.dimModel), positions: int(M) },
    ),
  );
}

/** Chosen positions of the stream (`[M]` rows of `[B·T, D]`) → the normalised output `[M, D]`. */
export function hiddenProgram(config: ModelConfig): Graph {
  return optimize(
    trace(
      "hidden",
      ({ norm, h, positions }) => {
        const h_ND = reshape(h, [sizeOf([B, T]), config.dimModel]);
        return { hidden: rmsNorm(gather(h_ND, positions), norm, config.eps) };
      },
      { norm: headSpecs(config).norm, h: float(B, T, config.dimModel), positions: int(M) },
    ),
  );
}
