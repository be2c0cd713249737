/**
 * Initial weights as the original: linear layers N(0, 1), token, prompt and segment tables N(0, 0.02), the position bias
 * table N(0, 1), norms 1.
 *
 * With the division by √fan_in at run time this is a muP-like parametrisation: updates of one size suit all widths, and
 * learning rates are some ten times those of models that scale their weights. Each number depends on the seed, the
 * parameter's name and its place alone, not on the order in which parameters are filled.
 */
import type { Parameter } from "../model/parameters.ts";
import { fillNormal, type Seed } from "../util/random.ts";

const tableDeviation = 0.02;

/** Fills one parameter. */
export function initializeParameter({ name, kind }: Parameter, out: Float32Array, seed: Seed): void {
  if (kind === "norm") out.fill(1);
  else fillNormal(out, seed, `init ${name}`, 0, kind === "embedding" ? tableDeviation : 1);
}
