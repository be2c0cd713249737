/** The model's folder that training leaves: the weights of a checkpoint, with what they came from and how good they are. */
import { existsSync } from "node:fs";
import type { UnigramEntropy } from "../data/index.ts";
import type { PretrainResult } from "../train/index.ts";
import { ConfigError } from "../util/error.ts";
import { type CommandContext, note, say } from "./context.ts";
import { trainMessages as messages } from "./messages/train.ts";
import { formatInteger, formatNumber } from "./quantity.ts";
import type { Recipe } from "./run-recipe.ts";

/** Refuses a folder that exists before any time is spent. */
export function requireNewFolder(path: string, context: CommandContext): void {
  if (!existsSync(path)) return;
  throw new ConfigError("CPM_TRAIN_OUTPUT", say(context, messages.exists, { path }), {
    where: "output",
    hint: say(context, messages.existsHint),
  });
}

const endings = {
  steps: messages.endSteps,
  time: messages.endTime,
  patience: messages.endPatience,
  data: messages.endData,
  cancelled: messages.endCancelled,
} as const;

/** How training ended, and the held-out losses. */
export function tellEnd(result: PretrainResult, entropy: UnigramEntropy | undefined, context: CommandContext): void {
  const { step, tokens, reason, first, best } = result;
  note(context, say(context, endings[reason], { steps: formatInteger(step), tokens: formatInteger(tokens) }));
  if (first === undefined || best === undefined || entropy === undefined) return;
  note(
    context,
    say(context, messages.summaryLine, {
      before: formatNumber(round(first.nats)),
      best: formatNumber(round(best.nats)),
      step: formatInteger(best.step),
      bits: formatNumber(round(best.bitsPerCharacter ?? Number.NaN)),
      entropy: formatNumber(round(entropy.natsPerToken)),
    }),
  );
}

/**
 * Writes the model's folder: by `keep` the weights of the lowest held-out loss, where their checkpoint is there, or the
 * last. With an average of the weights that is judged, it is the average that is written.
 *
 * @returns the step of the weights
 */
export async function writeModel(
  output: string,
  checkpoints: string,
  recipe: Recipe,
  result: PretrainResult,
  record: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<number> {
  const { exportCheckpoint, listCheckpoints } = await import("../train/index.ts");
  const { step: last, best, validation } = result;
  const wanted = recipe.keep === "best" && best !== undefined && best.step > 0 ? best.step : last;
  const present = (await listCheckpoints(checkpoints)).map(({ step }) => step);
  const step = present.includes(wanted) ? wanted : last;
  if (step !== wanted) note(context, say(context, messages.bestGone, { step: formatInteger(wanted) }));
  const source = (await listCheckpoints(checkpoints)).find((each) => each.step === step)!.path;
  const files = { "train.json": `${JSON.stringify({ ...record, weights: { step } }, undefined, 2)}\n` };
  await exportCheckpoint(source, output, { average: recipe.optimizer.ema?.validate ?? false, files });
  if (recipe.keep === "last" && best !== undefined && best.step !== last && validation?.step === last)
    note(context, say(context, messages.keptLast, { last: formatNumber(round(validation.nats)) }));
  note(context, say(context, messages.saved, { path: output }));
  return step;
}

export function round(value: number): number {
  return Number(value.toFixed(3));
}
