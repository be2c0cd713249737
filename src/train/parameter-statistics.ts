/** What every parameter looks like, for the page of parameter dynamics: a pass over the weights and their gradients. */
import type { Arena } from "./arena.ts";

export interface ParameterStatistics {
  readonly name: string;
  readonly shape: readonly number[];
  readonly mean: number;
  readonly std: number;
  readonly min: number;
  readonly max: number;
  readonly gradMean: number;
  readonly gradStd: number;
}

/** Of every parameter in the arena's order; some 2 ns a weight. */
export function parameterStatistics(parameters: Arena, gradients: Arena): ParameterStatistics[] {
  return parameters.layout.parameters.map(({ name, shape }) => {
    const { mean, std, min, max } = moments(parameters.tensors.get(name)!.view() as Float32Array);
    const gradient = moments(gradients.tensors.get(name)!.view() as Float32Array);
    return { name, shape, mean, std, min, max, gradMean: gradient.mean, gradStd: gradient.std };
  });
}

function moments(values: Float32Array): { mean: number; std: number; min: number; max: number } {
  let sum = 0;
  let squares = 0;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    sum += value;
    squares += value * value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const mean = sum / values.length;
  return { mean, std: Math.sqrt(Math.max(0, squares / values.length - mean * mean)), min, max };
}
