/**
 * Every error code of the kit: its headline in Chinese, its meaning in English and the remedy in both. The English
 * headline is the error's own sentence. `docs/errors.md` is written from this table, and a test demands an entry for
 * every code in the sources.
 */

import type { ErrorEntry } from "./error-entry.ts";
import { checkpointErrors } from "./errors-checkpoint.ts";
import { cliErrors } from "./errors-cli.ts";
import { dataErrors } from "./errors-data.ts";
import { datasetErrors } from "./errors-dataset.ts";
import { deltaErrors } from "./errors-delta.ts";
import { evalErrors } from "./errors-eval.ts";
import { runErrors } from "./errors-run.ts";
import { runtimeErrors } from "./errors-runtime.ts";
import { serveErrors } from "./errors-serve.ts";
import { taskErrors } from "./errors-task.ts";

export const errorCatalogue: Readonly<Record<string, ErrorEntry>> = {
  ...checkpointErrors,
  ...cliErrors,
  ...dataErrors,
  ...datasetErrors,
  ...deltaErrors,
  ...evalErrors,
  ...runErrors,
  ...runtimeErrors,
  ...serveErrors,
  ...taskErrors,
};
