/**
 * The trainer that a team leaves running: batches from a source whose position is saved, a guard over every update,
 * checkpoints written while training goes on, held-out losses by source.
 *
 * It knows no terminal, no run folder and no clock: what happens goes to hooks. With the same data, settings and threads
 * the weights are the same to the last bit, also when the process is killed at any moment and goes on from a checkpoint:
 * everything that decides about an update is in the checkpoint, and time decides about nothing but the end.
 */
import type { BatchGeometry, BatchSource, DataChange, SourceBatch } from "../data/index.ts";
import { countTargets, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { trainingFlops } from "../model/flops.ts";
import { parameterTable } from "../model/parameters.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { CheckpointError, DataError } from "../util/error.ts";
import { createOwner } from "../util/owner.ts";
import type { Seed } from "../util/random.ts";
import { createAdamW, type Moments } from "./adamw.ts";
import { type Arena, arenaLayout, createArena } from "./arena.ts";
import {
  expendable,
  listCheckpoints,
  type Retention,
  readCheckpoint,
  removeHalfWritten,
  type Snapshot,
  type TrainState,
  writeCheckpoint,
} from "./checkpoint.ts";
import { createGuard, type GuardOptions, type Verdict } from "./guard.ts";
import { initializeParameter } from "./initialize.ts";
import { createLossScale, type LossScaleOptions } from "./loss-scale.ts";
import { groupOf, type OptimizerOptions } from "./optimizer-options.ts";
import { type ParameterStatistics, parameterStatistics } from "./parameter-statistics.ts";
import { type GeometryRamp, geometryAt } from "./ramp.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";
import { createTrainingStep, type TrainingStep } from "./step.ts";
import { gradientsOf, lossesBySource, withAverage } from "./update.ts";

export interface PretrainSettings {
  readonly geometry: BatchGeometry;
  /** Other rows and row lengths from some step on. */
  readonly ramp: GeometryRamp;
  readonly recompute: "none" | "block";
  readonly schedule: Schedule;
  readonly optimizer: OptimizerOptions;
  /** Batches that an update is made of; a ramp may change it. */
  readonly accumulate: number;
  readonly zLoss: number;
  readonly compute: "float32" | "float16";
  /** Of use where `compute` is of 16 bits. */
  readonly lossScale: LossScaleOptions;
  readonly guard: GuardOptions;
  readonly seed: Seed;
  /** Steps after which training ends. */
  readonly steps: number;
  /** Time in training after which it ends, if that comes first; what was trained before a resume counts. */
  readonly maxMs: number;
  /** Steps between two of each; 0: never. */
  readonly every: {
    readonly validation: number;
    readonly samples: number;
    readonly parameters: number;
    readonly checkpoint: number;
  };
  /** Pieces of held-out text of each source. */
  readonly validationPieces: number;
  readonly retention: Retention;
}

export interface PretrainStep {
  readonly step: number;
  readonly tokens: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly ms: number;
  /** Of it, spent on the batch. */
  readonly dataMs: number;
  readonly tokensPerSecond: number;
  /** Floating-point operations of the model's products in this step. */
  readonly flops: number;
  readonly epoch: number;
  readonly geometry: BatchGeometry;
  /** Where gradients were scaled: by what. The update was left out if they overflowed: the norm is not finite then. */
  readonly lossScale?: number;
  /** Mean loss and targets of each source in the update's batches. */
  readonly sources: Readonly<Record<string, { readonly nats: number; readonly tokens: number }>>;
}

export interface Validation {
  readonly step: number;
  readonly tokens: number;
  /** Mean over all held-out targets. */
  readonly nats: number;
  readonly bitsPerCharacter: number;
  /** Of the averaged weights. */
  readonly ema?: boolean;
  readonly sources: Readonly<
    Record<string, { readonly nats: number; readonly tokens: number; readonly bitsPerCharacter: number }>
  >;
}

export interface Intervention {
  readonly step: number;
  readonly action: "warn" | "skip" | "rollback" | "stop";
  readonly reason: string;
  /** What was being trained on. */
  readonly batches: readonly SourceBatch[];
  readonly details: Readonly<Record<string, unknown>>;
}

export interface CheckpointReport {
  readonly step: number;
  readonly tokens: number;
  readonly path: string;
  readonly bytes: number;
  /** Of writing it; training waited for `pauseMs` of that. */
  readonly ms: number;
  readonly pauseMs: number;
  readonly best: boolean;
  readonly removed: readonly string[];
}

export interface PretrainHooks {
  now(): number;
  readonly signal?: AbortSignal | undefined;
  onStart?(state: {
    readonly step: number;
    readonly tokens: number;
    readonly resumedFrom?: string;
    readonly parameters: Arena;
  }): void;
  onStep?(report: PretrainStep): void;
  /** A mixture, shards or a row length that came into force with the step's batch. */
  onData?(step: number, change: DataChange): void;
  onValidation?(validation: Validation): void;
  /** The weights may be read until the promise settles. */
  onSamples?(step: number, parameters: Arena): Promise<void>;
  onParameters?(step: number, statistics: readonly ParameterStatistics[]): void;
  onCheckpoint?(report: CheckpointReport): void;
  onIntervention?(intervention: Intervention): Promise<void> | void;
  /** A checkpoint that could not be used or written; training goes on with the one before. */
  onCheckpointTrouble?(error: unknown, path: string): void;
}

export interface PretrainResult {
  readonly step: number;
  readonly tokens: number;
  readonly trainedMs: number;
  readonly reason: "steps" | "time" | "cancelled" | "data";
  readonly validation: Validation | undefined;
}

export interface PretrainInput {
  readonly runtime: Runtime;
  readonly config: ModelConfig;
  readonly source: BatchSource;
  readonly vocabularyText: string;
  /** Where checkpoints are and go. */
  readonly checkpoints: string;
  /** Go on from the newest sound checkpoint, if there is one. */
  readonly resume: boolean;
}

/**
 * Trains to the end of the settings, or until the signal aborts: then the step under way is finished and a checkpoint
 * written.
 *
 * @throws DataError CPM_TRAIN_DIVERGED where the guard says stop; those of the source, the runtime and the checkpoints
 */
export async function pretrain(
  input: PretrainInput,
  settings: PretrainSettings,
  hooks: PretrainHooks,
): Promise<PretrainResult> {
  const { runtime, config, source, vocabularyText, checkpoints } = input;
  const { ema, groups } = settings.optimizer;
  const table = parameterTable(config);
  const layout = arenaLayout(table, groupOf(groups, table));
  const owner = createOwner();
  const { own } = owner;
  const arena = () => own(createArena(runtime, layout));
  try {
    const parameters = arena();
    const gradients = arena();
    const moments: Moments = { first: arena(), second: arena(), ...(ema && { ema: arena() }) };
    const optimizer = own(await createAdamW(runtime, parameters, gradients, moments, settings.optimizer));
    const guard = createGuard(settings.guard);
    const lossScale = settings.compute === "float16" ? createLossScale(settings.lossScale) : undefined;
    let step = 0;
    let rateFactor = 1;
    let trainedMs = 0;
    let best: TrainState["best"];
    let validation: Validation | undefined;

    const load = async (path: string, withData: boolean): Promise<TrainState> => {
      const { state, snapshot } = await readCheckpoint(path, layout);
      runtime.write(parameters.flat, snapshot.parameters);
      runtime.write(moments.first.flat, snapshot.first);
      runtime.write(moments.second.flat, snapshot.second);
      if (moments.ema) runtime.write(moments.ema.flat, snapshot.ema ?? snapshot.parameters);
      if (lossScale && state.lossScale !== null) lossScale.restore(state.lossScale);
      optimizer.restore(state.updates);
      if (withData) await source.restore(state.data);
      best = state.best;
      return state;
    };

    let resumedFrom: string | undefined;
    if (input.resume) {
      await removeHalfWritten(checkpoints);
      for (const { path } of (await listCheckpoints(checkpoints)).toReversed()) {
        try {
          const state = await load(path, true);
          ({ step, rateFactor, trainedMs } = state);
          guard.restore(state.guard);
          resumedFrom = path;
          break;
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error;
          hooks.onCheckpointTrouble?.(error, path);
        }
      }
    }
    if (resumedFrom === undefined) {
      for (const parameter of table) {
        const tensor = parameters.tensors.get(parameter.name)!;
        const values = new Float32Array(tensor.byteLength / 4);
        initializeParameter(parameter, values, settings.seed);
        runtime.write(tensor, values);
      }
      if (moments.ema) runtime.write(moments.ema.flat, parameters.flat.view());
    }
    hooks.onStart?.({ step, tokens: source.tokens, ...(resumedFrom && { resumedFrom }), parameters });

    let training: TrainingStep | undefined;
    let trainingKey = "";
    /** The step for a batch's shape; that of another shape is let go first, so memory does not grow. */
    const stepFor = async (geometry: BatchGeometry): Promise<TrainingStep> => {
      const key = `${geometry.rows} × ${geometry.columns}`;
      if (training !== undefined && key === trainingKey) return training;
      training?.dispose();
      training = undefined;
      const { recompute, zLoss, compute, seed } = settings;
      const dropout = { rate: config.dropout, seed };
      const options = { ...geometry, packed: source.packed, recompute, zLoss, compute, dropout };
      training = await createTrainingStep(runtime, config, parameters, gradients, options);
      trainingKey = key;
      return training;
    };
    own({ dispose: () => training?.dispose() });

    const writer = createCheckpointWriter(checkpoints, settings.retention, hooks);
    const stateNow = (): TrainState => ({
      format: 1,
      step,
      tokens: source.tokens,
      updates: optimizer.steps,
      trainedMs,
      data: source.state(),
      guard: guard.state(),
      rateFactor,
      lossScale: lossScale?.state() ?? null,
      best,
    });
    const checkpoint = async (): Promise<void> => {
      await writer.write(() => ({
        config,
        layout,
        snapshot: takeSnapshot(parameters, moments),
        state: structuredClone(stateNow()),
        vocabularyText,
      }));
    };
    /** The weights that held-out losses and samples are of, where these are not the parameters themselves. */
    const judged = ema?.validate ? moments.ema : undefined;
    const validate = async (geometry: BatchGeometry): Promise<void> => {
      const judge = await stepFor(geometry);
      const found = await withAverage(runtime, parameters, judged, () =>
        heldOutLosses(judge, source, geometry, settings.validationPieces, step),
      );
      validation = found && judged ? { ...found, ema: true } : found;
      if (validation === undefined) return;
      if (best === undefined || validation.nats < best.nats) best = { step, nats: validation.nats };
      hooks.onValidation?.(validation);
    };

    let reason: PretrainResult["reason"] = "steps";
    const shapeNow = () =>
      geometryAt(settings.ramp, { ...settings.geometry, accumulate: settings.accumulate }, step, source.tokens);
    let { accumulate, ...geometry } = shapeNow();
    if (step === 0 && settings.every.validation > 0) await validate(geometry);
    let lastCheckpoint = resumedFrom === undefined ? -1 : step;
    const due = (every: number) => every > 0 && step % every === 0;
    while (step < settings.steps) {
      if (hooks.signal?.aborted) reason = "cancelled";
      else if (trainedMs >= settings.maxMs) reason = "time";
      if (reason !== "steps") break;
      const startMs = hooks.now();
      ({ accumulate, ...geometry } = shapeNow());
      const batches: SourceBatch[] = [];
      while (batches.length < accumulate) {
        const batch = await source.next(geometry);
        if (batch === undefined) break;
        batches.push(batch);
      }
      if (batches.length === 0) {
        reason = "data";
        break;
      }
      const dataMs = hooks.now() - startMs;
      const learningRate = learningRateAt(settings.schedule, optimizer.steps) * rateFactor;
      const gradientScale = lossScale?.scale ?? 1;
      const { loss, losses } = await gradientsOf(
        await stepFor(geometry),
        batches.map(({ batch }) => batch),
        { gradientScale, draw: step },
      );
      const gradientNorm = await optimizer.gradientNorm(gradientScale);
      // An overflow is part of how a loss scale works, as long as it can be lowered.
      const overflowed =
        lossScale !== undefined &&
        !lossScale.accepts(gradientNorm) &&
        lossScale.scale < gradientScale &&
        Number.isFinite(loss);
      const verdict: Verdict = overflowed ? { action: "update" } : guard.judge(loss, gradientNorm);
      if (!overflowed && (verdict.action === "update" || verdict.action === "warn")) {
        await optimizer.update(learningRate, gradientNorm, gradientScale);
      }
      step++;
      const ms = hooks.now() - startMs;
      trainedMs += ms;
      const changes = batches.flatMap((batch) => batch.changes);
      for (const change of changes) hooks.onData?.(step, change);
      const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
      hooks.onStep?.({
        step,
        tokens: source.tokens,
        loss,
        learningRate,
        gradientNorm,
        ms,
        dataMs,
        tokensPerSecond: ms > 0 ? (1000 * tokens) / ms : 0,
        flops: batches.reduce((sum, { batch }) => sum + flopsOf(config, batch), 0),
        epoch: source.epoch,
        geometry,
        ...(lossScale && { lossScale: gradientScale }),
        sources: lossesBySource(batches, losses),
      });
      if (verdict.action !== "update") {
        const details: Record<string, unknown> = { loss, gradientNorm, learningRate };
        if (verdict.action === "rollback") {
          await writer.settled();
          const target = (await listCheckpoints(checkpoints)).at(-1);
          if (target !== undefined) {
            const again = settings.guard.rollbackData === "again";
            const state = await load(target.path, again);
            step = state.step;
            rateFactor *= settings.guard.rollbackRate;
            Object.assign(details, { to: target.step, rateFactor, data: settings.guard.rollbackData });
          }
          guard.rolledBack();
        }
        await hooks.onIntervention?.({ step, action: verdict.action, reason: verdict.reason, batches, details });
        if (verdict.action === "stop") throw diverged(step, verdict.reason);
        if (verdict.action === "rollback") continue;
      }
      if (due(settings.every.validation) || step === settings.steps) await validate(geometry);
      if (due(settings.every.parameters)) hooks.onParameters?.(step, parameterStatistics(parameters, gradients));
      if (due(settings.every.samples)) {
        await withAverage(runtime, parameters, judged, async () => hooks.onSamples?.(step, parameters));
      }
      // A resume from before a change of the data would meet it at another step: the position with it is saved at once.
      const isOther = settings.every.checkpoint > 0 && changes.some(({ what }) => what !== "length");
      if (due(settings.every.checkpoint) || isOther) {
        await checkpoint();
        lastCheckpoint = step;
      }
    }
    if (lastCheckpoint !== step) await checkpoint();
    await writer.settled();
    return { step, tokens: source.tokens, trainedMs, reason, validation };
  } finally {
    owner.dispose();
  }
}

function flopsOf(config: ModelConfig, batch: ModelBatch): number {
  return trainingFlops(config, { rows: batch.rows, columns: batch.columns, headPositions: countTargets(batch) });
}

/** Copies: training changes the originals while these are written. */
function takeSnapshot(parameters: Arena, { first, second, ema }: Moments): Snapshot {
  const copy = (arena: Arena) => (arena.flat.view() as Float32Array).slice();
  return { parameters: copy(parameters), first: copy(first), second: copy(second), ...(ema && { ema: copy(ema) }) };
}

/** Writes one checkpoint at a time beside training; a second one waits for the first. Old ones go by the rule. */
function createCheckpointWriter(folder: string, retention: Retention, hooks: PretrainHooks) {
  let pending: Promise<void> = Promise.resolve();
  /** The last write failed with this: told at once, thrown at the next write or the end. */
  let failure: unknown;
  const settled = async () => {
    await pending;
    if (failure === undefined) return;
    const error = failure;
    failure = undefined;
    throw error;
  };
  return {
    settled,
    async write(content: () => Parameters<typeof writeCheckpoint>[1]): Promise<void> {
      const askedMs = hooks.now();
      await settled();
      const taken = content();
      const startMs = hooks.now();
      const { state } = taken;
      pending = writeCheckpoint(folder, taken).then(
        async ({ path, bytes }) => {
          const present = (await listCheckpoints(folder)).map((each) => each.step);
          const removed: string[] = [];
          const { rm } = await import("node:fs/promises");
          for (const { step, path: old } of await listCheckpoints(folder)) {
            if (!expendable(present, retention, state.best?.step).includes(step)) continue;
            await rm(old, { recursive: true, force: true });
            removed.push(old);
          }
          hooks.onCheckpoint?.({
            step: state.step,
            tokens: state.tokens,
            path,
            bytes,
            ms: hooks.now() - startMs,
            pauseMs: startMs - askedMs,
            best: state.best?.step === state.step,
            removed,
          });
        },
        (error: unknown) => {
          failure = error;
          hooks.onCheckpointTrouble?.(error, folder);
        },
      );
    },
  };
}

/** Loss of each source's held-out text, every token a target. */
async function heldOutLosses(
  training: TrainingStep,
  source: BatchSource,
  geometry: BatchGeometry,
  pieces: number,
  step: number,
): Promise<Validation | undefined> {
  const sums = new Map<string, { nats: number; tokens: number; tokensPerCharacter: number }>();
  for (const { source: name, batch, tokensPerCharacter } of source.heldOut(geometry, pieces)) {
    const targets = countTargets(batch);
    if (targets === 0) continue;
    const sum = sums.get(name) ?? { nats: 0, tokens: 0, tokensPerCharacter };
    sum.nats += (await training.loss(batch)) * targets;
    sum.tokens += targets;
    sums.set(name, sum);
  }
  if (sums.size === 0) return undefined;
  let nats = 0;
  let tokens = 0;
  let characters = 0;
  const sources: Record<string, { nats: number; tokens: number; bitsPerCharacter: number }> = {};
  for (const [name, sum] of sums) {
    nats += sum.nats;
    tokens += sum.tokens;
    characters += sum.tokens / sum.tokensPerCharacter;
    const mean = sum.nats / sum.tokens;
    sources[name] = { nats: mean, tokens: sum.tokens, bitsPerCharacter: (mean / Math.LN2) * sum.tokensPerCharacter };
  }
  return { step, tokens: source.tokens, nats: nats / tokens, bitsPerCharacter: nats / Math.LN2 / characters, sources };
}

function diverged(step: number, reason: string): DataError {
  return new DataError("CPM_TRAIN_DIVERGED", "the run was stopped by its guard", {
    where: `step ${step}`,
    got: reason,
    expected: "losses and gradients as they were before",
    hint: "Look at the samples that were written aside, lower the learning rate, and go on with --resume.",
  });
}
