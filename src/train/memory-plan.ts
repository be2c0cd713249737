/**
 * What a training run will need, before it runs: memory by part, and the arithmetic of a step.
 *
 * Nothing here is a formula of the model: the arenas and the step are built as training builds them, on a runtime that
 * only takes note. Tensors are therefore exact to the byte. What the real runtime and the process add is not, and two
 * numbers stand for it, fitted to what was measured (bench/memory.ts): the arena in which programs keep intermediate
 * values, and the process itself.
 */
import {
  createPlanningRuntime,
  intermediateBuffers,
  type PlannedProgram,
  peakBytes,
  productFlops,
} from "../graph/index.ts";
import type { ModelConfig } from "../model/config.ts";
import { trainingFlops } from "../model/flops.ts";
import { parameterCount, parameterTable } from "../model/parameters.ts";
import { ConfigError } from "../util/error.ts";
import { arenaLayout, createArena } from "./arena.ts";
import { groupOf, type OptimizerOptions } from "./optimizer-options.ts";
import { createTrainingStep, type TrainingStepOptions } from "./step.ts";

/**
 * The runtime's arena keeps what each program asked for and rarely fits one program's values into what another left: it
 * grows to so many times the sum of the programs' peaks.
 */
const arenaGrowth = 1.35;
/** Native code, compiled programs, the growth of JavaScript's heap and of the allocator's. */
const processBytes = 58 * 2 ** 20;
/** Rows with many targets come: where several samples make a batch, its share of targets stays below this. */
const usualTargetShare = 0.75;

export interface MemoryPlanOptions extends TrainingStepOptions {
  readonly optimizer?: Pick<OptimizerOptions, "groups" | "ema"> | undefined;
  /** Batches that an update is made of. */
  readonly accumulate?: number | undefined;
  /** Positions with a target in a batch; default three quarters of the text. */
  readonly targets?: number | undefined;
  /** Checkpoints are written beside training, from a copy. */
  readonly snapshot?: boolean | undefined;
  /** Held-out text is judged, every token a target. */
  readonly validation?: boolean | undefined;
  /** Tokens of a sample that the model writes during training. */
  readonly sampleTokens?: number | undefined;
}

export interface MemoryParts {
  readonly weights: number;
  readonly gradients: number;
  /** First and second moments. */
  readonly moments: number;
  /** Averaged weights. */
  readonly average: number;
  /** Kept from the forward for the backward pass: each block's input, and what the recompute policy keeps. */
  readonly activations: number;
  /** Ids, masks, the score bias and its gradient, the gradient's streams. */
  readonly batch: number;
  /** Intermediate values of programs, logits among them. */
  readonly workspace: number;
  /** The copy that a checkpoint is written from. */
  readonly snapshot: number;
  readonly keyValueCache: number;
  readonly process: number;
}

export interface MemoryPlan {
  readonly parameters: number;
  readonly bytes: MemoryParts;
  readonly totalBytes: number;
  /** Of the tensors alone: exact. */
  readonly tensorBytes: number;
  /** The program whose intermediate values take most. */
  readonly largestProgram: { readonly name: string; readonly bytes: number };
  readonly flops: {
    /** Of the model's products in a step: MFU counts these. */
    readonly model: number;
    /** Of all products that the programs execute, recomputed ones too. */
    readonly executed: number;
  };
}

/** Plans a run; allocates nothing of the model's size. */
export async function planMemory(config: ModelConfig, options: MemoryPlanOptions): Promise<MemoryPlan> {
  const { rows, columns, optimizer, accumulate = 1 } = options;
  const textPositions = rows * (columns - config.promptLength);
  const targets = options.targets ?? Math.ceil(usualTargetShare * textPositions);
  const runtime = createPlanningRuntime();
  const parameters = parameterTable(config);
  const groups = optimizer?.groups ?? [];
  const layout = arenaLayout(parameters, groups.length > 0 ? groupOf(groups, parameters) : undefined);
  const arenaBytes = layout.elements * 4;
  const arenas = [createArena(runtime, layout), createArena(runtime, layout)] as const;
  const step = await createTrainingStep(runtime, config, ...arenas, options);
  let activations = 0;
  let batch = 0;
  for (const { bytes, ports } of runtime.allocations.slice(arenas.length)) {
    const isKept = [...ports].some((name) => name.startsWith("residual.") || name === "h" || name === "next");
    if (isKept) activations += bytes;
    else batch += bytes;
  }
  const sizes = new Map([["M", targets]]);
  let workspace = 0;
  let executed = 0;
  let largestProgram = { name: "", bytes: 0 };
  for (const { graph, bindings } of runtime.programs) {
    const bytes = peakBytes(intermediateBuffers(graph, sizes));
    if (bytes > largestProgram.bytes) largestProgram = { name: graph.name, bytes };
    workspace += bytes * (accumulate > 1 && addsGradients(graph) ? 2 : 1);
    executed += productFlops(graph, sizes) * Math.max(1, bindings);
  }
  if (options.validation) {
    const judging = createPlanningRuntime();
    await createTrainingStep(judging, config, createArena(judging, layout), undefined, options);
    const alone = judging.programs.find(({ graph }) => graph.name === "loss.alone");
    if (alone) workspace += peakBytes(intermediateBuffers(alone.graph, new Map([["M", textPositions]])));
  }
  step.dispose();
  const kept = optimizer?.ema ? 1 : 0;
  const bytes: MemoryParts = {
    weights: arenaBytes,
    gradients: arenaBytes,
    moments: 2 * arenaBytes,
    average: kept * arenaBytes,
    activations,
    batch,
    workspace: Math.ceil(arenaGrowth * workspace),
    snapshot: options.snapshot ? (3 + kept) * arenaBytes : 0,
    keyValueCache: options.sampleTokens ? cacheBytes(config, options.sampleTokens) : 0,
    process: processBytes,
  };
  return {
    parameters: parameterCount(config),
    bytes,
    totalBytes: Object.values(bytes).reduce((sum, part) => sum + part, 0),
    tensorBytes: (4 + kept) * arenaBytes + activations + batch,
    largestProgram,
    flops: {
      model: accumulate * trainingFlops(config, { rows, columns, headPositions: targets }),
      executed: accumulate * executed,
    },
  };
}

/** Those programs are there twice where gradients are added up: one writes, one adds. */
function addsGradients({ name }: PlannedProgram["graph"]): boolean {
  return name === "loss" || name.endsWith(".backward");
}

/** Keys and values of every attention for a text after the prompt, in float32. */
function cacheBytes(config: ModelConfig, tokens: number): number {
  const absent = config.maskModules?.filter(([attention]) => attention).length ?? 0;
  const width = config.heads * config.dimHead;
  return 2 * (config.layers - absent) * width * (config.promptLength + tokens) * 4;
}

/** From this share of what is available on, training may be stopped by whatever else the machine does. */
export const tightShare = 0.9;

/**
 * Whether a plan fits into memory: "fits", or "tight" close to the limit.
 *
 * @throws ConfigError CPM_TRAIN_MEMORY where it does not fit
 */
export function checkMemory(
  { totalBytes, bytes }: Pick<MemoryPlan, "totalBytes" | "bytes">,
  availableBytes: number,
): "fits" | "tight" {
  if (totalBytes > availableBytes) {
    const gib = (value: number) => `${(value / 2 ** 30).toFixed(2)} GiB`;
    const [largest] = Object.entries(bytes).sort(([, a], [, b]) => b - a);
    throw new ConfigError("CPM_TRAIN_MEMORY", "the run needs more memory than there is", {
      where: `${largest![0]}: ${gib(largest![1])}`,
      got: gib(totalBytes),
      expected: `at most ${gib(availableBytes)}`,
      hint: "Fewer rows, shorter rows, --set recompute=block, or a smaller model; cpm plan shows each part.",
    });
  }
  return totalBytes > tightShare * availableBytes ? "tight" : "fits";
}
