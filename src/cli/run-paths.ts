/** Where the parts of a training are that nobody named. */
import { join } from "node:path";

/** The run that a model's folder comes from, where none is named. */
export function runBeside(output: string): string {
  return `${output.replace(/[\\/]+$/, "")}.run`;
}

/** A run's data set, where the run began with text files. */
export const ownData = "data";

export function ownDataOf(run: string): string {
  return join(run, ownData);
}
