/** A run's description as the world may see it: where alerts go is nobody's business but the team's. */
import { type RunDescription, readRun } from "./run-folder.ts";

/** Keys of a recipe that are never served or exported. */
const secretKeys = ["alerts"];

/** Errors: those of `readRun`. */
export function readPublicRun(folder: string): RunDescription {
  const run = readRun(folder);
  const recipe = Object.fromEntries(Object.entries(run.recipe).filter(([key]) => !secretKeys.includes(key)));
  return { ...run, recipe };
}
