/**
 * The folder that a build writes into, and what an interrupted build left there.
 *
 *     build.json    while the build runs: a key of its input and options, and the shards that are finished
 *
 * A shard counts as finished when its entry is in `build.json`; both appear atomically and in this order. What is taken
 * over is checked again: shards whose bytes are not sound are left out with all after them, and made anew.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fileErrorOf, writeFileAtomic } from "../../util/atomic-file.ts";
import { ConfigError, CpmError } from "../../util/error.ts";
import { type DatasetShard, datasetFile, printsFolder, shardFolder, shardSchema, vocabularyFile } from "../dataset.ts";
import { openShard, type TokenShard } from "../token-shard.ts";

const stateFile = "build.json";
const stateSchema = z.object({ key: z.string(), shards: z.array(shardSchema) });

/** A shard that an earlier build has finished. */
export interface EarlierShard {
  readonly entry: DatasetShard;
  readonly shard: TokenShard;
}

export interface BuildFolder {
  /** In the order in which they were written. */
  readonly earlier: readonly EarlierShard[];
  /** Notes which shards are finished. */
  save(shards: readonly DatasetShard[]): Promise<void>;
  /** The data set is described: nothing is left to go on with. */
  finish(): Promise<void>;
  /** Nothing came of the build: the folder is left as it was found. */
  abandon(): Promise<void>;
  /** Closes the earlier shards. */
  close(): void;
}

/**
 * Opens the folder: new, empty, or that of the same build interrupted; with `grow`, one that holds a finished data set.
 *
 * @throws ConfigError CPM_DATA_BUILD_OUTPUT where it holds something else, which is left alone; FileError CPM_FILE_…
 */
export async function openBuildFolder(output: string, key: string, grow: boolean): Promise<BuildFolder> {
  const refuse = (got: string) =>
    new ConfigError("CPM_DATA_BUILD_OUTPUT", "The output folder holds something else", {
      where: output,
      got,
      expected: grow ? "a finished data set" : "a new folder, or that of the same build interrupted",
      hint: "Give another --output, or remove the folder.",
    });
  const names: string[] = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw fileErrorOf(error, "read", output);
  });
  const path = join(output, stateFile);
  const state = names.includes(stateFile) ? readState(await readFile(path, "utf8")) : undefined;
  // Between the last two steps of a build, its data set is complete and build.json still there.
  const foreign = names.filter((name) => !name.startsWith(".") && name !== stateFile);
  if (names.includes(stateFile)) {
    if (state?.key !== key) throw refuse("a build of other input or options");
  } else if (!grow && foreign.length > 0) {
    throw refuse(foreign.includes(datasetFile) ? "a finished data set" : foreign.slice(0, 5).join(", "));
  }
  const save = (shards: readonly DatasetShard[]) => writeFileAtomic(path, JSON.stringify({ key, shards }));
  try {
    await mkdir(output, { recursive: true });
    if (state === undefined) await save([]); // before anything else: a folder without it is not ours
    await mkdir(join(output, shardFolder), { recursive: true });
    await removePartial(output);
    await removePartial(join(output, shardFolder));
    if (existsSync(join(output, printsFolder))) await removePartial(join(output, printsFolder));
  } catch (error) {
    throw fileErrorOf(error, "write", output);
  }
  const earlier = soundShards(output, state?.shards ?? []);
  return {
    earlier,
    save,
    finish: () => rm(path, { force: true }),
    async abandon() {
      await rm(path, { force: true });
      if (grow) return;
      await rm(join(output, vocabularyFile), { force: true });
      await rmdir(join(output, shardFolder)).catch(() => {}); // not empty: shards of others stay
    },
    close() {
      for (const { shard } of earlier) shard.close();
    },
  };
}

function readState(text: string): z.output<typeof stateSchema> | undefined {
  try {
    return stateSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** What a killed process was still writing. */
async function removePartial(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (/^\..*\.partial-\d+-\d+$/.test(name)) await rm(join(folder, name), { force: true });
  }
}

/** The shards as far as they are sound, opened. */
function soundShards(output: string, entries: readonly DatasetShard[]): EarlierShard[] {
  const earlier: EarlierShard[] = [];
  for (const entry of entries) {
    const path = join(output, shardFolder, entry.file);
    if (!existsSync(path)) break;
    try {
      const shard = openShard(path);
      earlier.push({ entry, shard });
      shard.verify();
      if (shard.documents === entry.documents && shard.tokens === entry.tokens) continue;
    } catch (error) {
      if (!(error instanceof CpmError)) throw error;
    }
    if (earlier.at(-1)?.entry === entry) earlier.pop()!.shard.close();
    break;
  }
  return earlier;
}
