/**
 * The sources of a mixture: which shards each reads, its weight and objectives; and whether what a position or a reader
 * knows of them still holds.
 */
import { basename, resolve } from "node:path";
import { ConfigError, DataError } from "../util/error.ts";
import type { DatasetDescription } from "./dataset.ts";
import type { Mixture } from "./mixture-file.ts";
import type { ShardCache } from "./shard-cache.ts";
import { type StreamSource, type StreamState, shardsDigest } from "./shard-stream.ts";

/** A source of a data set as the mixture reads it. */
export interface MixtureEntry extends StreamSource {
  readonly folder: string;
  readonly description: DatasetDescription;
  readonly licence: string | undefined;
  readonly tokens: number;
  readonly weight: number;
  readonly fillShare: number;
  readonly wholeShare: number;
}

/** What holds where a source of the mixture says nothing else. */
export interface ObjectiveShares {
  /** Of all samples: those with the fill objective. */
  readonly fillShare: number;
  /** Of the samples that continue a text: those in which every token is a target; none as the original. */
  readonly wholeShare?: number;
}

/** The sources of a mixture whose data sets have been described. */
export function entriesOf(
  mixture: Mixture,
  defaults: ObjectiveShares,
  descriptions: ReadonlyMap<string, DatasetDescription>,
  cache: ShardCache,
): MixtureEntry[] {
  const entries: MixtureEntry[] = [];
  const bad = (what: string, got: string, expected?: string) =>
    new ConfigError("CPM_DATA_MIXTURE", what, { where: "mixture", got, expected });
  for (const [index, part] of mixture.sources.entries()) {
    const folder = resolve(part.data);
    const description = descriptions.get(folder)!;
    const { tokenizer } = description;
    const names = description.sources.map(({ name }) => name);
    if (part.source !== undefined && !names.includes(part.source)) {
      throw bad("The data set has no such source", `${part.data}: ${part.source}`, `one of ${names.join(", ")}`);
    }
    const chosen = (part.source === undefined ? names : [part.source]).map((name) => {
      const shards = description.shards.filter((shard) => shard.source === name);
      return { name, shards, tokens: shards.reduce((sum, shard) => sum + shard.tokens, 0) };
    });
    const total = chosen.reduce((sum, each) => sum + each.tokens, 0);
    for (const { name, shards, tokens } of chosen) {
      if (shards.every(({ documents }) => documents === 0)) continue;
      const label = `${part.name ?? basename(folder)}/${name}`;
      if (entries.some((entry) => entry.label === label)) throw bad("A source is named twice", label);
      if (entries.length > 0 && entries[0]!.description.tokenizer.sha256 !== tokenizer.sha256) {
        throw bad("Two data sets have different vocabularies", `${part.data} (source ${index + 1})`, "one for all");
      }
      entries.push({
        label,
        folder,
        description,
        shards,
        licence: description.sources.find((source) => source.name === name)?.licence,
        tokens,
        open: (shard) => cache.open(folder, shards[shard]!, tokenizer.vocabSize),
        weight: part.weight === undefined ? Math.max(1, tokens) : part.weight * (tokens / Math.max(1, total)),
        epochs: part.epochs ?? Number.POSITIVE_INFINITY,
        fillShare: part.fillShare ?? fixedShare(description, name) ?? defaults.fillShare,
        wholeShare: part.wholeShare ?? defaults.wholeShare ?? 0,
      });
    }
  }
  if (entries.length === 0) {
    throw new DataError("CPM_DATA_EMPTY", "The mixture has no document", {
      where: mixture.sources.map(({ data }) => data).join(", "),
    });
  }
  return entries;
}

/** The mixture of a position with the folders of the one that was given: data sets may have moved. */
export function relocated(saved: Mixture, given: Mixture): Mixture {
  const key = (part: Mixture["sources"][number]) => `${part.name ?? basename(part.data)} ${part.source ?? ""}`;
  const folders = new Map(given.sources.map((part) => [key(part), part.data]));
  return { sources: saved.sources.map((part) => ({ ...part, data: folders.get(key(part)) ?? part.data })) };
}

/** @throws DataError CPM_DATA_SET_CHANGED where the shards that a stream has counted are not there any more */
export function checkShards(entry: MixtureEntry, { shards, digest }: StreamState): void {
  const known = shards.at(-1)!;
  if (known <= entry.shards.length && shardsDigest(entry, known) === digest) return;
  throw new DataError("CPM_DATA_SET_CHANGED", "The shards of a source are not those that were there before", {
    where: `${entry.folder}: ${entry.label}`,
    got: `${entry.shards.length} shards`,
    expected: `the ${known} shards that the run has read, and perhaps more after them`,
    hint: "Only append shards to a data set that is in use.",
  });
}

/** "label share %" of each source, by weight. */
export function mixtureText(entries: readonly MixtureEntry[]): string {
  const total = entries.reduce((sum, { weight }) => sum + weight, 0);
  return entries.map(({ label, weight }) => `${label} ${((100 * weight) / total).toFixed(1)} %`).join(", ");
}

/** An imported source whose samples were cut for one objective keeps to it, unless the mixture says something else. */
function fixedShare({ sources }: DatasetDescription, name: string): number | undefined {
  const objective = sources.find((source) => source.name === name)?.objective;
  return objective === undefined ? undefined : Number(objective === "fill");
}
