/**
 * The trainer that a team leaves running: batches from a source whose position is saved, a guard over every update,
 * checkpoints written while training goes on, held-out losses by source.
 *
 * It knows no terminal, no run folder and no clock: what happens goes to hooks. With the same data, settings and threads
 * the weights are the same to the last bit, also when the process is killed at any moment and goes on from a checkpoint:
 * everything that decides about an update is in the checkpoint. Time decides about the end, and about the learning rate where
 * the settings let the schedule follow it: such a run is resumed, but no two are alike.
 */
import type { BatchGeometry, BatchSource, DataChange, SourceBatch } from "../data/index.ts";
import type { RecomputePolicy } from "../graph/index.ts";
import { countTargets, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { trainingFlops } from "../model/flops.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { CheckpointError, DataError } from "../util/error.ts";
import { createOwner } from "../util/owner.ts";
import type { Seed } from "../util/random.ts";
import { createAdamW, type Moments } from "./adamw.ts";
import { type Arena, arenaLayout, createArena } from "./arena.ts";
import { createBatchFeed } from "./batch-feed.ts";
import {
  checkpointOf,
  listCheckpoints,
  type Retention,
  readCheckpoint,
  removeHalfWritten,
  type TrainState,
} from "./checkpoint.ts";
import { type CheckpointReport, createCheckpointWriter } from "./checkpoint-writer.ts";
import { createGuard, type GuardOptions, type Verdict } from "./guard.ts";
import { heldOutLosses, type Validation } from "./held-out-losses.ts";
import { createLossScale, type LossScaleOptions } from "./loss-scale.ts";
import { groupOf, type OptimizerOptions, type ParameterGroup } from "./optimizer-options.ts";
import { createStatisticsTaker, type ParameterStatistics } from "./parameter-statistics.ts";
import { type GeometryRamp, geometryAt } from "./ramp.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";
import { stageName } from "./stages.ts";
import type { TrainingStep } from "./step.ts";
import { type Trainee, wholeModel } from "./trainee.ts";
import { gradientsOf, lossesBySource, withAverage } from "./update.ts";

export type { CheckpointReport } from "./checkpoint-writer.ts";
export type { Validation } from "./held-out-losses.ts";

export interface PretrainSettings {
  readonly geometry: BatchGeometry;
  /** Other rows and row lengths from some step on. */
  readonly ramp: GeometryRamp;
  readonly recompute: RecomputePolicy;
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
  /** Time after which it ends, if that comes first: steps, held-out losses, samples; what came before a resume counts. */
  readonly maxMs: number;
  /** What the schedule follows: updates, or the share of `maxMs` that is gone where that is more. Default "steps". */
  readonly pace?: "steps" | "time" | undefined;
  /** Ends after so many held-out losses in a row without a new best; 0, the default: never. */
  readonly patience?: number | undefined;
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

export interface Intervention {
  readonly step: number;
  readonly action: "warn" | "skip" | "rollback" | "stop";
  readonly reason: string;
  /** What was being trained on. */
  readonly batches: readonly SourceBatch[];
  readonly details: Readonly<Record<string, unknown>>;
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
  /** The part of the run that begins after so many steps (`stages.ts`); also told where an attempt begins. */
  onStage?(step: number, name: string): void;
  onStep?(report: PretrainStep): void;
  /** A mixture, shards or a row length that came into force with the step's batch. */
  onData?(step: number, change: DataChange): void;
  onValidation?(validation: Validation): void;
  /** The weights may be read until the promise settles. */
  onSamples?(step: number, parameters: Arena, trainee: Trainee): Promise<void>;
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
  readonly reason: "steps" | "time" | "patience" | "cancelled" | "data";
  /** The first and the last held-out loss of this attempt; none where nothing is held out. */
  readonly first: Validation | undefined;
  readonly validation: Validation | undefined;
  /** The lowest of all attempts. The checkpoint of that step stays where the retention says so. */
  readonly best: TrainState["best"];
}

export interface PretrainInput {
  readonly runtime: Runtime;
  readonly config: ModelConfig;
  /** What is trained; default the whole model. */
  readonly trainee?: Trainee | undefined;
  readonly source: BatchSource;
  readonly vocabularyText: string;
  /** Where checkpoints are and go. */
  readonly checkpoints: string;
  /** Go on from the newest sound checkpoint, if there is one, or from that of a step, which must be there. */
  readonly resume: boolean | number;
}

/**
 * Trains to the end of the settings, or until the signal aborts: then the step under way is finished and a checkpoint
 * written.
 *
 * @throws DataError CPM_TRAIN_DIVERGED where the guard says stop; ConfigError CPM_TRAIN_FROM where the step to go on from has
 * no checkpoint; those of the source, the runtime and the checkpoints
 */
export async function pretrain(
  input: PretrainInput,
  settings: PretrainSettings,
  hooks: PretrainHooks,
): Promise<PretrainResult> {
  const { runtime, config, source, vocabularyText, checkpoints } = input;
  const trainee = input.trainee ?? wholeModel(runtime, config);
  const { ema } = settings.optimizer;
  const groups: ParameterGroup[] = [...trainee.groups, ...settings.optimizer.groups];
  const layout = arenaLayout(trainee.parameters, groupOf(groups, trainee.parameters));
  const owner = createOwner();
  const { own } = owner;
  const arena = () => own(createArena(runtime, layout));
  let closing = async () => {};
  try {
    const parameters = arena();
    const gradients = arena();
    const moments: Moments = { first: arena(), second: arena(), ...(ema && { ema: arena() }) };
    const optimizer = own(
      await createAdamW(runtime, parameters, gradients, moments, { ...settings.optimizer, groups }),
    );
    const guard = createGuard(settings.guard);
    const lossScale = settings.compute === "float16" ? createLossScale(settings.lossScale) : undefined;
    let step = 0;
    let rateFactor = 1;
    let trainedMs = 0;
    let best: TrainState["best"];
    let sinceBest = 0;
    let first: Validation | undefined;
    let validation: Validation | undefined;
    const feed = createBatchFeed(source);

    const load = async (path: string, withData: boolean): Promise<TrainState> => {
      const { state, snapshot } = await readCheckpoint(path, layout);
      runtime.write(parameters.flat, snapshot.parameters);
      runtime.write(moments.first.flat, snapshot.first);
      runtime.write(moments.second.flat, snapshot.second);
      if (moments.ema) runtime.write(moments.ema.flat, snapshot.ema ?? snapshot.parameters);
      if (lossScale && state.lossScale !== null) lossScale.restore(state.lossScale);
      optimizer.restore(state.updates);
      if (withData) await feed.restore(state.data);
      ({ best, sinceBest } = state);
      return state;
    };

    let resumedFrom: string | undefined;
    if (input.resume !== false) {
      await removeHalfWritten(checkpoints);
      const { resume } = input;
      const newestFirst = async () => (await listCheckpoints(checkpoints)).toReversed();
      for (const { path } of resume === true ? await newestFirst() : [await checkpointOf(checkpoints, resume)]) {
        try {
          const state = await load(path, true);
          ({ step, rateFactor, trainedMs } = state);
          guard.restore(state.guard);
          resumedFrom = path;
          break;
        } catch (error) {
          if (!(error instanceof CheckpointError) || resume !== true) throw error;
          hooks.onCheckpointTrouble?.(error, path);
        }
      }
    }
    if (resumedFrom === undefined) {
      for (const parameter of layout.parameters) {
        const tensor = parameters.tensors.get(parameter.name)!;
        const values = new Float32Array(tensor.byteLength / 4);
        await trainee.initialize(parameter, values, settings.seed);
        runtime.write(tensor, values);
      }
      if (moments.ema) runtime.write(moments.ema.flat, parameters.flat.view());
    }
    hooks.onStart?.({ step, tokens: feed.tokens, ...(resumedFrom && { resumedFrom }), parameters });

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
      training = await trainee.createStep(parameters, gradients, options);
      trainingKey = key;
      return training;
    };
    own({ dispose: () => training?.dispose() });

    const { now } = hooks;
    const loopMs = now();
    const earlierMs = trainedMs;
    const clock = () => {
      trainedMs = earlierMs + now() - loopMs;
      return trainedMs;
    };
    const writer = createCheckpointWriter({
      folder: checkpoints,
      retention: settings.retention,
      config: trainee.base,
      delta: trainee.delta,
      vocabularyText,
      parameters,
      moments,
      now,
      onCheckpoint: (report) => hooks.onCheckpoint?.(report),
      onTrouble: (error) => hooks.onCheckpointTrouble?.(error, checkpoints),
    });
    closing = async () => {
      await feed.idle();
      await writer.close();
    };
    const checkpoint = () =>
      writer.write({
        format: 1,
        step,
        tokens: feed.tokens,
        updates: optimizer.steps,
        trainedMs: clock(),
        data: feed.state(),
        guard: guard.state(),
        rateFactor,
        lossScale: lossScale?.state() ?? null,
        best,
        sinceBest,
      });
    /** The weights that held-out losses and samples are of, where these are not the parameters themselves. */
    const judged = ema?.validate ? moments.ema : undefined;
    /** Whether the loss is a new best. */
    const validate = async (geometry: BatchGeometry): Promise<boolean> => {
      const judge = await stepFor(geometry);
      const found = await withAverage(runtime, parameters, judged, () =>
        heldOutLosses(judge, source, geometry, settings.validationPieces, trainee.objective),
      );
      if (found === undefined) return false;
      validation = { step, tokens: feed.tokens, ...found, ...(judged && { ema: true }) };
      first ??= validation;
      const isBest = best === undefined || validation.nats < best.nats;
      if (isBest) best = { step, nats: validation.nats, bitsPerCharacter: validation.bitsPerCharacter };
      sinceBest = isBest ? 0 : sinceBest + 1;
      hooks.onValidation?.(validation);
      return isBest;
    };
    const statistics =
      settings.every.parameters > 0 ? own(await createStatisticsTaker(runtime, parameters, gradients)) : undefined;

    let reason: PretrainResult["reason"] = "steps";
    const initial = { ...settings.geometry, accumulate: settings.accumulate };
    const shapeAfter = (steps: number) => geometryAt(settings.ramp, initial, steps, feed.tokens);
    const { rows, columns } = shapeAfter(step);
    let geometry: BatchGeometry = { rows, columns };
    if (step === 0 && settings.every.validation > 0) await validate(geometry);
    let lastCheckpoint = resumedFrom === undefined ? -1 : step;
    let stage = "";
    const due = (every: number) => every > 0 && step % every === 0;
    while (step < settings.steps) {
      if (hooks.signal?.aborted) reason = "cancelled";
      else if (clock() >= settings.maxMs) reason = "time";
      if (reason !== "steps") break;
      const startMs = now();
      const shape = shapeAfter(step);
      geometry = { rows: shape.rows, columns: shape.columns };
      const updates = scheduledUpdates(settings, optimizer.steps, trainedMs);
      const stageNow = stageName(settings.schedule, settings.ramp, initial, { step, tokens: feed.tokens, updates });
      if (stageNow !== stage) hooks.onStage?.(step, stageNow);
      stage = stageNow;
      const batches = await feed.next(shape);
      if (batches.length === 0) {
        reason = "data";
        break;
      }
      // Drawn while the programs below run.
      const running = await stepFor(geometry);
      if (step + 1 < settings.steps) {
        feed.prepare(shapeAfter(step + 1), ([first]) => first && training === running && running.prepare(first.batch));
      }
      const dataMs = now() - startMs;
      const learningRate = learningRateAt(settings.schedule, updates) * rateFactor;
      const gradientScale = lossScale?.scale ?? 1;
      const { loss, losses } = await gradientsOf(
        running,
        batches.map(({ batch }) => batch),
        { gradientScale, draw: step, objective: trainee.objective },
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
      const ms = now() - startMs;
      const changes = batches.flatMap((batch) => batch.changes);
      for (const change of changes) hooks.onData?.(step, change);
      const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
      hooks.onStep?.({
        step,
        tokens: feed.tokens,
        loss,
        learningRate,
        gradientNorm,
        ms,
        dataMs,
        tokensPerSecond: ms > 0 ? (1000 * tokens) / ms : 0,
        flops: batches.reduce((sum, { batch }) => sum + flopsOf(trainee, batch), 0),
        epoch: feed.epoch,
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
            stage = "";
            rateFactor *= settings.guard.rollbackRate;
            Object.assign(details, { to: target.step, rateFactor, data: settings.guard.rollbackData });
          }
          guard.rolledBack();
        }
        await hooks.onIntervention?.({ step, action: verdict.action, reason: verdict.reason, batches, details });
        if (verdict.action === "stop") throw diverged(step, verdict.reason);
        if (verdict.action === "rollback") continue;
      }
      const isBest = (due(settings.every.validation) || step === settings.steps) && (await validate(geometry));
      if (due(settings.every.parameters)) hooks.onParameters?.(step, await statistics!.take());
      if (due(settings.every.samples)) {
        await withAverage(runtime, parameters, judged, async () => hooks.onSamples?.(step, parameters, trainee));
      }
      // A resume from before a change of the data would meet it at another step: the position with it is saved at once.
      const isOther = settings.every.checkpoint > 0 && changes.some(({ what }) => what !== "length");
      if (due(settings.every.checkpoint) || isOther || (isBest && settings.retention.best)) {
        await checkpoint();
        lastCheckpoint = step;
      }
      const { patience = 0 } = settings;
      if (patience > 0 && sinceBest >= patience && validation?.step === step) {
        reason = "patience";
        break;
      }
    }
    // Whoever ends by time wants to know where; whoever was cut off wants to go.
    const isJudged = settings.every.validation === 0 || validation?.step === step;
    if ((reason === "time" || reason === "data") && !isJudged && (await validate(geometry))) lastCheckpoint = -1;
    if (lastCheckpoint !== step) await checkpoint();
    await writer.settled();
    return { step, tokens: feed.tokens, trainedMs: clock(), reason, first, validation, best };
  } finally {
    await closing();
    owner.dispose();
  }
}

function flopsOf({ config, passes }: Trainee, batch: ModelBatch): number {
  const whole = trainingFlops(config, { rows: batch.rows, columns: batch.columns, headPositions: countTargets(batch) });
  return (whole * passes) / 3;
}

/** Of the time that a run is paced by: warm-up is in updates, but no longer than this. */
const longestWarmup = 0.1;

/** Where the run is paced by time, the schedule is as far as the share of time that is gone, if that is more. */
function scheduledUpdates({ schedule, pace, maxMs }: PretrainSettings, updates: number, trainedMs: number): number {
  if (pace !== "time" || !("total" in schedule) || !Number.isFinite(maxMs)) return updates;
  const share = trainedMs / maxMs;
  if (updates < schedule.warmup && share < longestWarmup) return updates;
  return Math.max(updates, Math.floor(share * schedule.total));
}

function diverged(step: number, reason: string): DataError {
  return new DataError("CPM_TRAIN_DIVERGED", "the run was stopped by its guard", {
    where: `step ${step}`,
    got: reason,
    expected: "losses and gradients as they were before",
    hint: "Look at the samples that were written aside, lower the learning rate, and go on with --resume.",
  });
}
