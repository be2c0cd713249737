/**
 * Training batches from a mixture of data sets.
 *
 * Sources take turns by weight: the next sample comes from the one that has given the fewest tokens for its weight.
 * Each is a stream of its own (`shard-stream.ts`); samples are put into rows by `packing.ts`. Objectives and targets are
 * drawn when a sample is read, from a sequence that the seed, the source, the epoch and the place of its text decide.
 *
 * The whole position is a few counters a source and the samples that wait for room in a row; a restored source gives the
 * same batches to the last bit. What may change in the middle of a run (the mixture's file, shards that are appended, the shape
 * of batches) is looked at before each batch and is part of the position from then on.
 *
 * With several processes each computes the same rows and takes every `world`-th, from `rank` on: the position is the same
 * in all of them and for any number of them, as long as all rows together stay as many.
 */
import { join, resolve } from "node:path";
import { z } from "zod";
import { countTargets, createBatch } from "../model/batch.ts";
import { ConfigError, CpmError, DataError } from "../util/error.ts";
import { createRandom, type Seed } from "../util/random.ts";
import type { BatchGeometry, BatchSource, DataChange, HeldOutBatch, SampleOrigin } from "./batch-source.ts";
import { type DatasetDescription, datasetFile, readDescription, readVocabularyText } from "./dataset.ts";
import { heldOutBatches } from "./held-out.ts";
import { fileStamp, type Mixture, mixtureSchema, readMixture } from "./mixture-file.ts";
import {
  checkShards,
  entriesOf,
  type MixtureEntry,
  mixtureText,
  type ObjectiveShares,
  relocated,
} from "./mixture-sources.ts";
import { allTargets, drawTargets, type Objective, writePackedSample } from "./objectives.ts";
import { fitRows, type PackingKind } from "./packing.ts";
import { createShardCache } from "./shard-cache.ts";
import {
  createShardStream,
  cutSample,
  groupShards,
  newStreamState,
  type Sample,
  type ShardStream,
  type StreamState,
  sampleSchema,
  sampleTokens,
  shardsDigest,
  streamStateSchema,
} from "./shard-stream.ts";

export interface MixtureOptions extends ObjectiveShares {
  readonly seed: Seed;
  readonly promptLength: number;
  /** Share of documents held out, by the hash of their text. */
  readonly heldOutShare: number;
  readonly packing: {
    readonly kind: PackingKind;
    readonly compat?: boolean | undefined;
    readonly join?: boolean | undefined;
  };
  /** The tail of a cut document is left out where it is shorter; 32 as the original. */
  readonly minimumTokens?: number;
  /** This process's part: every `world`-th row, from `rank` on. */
  readonly rank?: number;
  readonly world?: number;
}

const counter = z.int().min(0);
const stateSchema = z.object({
  version: z.literal(2),
  options: z.string(),
  mixture: mixtureSchema,
  /** By label, with those that are in the mixture no more: they go on from there where they come back. */
  streams: z.record(z.string(), streamStateSchema),
  waiting: z.array(sampleSchema),
  batches: counter,
  tokens: counter,
  columns: counter,
});

/** What a report says of a source. */
export interface MixturePart {
  readonly label: string;
  readonly tokens: number;
  readonly documents: number;
  readonly weight: number;
  readonly licence?: string;
  readonly givenTokens: number;
  readonly epoch: number;
}

export interface MixtureSource extends BatchSource {
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly sources: readonly MixturePart[];
  /** The vocabulary file's text. */
  vocabularyText(): Promise<string>;
  /** The mixture in force. */
  readonly mixture: Mixture;
}

/**
 * @param given a mixture, or the path of its file, which is then looked at before every batch
 * @throws ConfigError CPM_DATA_MIXTURE for a file that is none, data sets of different vocabularies, sources that a data
 * set lacks or that are named twice; DataError CPM_DATA_EMPTY, CPM_DATA_SET; FileError
 */
export async function openMixture(given: Mixture | string, options: MixtureOptions): Promise<MixtureSource> {
  const { promptLength, packing, heldOutShare, rank = 0, world = 1, minimumTokens = 32 } = options;
  const join = packing.join ?? packing.kind === "none";
  const compat = packing.compat ?? false;
  const root = createRandom(options.seed, "mixture");
  const optionsKey = JSON.stringify({
    seed: String(options.seed),
    promptLength,
    heldOutShare,
    packing: { kind: packing.kind, compat, join },
    minimumTokens,
  });
  const cache = createShardCache();
  const descriptions = new Map<string, DatasetDescription>();
  const stamps = new Map<string, string>();
  const file = typeof given === "string" ? resolve(given) : undefined;
  if (file !== undefined) stamps.set(file, await fileStamp(file));
  let mixture = typeof given === "string" ? await readMixture(given) : given;
  let entries: readonly MixtureEntry[] = [];
  let states = new Map<string, StreamState>();
  let streams = new Map<string, ShardStream>();
  let waiting: Sample[] = [];
  let batches = 0;
  let tokens = 0;
  let columnsBefore = 0;
  let changes: DataChange[] = [];
  const heldOutSets = new Map<string, HeldOutBatch[]>();

  /** Descriptions of the data sets, each read once; stamps are taken before, so that no change goes by unseen. */
  async function describe(next: Mixture): Promise<void> {
    for (const { data } of next.sources) {
      const folder = resolve(data);
      if (descriptions.has(folder)) continue;
      stamps.set(folder, await fileStamp(descriptionPath(folder)));
      descriptions.set(folder, await readDescription(folder));
    }
  }

  /** Puts sources in force, with the positions that there are; all begin level where `level` says so. */
  function use(next: Mixture, nextEntries: readonly MixtureEntry[], level: boolean): void {
    for (const entry of nextEntries) {
      const state = states.get(entry.label);
      if (state !== undefined) checkShards(entry, state);
    }
    // Sources whose epochs are over stay behind: where the others are is the most that any has given for its weight.
    const reached = Math.max(0, ...entries.map(({ label }) => states.get(label)!.served / states.get(label)!.weight));
    streams = new Map();
    for (const entry of nextEntries) {
      const state = states.get(entry.label) ?? newStreamState(entry, entry.weight);
      // Weights count from now on: what was served before must not be made up for.
      if (level) Object.assign(state, { served: reached * entry.weight, weight: entry.weight });
      states.set(entry.label, state);
      const streamOptions = { heldOutShare, minimumTokens, join };
      const random = root.fork("order").fork(entry.label);
      streams.set(entry.label, createShardStream(entry, state, streamOptions, random));
    }
    entries = nextEntries;
    mixture = next;
    waiting = waiting.filter(({ source }) => streams.has(source));
    cache.setLimit((groupShards + 1) * (entries.length + 1));
    heldOutSets.clear();
  }

  /** Looks for what has changed on disk. A mixture that cannot be used leaves the one in force. */
  async function refresh(): Promise<void> {
    if (file !== undefined && (await hasChanged(file, file))) {
      try {
        const next = await readMixture(file);
        if (JSON.stringify(next) !== JSON.stringify(mixture)) {
          await describe(next);
          use(next, entriesOf(next, options, descriptions, cache), true);
          changes.push({ what: "mixture", text: mixtureText(entries) });
        }
      } catch (error) {
        if (!(error instanceof CpmError)) throw error;
        changes.push({ what: "mixture", text: `unchanged: ${error.message}` });
      }
    }
    for (const folder of new Set(entries.map((entry) => entry.folder))) {
      if (await hasChanged(folder, descriptionPath(folder))) await takeShards(folder);
    }
  }

  async function hasChanged(key: string, path: string): Promise<boolean> {
    const stamp = await fileStamp(path);
    if (stamp === stamps.get(key)) return false;
    stamps.set(key, stamp);
    return true;
  }

  /** Shards that were appended take part from here on; those that were there must be the same. */
  async function takeShards(folder: string): Promise<void> {
    try {
      descriptions.set(folder, await readDescription(folder));
    } catch (error) {
      // Out of reach for now, perhaps: the shards that are known can be read all the same, or fail by themselves.
      if (!(error instanceof CpmError)) throw error;
      changes.push({ what: "shards", text: `unchanged: ${error.message}` });
      return;
    }
    const next = entriesOf(mixture, options, descriptions, cache);
    const before = new Map(next.map(({ label }) => [label, states.get(label)?.shards.at(-1) ?? 0]));
    const grown = next.filter(({ label, shards }) => shards.length !== before.get(label));
    use(mixture, next, grown.length > 0);
    for (const entry of grown) {
      const state = states.get(entry.label)!;
      const known = before.get(entry.label)!;
      const now = entry.shards.length;
      if (known > 0) state.shards.push(now);
      state.digest = shardsDigest(entry, now);
      const documents = entry.shards.slice(known).reduce((sum, shard) => sum + shard.documents, 0);
      changes.push({ what: "shards", text: `${entry.label}: +${now - known}, ${documents} documents` });
    }
  }

  /** The next sample, of the source that has given the least for its weight. */
  function drawFrom(pieceLength: number): () => Sample | undefined {
    const over = new Set<string>();
    return () => {
      for (;;) {
        let least: MixtureEntry | undefined;
        let leastServed = Number.POSITIVE_INFINITY;
        for (const entry of entries) {
          const { served: given, weight } = states.get(entry.label)!;
          const served = given / weight;
          if (over.has(entry.label) || served >= leastServed) continue;
          least = entry;
          leastServed = served;
        }
        if (least === undefined) return undefined;
        const sample = streams.get(least.label)!.draw(pieceLength);
        if (sample !== undefined) return sample;
        over.add(least.label);
      }
    };
  }

  /** The samples of all rows of a batch, taken from the streams. */
  function take({ rows, columns }: BatchGeometry): readonly (readonly Sample[])[] | undefined {
    const pieceLength = pieceLengthOf(columns, promptLength);
    waiting = waiting.flatMap((sample) => cutSample(sample, pieceLength));
    const shape = { rows: rows * world, columns, kind: packing.kind, strict: compat };
    const room = (sample: Sample) => promptLength + sampleTokens(sample) + 2;
    const { placed, left } = fitRows(waiting, drawFrom(pieceLength), room, shape);
    if (placed.every((row) => row.length === 0)) return undefined;
    waiting = left;
    if (columnsBefore !== columns) {
      if (columnsBefore > 0) changes.push({ what: "length", text: `${columnsBefore} → ${columns}` });
      columnsBefore = columns;
    }
    return placed;
  }

  function read({ source: label, epoch, parts }: Sample) {
    const entry = entries.find((each) => each.label === label)!;
    const [number, document, from] = parts[0]!;
    const ids: number[] = [];
    for (const [shard, of, start, end] of parts) {
      if (ids.length > 0) ids.push(vocabulary.eosId, vocabulary.bosId);
      for (const id of entry.open(shard).ids(of, start, end)) ids.push(id);
    }
    const random = root.fork("draws").fork(label).fork(epoch).fork(number).fork(document).fork(from);
    const objective: Objective = random.uniform() < entry.fillShare ? "fill" : "lm";
    const isWhole = objective === "lm" && entry.wholeShare > 0 && random.uniform() < entry.wholeShare;
    const isTarget = isWhole ? allTargets(ids.length + 2) : drawTargets(objective, ids.length + 2, random);
    const shard = entry.shards[number]!.file;
    const where = { source: label, shard, document, origin: entry.open(number).originOf(document), epoch };
    return { content: { ids, objective, isTarget }, where };
  }

  try {
    await describe(mixture);
    use(mixture, entriesOf(mixture, options, descriptions, cache), false);
  } catch (error) {
    cache.dispose();
    throw error;
  }
  const { tokenizer } = entries[0]!.description;
  const vocabulary = { bosId: tokenizer.bosId, eosId: tokenizer.eosId, promptLength };
  const packed = packing.kind !== "none";

  return {
    packed,
    vocabSize: tokenizer.vocabSize,
    bosId: tokenizer.bosId,
    eosId: tokenizer.eosId,
    vocabularyText: () => readVocabularyText(entries[0]!.folder, entries[0]!.description),
    get sources() {
      return entries.map(({ label, tokens: all, weight, shards, licence }) => ({
        label,
        ...(licence !== undefined && { licence }),
        tokens: all,
        documents: shards.reduce((sum, { documents }) => sum + documents, 0),
        weight,
        givenTokens: states.get(label)!.tokens,
        epoch: streams.get(label)!.epoch,
      }));
    },
    get mixture() {
      return mixture;
    },
    get batches() {
      return batches;
    },
    get tokens() {
      return tokens;
    },
    get epoch() {
      return Math.max(...[...streams.values()].map(({ epoch }) => epoch));
    },
    async next({ rows, columns }) {
      await refresh();
      const placed = take({ rows, columns });
      if (placed === undefined) return undefined;
      const batch = createBatch(rows, columns, packed);
      const samples: SampleOrigin[] = [];
      let batchTokens = 0;
      for (const [place, ofRow] of placed.entries()) {
        for (const sample of ofRow) tokens += sampleTokens(sample) + 2;
        if (place % world !== rank) continue;
        const row = (place - rank) / world;
        let start = 0;
        for (const [span, sample] of ofRow.entries()) {
          const { content, where } = read(sample);
          const end = writePackedSample(batch, row, start, { ...content, span }, vocabulary, compat);
          samples.push({ row, start, length: end - start, objective: content.objective, ...where });
          batchTokens += content.ids.length + 2;
          start = end;
        }
      }
      batches++;
      const came = changes;
      changes = [];
      return { batch, tokens: batchTokens, targets: countTargets(batch), samples, changes: came };
    },
    async skip(count, geometry) {
      for (let i = 0; i < count; i++) {
        await refresh();
        if (take(geometry) === undefined) return;
        batches++;
      }
    },
    heldOut({ rows, columns }, pieces) {
      const key = `${rows} ${columns} ${pieces}`;
      let found = heldOutSets.get(key);
      if (found === undefined) {
        pieceLengthOf(columns, promptLength);
        const heldOut = { rows, columns, share: heldOutShare, pieces, packed, vocabulary };
        found = entries.flatMap((entry) => heldOutBatches(entry, heldOut));
        heldOutSets.set(key, found);
      }
      return found;
    },
    state: () =>
      structuredClone({
        version: 2 as const,
        options: optionsKey,
        mixture,
        streams: Object.fromEntries(states),
        waiting,
        batches,
        tokens,
        columns: columnsBefore,
      }),
    async restore(value) {
      const parsed = stateSchema.safeParse(value);
      if (!parsed.success) throw badState(JSON.stringify(value)?.slice(0, 200), parsed.error.issues[0]?.message);
      const state = parsed.data;
      if (state.options !== optionsKey) throw badState(state.options, optionsKey);
      const inForce = relocated(state.mixture, mixture);
      await describe(inForce);
      // A source that came to a data set since has no position: the next batch takes it in, with other shards that came.
      const opened = entriesOf(inForce, options, descriptions, cache).filter(({ label }) => label in state.streams);
      if (opened.length === 0) throw badState("no position of any source", "one for each");
      for (const entry of opened) checkShards(entry, state.streams[entry.label]!);
      for (const { source, parts } of [...state.waiting, ...Object.values(state.streams).flatMap(({ open }) => open)]) {
        const entry = opened.find(({ label }) => label === source);
        const isSound = ([shard, document, from, to]: (typeof parts)[number]) =>
          document < (entry?.shards[shard]?.documents ?? 0) && from < to;
        if (entry !== undefined && !parts.every(isSound))
          throw badState(`a sample of ${source}`, "samples of its shards");
      }
      // The mixture of the position is in force now; where its file says something else, the next batch takes it.
      if (file !== undefined && JSON.stringify(inForce) !== JSON.stringify(mixture)) stamps.delete(file);
      for (const { folder } of opened) stamps.delete(folder);
      states = new Map(Object.entries(state.streams));
      entries = opened;
      mixture = inForce;
      ({ waiting, batches, tokens, columns: columnsBefore } = state);
      changes = [];
      use(mixture, opened, false);
    },
    dispose: () => cache.dispose(),
  };
}

function descriptionPath(folder: string): string {
  return join(folder, datasetFile);
}

function pieceLengthOf(columns: number, promptLength: number): number {
  const pieceLength = columns - promptLength - 2;
  if (pieceLength >= 1) return pieceLength;
  throw new ConfigError("CPM_DATA_CORPUS_OPTIONS", "A row has no room for text", {
    where: "length",
    got: `${columns} with a prompt of ${promptLength}`,
    expected: `at least ${promptLength + 3}`,
  });
}

function badState(got: string | undefined, expected: string | undefined): DataError {
  return new DataError("CPM_DATA_STATE", "The position in the data does not belong to these data and options", {
    got,
    expected,
    hint: "Resume with the same data sets, packing, held-out share and seed.",
  });
}
