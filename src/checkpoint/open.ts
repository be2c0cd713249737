/**
 * Opens a CPM-Ant model's weights, whatever their format and layout, and shows them under CPM-Live's names and scales:
 * what the rest of the kit reads. Nothing but headers is read until a tensor is.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isHfConfig, type ModelConfig, parseConfig } from "../model/config.ts";
import { attentionNames, ffnNames, type Parameter, parameterElements, parameterTable } from "../model/parameters.ts";
import { byteLength, type DType, type HostArray } from "../runtime/dtype.ts";
import { CheckpointError } from "../util/error.ts";
import { checkTiedHead } from "./hf.ts";
import { inferConfig } from "./infer-config.ts";
import {
  type DetectedLayout,
  detectLayout,
  type Layout,
  type ParameterSource,
  parameterSource,
  redundantNames,
  sourceShape,
} from "./layout.ts";
import { findWeights, openRaw } from "./open-raw.ts";
import { type PackedWeight, packedWeight, partNames, unpackWeight, withoutParts } from "./packed-weight.ts";
import {
  elementBytes,
  type RawCheckpoint,
  type RawTensor,
  requireDType,
  type TensorLocation,
  toFloat32,
} from "./raw.ts";
import { readStrictJson } from "./shards.ts";

/** A parameter of a model, under CPM-Live's name and scale. */
export interface CheckpointTensor {
  readonly name: string;
  /** Of the elements that `read` gives; float32 where they had to be scaled. */
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where exactly these elements lie in a file; undefined where they must be scaled or gathered. */
  readonly location: TensorLocation | undefined;
  /** The elements in memory of their own. */
  read(): Promise<HostArray>;
  /** The elements as float32. */
  readFloat32(): Promise<Float32Array>;
  /** What the file holds in its place, where it is packed in 4 or 8 bits; `read` unpacks it. */
  readonly packed?: PackedWeight | undefined;
}

export interface Checkpoint {
  readonly config: ModelConfig;
  /** The file that the config was read from; undefined where it was given or inferred. */
  readonly configPath: string | undefined;
  readonly format: RawCheckpoint["format"];
  readonly layout: Layout;
  /** What the layout was recognised by. */
  readonly layoutEvidence: string;
  /** What was assumed because nothing told it; empty where a config was read or given. */
  readonly assumptions: readonly string[];
  /** The weights files. */
  readonly files: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Names in the files that are no parameter of this model. */
  readonly unknownNames: readonly string[];
  /** All parameters' names, in the order of `parameterTable`. */
  names(): readonly string[];
  /** One parameter. A name that is none is an internal error. */
  tensor(name: string): CheckpointTensor;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface OpenOptions {
  /** The model's config; else `configPath`, else the `config.json` beside the weights, else inferred. */
  readonly config?: ModelConfig;
  readonly configPath?: string;
}

/**
 * Reads a `config.json` in CPM-Live's or Hugging Face's form.
 *
 * @throws FileError, CheckpointError `CPM_CHECKPOINT_JSON`, ConfigError
 */
export async function readConfigFile(path: string): Promise<ModelConfig> {
  return parseConfig(await readStrictJson(path, configLimitBytes), path);
}

const configLimitBytes = 1024 * 1024;

/**
 * Opens a model from a folder or a single weights file.
 *
 * Every parameter that the config asks for must be there with its shape.
 *
 * @throws CheckpointError `CPM_CHECKPOINT_MISSING`, `CPM_CHECKPOINT_SHAPE`, `CPM_CHECKPOINT_DTYPE`, and those of finding,
 * opening, recognising and inferring; ConfigError; FileError
 */
export async function openCheckpoint(path: string, options: OpenOptions = {}): Promise<Checkpoint> {
  const found = await findWeights(path);
  const beside = join(found.folder, "config.json");
  const configPath = options.config ? undefined : (options.configPath ?? (existsSync(beside) ? beside : undefined));
  const json = configPath === undefined ? undefined : await readStrictJson(configPath, configLimitBytes);
  const given = options.config ?? (configPath === undefined ? undefined : parseConfig(json, configPath));
  const hfConfig = typeof json === "object" && json !== null && isHfConfig(json as Record<string, unknown>);

  const raw = await openRaw(found.path);
  try {
    return await checkpointOf(raw, found.path, { config: given, configPath, hfConfig });
  } catch (error) {
    await raw.close();
    throw error;
  }
}

/**
 * An open file as a model: recognised, its config inferred where none is given, every parameter checked. The result owns
 * `raw`.
 *
 * @param where the file, for errors
 */
export async function checkpointOf(
  raw: RawCheckpoint,
  where: string,
  known: {
    readonly config?: ModelConfig | undefined;
    readonly configPath?: string | undefined;
    readonly hfConfig?: boolean;
  },
): Promise<Checkpoint> {
  const { config: given, configPath, hfConfig = false } = known;
  const detected = detectLayout(withoutParts(raw.tensors.keys()), where, hfConfig);
  const { config, assumptions } = given ? { config: given, assumptions: [] } : inferConfig(raw, detected);
  const tensors = collect(raw, config, detected, where, configPath ?? (given ? "the given config" : undefined));
  if (detected.layout === "hf-cpmant") await checkTiedHead(raw, config, detected);
  const used = new Set(redundantNames(config, detected));
  for (const { source, shown } of tensors.values()) {
    used.add(source.name);
    if (shown.packed) for (const part of partNames(source.name)) used.add(part);
  }
  const close = () => raw.close();
  return {
    config,
    configPath,
    format: raw.format,
    layout: detected.layout,
    layoutEvidence: detected.evidence,
    assumptions,
    files: raw.files,
    metadata: raw.metadata,
    unknownNames: [...[...raw.tensors.keys()].filter((name) => !used.has(name)), ...raw.ignored],
    names: () => [...tensors.keys()],
    tensor(name) {
      const tensor = tensors.get(name);
      if (tensor === undefined) throw new Error(`internal: the model has no parameter ${name}`);
      return tensor.shown;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Every parameter of the config with its source, checked. */
function collect(
  raw: RawCheckpoint,
  config: ModelConfig,
  detected: DetectedLayout,
  where: string,
  configWhere: string | undefined,
): Map<string, { source: ParameterSource; shown: CheckpointTensor }> {
  const tensors = new Map<string, { source: ParameterSource; shown: CheckpointTensor }>();
  const missing: string[] = [];
  for (const parameter of parameterTable(config)) {
    const source = parameterSource(parameter, config, detected);
    const expected = sourceShape(parameter, config, source);
    const stored = raw.tensors.get(source.name);
    const packed = stored ? undefined : packedWeight(raw.tensors, source.name, expected, where);
    if (packed !== undefined) {
      tensors.set(parameter.name, { source, shown: presentPacked(parameter, source, packed, where) });
      continue;
    }
    if (stored === undefined) {
      missing.push(parameter.name);
      continue;
    }
    if (stored.shape.length !== expected.length || !expected.every((size, axis) => size === stored.shape[axis])) {
      throw new CheckpointError("CPM_CHECKPOINT_SHAPE", "a parameter has another shape than the config says", {
        where: `${where}: ${source.name}`,
        got: `[${stored.shape.join(", ")}]`,
        expected: `[${expected.join(", ")}]${configWhere === undefined ? "" : `, from ${configWhere}`}`,
        hint: "Give the config that belongs to these weights, or none to have it inferred.",
      });
    }
    tensors.set(parameter.name, { source, shown: present(parameter, source, stored, where) });
  }
  if (missing.length > 0) throw missingError(missing, config, where, configWhere);
  return tensors;
}

function missingError(
  missing: readonly string[],
  config: ModelConfig,
  where: string,
  configWhere: string | undefined,
): CheckpointError {
  const lacks = new Set(missing);
  const pruned = Array.from({ length: config.layers }, (_, layer) => [
    lacks.has(attentionNames(layer).norm),
    lacks.has(ffnNames(layer).norm),
  ]).flat();
  const absent = pruned.filter(Boolean).length;
  return new CheckpointError("CPM_CHECKPOINT_MISSING", "parameters that the config asks for are missing", {
    where,
    got: `${missing.length} missing, such as ${missing.slice(0, 3).join(", ")}`,
    ...(configWhere === undefined ? {} : { expected: `all parameters of ${configWhere}` }),
    hint:
      absent > 0
        ? `${absent} whole sub-layers are missing, as in a pruned model: set mask_modules, or give no config to have it inferred.`
        : "Use a complete file, or the config that belongs to it.",
  });
}

/** A stored tensor, or rows of one, under the parameter's own name and scale. */
function present(parameter: Parameter, source: ParameterSource, stored: RawTensor, where: string): CheckpointTensor {
  const { name, shape } = parameter;
  const at = `${where}: ${stored.name}`;
  const dtype = requireDType(stored, where);
  if (!["float32", "float16", "bfloat16", "float64"].includes(dtype)) {
    throw new CheckpointError("CPM_CHECKPOINT_DTYPE", "a parameter must hold floating-point numbers", {
      where: at,
      got: stored.storedDType,
    });
  }
  const width = shape[1] ?? 1;
  const start = source.rows === undefined ? 0 : source.rows[0] * width;
  const end = start + parameterElements(parameter);
  const readStored = (): Promise<HostArray> => stored.read(start, end);
  const readFloat32 = async (): Promise<Float32Array> => {
    const data = toFloat32(await readStored(), dtype, at);
    // What was read is ours alone, so it can be scaled in place; each product is rounded once.
    if (source.scale !== 1) for (let i = 0; i < data.length; i++) data[i] = data[i]! * source.scale;
    return data;
  };
  if (source.scale !== 1) {
    return { name, shape, dtype: "float32", location: undefined, read: readFloat32, readFloat32 };
  }
  const location = stored.location && {
    file: stored.location.file,
    byteOffset: stored.location.byteOffset + start * elementBytes(dtype),
    byteLength: byteLength(dtype, shape),
  };
  return { name, shape, dtype, location, read: readStored, readFloat32 };
}

/** A packed weight under the parameter's own name; its elements are unpacked when they are read. */
function presentPacked(
  parameter: Parameter,
  source: ParameterSource,
  packed: PackedWeight,
  where: string,
): CheckpointTensor {
  const { name, shape } = parameter;
  if (source.scale !== 1 || source.rows !== undefined) {
    throw new CheckpointError("CPM_CHECKPOINT_LAYOUT", "packed weights stand under names of another layout", {
      where: `${where}: ${source.name}`,
      expected: "packed weights in CPM-Live's layout",
      hint: "Convert the model to CPM-Live's layout first, then quantise it.",
    });
  }
  const readFloat32 = async (): Promise<Float32Array> => {
    const [bytes, scales, zeros] = await Promise.all([
      packed.packed.read(),
      packed.scales.read(),
      packed.zeros?.read(),
    ]);
    const values = {
      packed: bytes as Uint8Array,
      scales: scales as Float32Array,
      zeros: zeros as Uint8Array | undefined,
    };
    return unpackWeight(values, packed, shape as readonly [number, number]);
  };
  return { name, shape, dtype: "float32", location: undefined, read: readFloat32, readFloat32, packed };
}
