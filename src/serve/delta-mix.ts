/**
 * Deltas that share a model's batches, as requests name them: `MODEL:a` is the model with one of them, `MODEL:a+0.5*b` with
 * several, each with its weight. The weights are the row's own, so one batch holds any mixtures.
 */
import type { ServedModel } from "./served-model.ts";

const term = /^(?:(-?\d{1,3}(?:\.\d{1,6})?)\*)?([\w.-]{1,100})$/;
/** Far beyond what a delta was tuned for. */
const largestWeight = 10;

/** The weight of each of `deltas` by an expression; undefined where it is none, or names what there is not, or one twice. */
export function parseMix(expression: string, deltas: readonly string[]): readonly number[] | undefined {
  const weights = new Map<string, number>();
  for (const part of expression.split("+")) {
    const [, factor = "1", name] = term.exec(part) ?? [];
    const weight = Number(factor);
    if (name === undefined || !deltas.includes(name) || weights.has(name)) return undefined;
    if (Math.abs(weight) > largestWeight) return undefined;
    weights.set(name, weight);
  }
  return deltas.map((name) => weights.get(name) ?? 0);
}

/** The model with its deltas as an expression weighs them. */
export function mixedModel(model: ServedModel, expression: string): ServedModel | undefined {
  const mix = parseMix(expression, model.deltas);
  if (mix === undefined) return undefined;
  const label = model.deltas.includes(expression) ? `${model.id}:${expression}` : `${model.id}:+`;
  return { ...model, id: `${model.id}:${expression}`, label, base: model.id, mix };
}
