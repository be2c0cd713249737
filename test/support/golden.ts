/** The golden tensors beside the checkout: models, batches and results computed by the original. */
import { readFileSync } from "node:fs";
import { openSafetensors } from "../../src/checkpoint/safetensors.ts";
import type { ModelBatch } from "../../src/model/batch.ts";
import { type ModelConfig, parseConfig } from "../../src/model/config.ts";
import { sharedPath } from "./shared.ts";

export interface GoldenTensor {
  /** As the file calls it. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export function goldenPath(file: string): string {
  return sharedPath(`golden/${file}`);
}

/** All tensors of a golden safetensors file as plain numbers. */
export async function readGolden(file: string): Promise<Map<string, GoldenTensor>> {
  return await readTensors(goldenPath(file));
}

/** All tensors of a safetensors file as plain numbers. */
export async function readTensors(path: string): Promise<Map<string, GoldenTensor>> {
  const checkpoint = await openSafetensors(path);
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { shape, storedDType: dtype, read }] of checkpoint.tensors) {
    tensors.set(name, { dtype, shape, data: Array.from(await read(), Number) });
  }
  await checkpoint.close();
  return tensors;
}

export function goldenConfig(model: string): ModelConfig {
  return parseConfig(JSON.parse(readFileSync(goldenPath(`${model}.config.json`), "utf8")), `${model}.config.json`);
}

/** The batch in a `*.train.safetensors`. */
export function goldenBatch(tensors: ReadonlyMap<string, GoldenTensor>): ModelBatch {
  const of = (field: string) => tensors.get(`batch.${field}`)!;
  const [rows, columns] = of("input").shape as [number, number];
  const ints = (field: string) => Int32Array.from(of(field).data);
  return {
    rows,
    columns,
    input: ints("input"),
    length: ints("length"),
    context: Uint8Array.from(of("context").data),
    segment: ints("segment"),
    span: ints("span"),
    target: ints("target"),
  };
}
