/**
 * The inputs of one pass through the model as plain arrays, their validation, and the attention mask that follows
 * from them. No tensors and no runtime here: whoever runs a program uploads these.
 *
 * Layout (CPM-Ant): a row starts with promptLength soft-prompt ids (task·promptLength + i, rows of their own table),
 * then text. Right padding in training, left padding between prompt and text when generating. A packed row holds several
 * samples, one after the other, each with its own prompt and span number.
 *
 * Legend: B rows, T columns of a row (prompt included), Q queries.
 */
import { DataError } from "../util/error.ts";
import type { ModelConfig } from "./config.ts";

/** The value of `target` where a position has no loss. */
export const ignoredTarget = -100;

/** What decides who sees whom. */
export interface AttentionInput {
  /** B */
  readonly rows: number;
  /** T, prompt included */
  readonly columns: number;
  /** length_B: how much of the row is real; what it counts depends on the padding, see `Padding`. */
  readonly length: Int32Array;
  /** context_BT: 1 = seen by the whole span, 0 = a target, seen only by itself and by later targets. */
  readonly context: Uint8Array;
  /** span_BT, ≥ 0: the number of the sample in the row; samples never see each other. */
  readonly span: Int32Array;
}

/** A batch for training or scoring; every array of [B, T] is row-major. */
export interface ModelBatch extends AttentionInput {
  /** input_BT: prompt ids in the first promptLength columns, then token ids; 0 as padding. */
  readonly input: Int32Array;
  /** segment_BT: 0 for the prompt, ≥ 1 for text; 0 as padding. */
  readonly segment: Int32Array;
  /** target_BT: the id to predict from this position, or `ignoredTarget`. */
  readonly target: Int32Array;
  /** prompt_BT of packed rows: 1 where `input` is a prompt id. Absent: the first promptLength columns of each row. */
  readonly prompt?: Uint8Array;
}

/** What a batch must fit. */
export type BatchLimits = Pick<ModelConfig, "vocabSize" | "promptTypes" | "promptLength" | "segmentTypes">;

/** An empty batch: all zero, all targets ignored; `packed` with flags of which ids are prompts. */
export function createBatch(rows: number, columns: number, packed = false): ModelBatch {
  const size = rows * columns;
  return {
    ...(packed && { prompt: new Uint8Array(size) }),
    rows,
    columns,
    input: new Int32Array(size),
    length: new Int32Array(rows),
    context: new Uint8Array(size),
    segment: new Int32Array(size),
    span: new Int32Array(size),
    target: new Int32Array(size).fill(ignoredTarget),
  };
}

/** How many positions bear a loss. */
export function countTargets(batch: Pick<ModelBatch, "target">): number {
  let count = 0;
  for (const id of batch.target) if (id !== ignoredTarget) count++;
  return count;
}

/**
 * Fails unless a training batch (right padding) can be run: array sizes, ids inside their tables, lengths inside the
 * row, no loss on padding.
 *
 * @throws DataError CPM_DATA_BATCH naming field, row and column of the first fault
 */
export function checkBatch(batch: ModelBatch, limits: BatchLimits): void {
  const { rows, columns } = batch;
  const { vocabSize, promptLength, promptTypes, segmentTypes } = limits;
  if (!Number.isInteger(rows) || rows < 1) fault("rows", String(rows), "at least 1");
  if (!Number.isInteger(columns) || columns < promptLength + 1) {
    fault("columns", String(columns), `more than the prompt's ${promptLength}`);
  }
  if (batch.length.length !== rows) fault("length", `${batch.length.length} numbers`, `${rows}, one a row`);
  for (const field of ["input", "context", "segment", "span", "target"] as const) {
    const size = batch[field].length;
    if (size !== rows * columns)
      fault(field, `${size} numbers`, `${rows * columns} = ${rows} rows · ${columns} columns`);
  }
  if (batch.prompt !== undefined && batch.prompt.length !== rows * columns) {
    fault("prompt", `${batch.prompt.length} numbers`, `${rows * columns} = ${rows} rows · ${columns} columns`);
  }
  const promptRows = promptTypes * promptLength;
  for (let row = 0; row < rows; row++) {
    const length = batch.length[row]!;
    if (length < 0 || length > columns) fault("length", String(length), `0 to ${columns}`, row);
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column;
      const id = batch.input[at]!;
      if (batch.prompt && batch.prompt[at]! > 1) fault("prompt", String(batch.prompt[at]), "0 or 1", row, column);
      if (batch.prompt ? batch.prompt[at] === 1 : column < promptLength) {
        if (id < 0 || id >= promptRows) {
          fault(
            "input",
            `prompt id ${id}`,
            `0 to ${promptRows - 1} (${promptTypes} prompts of ${promptLength})`,
            row,
            column,
          );
        }
      } else if (id < 0 || id >= vocabSize) {
        fault("input", `token id ${id}`, `0 to ${vocabSize - 1}`, row, column);
      }
      const segment = batch.segment[at]!;
      if (segment < 0 || segment >= segmentTypes)
        fault("segment", String(segment), `0 to ${segmentTypes - 1}`, row, column);
      const context = batch.context[at]!;
      if (context > 1) fault("context", String(context), "0 or 1", row, column);
      const span = batch.span[at]!;
      if (span < 0) fault("span", String(span), "0 or more", row, column);
      const target = batch.target[at]!;
      if (target === ignoredTarget) continue;
      if (target < 0 || target >= vocabSize) {
        fault("target", String(target), `0 to ${vocabSize - 1}, or ${ignoredTarget} for none`, row, column);
      }
      if (column >= length)
        fault("target", `${target} on padding`, `${ignoredTarget} from column ${length} on`, row, column);
    }
  }
}

function fault(field: string, got: string, expected: string, row?: number, column?: number): never {
  const place =
    column !== undefined
      ? `${field}, row ${row}, column ${column}`
      : row !== undefined
        ? `${field}, row ${row}`
        : field;
  throw new DataError("CPM_DATA_BATCH", "A batch does not fit the model", {
    where: place,
    got,
    expected,
    hint: "Check that the data was tokenised with this model's vocabulary and built for its prompt length.",
  });
}

/**
 * Where a row's real columns are.
 *
 * - `"right"` (training): column i is real where i < length; `length` counts the prompt.
 * - `{ left: promptLength }` (generating): the prompt is real, then padding, then text: column i ≥ promptLength is real
 *   where columns − 1 − i < length; `length` counts the text alone.
 */
export type Padding = "right" | { readonly left: number };

/**
 * allowed_BQT, 1 where the query at column firstQuery + q may see the key at column k:
 *
 *     (c[k] or (not c[q] and k ≤ q)) and span[q] = span[k] and v[q] and v[k]
 *
 * with c the context flag and v "is real". A context query never sees a target; a padded query sees nothing.
 *
 * @param firstQuery as for `positionBuckets`
 * @param out filled and returned where given; must hold rows·Q·columns numbers
 */
export function attentionAllowed(
  input: AttentionInput,
  padding: Padding = "right",
  firstQuery = 0,
  out: Uint8Array = new Uint8Array(input.rows * (input.columns - firstQuery) * input.columns),
): Uint8Array {
  fillAttention(input, padding, firstQuery, out, 1, 0);
  return out;
}

/** Added to a score that must not count: far below any score, far above overflow when a bias is added too. */
export const blockedScore = -1e9;

/**
 * The same as numbers to add to the scores: 0 where allowed, `blocked` elsewhere. A query that may see nothing has
 * `blocked` everywhere, so its softmax is not zero: multiply by `attentionAllowed` where this matters.
 */
export function attentionBias(
  input: AttentionInput,
  padding: Padding = "right",
  firstQuery = 0,
  blocked: number = blockedScore,
  out: Float32Array = new Float32Array(input.rows * (input.columns - firstQuery) * input.columns),
): Float32Array {
  fillAttention(input, padding, firstQuery, out, 0, blocked);
  return out;
}

function fillAttention(
  input: AttentionInput,
  padding: Padding,
  firstQuery: number,
  out: Uint8Array | Float32Array,
  yes: number,
  no: number,
): void {
  const { rows, columns, length, context, span } = input;
  const queries = columns - firstQuery;
  if (queries < 0 || out.length !== rows * queries * columns) {
    throw new Error(
      `internal: attention mask of ${out.length} for ${rows} rows of ${columns} from query ${firstQuery}`,
    );
  }
  // A key is seen by the queries of its span: by all of them, or by the targets at or after it; -1 by none.
  const spanForAll = new Int32Array(columns);
  const spanForTargets = new Int32Array(columns);
  let offset = 0;
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    for (let key = 0; key < columns; key++) {
      const real = isReal(key, columns, length[row]!, padding);
      spanForTargets[key] = real ? span[start + key]! : -1;
      spanForAll[key] = real && context[start + key] !== 0 ? span[start + key]! : -1;
    }
    for (let query = firstQuery; query < columns; query++, offset += columns) {
      const own = spanForTargets[query]!;
      if (own < 0) {
        out.fill(no, offset, offset + columns);
        continue;
      }
      const past = context[start + query] === 0 ? query + 1 : 0; // keys before this are seen even as targets
      for (let key = 0; key < past; key++) out[offset + key] = spanForTargets[key] === own ? yes : no;
      for (let key = past; key < columns; key++) out[offset + key] = spanForAll[key] === own ? yes : no;
    }
  }
}

function isReal(column: number, columns: number, length: number, padding: Padding): boolean {
  if (padding === "right") return column < length;
  return column < padding.left || columns - 1 - column < length;
}
