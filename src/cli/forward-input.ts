/**
 * The input of `cpm forward`: a safetensors file with a batch (`batch.input`, `batch.length`, …) or with prompts to
 * continue (`input`, `length`), as other implementations of the model write them. Whole numbers of any width come in;
 * what goes on is checked against the model. Other tensors of the file are not looked at.
 */
import type { RawCheckpoint } from "../checkpoint/index.ts";
import { checkBatch, ignoredTarget, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { DataError } from "../util/error.ts";

/** A batch, and whether the file has targets. Without them all of `target` is ignored. */
export interface GivenBatch {
  readonly batch: ModelBatch;
  readonly hasTarget: boolean;
  /** The file has `batch.position`, which the model does not read. */
  readonly hasPosition: boolean;
}

/** Prompts of one task, without soft prompts and padding. */
export interface GivenPrompts {
  readonly promptTask: number;
  readonly prompts: readonly (readonly number[])[];
}

interface Integers {
  readonly shape: readonly number[];
  readonly data: Int32Array;
}

const integerDTypes = ["int64", "int32", "int8", "uint8", "bool"] as const;
const batchFields = ["input", "length", "context", "segment", "span"] as const;

/**
 * Reads `batch.*`.
 *
 * @throws DataError `CPM_FORWARD_INPUT` (a tensor missing, of another dtype or shape), `CPM_DATA_BATCH`
 */
export async function readBatch(file: RawCheckpoint, config: ModelConfig): Promise<GivenBatch> {
  const hasTarget = file.tensors.has("batch.target");
  const names = [...batchFields, ...(hasTarget ? (["target"] as const) : [])].map((field) => `batch.${field}`);
  requireTensors(file, names, "cpm forward --decode N continues the prompts of input and length");
  const { shape } = await integers(file, "batch.input");
  const [rows, columns] = sizes(file, "batch.input", shape, 2) as [number, number];
  const field = async (name: string, expected: readonly number[]): Promise<Int32Array> =>
    (await integers(file, `batch.${name}`, expected)).data;
  const grid = [rows, columns];
  const flags = async (name: string): Promise<Uint8Array> => {
    const data = await field(name, grid);
    const strange = data.findIndex((flag) => flag !== 0 && flag !== 1);
    if (strange < 0) return Uint8Array.from(data);
    throw wrong(file, `batch.${name}, row ${Math.floor(strange / columns)}, column ${strange % columns}`, {
      got: String(data[strange]),
      expected: "0 or 1",
    });
  };
  const batch: ModelBatch = {
    rows,
    columns,
    input: await field("input", grid),
    length: await field("length", [rows]),
    context: await flags("context"),
    segment: await field("segment", grid),
    span: await field("span", grid),
    target: hasTarget ? await field("target", grid) : new Int32Array(rows * columns).fill(ignoredTarget),
    ...(file.tensors.has("batch.prompt") && { prompt: await flags("prompt") }),
  };
  checkBatch(batch, config);
  return { batch, hasTarget, hasPosition: file.tensors.has("batch.position") };
}

/**
 * Reads `input` [B, P + T] and `length` [B]: soft-prompt ids, then text whose last `length` columns are real.
 *
 * @throws DataError `CPM_FORWARD_INPUT`: as `readBatch`, and for rows that are not of one task
 */
export async function readPrompts(file: RawCheckpoint, config: ModelConfig): Promise<GivenPrompts> {
  requireTensors(file, ["input", "length"], "cpm forward without --decode runs batch.input and its fields");
  const input = await integers(file, "input");
  const [rows, columns] = sizes(file, "input", input.shape, 2) as [number, number];
  const { data: lengths } = await integers(file, "length", [rows]);
  const { promptLength: P, promptTypes, vocabSize } = config;
  const textColumns = columns - P;
  if (textColumns < 1) {
    throw wrong(file, "input", { got: `${columns} columns`, expected: `more than the soft prompt's ${P}` });
  }
  const promptTask = Math.floor(input.data[0]! / P);
  const prompts: number[][] = [];
  for (let row = 0; row < rows; row++) {
    const ids = Array.from(input.data.subarray(row * columns, (row + 1) * columns));
    for (let column = 0; column < P; column++) {
      if (ids[column] === promptTask * P + column && promptTask >= 0 && promptTask < promptTypes) continue;
      throw wrong(file, `input, row ${row}, column ${column}`, {
        got: `prompt id ${ids[column]}`,
        expected: `the soft prompt of one task in all rows: task·${P} + column, task 0 to ${promptTypes - 1}`,
      });
    }
    const length = lengths[row]!;
    if (length < 1 || length > textColumns) {
      throw wrong(file, `length, row ${row}`, { got: String(length), expected: `1 to ${textColumns}` });
    }
    for (let column = columns - length; column < columns; column++) {
      const id = ids[column]!;
      if (id >= 0 && id < vocabSize) continue;
      throw wrong(file, `input, row ${row}, column ${column}`, {
        got: `token id ${id}`,
        expected: `0 to ${vocabSize - 1}`,
      });
    }
    prompts.push(ids.slice(columns - length));
  }
  return { promptTask, prompts };
}

function requireTensors(file: RawCheckpoint, names: readonly string[], otherwise: string): void {
  const missing = names.filter((name) => !file.tensors.has(name));
  if (missing.length === 0) return;
  const present = [...file.tensors.keys()];
  throw new DataError("CPM_FORWARD_INPUT", `the input lacks ${missing.join(", ")}`, {
    where: file.files.join(", "),
    got: present.length > 12 ? `${present.slice(0, 12).join(", ")} … (${present.length} tensors)` : present.join(", "),
    expected: names.join(", "),
    hint: `Add them; ${otherwise}.`,
  });
}

function wrong(
  file: RawCheckpoint,
  where: string,
  details: { readonly got: string; readonly expected: string; readonly hint?: string },
): DataError {
  return new DataError("CPM_FORWARD_INPUT", "a tensor of the input is not as it must be", {
    where: `${file.files.join(", ")}: ${where}`,
    ...details,
  });
}

function sizes(file: RawCheckpoint, name: string, shape: readonly number[], axes: number): readonly number[] {
  if (shape.length === axes && shape.every((size) => size > 0)) return shape;
  throw wrong(file, name, { got: `[${shape.join(", ")}]`, expected: "[rows, columns], neither empty" });
}

/** A tensor of whole numbers; `expected` is its shape where it is known. */
async function integers(file: RawCheckpoint, name: string, expected?: readonly number[]): Promise<Integers> {
  const tensor = file.tensors.get(name)!;
  const { shape, dtype, storedDType } = tensor;
  if (!integerDTypes.some((known) => known === dtype)) {
    throw wrong(file, name, { got: storedDType, expected: "whole numbers: I64, I32, I8, U8 or BOOL" });
  }
  if (expected !== undefined && (shape.length !== expected.length || !expected.every((n, axis) => n === shape[axis]))) {
    throw wrong(file, name, { got: `[${shape.join(", ")}]`, expected: `[${expected.join(", ")}]` });
  }
  const elements = await tensor.read();
  const data = new Int32Array(elements.length);
  for (let i = 0; i < elements.length; i++) {
    const value = Number(elements[i]!);
    data[i] = value;
    if (data[i] === value) continue;
    const row = shape.length === 2 ? `, row ${Math.floor(i / shape[1]!)}, column ${i % shape[1]!}` : `, element ${i}`;
    throw wrong(file, `${name}${row}`, { got: String(elements[i]), expected: "a number of 32 bits" });
  }
  return { shape, data };
}
