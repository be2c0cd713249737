/**
 * The programs of a training step for one batch size and length, traced from the model and compiled.
 *
 * A block is one program, whatever the number of layers: it runs with each layer's weights in turn. What is compiled
 * does not grow with depth, and what must be resident at once is one layer's inside.
 */
import {
  accumulateOutputs,
  dim,
  type Graph,
  mul,
  optimize,
  type RecomputePolicy,
  reduceSum,
  reshape,
  type SplitProgram,
  spec,
  splitGradient,
  trace,
  valueAndGrad,
} from "../graph/index.ts";
import type { LayerMask, ModelConfig } from "../model/config.ts";
import {
  biasTableSpec,
  block,
  blockSpecs,
  embed,
  embeddingSpecs,
  embedPacked,
  head,
  headSpecs,
  scoreBias,
  tokenLosses,
} from "../model/cpm-ant.ts";

/** B rows of T columns, the prompt included. */
export interface Geometry {
  readonly rows: number;
  readonly columns: number;
  /** Rows may hold several samples, each with its own prompt. */
  readonly packed?: boolean | undefined;
}

/** The residual stream of a batch: [B, T, D]. */
export function streamSpec(config: ModelConfig, { rows, columns }: Geometry) {
  return spec("float32", [rows, columns, config.dimModel]);
}

function biasSpec(config: ModelConfig, { rows, columns }: Geometry) {
  return spec("float32", [rows, config.heads, columns, columns]);
}

/** Ids → stream. The token table's gradient is added to what the head left there. */
export function embedProgram(config: ModelConfig, geometry: Geometry): SplitProgram {
  const { rows: B, columns: T, packed } = geometry;
  const segment = spec("int32", [B, T]);
  const options = { wanted: ["params"], recompute: "none" } as const;
  const split = packed
    ? splitGradient(
        "embed",
        ({ params, promptIds, tokenIds, isPrompt, segment }) => ({
          h: embedPacked(config, params, { promptIds, tokenIds, isPrompt }, segment),
        }),
        {
          params: embeddingSpecs(config),
          promptIds: spec("int32", [B, T]),
          tokenIds: spec("int32", [B, T]),
          isPrompt: spec("float32", [B, T, 1]),
          segment,
        },
        options,
      )
    : splitGradient(
        "embed",
        ({ params, prompt, tokens, segment }) => ({ h: embed(config, params, prompt, tokens, segment) }),
        {
          params: embeddingSpecs(config),
          prompt: spec("int32", [B, config.promptLength]),
          tokens: spec("int32", [B, T - config.promptLength]),
          segment,
        },
        options,
      );
  const summed = accumulateOutputs(split.backward, (name) => name === "grad.params.token");
  return { ...split, backward: optimize(summed) };
}

/** Buckets and mask → what every layer adds to its scores. */
export function biasProgram(config: ModelConfig, { rows: B, columns: T }: Geometry): SplitProgram {
  return splitGradient(
    "bias",
    ({ table, buckets, blocked }) => ({ bias: scoreBias(table, buckets, blocked) }),
    { table: biasTableSpec(config), buckets: spec("int32", [B, T, T]), blocked: spec("float32", [B, T, T]) },
    { wanted: ["table"], recompute: "none" },
  );
}

/** Stream → stream through one block. The bias's gradient is added to that of the layers above. */
export function blockProgram(
  config: ModelConfig,
  mask: LayerMask,
  geometry: Geometry,
  recompute: RecomputePolicy,
): SplitProgram {
  const { rows: B, columns: T } = geometry;
  const split = splitGradient(
    `block${mask[0] ? "-" : "A"}${mask[1] ? "-" : "F"}`,
    ({ params, h, bias, seen }) => ({ next: block(config, params, h, bias, seen) }),
    {
      params: blockSpecs(config, mask),
      h: streamSpec(config, geometry),
      bias: biasSpec(config, geometry),
      seen: spec("float32", [B, T, 1]),
    },
    { wanted: ["params", "h", "bias"], recompute },
  );
  return { ...split, backward: accumulateOutputs(split.backward, (name) => name === "grad.bias") };
}

/**
 * Stream → Σ scale · loss over M chosen positions, with the gradients of stream and parameters in the same program:
 * what lies between is large (M × V) and lives only inside.
 */
export function lossProgram(config: ModelConfig, geometry: Geometry): Graph {
  const M = dim("M");
  return optimize(
    trace(
      "loss",
      ({ params, h, positions, targets, scale }) => {
        const { value, grad } = valueAndGrad((wanted: { params: typeof params; h: typeof h }) => {
          const h_ND = reshape(wanted.h, [geometry.rows * geometry.columns, config.dimModel]);
          return mul(reduceSum(tokenLosses(config, wanted.params, h_ND, positions, targets)), scale);
        })({ params, h });
        return { loss: value, grad };
      },
      {
        params: headSpecs(config),
        h: streamSpec(config, geometry),
        positions: spec("int32", [M]),
        targets: spec("int32", [M]),
        scale: spec("float32", []),
      },
    ),
  );
}

/** Stream → normalised output and scores at every position. */
export function outputProgram(config: ModelConfig, geometry: Geometry): Graph {
  return optimize(
    trace("output", ({ params, h }) => head(config, params, h), {
      params: headSpecs(config),
      h: streamSpec(config, geometry),
    }),
  );
}
