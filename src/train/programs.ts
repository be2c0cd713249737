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
  dropUnusedInputs,
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
  scalar,
  spec,
  splitGradient,
  type Tensor,
  type TensorsOf,
  type Tree,
  trace,
  vjp,
  zerosLike,
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
  head,
  headSpecs,
  scoreBias,
} from "../model/cpm-ant.ts";
import { type Graft, grafted, graftedSpecs } from "../model/graft.ts";
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

/** What a program differentiates, and what was grafted onto it. */
export interface ProgramChoices {
  readonly graft?: Graft | undefined;
  /** Paths of the arguments whose gradients are wanted (`params.attention.q`, `delta.…`, `h`); default all. */
  readonly wanted?: readonly string[] | undefined;
  /** The loss program takes `weights` `[M]`, a factor of each target's loss. */
  readonly isWeighted?: boolean | undefined;
  /** Of these paths the gradients are added to what is there. */
  readonly added?: readonly string[] | undefined;
}

/** Whether a backward program's output `grad.PATH` is one of those that are added up. */
function addsTo({ added = [] }: ProgramChoices, output: string): boolean {
  return added.includes(output.slice("grad.".length));
}

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
  choices: ProgramChoices = {},
): SplitProgram {
  const { rows: B, columns: T, packed } = geometry;
  const { graft, wanted = ["params"] } = choices;
  const segment = spec("int32", [B, T]);
  const options = { wanted, recompute: "none" } as const;
  const packedSpecs = {
    params: embeddingSpecs(config),
    promptIds: spec("int32", [B, T]),
    tokenIds: spec("int32", [B, T]),
    isPrompt: spec("float32", [B, T, 1]),
    segment,
  };
  const plainSpecs = {
    params: embeddingSpecs(config),
    prompt: spec("int32", [B, config.promptLength]),
    tokens: spec("int32", [B, T - config.promptLength]),
    segment,
  };
  const runPacked = ({ params, promptIds, tokenIds, isPrompt, segment }: TensorsOf<typeof packedSpecs>) => ({
    h: embedPacked(config, params, { promptIds, tokenIds, isPrompt }, segment),
  });
  const runPlain = ({ params, prompt, tokens, segment }: TensorsOf<typeof plainSpecs>) => ({
    h: embed(config, params, prompt, tokens, segment),
  });
  const split = packed
    ? splitGradient("embed", inPrecision(half, grafted(runPacked, graft)), graftedSpecs(packedSpecs, graft), options)
    : splitGradient("embed", inPrecision(half, grafted(runPlain, graft)), graftedSpecs(plainSpecs, graft), options);
  const summed = adding(split, (name) => adds || name === "grad.params.token" || addsTo(choices, name));
  return { ...split, backward: optimize(summed.backward) };
}

/** Buckets and mask → what every layer adds to its scores. */
export function biasProgram(
  config: ModelConfig,
  { rows: B, columns: T }: Geometry,
  adds = false,
  { wanted = ["table"] }: ProgramChoices = {},
): SplitProgram {
  const split = splitGradient(
    "bias",
    ({ table, buckets, blocked }) => ({ bias: scoreBias(table, buckets, blocked) }),
    { table: biasTableSpec(config), buckets: spec("int32", [B, T, T]), blocked: spec("float32", [B, T, T]) },
    { wanted, recompute: "none" },
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
  choices: ProgramChoices = {},
): SplitProgram {
  const { graft, wanted = ["params", "h", "bias"] } = choices;
  const { name, run, specs } = blockFunction(config, mask, geometry, arithmetic, graft);
  const split = splitGradient(name, run, specs, { wanted, recompute });
  const isSum = (output: string) => output === "grad.bias" || addsTo(choices, output) || (adds && output !== "grad.h");
  return adding(graft ? { ...split, forward: dropUnusedInputs(split.forward) } : split, isSum);
}

/** Stream → stream through one block, with nothing kept for a way back and nothing dropped. */
export function forwardBlockProgram(
  config: ModelConfig,
  mask: LayerMask,
  geometry: Geometry,
  arithmetic: Arithmetic,
  graft?: Graft,
): Graph {
  const { name, run, specs } = blockFunction(config, mask, geometry, { ...arithmetic, dropRate: 0 }, graft);
  const graph = optimize(trace(`${name}.alone`, run, specs));
  return graft ? dropUnusedInputs(graph) : graph;
}

function blockFunction(
  config: ModelConfig,
  mask: LayerMask,
  geometry: Geometry,
  { dropRate, half }: Arithmetic,
  graft: Graft | undefined,
) {
  const { rows: B, columns: T } = geometry;
  const place = [config, mask, geometry] as const;
  const specs = {
    params: blockSpecs(config, mask),
    h: streamSpec(config, geometry),
    bias: biasSpec(config, geometry),
    seen: spec("float32", [B, T, 1]),
    ...(dropRate > 0 && { words: spec("int32", [dropoutWords(...place)]) }),
  };
  const next = ({ params, h, bias, seen, words }: TensorsOf<typeof specs>) => ({
    next: block(config, params, h, bias, seen, words && dropBy(words, dropRate, ...place)),
  });
  return {
    name: `block${mask[0] ? "-" : "A"}${mask[1] ? "-" : "F"}`,
    specs: graftedSpecs(specs, graft),
    run: inPrecision(half, grafted(next, graft), ({ bias }) => [bias]),
  };
}

/**
 * Stream → each loss of M chosen positions, Σ scale · loss, and the wanted gradients (default: stream and parameters) of
 * that and of Σ scale · zLoss · (ln Z)² in the same program: what lies between is large (M × V) and lives only inside. With
 * `adds` the parameters' gradients are added to what is there.
 */
export function lossProgram(
  config: ModelConfig,
  geometry: Geometry,
  { half, zLoss }: Arithmetic = plainArithmetic,
  adds = false,
  choices: ProgramChoices = {},
): Graph {
  const { graft, wanted = ["params", "h"] } = choices;
  const specs = graftedSpecs(lossSpecs(config, geometry, choices.isWeighted), graft);
  const logitsOf = chosenLogitsOf(config, geometry, half, graft);
  const isWanted = (path: string) => wanted.some((prefix) => path === prefix || path.startsWith(`${prefix}.`));
  const graph = trace(
    "loss",
    (args): Record<string, Tensor> => {
      const { targets, scale, weights } = args;
      const logits = logitsOf(args);
      const losses = crossEntropy(logits, targets);
      const loss = mul(reduceSum(weights ? mul(losses, weights) : losses), scale);
      let trained = loss;
      if (zLoss !== 0) {
        const logZ = logSumExp(logits);
        const own = add(losses, mul(mul(logZ, logZ), zLoss));
        trained = mul(reduceSum(weights ? mul(own, weights) : own), scale);
      }
      const chosen = named(args as Tree<Tensor>).filter(([path]) => isWanted(path));
      const tensors = chosen.map(([, tensor]) => tensor);
      const gradients = vjp([trained], [scalar(1, trained.dtype)], tensors);
      const found = chosen.map(([path], i) => [`grad.${path}`, gradients[i] ?? zerosLike(tensors[i]!)] as const);
      return { loss, losses, ...Object.fromEntries(found) };
    },
    specs,
  );
  const isSum = (name: string) => addsTo(choices, name) || (adds && name.startsWith("grad.") && name !== "grad.h");
  const summed = optimize(accumulateOutputs(graph, isSum));
  return graft ? dropUnusedInputs(summed) : summed;
}

/** Stream → losses of M chosen positions and Σ scale · loss, without gradients. */
export function forwardLossProgram(
  config: ModelConfig,
  geometry: Geometry,
  { half }: Arithmetic = plainArithmetic,
  graft?: Graft,
): Graph {
  const logitsOf = chosenLogitsOf(config, geometry, half, graft);
  return optimize(
    trace(
      "loss.alone",
      (args) => {
        const losses = crossEntropy(logitsOf(args), args.targets);
        return { loss: mul(reduceSum(losses), args.scale), losses };
      },
      graftedSpecs(lossSpecs(config, geometry), graft),
    ),
  );
}

/** The scores in the arithmetic's precision; what is made of them is in float32. */
function chosenLogitsOf(
  config: ModelConfig,
  { rows, columns }: Geometry,
  half: boolean,
  graft: Graft | undefined,
): (args: TensorsOf<ReturnType<typeof lossSpecs>>) => Tensor {
  const run = ({ params, h, positions }: TensorsOf<ReturnType<typeof lossSpecs>>) => ({
    logits: chosenLogits(config, params, reshape(h, [rows * columns, config.dimModel]), positions),
  });
  const chosen = inPrecision(half, grafted(run, graft));
  // `scale` and the targets are no part of it: they stay in float32.
  return ({ scale: _scale, targets: _targets, weights: _weights, ...args }) =>
    chosen(args as TensorsOf<ReturnType<typeof lossSpecs>>).logits;
}

function lossSpecs(config: ModelConfig, geometry: Geometry, isWeighted = false) {
  const M = dim("M");
  return {
    params: headSpecs(config),
    h: streamSpec(config, geometry),
    positions: spec("int32", [M]),
    targets: spec("int32", [M]),
    scale: spec("float32", []),
    ...(isWeighted && { weights: spec("float32", [M]) }),
  };
}

/** Stream → normalised output and scores at every position. */
export function outputProgram(config: ModelConfig, geometry: Geometry, graft?: Graft): Graph {
  const specs = { params: headSpecs(config), h: streamSpec(config, geometry) };
  const run = ({ params, h }: TensorsOf<typeof specs>) => head(config, params, h);
  return optimize(trace("output", grafted(run, graft), graftedSpecs(specs, graft)));
}
