/**
 * Writes a model's folder: `config.json` and safetensors, in CPM-Live's or Hugging Face's layout.
 *
 * A new folder is written aside and renamed, so it is there completely or not at all. In a folder that already holds
 * something (`overwrite`), each file is replaced atomically, the weights first, their index after them and `config.json`
 * last; weights files of an earlier model are removed at the end. Other files in it are left alone.
 */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { checkConfig, configToHfJson, configToJson, type ModelConfig } from "../model/config.ts";
import { type Parameter, parameterTable } from "../model/parameters.ts";
import type { HostArray } from "../runtime/dtype.ts";
import { writeFileAtomic, writeFolderAtomic } from "../util/atomic-file.ts";
import { CheckpointError } from "../util/error.ts";
import { float32ToBfloat16, float32ToFloat16 } from "../util/float16.ts";
import { hfTensors } from "./hf.ts";
import { toFloat32 } from "./raw.ts";
import { indexFile, type WritableTensor, weightsFile, writeShardedSafetensors } from "./safetensors-writer.ts";

export type WeightDType = "float32" | "float16" | "bfloat16";

export interface SaveOptions {
  /** Default "cpm-live". */
  readonly layout?: "cpm-live" | "hf-cpmant";
  /** Default: in CPM-Live's layout each tensor's own; in Hugging Face's, float32. */
  readonly dtype?: WeightDType;
  /** Weights beyond this are split into shards. Default 5 GB. */
  readonly maxShardBytes?: number;
  /** Strings for the weights files' headers. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Small files to write beside them, by name: a vocabulary, a licence. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Writes into a folder that is not empty. */
  readonly overwrite?: boolean;
}

/**
 * Saves a model. `tensors` are its parameters under CPM-Live's names and scales, in any order; each is read once or, for
 * Hugging Face's layout, up to twice, one at a time.
 *
 * @returns the names of the files
 * @throws CheckpointError `CPM_CHECKPOINT_MISSING`, `CPM_CHECKPOINT_SHAPE`, `CPM_CHECKPOINT_UNKNOWN` where tensors and
 * config disagree, `CPM_CHECKPOINT_FLOAT16_RANGE` where a weight is too large for float16; FileError
 */
export async function saveCheckpoint(
  folder: string,
  config: ModelConfig,
  tensors: Iterable<WritableTensor>,
  options: SaveOptions = {},
): Promise<readonly string[]> {
  const { layout = "cpm-live", dtype, maxShardBytes, metadata = {}, files = {} } = options;
  checkConfig(config);
  for (const name of Object.keys(files)) {
    if (name !== basename(name) || name === "config.json" || isWeightsFile(name)) {
      throw new Error(`internal: ${name} cannot be written beside the weights`);
    }
  }
  const byName = matchParameters(config, tensors, folder);
  const written = layout === "hf-cpmant" ? hfWritable(config, byName, dtype) : liveWritable(config, byName, dtype);
  const half = dtype === undefined ? config.half : dtype === "float16";
  const described = { ...config, half };
  const json = layout === "hf-cpmant" ? configToHfJson(described) : configToJson(described);
  if (layout === "hf-cpmant" && dtype !== undefined) json.torch_dtype = dtype;

  let weights: readonly string[] = [];
  const fill = async (target: string): Promise<void> => {
    for (const [name, data] of Object.entries(files)) await writeFileAtomic(join(target, name), data);
    weights = await writeShardedSafetensors(target, written, {
      ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
      // Transformers asks for "format"; the layout is for whoever looks into the header.
      metadata: { format: "pt", layout, ...metadata },
    });
    await writeFileAtomic(join(target, "config.json"), configText(json));
  };
  if (options.overwrite && existsSync(folder) && (await readdir(folder)).length > 0) {
    await fill(folder);
    for (const name of await readdir(folder)) {
      if (isWeightsFile(name) && !weights.includes(name)) await rm(join(folder, name), { force: true });
    }
  } else {
    await writeFolderAtomic(folder, fill);
  }
  return [...Object.keys(files), ...weights, "config.json"];
}

function isWeightsFile(name: string): boolean {
  return name === weightsFile || name === indexFile || /^model-\d{5}-of-\d{5}\.safetensors$/.test(name);
}

/** The given tensors by name, exactly those of the config. */
function matchParameters(
  config: ModelConfig,
  tensors: Iterable<WritableTensor>,
  where: string,
): ReadonlyMap<string, WritableTensor> {
  const byName = new Map<string, WritableTensor>();
  for (const tensor of tensors) byName.set(tensor.name, tensor);
  const table = parameterTable(config);
  for (const { name, shape } of table) {
    const tensor = byName.get(name);
    if (tensor === undefined) {
      throw new CheckpointError("CPM_CHECKPOINT_MISSING", "a parameter of the config was not given", {
        where: `${where}: ${name}`,
      });
    }
    if (tensor.shape.length !== shape.length || !shape.every((size, axis) => size === tensor.shape[axis])) {
      throw new CheckpointError("CPM_CHECKPOINT_SHAPE", "a parameter has another shape than the config says", {
        where: `${where}: ${name}`,
        got: `[${tensor.shape.join(", ")}]`,
        expected: `[${shape.join(", ")}]`,
      });
    }
  }
  if (byName.size === table.length) return byName;
  const known = new Set(table.map(({ name }) => name));
  const unknown = [...byName.keys()].find((name) => !known.has(name))!;
  throw new CheckpointError("CPM_CHECKPOINT_UNKNOWN", "a tensor is no parameter of the config", {
    where: `${where}: ${unknown}`,
    hint: "Leave it out, or correct the config.",
  });
}

function liveWritable(
  config: ModelConfig,
  byName: ReadonlyMap<string, WritableTensor>,
  dtype: WeightDType | undefined,
): WritableTensor[] {
  const table = parameterTable(config).map(({ name }) => byName.get(name)!);
  const parts = table.flatMap((tensor) => tensor.parts ?? []).map((part) => ({ ...part, inOrder: true }));
  const isLast = ({ name }: WritableTensor) => name.endsWith(".zeros");
  const plain = table
    .filter(({ parts }) => parts === undefined)
    .map((tensor): WritableTensor => {
      const { name } = tensor;
      if (dtype === undefined || dtype === tensor.dtype) return tensor;
      const read = async () => fromFloat32(toFloat32(await tensor.read(), tensor.dtype, name), dtype, name);
      return { name, dtype, shape: tensor.shape, read };
    });
  return [...plain, ...parts.filter((part) => !isLast(part)), ...parts.filter(isLast)];
}

function hfWritable(
  config: ModelConfig,
  byName: ReadonlyMap<string, WritableTensor>,
  dtype: WeightDType = "float32",
): WritableTensor[] {
  const read = async ({ name }: Parameter): Promise<Float32Array> => {
    const tensor = byName.get(name)!;
    return toFloat32(await tensor.read(), tensor.dtype, name);
  };
  return hfTensors(config, read).map((tensor): WritableTensor => {
    const { name, shape } = tensor;
    return { name, dtype, shape, read: async () => fromFloat32(await tensor.read(), dtype, name) };
  });
}

/** The largest magnitude that does not round to an infinity in float16. */
const float16Limit = 65520;

function fromFloat32(data: Float32Array, dtype: WeightDType, name: string): HostArray {
  if (dtype === "float32") return data;
  if (dtype === "bfloat16") return float32ToBfloat16(data);
  const at = data.findIndex((value) => Math.abs(value) >= float16Limit && Number.isFinite(value));
  if (at < 0) return float32ToFloat16(data);
  throw new CheckpointError("CPM_CHECKPOINT_FLOAT16_RANGE", "a weight is too large for float16", {
    where: `${name}, element ${at}`,
    got: String(data[at]),
    expected: "magnitudes below 65520",
    hint: "Save in bfloat16 or float32.",
  });
}

/** Dtypes that `saveCheckpoint` converts to. */
export const weightDTypes: readonly WeightDType[] = ["float32", "float16", "bfloat16"];

/** Transformers wants these as floating numbers, which JSON writes of whole ones without their point: `1.0`. */
const floatKeys = /"(init_std|dropout_p|eps)": (-?\d+)(?=[,\n])/g;

function configText(json: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(json, undefined, 2).replace(floatKeys, '"$1": $2.0')}\n`;
}
