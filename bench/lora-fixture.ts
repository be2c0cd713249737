/** A base with random weights, a LoRA on it and a batch, on disk for both sides of bench/lora.ts. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpoint, saveCheckpoint } from "../src/checkpoint/index.ts";
import { quantizeCheckpoint } from "../src/compress/index.ts";
import { attachDelta, baseHash, initialValues, saveDelta } from "../src/delta/index.ts";
import { createBatch, ignoredTarget, type ModelBatch } from "../src/model/batch.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterElements, parameterTable } from "../src/model/parameters.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";

export const learningRate = 1e-3;

/** Token ids of each row, without the soft prompt, and what each is to be followed by. */
export interface LoraBatch {
  readonly ids: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[];
}

export interface LoraFixture {
  /** The same weights: as the project keeps them, in 8 bits, and as Transformers reads them. */
  readonly base: string;
  readonly int8: string;
  readonly exported: string;
  readonly adapter: string;
  readonly batch: string;
}

/** Writes all of it below a folder. The second half of each row is what is predicted. */
export async function writeLoraFixture(
  folder: string,
  config: ModelConfig,
  rows: number,
  columns: number,
): Promise<LoraFixture> {
  const at = (name: string) => join(folder, name);
  const fixture = {
    ...{ base: at("base"), int8: at("int8"), exported: at("exported"), adapter: at("adapter") },
    batch: at("batch.json"),
  };
  const table = parameterTable(config);
  const weights = new Map<string, Float32Array>();
  for (const parameter of table) {
    const values = new Float32Array(parameterElements(parameter));
    if (parameter.kind === "norm") values.fill(1);
    else fillNormal(values, 1, parameter.name, 0, parameter.kind === "embedding" ? 0.02 : 1);
    weights.set(parameter.name, values);
  }
  const read = (name: string) => weights.get(name)!;
  const tensors = table.map(({ name, shape }) => {
    return { name, dtype: "float32" as const, shape, read: () => read(name) };
  });
  await saveCheckpoint(fixture.base, config, tensors);
  await saveCheckpoint(fixture.exported, config, tensors, { layout: "hf-cpmant" });
  {
    await using checkpoint = await openCheckpoint(fixture.base);
    const options = { bits: 8, group: "channel", symmetric: true, embedding: true } as const;
    await saveCheckpoint(fixture.int8, config, quantizeCheckpoint(checkpoint, options));
  }
  const delta = attachDelta(config, [{ method: "lora", rank: 8, alpha: 16, places: ["project_q", "project_v"] }]);
  const values = await initialValues(delta, { seed: 1, base: async (name) => read(name) });
  await saveDelta(fixture.adapter, { delta, values }, { baseSha256: await baseHash(config, read) });
  const random = createRandom(1, "batch");
  const length = columns - config.promptLength;
  const ids = () => Array.from({ length }, () => 1 + random.integer(config.vocabSize - 1)); // 0 is padding there
  const labels = () => ids().map((id, i) => (i < length / 2 ? ignoredTarget : id));
  const batch: LoraBatch = { ids: Array.from({ length: rows }, ids), labels: Array.from({ length: rows }, labels) };
  writeFileSync(fixture.batch, JSON.stringify(batch));
  return fixture;
}

/** As Transformers' model reads ids: soft prompt 2, segment 2, all of it context, losses where the labels are. */
export function loraBatch({ promptLength: P }: ModelConfig, { ids, labels }: LoraBatch): ModelBatch {
  const columns = P + ids[0]!.length;
  const batch = createBatch(ids.length, columns, true);
  batch.length.fill(columns);
  batch.context.fill(1);
  for (const [row, own] of ids.entries()) {
    const start = row * columns;
    batch.input.set([...Array.from({ length: P }, (_, i) => 2 * P + i), ...own], start);
    batch.prompt!.fill(1, start, start + P);
    batch.segment.fill(2, start + P, start + columns);
    batch.target.set(labels[row]!, start + P);
  }
  return batch;
}
