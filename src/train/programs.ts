/**
 * The programs of a training step for one batch size and length, traced from the model and compiled.
 *
 * A block is one program, whatever the number of layers: it runs with each layer's weights in turn. What is compiled
 * does not grow with depth, and what must be resident at once is one layer's inside.
 */
import {
  accumulateOutputs,
  add,
  crossEntropy,
  dim,
  type Graph,
  halfPrecision,
  logSumExp,
  mul,
  named,
  optimize,
  type RecomputePolicy,
  reduceSum,
  reshape,
  type SplitProgram,
  spec,
  splitGradient,
  type Tensor,
  type TensorsOf,
  type Tree,
  trace,
  valueAndGrad,
} from "../graph/index.ts";
import type { LayerMask, ModelConfig } from "../model/config.ts";
import {
  biasTableSpec,
  block,
  blockSpecs,
  chosenLogits,
  embed,
  embeddingSpecs,
  embedPacked,
  type HeadParams,
  head,
  headSpecs,
  scoreBias,
} from "../model/cpm-ant.ts";
import { dropBy, dropoutWords } from "./dropout.ts";

/** B rows of T columns, the prompt included. */
export interface Geometry {
  readonly rows: number;
  readonly columns: number;
  /** Rows may hold several samples, each with its own prompt. */
  readonly packed?: boolean | undefined;
}

/** How a step computes, where it is not plain float32. */
export interface Arithmetic {
  /** The share of values dropped in blocks. */
  readonly dropRate: number;
  /** Values and gradients are rounded to float16 at every operator; weights and their gradients are given in float32. */
  readonly half: boolean;
  /** Weight of (ln Z)² beside each target's loss. */
  readonly zLoss: number;
}

export const plainArithmetic: Arithmetic = { dropRate: 0, half: false, zLoss: 0 };

/** A function as 16-bit arithmetic computes it, where that is wanted; `blocking` are inputs with scores of −1e9. */
function inPrecision<A extends object, R extends Record<string, Tensor>>(
  half: boolean,
  fn: (args: A) => R,
  blocking: (args: A) => readonly Tensor[] = () => [],
): (args: A) => R {
  if (!half) return fn;
  return (args) => {
    const results = Object.entries(fn(args));
    const inputs = named(args as Tree<Tensor>).map(([, tensor]) => tensor);
    const outputs = halfPrecision(
      results.map(([, tensor]) => tensor),
      inputs,
      new Set(blocking(args)),
    );
    return Object.fromEntries(results.map(([name], i) => [name, outputs[i]!])) as R;
  };
}

/** A backward program whose gradients of some arguments are added to what is there. */
function adding(split: SplitProgram, chosen: (name: string) => boolean): SplitProgram {
  return { ...split, backward: accumulateOutputs(split.backward, chosen) };
}

/** The residual stream of a batch: [B, T, D]. */
export function streamSpec(config: ModelConfig, { rows, columns }: Geometry) {
  return spec("float32", [rows, columns, config.dimModel]);
}

function biasSpec(config: ModelConfig, { rows, columns }: Geometry) {
  return spec("float32", [rows, config.heads, columns, columns]);
}

/** Ids → stream. The token table's gradient is added to what the head left there; with `adds` all are. */
export function embedProgram(
  config: ModelConfig,
  geometry: Geometry,
  { half }: Arithmetic = plainArithmetic,
  adds = false,
): SplitProgram {
  const { rows: B, columns: T, packed } = geometry;
  const segment = spec("int32", [B, T]);
  const options = { wanted: ["params"], recompute: "none" } as const;
  const split = packed
    ? splitGradient(
        "embed",
        inPrecision(half, ({ params, promptIds, tokenIds, isPrompt, segment }) => ({
          h: embedPacked(config, params, { promptIds, tokenIds, isPrompt }, segment),
        })),
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
        inPrecision(half, ({ params, prompt, tokens, segment }) => ({
          h: embed(config, params, prompt, tokens, segment),
        })),
        {
          params: embeddingSpecs(config),
          prompt: spec("int32", [B, config.promptLength]),
          tokens: spec("int32", [B, T - config.promptLength]),
          segment,
        },
        options,
      );
  const summed = adding(split, (name) => adds || name === "grad.params.token");
  return { ...split, backward: optimize(summed.backward) };
}

/** Buckets and mask → what every layer adds to its scores. */
export function biasProgram(config: ModelConfig, { rows: B, columns: T }: Geometry, adds = false): SplitProgram {
  const split = splitGradient(
    "bias",
    ({ table, buckets, blocked }) => ({ bias: scoreBias(table, buckets, blocked) }),
    { table: biasTableSpec(config), buckets: spec("int32", [B, T, T]), blocked: spec("float32", [B, T, T]) },
    { wanted: ["table"], recompute: "none" },
  );
  return adds ? adding(split, () => true) : split;
}

/**
 * Stream → stream through one block. The bias's gradient is added to that of the layers above; with `adds` the parameters'
 * are added to what is there.
 */
export function blockProgram(
  config: ModelConfig,
  mask: LayerMask,
  geometry: Geometry,
  recompute: RecomputePolicy,
  arithmetic: Arithmetic = plainArithmetic,
  adds = false,
): SplitProgram {
  const { name, run, specs } = blockFunction(config, mask, geometry, arithmetic);
  const split = splitGradient(name, run, specs, { wanted: ["params", "h", "bias"], recompute });
  return adding(split, (output) => output === "grad.bias" || (adds && output !== "grad.h"));
}

/** Stream → stream through one block, with nothing kept for a way back and nothing dropped. */
export function forwardBlockProgram(
  config: ModelConfig,
  mask: LayerMask,
  geometry: Geometry,
  arithmetic: Arithmetic,
): Graph {
  const { name, run, specs } = blockFunction(config, mask, geometry, { ...arithmetic, dropRate: 0 });
  return optimize(trace(`${name}.alone`, run, specs));
}

function blockFunction(config: ModelConfig, mask: LayerMask, geometry: Geometry, { dropRate, half }: Arithmetic) {
  const { rows: B, columns: T } = geometry;
  const place = [config, mask, geometry] as const;
  const specs = {
    params: blockSpecs(config, mask),
    h: streamSpec(config, geometry),
    bias: biasSpec(config, geometry),
    seen: spec("float32", [B, T, 1]),
    ...(dropRate > 0 && { words: spec("int32", [dropoutWords(...place)]) }),
  };
  return {
    name: `block${mask[0] ? "-" : "A"}${mask[1] ? "-" : "F"}`,
    specs,
    run: inPrecision(
      half,
      ({ params, h, bias, seen, words }: TensorsOf<typeof specs>) => ({
        next: block(config, params, h, bias, seen, words && dropBy(words, dropRate, ...place)),
      }),
      ({ bias }) => [bias],
    ),
  };
}

/**
 * Stream → each loss of M chosen positions, Σ scale · loss, and the gradients of stream and parameters of that and of
 * Σ scale · zLoss · (ln Z)² in the same program: what lies between is large (M × V) and lives only inside. With `adds` the
 * parameters' gradients are added to what is there.
 */
export function lossProgram(
  config: ModelConfig,
  geometry: Geometry,
  { half, zLoss }: Arithmetic = plainArithmetic,
  adds = false,
): Graph {
  const logitsOf = chosenLogitsOf(config, geometry, half);
  const graph = trace(
    "loss",
    ({ params, h, positions, targets, scale }) => {
      let losses: Tensor | undefined;
      const { value, grad } = valueAndGrad((wanted: { params: typeof params; h: typeof h }) => {
        const logits = logitsOf(wanted, positions);
        losses = crossEntropy(logits, targets);
        if (zLoss === 0) return mul(reduceSum(losses), scale);
        const logZ = logSumExp(logits);
        return mul(reduceSum(add(losses, mul(mul(logZ, logZ), zLoss))), scale);
      })({ params, h });
      const loss = zLoss === 0 ? value : mul(reduceSum(losses!), scale);
      return { loss, losses: losses!, grad };
    },
    lossSpecs(config, geometry),
  );
  return optimize(adds ? accumulateOutputs(graph, (name) => name.startsWith("grad.params")) : graph);
}

/** Stream → losses of M chosen positions and Σ scale · loss, without gradients. */
export function forwardLossProgram(
  config: ModelConfig,
  geometry: Geometry,
  { half }: Arithmetic = plainArithmetic,
): Graph {
  const logitsOf = chosenLogitsOf(config, geometry, half);
  return optimize(
    trace(
      "loss.alone",
      ({ params, h, positions, targets, scale }) => {
        const losses = crossEntropy(logitsOf({ params, h }, positions), targets);
        return { loss: mul(reduceSum(losses), scale), losses };
      },
      lossSpecs(config, geometry),
    ),
  );
}

/** The scores in the arithmetic's precision; what is made of them is in float32. */
function chosenLogitsOf(config: ModelConfig, { rows, columns }: Geometry, half: boolean) {
  const run = inPrecision(half, ({ params, h, positions }: { params: HeadParams; h: Tensor; positions: Tensor }) => ({
    logits: chosenLogits(config, params, reshape(h, [rows * columns, config.dimModel]), positions),
  }));
  return (wanted: { params: HeadParams; h: Tensor }, positions: Tensor) => run({ ...wanted, positions }).logits;
}

function lossSpecs(config: ModelConfig, geometry: Geometry) {
  const M = dim("M");
  return {
    params: headSpecs(config),
    h: streamSpec(config, geometry),
    positions: spec("int32", [M]),
    targets: spec("int32", [M]),
    scale: spec("float32", []),
  };
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
