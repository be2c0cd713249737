/**
 * Finds and opens weights, whatever their format: a folder as Hugging Face or we lay it out, or a single file. The format
 * is told by a file's first bytes, never by its name.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileErrorOf } from "../util/atomic-file.ts";
import { CheckpointError } from "../util/error.ts";
import type { RawCheckpoint } from "./raw.ts";
import { looksLikeSafetensors, readSafetensors } from "./safetensors.ts";
import { openShards } from "./shards.ts";
import { type ByteSource, openSource } from "./source.ts";
import { readTorchFile, refuseLegacyTorch } from "./torch-file.ts";
import { looksLikeZip } from "./zip.ts";

/** In the order in which they are looked for. */
const usualFiles = [
  "model.safetensors.index.json",
  "model.safetensors",
  "pytorch_model.bin.index.json",
  "pytorch_model.bin",
] as const;

const weightsEnding = /\.(safetensors|pt|pth|bin|ckpt)$/;

export interface FoundWeights {
  /** A weights file, or the index of several. */
  readonly path: string;
  /** The folder that a `config.json` would be in. */
  readonly folder: string;
}

/**
 * The weights at a path: the path itself, or those of a folder.
 *
 * @throws FileError `CPM_FILE_NOT_FOUND`; CheckpointError `CPM_CHECKPOINT_NOT_FOUND` where a folder has no weights,
 * `CPM_CHECKPOINT_AMBIGUOUS` where it has several and none of the usual name
 */
export async function findWeights(path: string): Promise<FoundWeights> {
  try {
    if (!(await stat(path)).isDirectory()) return { path, folder: dirname(path) };
    const entries = await readdir(path);
    const usual = usualFiles.find((name) => entries.includes(name));
    if (usual !== undefined) return { path: join(path, usual), folder: path };
    const others = entries.filter((name) => weightsEnding.test(name)).sort();
    if (others.length === 1) return { path: join(path, others[0]!), folder: path };
    if (others.length === 0) {
      throw new CheckpointError("CPM_CHECKPOINT_NOT_FOUND", "the folder holds no weights", {
        where: path,
        expected: `one of ${usualFiles.join(", ")}, or a single .safetensors, .pt, .pth, .bin or .ckpt`,
      });
    }
    throw new CheckpointError("CPM_CHECKPOINT_AMBIGUOUS", "the folder holds several weights files", {
      where: path,
      got: others.slice(0, 8).join(", "),
      hint: "Name the file.",
    });
  } catch (error) {
    throw fileErrorOf(error, "read", path);
  }
}

/**
 * Opens a weights file, or the files of an index.
 *
 * @throws CheckpointError `CPM_CHECKPOINT_FORMAT` for a file of no format that is read here, and those of the formats
 */
export async function openRaw(path: string): Promise<RawCheckpoint> {
  if (/\.index\.json$/.test(basename(path))) return openShards(path, openOne);
  return openOne(path);
}

async function openOne(path: string): Promise<RawCheckpoint> {
  const source = await openSource(path);
  try {
    return await readRaw(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** As `openRaw`, from one open source, which the result then owns. */
export async function readRaw(source: ByteSource): Promise<RawCheckpoint> {
  const head = await source.read(0, Math.min(512, source.sizeBytes));
  if (looksLikeZip(head)) return readTorchFile(source);
  if (looksLikeSafetensors(head)) return readSafetensors(source);
  refuseLegacyTorch(head, source.path);
  const lfs = new TextDecoder("latin1").decode(head).startsWith("version https://git-lfs");
  throw new CheckpointError("CPM_CHECKPOINT_FORMAT", "the file is of no weights format that is read here", {
    where: source.path,
    got: lfs ? "a Git LFS pointer in place of the file" : `${source.sizeBytes} bytes that start otherwise`,
    expected: "safetensors, or a state dict that torch.save wrote",
    ...(lfs ? { hint: "Fetch the file itself with git lfs pull." } : {}),
  });
}
