/**
 * safetensors, read: a little-endian uint64 length, a JSON header of that length, then the tensors' bytes.
 * (Writing is in `safetensors-writer.ts`.)
 *
 * Only the header is read when a file is opened; a tensor's bytes are read when asked for, or mapped by whoever uses
 * its `location`. The rules are those of the format's reference implementation, plus limits: the tensors cover the data
 * without overlap, holes or a rest, in any order; no key stands twice; `__metadata__` maps strings to strings.
 */
import type { DType } from "../runtime/dtype.ts";
import { CheckpointError, type ErrorCode } from "../util/error.ts";
import {
  asElements,
  checkedElementCount,
  checkTensorName,
  elementBytes,
  elementRange,
  type RawCheckpoint,
  type RawTensor,
  requireDType,
  show,
} from "./raw.ts";
import { type ByteSource, readFrom } from "./source.ts";
import { parseStrictJson } from "./strict-json.ts";

/** The format's own limit on the header. */
const headerLimitBytes = 100_000_000;
/** Tensors of one file; the largest CPM-Ant has 437. */
const tensorLimit = 200_000;
/** Strings of `__metadata__`; usual files have one. */
const metadataLimit = 10_000;
/** Every tensor has some ten values in the header, shapes a few more. */
const headerLimits = { depth: 3, values: 20 * tensorLimit };

/** The format's dtypes: bytes of an element and our dtype, where we have it. */
const storedDTypes: Readonly<Record<string, readonly [bytes: number, dtype: DType | undefined]>> = {
  F64: [8, "float64"],
  F32: [4, "float32"],
  F16: [2, "float16"],
  BF16: [2, "bfloat16"],
  I64: [8, "int64"],
  I32: [4, "int32"],
  I8: [1, "int8"],
  U8: [1, "uint8"],
  BOOL: [1, "bool"],
  I16: [2, undefined],
  U16: [2, undefined],
  U32: [4, undefined],
  U64: [8, undefined],
  F8_E4M3: [1, undefined],
  F8_E5M2: [1, undefined],
};

/** The format's word for one of our dtypes. 4-bit integers have none: they travel as U8. */
export function safetensorsDType(dtype: DType): string {
  const entry = Object.entries(storedDTypes).find(([, [, ours]]) => ours === dtype);
  if (entry === undefined) throw new Error(`internal: safetensors has no ${dtype}`);
  return entry[0];
}

interface HeaderEntry {
  readonly name: string;
  readonly storedDType: string;
  readonly dtype: DType | undefined;
  readonly shape: readonly number[];
  /** From the first byte of the data. */
  readonly begin: number;
  readonly end: number;
}

function invalid(code: ErrorCode, what: string, where: string, got?: string, expected?: string): CheckpointError {
  return new CheckpointError(code, what, { where, got, expected, hint: "Use a file from a source that you trust." });
}

/** Whether the first bytes can be a safetensors file's: a plausible length, then an opening brace. */
export function looksLikeSafetensors(head: Uint8Array): boolean {
  if (head.length < 9) return false;
  const length = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  return length <= BigInt(headerLimitBytes) && head[8] === 0x7b;
}

/**
 * Opens one safetensors file.
 *
 * @throws FileError where it cannot be read; CheckpointError `CPM_SAFETENSORS_HEADER`, `CPM_SAFETENSORS_ENTRY`,
 * `CPM_SAFETENSORS_DTYPE`, `CPM_SAFETENSORS_OFFSETS`, `CPM_SAFETENSORS_OVERLAP`, `CPM_SAFETENSORS_HOLE`,
 * `CPM_CHECKPOINT_JSON`, `CPM_CHECKPOINT_NAME`, `CPM_CHECKPOINT_SHAPE_INVALID`
 */
export async function openSafetensors(path: string): Promise<RawCheckpoint> {
  return readFrom(path, readSafetensors);
}

/** As `openSafetensors`, from an open source, which the result then owns. */
export async function readSafetensors(source: ByteSource): Promise<RawCheckpoint> {
  const where = source.path;
  if (source.sizeBytes < 8) {
    throw invalid("CPM_SAFETENSORS_HEADER", "the file is too short for a header", where, `${source.sizeBytes} bytes`);
  }
  const lengthBytes = await source.read(0, 8);
  const length = new DataView(lengthBytes.buffer, lengthBytes.byteOffset).getBigUint64(0, true);
  const limit = Math.min(headerLimitBytes, source.sizeBytes - 8);
  if (length > BigInt(limit) || length < 2n) {
    throw invalid(
      "CPM_SAFETENSORS_HEADER",
      "the header's length is impossible",
      where,
      `${length} bytes`,
      `2 to ${limit}`,
    );
  }
  const headerBytes = await source.read(8, Number(length));
  const dataOffset = 8 + Number(length);
  const { entries, metadata } = parseHeader(headerBytes, source.sizeBytes - dataOffset, where);
  const tensors = new Map<string, RawTensor>();
  for (const entry of entries) {
    const { name, storedDType, dtype, shape, begin, end } = entry;
    tensors.set(name, {
      name,
      storedDType,
      dtype,
      shape,
      location: { file: where, byteOffset: dataOffset + begin, byteLength: end - begin },
      async read(start, stop) {
        const known = requireDType(entry, where);
        const [from, to] = elementRange(shape, start, stop);
        const width = elementBytes(known);
        return asElements(known, await source.read(dataOffset + begin + from * width, (to - from) * width));
      },
    });
  }
  return { format: "safetensors", files: [where], tensors, metadata, ignored: [], close: () => source.close() };
}

function parseHeader(
  bytes: Uint8Array,
  dataBytes: number,
  where: string,
): { entries: HeaderEntry[]; metadata: Record<string, string> } {
  if (bytes[0] !== 0x7b) throw invalid("CPM_SAFETENSORS_HEADER", "the header does not start with an object", where);
  const json = parseStrictJson(bytes, where, headerLimits) as Record<string, unknown>;
  const entries: HeaderEntry[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(value, where);
    else entries.push(parseEntry(name, value, dataBytes, where));
    if (entries.length > tensorLimit) {
      throw invalid("CPM_SAFETENSORS_HEADER", "the header has too many tensors", where, undefined, `${tensorLimit}`);
    }
  }
  checkCoverage(entries, dataBytes, where);
  return { entries, metadata };
}

function parseMetadata(value: unknown, where: string): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("CPM_SAFETENSORS_HEADER", "__metadata__ must map strings to strings", where, show(value));
  }
  const strings = Object.entries(value);
  if (strings.length > metadataLimit) {
    throw invalid("CPM_SAFETENSORS_HEADER", "__metadata__ has too many strings", where, `${strings.length}`);
  }
  for (const [key, text] of strings) {
    if (typeof text !== "string") {
      throw invalid("CPM_SAFETENSORS_HEADER", "__metadata__ must map strings to strings", where, show({ [key]: text }));
    }
    metadata[key] = text;
  }
  return metadata;
}

function parseEntry(name: string, value: unknown, dataBytes: number, where: string): HeaderEntry {
  checkTensorName(name, where);
  const at = `${where}: ${name}`;
  const expected = "an object with exactly dtype, shape and data_offsets";
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("CPM_SAFETENSORS_ENTRY", "a tensor's entry is not an object", at, show(value), expected);
  }
  const keys = Object.keys(value).sort().join(",");
  if (keys !== "data_offsets,dtype,shape") {
    throw invalid("CPM_SAFETENSORS_ENTRY", "a tensor's entry has other keys", at, keys.slice(0, 100), expected);
  }
  const { dtype: storedDType, shape, data_offsets: offsets } = value as Record<string, unknown>;
  if (typeof storedDType !== "string" || !Object.hasOwn(storedDTypes, storedDType)) {
    const known = Object.keys(storedDTypes).join(", ");
    throw invalid("CPM_SAFETENSORS_DTYPE", "a tensor has an unknown dtype", at, show(storedDType), known);
  }
  const [width, dtype] = storedDTypes[storedDType]!;
  const count = checkedElementCount(shape, name, where);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((offset) => Number.isSafeInteger(offset))) {
    throw invalid("CPM_SAFETENSORS_OFFSETS", "data_offsets must be two whole numbers", at, show(offsets));
  }
  const [begin, end] = offsets as [number, number];
  if (begin < 0 || end < begin || end > dataBytes) {
    throw invalid("CPM_SAFETENSORS_OFFSETS", "data_offsets leave the data", at, show(offsets), `0 to ${dataBytes}`);
  }
  if (end - begin !== count * width) {
    const needed = `${count * width} bytes for ${storedDType} ${show(shape)}`;
    throw invalid("CPM_SAFETENSORS_OFFSETS", "data_offsets do not fit the shape", at, `${end - begin} bytes`, needed);
  }
  return { name, storedDType, dtype, shape: shape as number[], begin, end };
}

/** The tensors must lie end to end from the first byte of the data to the last. */
function checkCoverage(entries: readonly HeaderEntry[], dataBytes: number, where: string): void {
  let covered = 0;
  for (const { name, begin, end } of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    const at = `${where}: ${name}`;
    if (begin < covered) {
      throw invalid("CPM_SAFETENSORS_OVERLAP", "two tensors share bytes", at, `from ${begin}`, `from ${covered} on`);
    }
    if (begin > covered) {
      throw invalid("CPM_SAFETENSORS_HOLE", "bytes before a tensor belong to none", at, `from ${begin}`, `${covered}`);
    }
    covered = end;
  }
  if (covered !== dataBytes) {
    const got = `${dataBytes - covered} bytes`;
    throw invalid("CPM_SAFETENSORS_HOLE", "bytes after the last tensor belong to none", where, got, "none");
  }
}
