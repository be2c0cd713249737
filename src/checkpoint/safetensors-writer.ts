/**
 * safetensors, written: one file, or shards with Hugging Face's `model.safetensors.index.json`.
 *
 * Tensors are produced one at a time and written as they come, so no more than one is in memory; files are atomic
 * (`util/atomic-file.ts`). The header is padded with spaces so that the data starts at a multiple of 64 bytes, and
 * tensors are laid out by falling element width, so that each starts at a multiple of its own.
 */
import { join } from "node:path";
import { byteLength, type DType, type HostArray } from "../runtime/dtype.ts";
import { openAtomicFile, writeFileAtomic } from "../util/atomic-file.ts";
import { checkTensorName, elementBytes } from "./raw.ts";
import { safetensorsDType } from "./safetensors.ts";

/** A tensor to write. `read` is called once, when its turn has come. */
export interface WritableTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  read(): HostArray | Promise<HostArray>;
  /** Its place among others of this kind is as given: whoever makes it makes them in this order. */
  readonly inOrder?: boolean;
  /**
   * What a model's folder holds in its place: the parts of a packed weight. They are read in their order, those of one byte
   * an element that may have any length (zeros) behind all others.
   */
  readonly parts?: readonly WritableTensor[] | undefined;
}

export const weightsFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";

/** Data starts at a multiple of this, the width of a cache line and of the widest vector load. */
const alignmentBytes = 64;

/**
 * Writes one file.
 *
 * @param metadata strings for the header's `__metadata__`
 * @throws FileError where it cannot be written; an old file of that name is intact then
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const ordered = layOut(tensors);
  const file = await openAtomicFile(path);
  try {
    await file.write(headerOf(ordered, metadata, path));
    for (const tensor of ordered) {
      const data = await tensor.read();
      const expected = byteLength(tensor.dtype, tensor.shape);
      if (data.byteLength !== expected) {
        throw new Error(`internal: ${tensor.name} gave ${data.byteLength} bytes and not ${expected}`);
      }
      await file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    await file.commit();
  } finally {
    await file.abort();
  }
}

/** By falling element width; tensors whose order matters (parts of packed weights) keep it and come last. */
function layOut(tensors: readonly WritableTensor[]): readonly WritableTensor[] {
  const [free, fixed] = [tensors.filter(({ inOrder }) => !inOrder), tensors.filter(({ inOrder }) => inOrder)];
  return [...free.toSorted((a, b) => elementBytes(b.dtype) - elementBytes(a.dtype)), ...fixed];
}

function headerOf(
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>>,
  where: string,
): Uint8Array {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    checkTensorName(name, where);
    if (Object.hasOwn(header, name)) throw new Error(`internal: two tensors are named ${name}`);
    if (offset % elementBytes(dtype) !== 0) throw new Error(`internal: ${name} would lie at ${offset}, unaligned`);
    const end = offset + byteLength(dtype, shape);
    header[name] = { dtype: safetensorsDType(dtype), shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil((8 + json.length) / alignmentBytes) * alignmentBytes;
  const bytes = new Uint8Array(length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length - 8), true);
  bytes.set(json, 8);
  return bytes;
}

/**
 * Writes `model.safetensors`, or `model-00001-of-00003.safetensors` … and an index where the tensors together pass
 * `maxShardBytes`. A tensor larger than that gets a shard of its own. The index is written last.
 *
 * @returns the names of the files
 */
export async function writeShardedSafetensors(
  folder: string,
  tensors: readonly WritableTensor[],
  options: { readonly maxShardBytes?: number; readonly metadata?: Readonly<Record<string, string>> } = {},
): Promise<readonly string[]> {
  const { maxShardBytes = 5e9, metadata = {} } = options;
  if (!(maxShardBytes > 0)) throw new Error(`internal: shards of ${maxShardBytes} bytes`);
  const shards: WritableTensor[][] = [];
  let room = 0;
  let totalBytes = 0;
  for (const tensor of tensors) {
    const bytes = byteLength(tensor.dtype, tensor.shape);
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = maxShardBytes;
    }
    shards.at(-1)!.push(tensor);
    room -= bytes;
    totalBytes += bytes;
  }
  if (shards.length <= 1) {
    await writeSafetensors(join(folder, weightsFile), tensors, metadata);
    return [weightsFile];
  }
  if (new Set(tensors.map(({ name }) => name)).size !== tensors.length)
    throw new Error("internal: a name stands twice");
  const number = (n: number) => String(n).padStart(5, "0");
  const files: string[] = [];
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard, metadata);
    files.push(file);
    for (const { name } of shard) weightMap[name] = file;
  }
  const index = { metadata: { total_size: totalBytes }, weight_map: weightMap };
  await writeFileAtomic(join(folder, indexFile), `${JSON.stringify(index, undefined, 2)}\n`);
  return [...files, indexFile];
}
