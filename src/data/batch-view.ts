/**
 * A batch as a person reads it: samples of each row token by token, what each token is to the model, where it came from,
 * who sees whom. Plain data, without colours; `cpm data view` draws it.
 */
import { attentionAllowed, ignoredTarget } from "../model/batch.ts";
import type { SampleOrigin, SourceBatch } from "./batch-source.ts";

/** `prompt`: of the soft prompt. `target`: predicted by the position before it, seen by later targets alone. */
export type TokenRole = "prompt" | "context" | "target";

export interface ViewedToken {
  readonly column: number;
  readonly id: number;
  readonly text: string;
  readonly role: TokenRole;
  /** The id that this position has to predict. */
  readonly predicts?: number;
}

export interface ViewedSample extends SampleOrigin {
  /** Number in the row: samples of different numbers do not see each other. */
  readonly span: number;
  readonly segment: number;
  readonly targets: number;
  readonly tokens: readonly ViewedToken[];
}

export interface ViewedRow {
  readonly row: number;
  /** Columns in use; the rest is padding. */
  readonly used: number;
  readonly samples: readonly ViewedSample[];
}

export interface BatchView {
  readonly columns: number;
  readonly promptLength: number;
  readonly tokens: number;
  readonly targets: number;
  /** Share of all columns that hold something. */
  readonly fill: number;
  readonly rows: readonly ViewedRow[];
}

/** @param tokenText the text of a token id; of soft prompts "task·position" is shown */
export function viewBatch(
  { batch, samples, tokens, targets }: SourceBatch,
  promptLength: number,
  tokenText: (id: number) => string,
): BatchView {
  const { columns } = batch;
  const rows: ViewedRow[] = [];
  let used = 0;
  for (let row = 0; row < batch.rows; row++) {
    const viewed = samples.filter((sample) => sample.row === row).map((sample) => viewSample(sample));
    rows.push({ row, used: batch.length[row]!, samples: viewed });
    used += batch.length[row]!;
  }
  return { columns, promptLength, tokens, targets, fill: used / (batch.rows * columns), rows };

  function viewSample(sample: SampleOrigin): ViewedSample {
    const first = sample.row * columns + sample.start;
    const viewed: ViewedToken[] = [];
    for (let i = 0; i < sample.length; i++) {
      const at = first + i;
      const id = batch.input[at]!;
      const ofTable = batch.prompt ? batch.prompt[at] === 1 : sample.start + i < promptLength;
      const text = ofTable ? `${Math.floor(id / promptLength)}·${id % promptLength}` : tokenText(id);
      const role = i < promptLength ? "prompt" : batch.context[at] === 1 ? "context" : "target";
      const predicts = batch.target[at]!;
      viewed.push({ column: sample.start + i, id, text, role, ...(predicts !== ignoredTarget && { predicts }) });
    }
    return {
      ...sample,
      span: batch.span[first]!,
      segment: batch.segment[first + sample.length - 1]!,
      targets: viewed.filter(({ predicts }) => predicts !== undefined).length,
      tokens: viewed,
    };
  }
}

/**
 * Who sees whom in a row, as `size` lines of `size` shares from 0 to 1: of the pairs that a cell stands for, those where the query
 * (line) may see the key. Smaller than the row's used columns, a cell stands for several.
 */
export function viewMask({ batch }: SourceBatch, row: number, size: number): Float64Array[] {
  const { columns } = batch;
  const used = batch.length[row]!;
  const cells = Math.min(size, used);
  const part = (array: Int32Array) => array.subarray(row * columns, row * columns + columns);
  const allowed = attentionAllowed({
    rows: 1,
    columns,
    length: Int32Array.of(used),
    context: batch.context.subarray(row * columns, row * columns + columns),
    span: part(batch.span),
  });
  const cellOf = (column: number) => Math.floor((column * cells) / used);
  const lines = Array.from({ length: cells }, () => new Float64Array(cells));
  const counts = new Float64Array(cells);
  for (let column = 0; column < used; column++) counts[cellOf(column)]!++;
  for (let query = 0; query < used; query++) {
    const line = lines[cellOf(query)]!;
    for (let key = 0; key < used; key++) line[cellOf(key)]! += allowed[query * columns + key]!;
  }
  for (const [y, line] of lines.entries()) for (let x = 0; x < cells; x++) line[x]! /= counts[x]! * counts[y]!;
  return lines;
}
