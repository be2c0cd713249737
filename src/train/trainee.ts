/**
 * What the trainer trains: a whole model, or a delta on one that stays as it is. The trainer knows neither: it has
 * parameters in an arena, a step over them and something to write into checkpoints.
 */
import type { Delta, DeltaParameter, DeltaUse } from "../delta/index.ts";
import type { DeltaSpec } from "../delta/methods/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Grafts } from "../model/graft.ts";
import { parameterTable } from "../model/parameters.ts";
import { elementCount } from "../runtime/dtype.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { type Owner, ownedBy } from "../util/owner.ts";
import type { Seed } from "../util/random.ts";
import type { Arena, ArenaParameter } from "./arena.ts";
import { initializeParameter } from "./initialize.ts";
import { withSignedWeights } from "./signed-weights.ts";
import { createTrainingStep, type TrainingStep, type TrainingStepOptions } from "./step.ts";
import type { Objective } from "./update.ts";

/** What a checkpoint needs to write a delta that others can open. */
export interface CheckpointDelta {
  readonly specs: readonly DeltaSpec[];
  readonly baseSha256: string;
  readonly use?: DeltaUse | undefined;
  /** Parameters that training leaves as they began. */
  readonly frozen: ReadonlyMap<string, Float32Array>;
}

export interface Trainee {
  /** In the order of the arena. */
  readonly parameters: readonly ArenaParameter[];
  /** Rates of some of them beside the schedule's, before the recipe's own groups. */
  readonly groups: readonly { readonly match: string; readonly rateFactor: number }[];
  /** What programs and batches are made for. */
  readonly config: ModelConfig;
  /** Of the base that a delta is on; a checkpoint's `config.json`. */
  readonly base: ModelConfig;
  /** Passes over the model's products per step, where a whole model's three are forward and both gradients. */
  readonly passes: number;
  initialize(parameter: ArenaParameter, out: Float32Array, seed: Seed): void | Promise<void>;
  createStep(values: Arena, gradients: Arena, options: TrainingStepOptions): Promise<TrainingStep>;
  /** For whoever generates with what is being trained: all tensors that the model's programs need. */
  tensors(values: Arena): ReadonlyMap<string, DeviceTensor>;
  readonly grafts?: Grafts | undefined;
  readonly delta?: CheckpointDelta | undefined;
  /** Default: the mean loss of the targets. */
  readonly objective?: Objective | undefined;
}

/** All parameters of a model, from their random beginnings. */
export function wholeModel(runtime: Runtime, config: ModelConfig): Trainee {
  const table = parameterTable(config);
  const byName = new Map(table.map((parameter) => [parameter.name, parameter]));
  return {
    parameters: table,
    groups: [],
    config,
    base: config,
    passes: 3,
    initialize: ({ name }, out, seed) => initializeParameter(byName.get(name)!, out, seed),
    createStep: (values, gradients, options) => createTrainingStep(runtime, config, values, gradients, options),
    tensors: (values) => values.tensors,
  };
}

export interface TunedDeltaInput {
  readonly delta: Delta;
  /** Of the base by name, plain or packed. They are read and never written. */
  readonly base: ReadonlyMap<string, DeviceTensor>;
  /** A base parameter's elements, for beginnings. */
  readBase(name: string): Promise<Float32Array>;
  readonly baseSha256: string;
  readonly use?: DeltaUse | undefined;
  readonly objective?: Objective | undefined;
  readonly seed: Seed;
  /** How the base is multiplied: as it is, or in whole numbers of 8 bits (`signed-weights.ts`); default float32. */
  readonly products?: "float32" | "int8" | undefined;
}

/** A delta, and what frees the frozen part of it. */
export async function tunedDelta(runtime: Runtime, input: TunedDeltaInput): Promise<Trainee & { dispose(): void }> {
  return ownedBy((owner) => makeTunedDelta(owner, runtime, input));
}

async function makeTunedDelta(
  owner: Owner,
  runtime: Runtime,
  { delta, base: given, readBase, baseSha256, use, objective, seed, products }: TunedDeltaInput,
): Promise<Trainee & { dispose(): void }> {
  const base = products === "int8" ? await withSignedWeights(owner, runtime, delta.base, given) : given;
  const context = { seed, base: readBase };
  const fill = async ({ shape, initialize }: DeltaParameter): Promise<Float32Array> => {
    const out = new Float32Array(elementCount(shape));
    await initialize(out, context);
    return out;
  };
  const frozen = new Map<string, Float32Array>();
  const frozenTensors = new Map<string, DeviceTensor>();
  for (const parameter of delta.parameters.filter((each) => each.frozen)) {
    const values = await fill(parameter);
    frozen.set(parameter.name, values);
    frozenTensors.set(parameter.name, owner.own(runtime.upload(values, "float32", parameter.shape)));
  }
  const trained = new Map(delta.parameters.flatMap((each) => (each.frozen ? [] : [[each.name, each]])));
  const tensors = (values: Arena) => new Map([...base, ...frozenTensors, ...values.tensors]);
  const { grafts } = delta;
  return {
    parameters: [...trained.values()],
    groups: delta.parts.flatMap(({ method, options }) => method.groups?.(options) ?? []),
    config: grafts.config,
    base: delta.base,
    passes: 2,
    initialize: async ({ name }, out) => out.set(await fill(trained.get(name)!)),
    createStep: (values, gradients, options) =>
      createTrainingStep(runtime, delta.base, { tensors: tensors(values) }, gradients, { ...options, grafts }),
    tensors,
    grafts,
    objective,
    delta: { specs: delta.parts.map(({ spec, options }) => ({ ...spec, ...options })), baseSha256, use, frozen },
    dispose: () => owner.dispose(),
  };
}
