/**
 * What a training run will need, before it runs: memory by part, and the arithmetic of a step.
 *
 * Nothing here is a formula of the model: the arenas and the step are built as training builds them, on a runtime that
 * only takes note. Tensors are therefore exact to the byte. What the real runtime and the process add is not, and two
 * numbers stand for it, fitted to what was measured (bench/memory.ts): the arena in which programs keep intermediate
 * values, and the process itself.
 */

import type { Delta } from "../delta/index.ts";
import {
  createPlanningRuntime,
  intermediateBuffers,
  type PlannedProgram,
  peakBytes,
  productFlops,
} from "../graph/index.ts";
import { hasPacked, isPacked } from "../infer/weight-ports.ts";
import type { ModelConfig } from "../model/config.ts";
import { trainingFlops } from "../model/flops.ts";
import { parameterCount, parameterTable } from "../model/parameters.ts";
import type { DType } from "../runtime/dtype.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { ConfigError } from "../util/error.ts";
import { type Arena, arenaLayout, createArena } from "./arena.ts";
import { groupOf, type OptimizerOptions } from "./optimizer-options.ts";
import { createTrainingStep, type TrainingStepOptions } from "./step.ts";

/**
 * The runtime's arena keeps what each program asked for and rarely fits one program's values into what another left: it
 * grows to so many times the sum of the programs' peaks.
 */
const arenaGrowth = 1.35;
/** Native code, compiled programs, the growth of JavaScript's heap and of the allocator's. */
const processBytes = 58 * 2 ** 20;
/** And what it takes more where weights are packed: other kernels, the copies that the base's hash is read from. */
const packedProcessBytes = 24 * 2 ** 20;
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
  /** A delta is trained, and not the model. */
  readonly tuned?: PlannedTuning | undefined;
}

export interface PlannedTuning {
  readonly delta: Delta;
  /** The base as it is loaded: a tensor for each parameter, or its parts where it is packed. */
  readonly base: ReadonlyMap<string, { readonly dtype: DType; readonly shape: readonly number[] }>;
  /** As `tunedDelta` takes it: whole numbers stand beside a base of 8 bits. */
  readonly products?: "float32" | "int8" | undefined;
}

export interface MemoryParts {
  /** In tuning the base's and the delta's. A base is mapped from its file and read whole, so it counts. */
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
export async function planMemory(base: ModelConfig, options: MemoryPlanOptions): Promise<MemoryPlan> {
  const { rows, columns, optimizer, accumulate = 1, tuned } = options;
  const config = tuned?.delta.grafts.config ?? base;
  const textPositions = rows * (columns - config.promptLength);
  const targets = options.targets ?? Math.ceil(usualTargetShare * textPositions);
  const runtime = createPlanningRuntime();
  const frozen = tuned === undefined ? new Map<string, DeviceTensor>() : frozenTensors(runtime, tuned);
  const frozenBytes = runtime.memory().tensorBytes;
  const parameters = tuned?.delta.parameters.filter((parameter) => !parameter.frozen) ?? parameterTable(config);
  const groups = optimizer?.groups ?? [];
  const layout = arenaLayout(parameters, groups.length > 0 ? groupOf(groups, parameters) : undefined);
  const arenaBytes = layout.elements * 4;
  const values = createArena(runtime, layout);
  const gradients = createArena(runtime, layout);
  const beforeStep = runtime.allocations.length;
  const withFrozen = (arena: Arena) => ({ tensors: new Map([...frozen, ...arena.tensors]) });
  const stepOptions = { ...options, grafts: tuned?.delta.grafts };
  const step = await createTrainingStep(runtime, base, withFrozen(values), gradients, stepOptions);
  let activations = 0;
  let batch = 0;
  for (const { bytes, ports } of runtime.allocations.slice(beforeStep)) {
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
    const others = tuned === undefined ? new Map<string, DeviceTensor>() : frozenTensors(judging, tuned);
    const all = { tensors: new Map([...others, ...createArena(judging, layout).tensors]) };
    await createTrainingStep(judging, base, all, undefined, stepOptions);
    const alone = judging.programs.find(({ graph }) => graph.name === "loss.alone");
    const judged = tuned === undefined ? textPositions : targets;
    if (alone) workspace += peakBytes(intermediateBuffers(alone.graph, new Map([["M", judged]])));
  }
  step.dispose();
  const kept = optimizer?.ema ? 1 : 0;
  const bytes: MemoryParts = {
    weights: frozenBytes + arenaBytes,
    gradients: arenaBytes,
    moments: 2 * arenaBytes,
    average: kept * arenaBytes,
    activations,
    batch,
    workspace: Math.ceil(arenaGrowth * workspace),
    snapshot: options.snapshot ? (3 + kept) * arenaBytes : 0,
    keyValueCache: options.sampleTokens ? cacheBytes(config, options.sampleTokens) : 0,
    process: processBytes + (hasPacked(frozen) ? packedProcessBytes : 0),
  };
  // A delta's step has two of the three passes over the products: nothing is differentiated for the base's weights.
  const passes = tuned === undefined ? 1 : 2 / 3;
  return {
    parameters: parameterCount(base),
    bytes,
    totalBytes: Object.values(bytes).reduce((sum, part) => sum + part, 0),
    tensorBytes: frozenBytes + (4 + kept) * arenaBytes + activations + batch,
    largestProgram,
    flops: {
      model: accumulate * passes * trainingFlops(config, { rows, columns, headPositions: targets }),
      executed: accumulate * executed,
    },
  };
}

/** What tuning reads and does not train, as `tunedDelta` has it. */
function frozenTensors(runtime: Runtime, { delta, base, products }: PlannedTuning): Map<string, DeviceTensor> {
  const tensors = new Map<string, DeviceTensor>();
  for (const [name, { dtype, shape }] of base) tensors.set(name, runtime.allocate(dtype, shape));
  for (const { name, shape, frozen } of delta.parameters) {
    if (frozen) tensors.set(name, runtime.allocate("float32", shape));
  }
  if (products !== "int8") return tensors;
  for (const { name, shape } of parameterTable(delta.base)) {
    if (!isPacked(tensors, name)) continue;
    tensors.set(`${name}.signed`, runtime.allocate("int8", shape));
    tensors.set(`${name}.channel`, runtime.allocate("float32", [shape[0]!]));
  }
  return tensors;
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
