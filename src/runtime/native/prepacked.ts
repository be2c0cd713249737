/**
 * The cache of a compiled program with its packed weights: `PATH` (an ONNX model as ONNX Runtime optimized it) and
 * `PATH.data` (constants in the layout of this processor's kernels), which ONNX Runtime maps instead of reading.
 *
 * A cache, never a format: it fits one library version and one instruction set. The model ends in a seal, a digest over
 * what it was made from (program, constants, settings, library, processor) and over both files, stored as an
 * ordinary metadata entry; whatever is stale or damaged has another digest and is rebuilt. Files are written in a folder
 * aside and renamed, so a reader never sees half of one.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, open, readFile, rename, rm } from "node:fs/promises";
import { cpus } from "node:os";
import { basename, dirname, join } from "node:path";
import { FileError } from "../../util/error.ts";
import type { NativeTensor } from "./tensor.ts";

export interface PrepackedIdentity {
  /** The ONNX bytes. */
  readonly model: Uint8Array;
  readonly constants: ReadonlyMap<string, NativeTensor>;
  /** The caller's name for the constants' content: then they are not read, and the data file is only sampled. */
  readonly constantsKey: string | undefined;
  /** Library version, provider, optimization level. */
  readonly settings: string;
}

export interface PrepackedCache {
  readonly path: string;
  readonly key: string;
  /** Read the whole data file to verify it, rather than blocks of it. */
  readonly thorough: boolean;
}

export function prepackedCache(path: string, identity: PrepackedIdentity): PrepackedCache {
  const { model, constants, constantsKey, settings } = identity;
  const hash = createHash("sha256");
  hash.update(`${settings}\n${instructionSet()}\n${model.length}\n`).update(model);
  for (const [name, tensor] of [...constants].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name}\n${tensor.dtype}\n${tensor.shape}\n`);
    if (constantsKey === undefined) hash.update(tensor.bytes());
  }
  if (constantsKey !== undefined) hash.update(constantsKey);
  return { path, key: hash.digest("hex"), thorough: constantsKey === undefined };
}

/** Whether both files are there, undamaged, and made for this key. */
export async function isCurrent(cache: PrepackedCache): Promise<boolean> {
  if (!existsSync(cache.path) || !existsSync(dataPath(cache.path))) return false;
  const sealed = await readFile(cache.path);
  const model = sealed.subarray(0, Math.max(0, sealed.length - sealBytes));
  return sealed.subarray(model.length).equals(seal(await digest(cache, model, dataPath(cache.path))));
}

/**
 * Lets `write` make a model and its data in a folder aside, seals them and puts them in place. `write` is given the
 * model's path and the name that its external data file must have.
 */
export async function writePrepacked(
  cache: PrepackedCache,
  write: (modelPath: string, dataName: string) => Promise<void>,
): Promise<void> {
  let folder: string | undefined;
  try {
    folder = await mkdtemp(`${cache.path}.new-`);
    const modelPath = join(folder, basename(cache.path));
    await write(modelPath, basename(dataPath(cache.path)));
    const file = await open(modelPath, "a+");
    try {
      const data = await open(dataPath(modelPath), "a"); // a program without large constants has no data: an empty file
      await data.sync();
      await data.close();
      await file.appendFile(seal(await digest(cache, await readFile(modelPath), dataPath(modelPath))));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(dataPath(modelPath), dataPath(cache.path));
    await rename(modelPath, cache.path);
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new FileError("CPM_RUNTIME_PREPACKED", "The compiled program cannot be saved.", {
      where: cache.path,
      got: cause.message,
      hint: `Give a path in a writable folder with enough space; its folder is ${dirname(cache.path)}.`,
      cause,
    });
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
}

function dataPath(path: string): string {
  return `${path}.data`;
}

const sealName = "cpm-live.prepacked";
const digestHexLength = 64;

/** `ModelProto.metadata_props` (field 14) with one key and value: valid protobuf when it is appended to a model. */
function seal(digestHex: string): Uint8Array {
  const name = Buffer.from(sealName);
  const entry = Buffer.concat([
    Buffer.from([0x0a, name.length]),
    name,
    Buffer.from([0x12, digestHexLength]),
    Buffer.from(digestHex),
  ]);
  return Buffer.concat([Buffer.from([0x72, entry.length]), entry]);
}

const sealBytes = seal("0".repeat(digestHexLength)).length;

async function digest(cache: PrepackedCache, model: Uint8Array, data: string): Promise<string> {
  const hash = createHash("sha256").update(`${cache.key}\n${model.length}\n`).update(model);
  const file = await open(data, "r");
  try {
    const { size } = await file.stat();
    hash.update(`${size} ${cache.thorough}\n`);
    const block = Buffer.alloc(cache.thorough ? 4 * 2 ** 20 : 4096);
    // Sampling: 256 blocks, spread evenly, the first and the last among them.
    const samples = cache.thorough ? Math.ceil(size / block.length) : 256;
    const stride = cache.thorough ? block.length : Math.max(block.length, (size - block.length) / (samples - 1));
    for (let sample = 0; sample < samples; sample++) {
      const position = Math.floor(sample * stride);
      if (position >= size) break;
      const { bytesRead } = await file.read(block, 0, block.length, position);
      hash.update(block.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}

/** What kernels ONNX Runtime may choose: the architecture, the processor's name and its feature flags. */
function instructionSet(): string {
  const features = existsSync("/proc/cpuinfo")
    ? (/^(?:flags|Features)\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? "")
    : "";
  return `${process.platform} ${process.arch} ${cpus()[0]?.model ?? ""} ${features}`;
}
