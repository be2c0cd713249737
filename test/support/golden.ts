/** The golden tensors beside the checkout: models, batches and results computed by the original. */
import { readFileSync } from "node:fs";
import { openSafetensors } from "../../src/checkpoint/safetensors.ts";
import type { ModelBatch } from "../../src/model/batch.ts";
import { type ModelConfig, parseConfig } from "../../src/model/config.ts";
import { sharedPath } from "./shared.ts";

export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

export function goldenPath(file: string): string {
  return sharedPath(`golden/${file}`);
}

/** All tensors of a golden safetensors file as plain numbers. */
export async function readGolden(file: string): Promise<Map<string, GoldenTensor>> {
  const checkpoint = await openSafetensors(goldenPath(file));
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, tensor] of checkpoint.tensors) {
    const data = await tensor.read();
    tensors.set(name, { shape: tensor.shape, data: data instanceof BigInt64Array ? Array.from(data, Number) : data });
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
