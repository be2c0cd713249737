/**
 * The training loop: batches through the step and the optimizer, held-out losses on the way, the best weights kept.
 *
 * It knows no file and no terminal: what it finds goes to hooks, the clock and the signal come from outside. With the
 * same corpus, settings, threads and no limit of time, losses are the same to the last bit.
 */
import { createBatchSource, evaluationBatches, type TokenCorpus } from "../data/index.ts";
import { countTargets, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterTable } from "../model/parameters.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { DataError } from "../util/error.ts";
import { createOwner } from "../util/owner.ts";
import type { Seed } from "../util/random.ts";
import { type AdamWOptions, createAdamW, type Moments } from "./adamw.ts";
import { type Arena, arenaLayout, createArena } from "./arena.ts";
import { initializeParameter } from "./initialize.ts";
import { createLossScale, type LossScaleOptions } from "./loss-scale.ts";
import { groupOf } from "./optimizer-options.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";
import { createTrainingStep, type TrainingStep } from "./step.ts";
import { gradientsOf, withAverage } from "./update.ts";

export interface TrainSettings {
  readonly rows: number;
  readonly recompute: "none" | "block";
  readonly schedule: Schedule;
  /** With an average of the weights it is what is judged and kept. */
  readonly optimizer: AdamWOptions;
  /** Batches that an update is made of; default 1. */
  readonly accumulate?: number;
  readonly zLoss?: number;
  readonly compute?: "float32" | "float16";
  /** Needed where `compute` is float16. */
  readonly lossScale?: LossScaleOptions;
  readonly seed: Seed;
  /** Share of samples with the fill objective. */
  readonly fillShare: number;
  /** Updates after which training ends. */
  readonly maxSteps: number;
  /** Milliseconds after which it ends, if that comes first. The schedule then follows the share of time that is gone. */
  readonly maxMs: number;
  /** Updates between two held-out losses. */
  readonly evaluateEvery: number;
  /** Pieces that a held-out loss is taken over. */
  readonly evaluatePieces: number;
  /** Ends after so many held-out losses in a row without a new best. 0: never. */
  readonly patience: number;
  /** Which weights are the result: those of the best held-out loss, or those at the end. */
  readonly keep: "best" | "last";
}

export interface StepReport {
  /** Updates done. */
  readonly step: number;
  /** Share of the work done, by steps or by time. */
  readonly done: number;
  /** Mean of this batch's targets, in nats. */
  readonly loss: number;
  readonly learningRate: number;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** Text tokens so far, and since the start a second. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
}

export interface Evaluation {
  readonly step: number;
  /** Nats per token of the held-out text, every token predicted from those before it. */
  readonly loss: number;
}

export interface TrainHooks {
  now(): number;
  readonly signal?: AbortSignal | undefined;
  onStep?(report: StepReport): void;
  onEvaluation?(evaluation: Evaluation): void;
}

export interface TrainResult {
  /** As `keep` says; the last where nothing was held out. The caller disposes them. */
  readonly parameters: Arena;
  readonly steps: number;
  readonly tokens: number;
  /** Before the first update, at the best, and at the end; undefined without held-out text. */
  readonly heldOut: { readonly before: Evaluation; readonly best: Evaluation; readonly last: Evaluation } | undefined;
  readonly lastLoss: number;
  readonly reason: "steps" | "time" | "patience" | "cancelled";
}

/** What `signal` being aborted does: the step under way is finished, and the result is what there is then. */
export async function train(
  runtime: Runtime,
  config: ModelConfig,
  corpus: { readonly train: TokenCorpus; readonly heldOut: TokenCorpus },
  settings: TrainSettings,
  hooks: TrainHooks,
): Promise<TrainResult> {
  const { rows, seed, maxSteps, maxMs, accumulate = 1, compute = "float32" } = settings;
  const { groups = [], ema } = settings.optimizer;
  const table = parameterTable(config);
  const layout = arenaLayout(table, groupOf(groups, table));
  const lossScale = compute === "float16" ? createLossScale(settings.lossScale!) : undefined;
  const arena = () => createArena(runtime, layout);
  const parameters = arena();
  const owner = createOwner();
  const { own } = owner;
  let completed = false;
  try {
    for (const parameter of table) {
      const values = new Float32Array(parameters.tensors.get(parameter.name)!.byteLength / 4);
      initializeParameter(parameter, values, seed);
      runtime.write(parameters.tensors.get(parameter.name)!, values);
    }
    const gradients = own(arena());
    const moments: Moments = { first: own(arena()), second: own(arena()), ...(ema && { ema: own(arena()) }) };
    if (moments.ema) runtime.write(moments.ema.flat, parameters.flat.view());
    const step = own(
      await createTrainingStep(runtime, config, parameters, gradients, {
        rows,
        columns: corpus.train.maxLength,
        recompute: settings.recompute,
        dropout: { rate: config.dropout, seed },
        zLoss: settings.zLoss,
        compute,
      }),
    );
    const optimizer = own(await createAdamW(runtime, parameters, gradients, moments, settings.optimizer));
    const batches = createBatchSource(corpus.train, { seed, fillShare: settings.fillShare });

    const evaluate = async (at: number): Promise<Evaluation | undefined> => {
      if (corpus.heldOut.pieces === 0) return undefined;
      const loss = await withAverage(runtime, parameters, moments.ema, () =>
        heldOutLoss(step, corpus.heldOut, rows, settings.evaluatePieces),
      );
      const evaluation = { step: at, loss };
      hooks.onEvaluation?.(evaluation);
      return evaluation;
    };
    const before = await evaluate(0);
    let best = before;
    let last = before;
    /** What is judged and kept. */
    const weights = moments.ema ?? parameters;
    let bestWeights: Float32Array | undefined;
    let kept: Float32Array | undefined;
    let withoutBest = 0;
    let lastLoss = Number.NaN;
    let reason: TrainResult["reason"] = "steps";
    let updates = 0;
    const startMs = hooks.now();

    while (updates < maxSteps) {
      if (hooks.signal?.aborted) {
        reason = "cancelled";
        break;
      }
      const timeShare = (hooks.now() - startMs) / maxMs;
      if (timeShare >= 1) {
        reason = "time";
        break;
      }
      const learningRate = learningRateAt(settings.schedule, scheduledStep(settings.schedule, updates, timeShare));
      const taken: ModelBatch[] = [];
      while (taken.length < accumulate) {
        const next = await batches.next({ rows, columns: corpus.train.maxLength });
        if (next === undefined) break;
        taken.push(next.batch);
      }
      if (taken.length === 0) break;
      const gradientScale = lossScale?.scale ?? 1;
      lastLoss = (await gradientsOf(step, taken, { gradientScale, draw: updates })).loss;
      const gradientNorm = await optimizer.gradientNorm(gradientScale);
      const accepted = lossScale?.accepts(gradientNorm) ?? Number.isFinite(gradientNorm);
      const lowered = lossScale !== undefined && lossScale.scale < gradientScale;
      if (!Number.isFinite(lastLoss) || !(accepted || lowered)) throw diverged(updates, lastLoss, gradientNorm);
      if (accepted) await optimizer.update(learningRate, gradientNorm, gradientScale);
      updates++;
      const elapsedMs = hooks.now() - startMs;
      hooks.onStep?.({
        step: updates,
        done: Math.min(1, Math.max(updates / maxSteps, elapsedMs / maxMs)),
        loss: lastLoss,
        learningRate,
        gradientNorm,
        tokens: batches.tokens,
        tokensPerSecond: elapsedMs > 0 ? (1000 * batches.tokens) / elapsedMs : 0,
      });
      if (updates % settings.evaluateEvery !== 0 && updates < maxSteps) continue;
      last = await evaluate(updates);
      if (last === undefined || best === undefined) continue;
      if (last.loss < best.loss) {
        best = last;
        if (settings.keep === "best") bestWeights = (await runtime.download(weights.flat)) as Float32Array;
        withoutBest = 0;
      } else if (++withoutBest === settings.patience) {
        reason = "patience";
        break;
      }
    }
    if (last && best && before) {
      if (last.step !== updates) last = (await evaluate(updates)) ?? last;
      if (last.loss < best.loss) best = last;
      else if (settings.keep === "best") kept = bestWeights;
    }
    if (kept === undefined && moments.ema) kept = (await runtime.download(moments.ema.flat)) as Float32Array;
    if (kept) runtime.write(parameters.flat, kept);
    completed = true;
    return {
      parameters,
      steps: updates,
      tokens: batches.tokens,
      heldOut: before && best && last && { before, best, last },
      lastLoss,
      reason,
    };
  } finally {
    owner.dispose();
    if (!completed) parameters.dispose();
  }
}

/** Where training ends by time, the schedule goes by the share of time that is gone, if that is more. */
function scheduledStep(schedule: Schedule, updates: number, timeShare: number): number {
  return "total" in schedule ? Math.max(updates, Math.floor(timeShare * schedule.total)) : updates;
}

/** Mean over all tokens of the pieces; language modelling, every token a target. */
async function heldOutLoss(step: TrainingStep, corpus: TokenCorpus, rows: number, maxPieces: number): Promise<number> {
  let sum = 0;
  let targets = 0;
  for (const batch of evaluationBatches(corpus, { rows, objective: "lm", maxPieces })) {
    const count = countTargets(batch);
    if (count === 0) continue;
    sum += (await step.loss(batch)) * count;
    targets += count;
  }
  return sum / targets;
}

function diverged(updates: number, loss: number, norm: number): DataError {
  return new DataError("CPM_TRAIN_DIVERGED", "the loss or the gradient is no number any more", {
    where: `update ${updates + 1}`,
    got: `loss ${loss}, gradient norm ${norm}`,
    expected: "finite numbers",
    hint: "Lower the learning rate (schedule.peak), lengthen the warm-up, or look for broken text in the corpus.",
  });
}
