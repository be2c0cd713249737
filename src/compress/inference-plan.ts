/**
 * What running a model takes, before anything of it is loaded: memory by part at each precision, what stays in memory
 * under a limit, and how fast a token comes.
 *
 * Decoding reads every weight once a token, so
 *
 *     seconds a token = resident bytes / kernel rate + streamed bytes / min(kernel rate, disk rate)
 *
 * where the kernel rate is measured with a product of one row on this machine, or given.
 */
import { type CacheType, decodingBytes, planResidency } from "../infer/index.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { names, parameterTable } from "../model/parameters.ts";
import { ConfigError } from "../util/error.ts";
import { formatFor, packedBytes } from "./quantize-model.ts";

export const inferencePrecisions = ["float32", "int8", "int4"] as const;
export type InferencePrecision = (typeof inferencePrecisions)[number];

export interface InferencePlanOptions {
  readonly group: number;
  /** Texts at once, and tokens of a text with what is generated. */
  readonly rows: number;
  readonly capacityTokens: number;
  /** What keys and values are stored in. Default: float32. */
  readonly cacheType?: CacheType | undefined;
  /** What the process may keep in memory. */
  readonly memoryBytes: number;
  /** Bytes of weights a second, by precision. */
  readonly kernelBytesPerSecond: Readonly<Record<InferencePrecision, number>>;
  readonly diskBytesPerSecond: number;
}

export interface InferencePlan {
  readonly precision: InferencePrecision;
  readonly bytes: {
    readonly layers: number;
    /** Token table and head. */
    readonly table: number;
    readonly other: number;
    /** Keys and values of all rows. */
    readonly cache: number;
    readonly workspace: number;
    readonly total: number;
  };
  /** "fits"; "streams": some layers are read from disk for each token; "tooLarge": not even two layers have room. */
  readonly verdict: "fits" | "streams" | "tooLarge";
  readonly residentLayers: number;
  readonly streamedBytes: number;
  /** Of one row; undefined where it is too large. */
  readonly tokensPerSecond: number | undefined;
}

/** Process, library, compiled programs and values between them: measured at some 150 MiB and 2 MiB a layer. */
const processBytes = 150 * 2 ** 20;
const programBytes = 2 * 2 ** 20;
/** What kernels of packed weights add to them: sums of groups. */
const packingShare = 1.06;

/** The plan at one precision. */
export function planInference(
  config: ModelConfig,
  precision: InferencePrecision,
  options: InferencePlanOptions,
): InferencePlan {
  const { group, rows, capacityTokens, cacheType, memoryBytes, kernelBytesPerSecond, diskBytesPerSecond } = options;
  const packing =
    precision === "float32"
      ? undefined
      : ({ bits: precision === "int4" ? 4 : 8, group, symmetric: true, embedding: true } as const);
  const layerBytes = Array<number>(config.layers).fill(0);
  let table = 0;
  let other = 0;
  for (const parameter of parameterTable(config)) {
    const { shape, name, layer } = parameter;
    const format = packing && formatFor(parameter, packing);
    const elements = shape.reduce((count, size) => count * size, 1);
    const bytes = format ? packingShare * packedBytes(shape as [number, number], format, true) : 4 * elements;
    if (layer !== undefined) layerBytes[layer]! += bytes;
    // The table is looked up as it lies and multiplied by as it is packed: only rows of the former are touched.
    else if (name === names.token) table += bytes;
    else other += bytes;
  }
  const present = layerBytes.filter((_, layer) => layerMask(config, layer).includes(false));
  const layers = present.reduce((sum, bytes) => sum + bytes, 0);
  const batch = { mode: "sample", samples: 1, beamSize: 1, maxTokens: capacityTokens } as const;
  const cache = decodingBytes(config, batch, rows, 0, cacheType);
  const workspace = processBytes + programBytes * present.length;
  const beside = table + other + cache + workspace;
  const bytes = { layers, table, other, cache, workspace, total: layers + beside };
  const rate = kernelBytesPerSecond[precision];
  try {
    const { resident, streamedBytes } = planResidency(present, memoryBytes - beside);
    const seconds = (layers - streamedBytes + table) / rate + streamedBytes / Math.min(rate, diskBytesPerSecond);
    return {
      precision,
      bytes,
      verdict: streamedBytes === 0 ? "fits" : "streams",
      residentLayers: resident.filter(Boolean).length,
      streamedBytes,
      tokensPerSecond: 1 / seconds,
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const nothing = { residentLayers: 0, streamedBytes: 0, tokensPerSecond: undefined };
    return { precision, bytes, verdict: "tooLarge", ...nothing };
  }
}
