/**
 * One row of logits, [V]: what may be said about it (maximum, log-sum-exp, best entries) and what is changed in it
 * before a token is chosen (repetition penalty, bias, forbidden tokens). Temperature and truncation are in `sample.ts`.
 *
 * V goes up to some 90,000 and this runs for every generated token, so a row is passed over few times and never sorted.
 */
import { RuntimeError } from "../util/error.ts";
import type { TokenConstraint } from "./constraint/token-constraint.ts";
import { type LoadedRow, loadRow } from "./row-kernels.ts";

/** Where a row of logits came from, for messages: index of the prompt, step of the generation. */
export interface LogitsOrigin {
  readonly row: number;
  readonly step: number;
}

/** Of a row: max, Σ exp(x − max) and ln Σ exp(x). */
export interface RowStatistics {
  readonly loaded: LoadedRow;
  readonly max: number;
  readonly sum: number;
  readonly logSumExp: number;
}

/** The id of the largest entry; the lowest of equals. No NaN. */
export function argmax(row: Float32Array): number {
  return row.indexOf(loadRow(row).largest());
}

/**
 * Maximum and log-sum-exp of a row; ln p(i) = row[i] − logSumExp. The row is in the kernels' memory then, with its weights
 * exp(row − max), which add up to `sum`.
 *
 * Throws CPM_INFER_NAN where an entry is NaN or +∞, and CPM_INFER_NO_TOKEN where all are −∞.
 */
export function rowStatistics(row: Float32Array, origin: LogitsOrigin): RowStatistics {
  const loaded = loadRow(row);
  const max = loaded.largest();
  // A row of −∞ alone gives (−∞) − (−∞): NaN as well, told apart below.
  const sum = loaded.exponentials(max, 1);
  if (!(sum < Infinity)) throw unusableRow(row, origin);
  return { loaded, max, sum, logSumExp: max + Math.log(sum) };
}

function unusableRow(row: Float32Array, { row: batchRow, step }: LogitsOrigin): RuntimeError {
  const where = `row ${batchRow}, step ${step}`;
  const id = row.findIndex((value) => Number.isNaN(value) || value === Infinity);
  if (id >= 0) {
    return new RuntimeError("CPM_INFER_NAN", "the model gave a logit that is not a finite number", {
      where,
      got: `${row[id]} for token ${id}`,
      hint: "check the weights for NaN or infinity (cpm inspect), or compute in a wider type than fp16",
    });
  }
  return new RuntimeError("CPM_INFER_NO_TOKEN", "every token is forbidden, so none can be chosen", {
    where,
    hint: "forbid fewer tokens, or lower minTokens",
  });
}

/** The best entries of a row, from the largest; equal ones by id. */
export interface TopEntries {
  readonly ids: Int32Array;
  readonly values: Float32Array;
}

/** The `count` largest entries (all, if V is less) in one pass over the row with a heap of `count`. No NaN. */
export function topEntries(row: Float32Array, count: number): TopEntries {
  const size = Math.min(count, row.length);
  const ids = new Int32Array(size);
  const values = new Float32Array(size);
  if (size === 0) return { ids, values };
  for (let i = 0; i < size; i++) {
    values[i] = row[i]!;
    ids[i] = i;
  }
  for (let i = (size >> 1) - 1; i >= 0; i--) sink(values, ids, i, size, values[i]!, ids[i]!);
  for (let i = nextAbove(row, size, values[0]!); i < row.length; i = nextAbove(row, i + 1, values[0]!)) {
    sink(values, ids, 0, size, row[i]!, i);
  }
  for (let end = size - 1; end > 0; end--) {
    const value = values[end]!;
    const id = ids[end]!;
    values[end] = values[0]!;
    ids[end] = ids[0]!;
    sink(values, ids, 0, end, value, id);
  }
  return { ids, values };
}

/** The first place from `from` on with an entry above `bar`; the length if there is none. */
function nextAbove(row: Float32Array, from: number, bar: number): number {
  const length = row.length;
  for (let i = from; i < length; i++) if (row[i]! > bar) return i;
  return length;
}

/** Puts an entry into the hole at `from` of a heap of `end` entries whose root is the worst: smallest value, then highest id. */
function sink(values: Float32Array, ids: Int32Array, from: number, end: number, value: number, id: number): void {
  let at = from;
  for (let child = 2 * at + 1; child < end; child = 2 * at + 1) {
    if (child + 1 < end && worse(values[child + 1]!, ids[child + 1]!, values[child]!, ids[child]!)) child++;
    if (!worse(values[child]!, ids[child]!, value, id)) break;
    values[at] = values[child]!;
    ids[at] = ids[child]!;
    at = child;
  }
  values[at] = value;
  ids[at] = id;
}

function worse(valueA: number, idA: number, valueB: number, idB: number): boolean {
  return valueA < valueB || (valueA === valueB && idA > idB);
}

/** What is changed in a row of logits before a token is chosen. */
export interface LogitRules {
  /** CTRL (Keskar et al. 2019): positive logits of generated tokens are divided by it, negative ones multiplied; 1 is off. */
  readonly repetitionPenalty: number;
  /** How many of the last generated tokens the penalty sees; 0 is all of them. */
  readonly repetitionWindow: number;
  /** Subtracted from the logit of each token that was generated, as OpenAI's APIs have it. Default 0. */
  readonly presencePenalty?: number | undefined;
  /** Subtracted as often as the token was generated. Default 0. */
  readonly frequencyPenalty?: number | undefined;
  /** [id, number added to its logit]. */
  readonly bias: readonly (readonly [id: number, added: number])[];
  readonly forbidden: readonly number[];
  /** Forbidden as the first token only. */
  readonly forbiddenFirst: readonly number[];
  /** Forbidden until `minTokens` have been generated. */
  readonly ends: readonly number[];
  readonly minTokens: number;
  /** Forbids what would leave a format; ends are allowed where, and only where, the text may end. */
  readonly constraint?: TokenConstraint | undefined;
}

export interface LogitEditor {
  /**
   * Changes the row in place: the repetition penalty on the generated tokens (each once, however often it came), what is
   * subtracted for their presence and frequency, then bias, then −∞ for what is forbidden. True if anything was touched. `generated` holds the tokens after the prompt.
   */
  apply(row: Float32Array, generated: readonly number[]): boolean;
  /** Undoes the last `apply`, so that the row shows the model's own numbers again. */
  restore(row: Float32Array): void;
}

/** An editor of rows of `vocabSize` logits. Ids in the rules must be below it (the caller has checked). */
export function createLogitEditor(vocabSize: number, rules: LogitRules): LogitEditor {
  const { repetitionPenalty, repetitionWindow, bias, forbidden, forbiddenFirst, ends, minTokens, constraint } = rules;
  const { presencePenalty = 0, frequencyPenalty = 0 } = rules;
  /** The row before a constraint changed most of it. */
  const whole = constraint === undefined ? undefined : new Float32Array(vocabSize);
  let editedIds: number[] = [];
  let editedValues: number[] = [];
  // lastSeen[id] === round marks an id that this round's penalty has already met.
  const lastSeen = repetitionPenalty === 1 ? undefined : new Uint32Array(vocabSize);
  let round = 0;

  const write = (row: Float32Array, id: number, value: number) => {
    editedIds.push(id);
    editedValues.push(row[id]!);
    row[id] = value;
  };
  const forbid = (row: Float32Array, ids: readonly number[]) => {
    for (const id of ids) write(row, id, -Infinity);
  };

  return {
    apply(row, generated) {
      editedIds = [];
      editedValues = [];
      if (constraint !== undefined) {
        const { tokens, mayEnd } = constraint.after(generated);
        whole!.set(row);
        for (let id = 0; id < vocabSize; id++) if (tokens[id] === 0) row[id] = -Infinity;
        for (const id of ends) row[id] = mayEnd ? whole![id]! : -Infinity;
      }
      if (lastSeen !== undefined) {
        if (++round === 2 ** 32) {
          lastSeen.fill(0);
          round = 1;
        }
        const from = repetitionWindow === 0 ? 0 : Math.max(0, generated.length - repetitionWindow);
        for (let i = from; i < generated.length; i++) {
          const id = generated[i]!;
          if (lastSeen[id] === round) continue;
          lastSeen[id] = round;
          const value = row[id]!;
          write(row, id, value < 0 ? value * repetitionPenalty : value / repetitionPenalty);
        }
      }
      if (presencePenalty !== 0 || frequencyPenalty !== 0) {
        const counts = new Map<number, number>();
        for (const id of generated) counts.set(id, (counts.get(id) ?? 0) + 1);
        for (const [id, count] of counts) write(row, id, row[id]! - presencePenalty - frequencyPenalty * count);
      }
      for (const [id, added] of bias) write(row, id, row[id]! + added);
      forbid(row, forbidden);
      if (generated.length === 0) forbid(row, forbiddenFirst);
      if (generated.length < minTokens) forbid(row, ends);
      return constraint !== undefined || editedIds.length > 0;
    },
    restore(row) {
      if (whole !== undefined) {
        row.set(whole);
        return;
      }
      for (let i = editedIds.length - 1; i >= 0; i--) row[editedIds[i]!] = editedValues[i]!;
      editedIds = [];
      editedValues = [];
    },
  };
}
