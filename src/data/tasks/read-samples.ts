/**
 * The samples of a task's files: JSON Lines, plain, gzip or zstd, one row a line.
 *
 * A row that is not of the task is an error and not left out: a score over what happened to be readable would not be the
 * task's.
 */
import { z } from "zod";
import { DataError } from "../../util/error.ts";
import { lineBatches } from "../text-lines.ts";
import type { TaskSample } from "./sample.ts";
import type { Task } from "./task.ts";

/** A row is a few texts: anything larger is some other file. */
const maxRowBytes = 4 * 1024 * 1024;

/**
 * @throws FileError CPM_DATA_FILE where a file cannot be opened
 * @throws DataError CPM_TASK_ROW for a line that is not a row of the task
 */
export async function* readTaskSamples(
  task: Task,
  files: readonly string[],
  options: { readonly limit?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<TaskSample> {
  const { limit = Number.POSITIVE_INFINITY, signal } = options;
  let count = 0;
  if (limit <= 0) return;
  for (const file of files) {
    for await (const lines of lineBatches(file, maxRowBytes)) {
      signal?.throwIfAborted();
      if (lines instanceof Error) throw badRow(task, file, undefined, `the file breaks off: ${lines.message}`);
      for (const { bytes, number } of lines) {
        if (bytes === undefined) throw badRow(task, file, number, `longer than ${maxRowBytes} bytes`);
        for (const sample of samplesOfLine(task, bytes, file, number)) {
          yield sample;
          if (++count >= limit) return;
        }
      }
    }
  }
}

function samplesOfLine(task: Task, bytes: Uint8Array, file: string, number: number): readonly TaskSample[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw badRow(task, file, number, "the bytes are not utf-8");
  }
  if (text.trim() === "") return [];
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch (error) {
    throw badRow(task, file, number, `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const name = file.replace(/^.*[\\/]/, "");
    return task.samples(row, `${name}:${number}`);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const [issue] = error.issues;
    throw badRow(task, file, number, `${issue?.path.join(".") || "the row"}: ${issue?.message}`);
  }
}

function badRow(task: Task, file: string, line: number | undefined, got: string): DataError {
  return new DataError("CPM_TASK_ROW", `a line is not a row of the task ${task.name}`, {
    where: line === undefined ? file : `${file}, line ${line}`,
    got,
    hint: "Mend the line, or name the task that the file is of.",
  });
}
