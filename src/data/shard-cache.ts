/**
 * Shards of data sets, opened when a document of theirs is wanted and closed when others were wanted since: a data set may
 * have more shards than a process may have open files, and their indices need not all lie in memory.
 */
import { join } from "node:path";
import { DataError } from "../util/error.ts";
import { type DatasetShard, shardFolder } from "./dataset.ts";
import { openShard, type TokenShard } from "./token-shard.ts";

export interface ShardCache {
  /**
   * A shard as dataset.json describes it. It stays open until `limit` others were asked for after it.
   *
   * @throws DataError CPM_DATA_SHARD, FileError CPM_DATA_FILE
   */
  open(folder: string, entry: DatasetShard, vocabSize: number): TokenShard;
  /** How many may be open. */
  setLimit(limit: number): void;
  dispose(): void;
}

export function createShardCache(): ShardCache {
  /** The one that was asked for last is at the end. */
  const opened = new Map<string, TokenShard>();
  let limit = 1;

  function trim(): void {
    for (const [path, shard] of opened) {
      if (opened.size <= limit) return;
      shard.close();
      opened.delete(path);
    }
  }

  return {
    open(folder, entry, vocabSize) {
      const path = join(folder, shardFolder, entry.file);
      const known = opened.get(path);
      if (known !== undefined) {
        opened.delete(path);
        opened.set(path, known);
        return known;
      }
      const shard = openShard(path);
      if (shard.documents !== entry.documents || shard.tokens !== entry.tokens || shard.vocabSize !== vocabSize) {
        shard.close();
        throw new DataError("CPM_DATA_SHARD", "A token shard is not the one that dataset.json describes", {
          where: path,
          got: `${shard.documents} documents, ${shard.tokens} tokens, vocabulary ${shard.vocabSize}`,
          expected: `${entry.documents} documents, ${entry.tokens} tokens, vocabulary ${vocabSize}`,
        });
      }
      opened.set(path, shard);
      trim();
      return shard;
    },
    setLimit(next) {
      limit = Math.max(1, next);
      trim();
    },
    dispose() {
      for (const shard of opened.values()) shard.close();
      opened.clear();
    },
  };
}
