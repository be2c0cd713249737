/**
 * Weights spread over several files of one folder, found through an index (`weight_map`: tensor → file) as Hugging Face
 * writes it for safetensors and for PyTorch files.
 */
import { dirname, join } from "node:path";
import { CheckpointError } from "../util/error.ts";
import { type RawCheckpoint, type RawTensor, show } from "./raw.ts";
import { openSource } from "./source.ts";
import { parseStrictJson } from "./strict-json.ts";

const indexLimitBytes = 100_000_000;
const indexLimits = { depth: 4, values: 4_000_000 };
const shardLimit = 10_000;

function badIndex(what: string, where: string, got?: string): CheckpointError {
  return new CheckpointError("CPM_CHECKPOINT_INDEX", what, {
    where,
    got,
    expected: '"weight_map" from every tensor to a file of the same folder',
  });
}

/** Reads and parses a JSON file from a stranger. */
export async function readStrictJson(path: string, limitBytes = indexLimitBytes): Promise<unknown> {
  const source = await openSource(path);
  try {
    if (source.sizeBytes > limitBytes) {
      throw new CheckpointError("CPM_CHECKPOINT_JSON", "the JSON file is too large", {
        where: path,
        got: `${source.sizeBytes} bytes`,
        expected: `at most ${limitBytes}`,
      });
    }
    return parseStrictJson(await source.read(0, source.sizeBytes), path, indexLimits);
  } finally {
    await source.close();
  }
}

/** The index as a map from tensor to file name, every name checked to stay inside the folder. */
export async function readShardIndex(path: string): Promise<ReadonlyMap<string, string>> {
  const json = await readStrictJson(path);
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw badIndex("the index has no weight_map", path);
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^[\w][\w.-]{0,254}$/.test(file) || file.includes("..")) {
      throw badIndex("the index names a file outside of its folder", path, show(file));
    }
    files.set(tensor, file);
  }
  if (new Set(files.values()).size > shardLimit) throw badIndex(`the index names more than ${shardLimit} files`, path);
  return files;
}

/**
 * Opens all files of an index as one checkpoint.
 *
 * @param openOne opens one of the files
 * @throws CheckpointError `CPM_CHECKPOINT_INDEX` where index and files disagree
 */
export async function openShards(
  indexPath: string,
  openOne: (path: string) => Promise<RawCheckpoint>,
): Promise<RawCheckpoint> {
  const index = await readShardIndex(indexPath);
  const folder = dirname(indexPath);
  const shards: RawCheckpoint[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(shards.map((shard) => shard.close()));
  };
  try {
    const tensors = new Map<string, RawTensor>();
    const metadata: Record<string, string> = Object.create(null);
    for (const file of [...new Set(index.values())].sort()) {
      const path = join(folder, file);
      const shard = await openOne(path);
      shards.push(shard);
      Object.assign(metadata, shard.metadata);
      for (const [name, tensor] of shard.tensors) {
        if (index.get(name) !== file)
          throw badIndex("a file holds a tensor that the index places elsewhere", path, name);
        tensors.set(name, tensor);
      }
    }
    for (const [name, file] of index) {
      if (!tensors.has(name))
        throw badIndex("a tensor is not in the file that the index names", join(folder, file), name);
    }
    return {
      format: shards[0]?.format ?? "safetensors",
      files: shards.flatMap((shard) => shard.files),
      tensors,
      metadata,
      ignored: shards.flatMap((shard) => shard.ignored),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
