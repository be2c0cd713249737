/**
 * CPM-Ant as Hugging Face's `cpmant` stores it: weights divided by √fan_in, tables by √d, prompts appended to the token
 * table, and the head spelled out as `lm_head.weight`. This file makes those tensors and checks a head that was read; the
 * way back is in `layout.ts`.
 *
 * Transformers knows no absent sub-layers. They are written as zero matrices, which add exactly nothing to the residual
 * stream, so a pruned model computes the same there; the config keeps `mask_modules`, so reading leaves them out again.
 */

import { layerMask, type ModelConfig } from "../model/config.ts";
import { blockParameters, names, type Parameter, parameterElements, parameterTable } from "../model/parameters.ts";
import { elementCount, type HostArray } from "../runtime/dtype.ts";
import { CheckpointError } from "../util/error.ts";
import { type DetectedLayout, headName, runtimeDivisor } from "./layout.ts";
import { type RawCheckpoint, requireDType, toFloat32 } from "./raw.ts";

const prefix = "cpmant.";

/** A tensor of the `cpmant` layout, in float32. */
export interface HfTensor {
  readonly name: string;
  readonly shape: readonly number[];
  read(): Promise<Float32Array>;
}

/**
 * All tensors of the `cpmant` layout of a model.
 *
 * @param read a CPM-Live parameter's elements
 */
export function hfTensors(config: ModelConfig, read: (parameter: Parameter) => Promise<Float32Array>): HfTensor[] {
  const divided = async (parameter: Parameter): Promise<Float32Array> => {
    return scaled(await read(parameter), 1 / runtimeDivisor(parameter, config));
  };
  const table = parameterTable(config);
  const token = table.find(({ name }) => name === names.token)!;
  const prompt = table.find(({ name }) => name === names.prompt)!;
  const tensors: HfTensor[] = [
    {
      name: prefix + names.token,
      shape: [token.shape[0]! + prompt.shape[0]!, config.dimModel],
      async read() {
        const merged = new Float32Array(parameterElements(token) + parameterElements(prompt));
        merged.set(await divided(token));
        merged.set(await divided(prompt), parameterElements(token));
        return merged;
      },
    },
  ];
  for (const parameter of table) {
    if (parameter === token || parameter === prompt) continue;
    tensors.push({ name: prefix + parameter.name, shape: parameter.shape, read: () => divided(parameter) });
  }
  for (let layer = 0; layer < config.layers; layer++) {
    const [attentionAbsent, ffnAbsent] = layerMask(config, layer);
    for (const { name, shape, kind } of blockParameters(config, layer, [!attentionAbsent, !ffnAbsent])) {
      const read = async () => new Float32Array(elementCount(shape)).fill(kind === "norm" ? 1 : 0);
      tensors.push({ name: prefix + name, shape, read });
    }
  }
  tensors.push({ name: "lm_head.weight", shape: token.shape, read: () => divided(token) });
  return tensors;
}

/** `data` times a factor, each product rounded to float32 once. The data may be a model's own memory: it stays. */
function scaled(data: Float32Array, factor: number): Float32Array {
  if (factor === 1) return data;
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = data[i]! * factor;
  return out;
}

/** Rows that are compared between the head and the token table: a differing head differs everywhere. */
const comparedRows = 64;

/**
 * Checks that a head that was read is the token table (with or without the prompts' rows), as CPM-Ant ties them.
 *
 * @throws CheckpointError `CPM_CHECKPOINT_SHAPE`, `CPM_CHECKPOINT_UNTIED`
 */
export async function checkTiedHead(raw: RawCheckpoint, config: ModelConfig, detected: DetectedLayout): Promise<void> {
  const head = raw.tensors.get(headName(detected));
  const table = raw.tensors.get(detected.prefix + names.token);
  if (head === undefined || table === undefined) return;
  const { vocabSize, dimModel } = config;
  const allRows = vocabSize + config.promptTypes * config.promptLength;
  const [rows, width] = head.shape;
  const where = raw.files.join(", ");
  if (head.shape.length !== 2 || width !== dimModel || (rows !== vocabSize && rows !== allRows)) {
    throw new CheckpointError("CPM_CHECKPOINT_SHAPE", "the head has another shape than the config says", {
      where: `${where}: ${head.name}`,
      got: `[${head.shape}]`,
      expected: `[${vocabSize}, ${dimModel}] or [${allRows}, ${dimModel}]`,
    });
  }
  const count = Math.min(comparedRows, vocabSize);
  for (let i = 0; i < count; i++) {
    const row = Math.floor((i * vocabSize) / count);
    const range = [row * dimModel, (row + 1) * dimModel] as const;
    const [a, b] = await Promise.all([head.read(...range), table.read(...range)]);
    const different = !sameNumbers(a, requireDType(head, where), b, requireDType(table, where), where);
    if (!different) continue;
    throw new CheckpointError("CPM_CHECKPOINT_UNTIED", "the head differs from the token table", {
      where: `${where}: ${head.name}`,
      got: `row ${row} differs`,
      expected: "one table for both, as CPM-Ant has it",
      hint: "A head that was trained apart from the table cannot be kept in this model.",
    });
  }
}

function sameNumbers(
  a: HostArray,
  aType: Parameters<typeof toFloat32>[1],
  b: HostArray,
  bType: Parameters<typeof toFloat32>[1],
  where: string,
): boolean {
  const [x, y] = [toFloat32(a, aType, where), toFloat32(b, bType, where)];
  return x.every((value, i) => value === y[i] || (Number.isNaN(value) && Number.isNaN(y[i])));
}
