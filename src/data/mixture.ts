/**
 * Training batches from a mixture of data sets.
 *
 * Sources take turns by weight: the next sample comes from the one that has given the fewest tokens for its weight. A source's
 * documents come in a seeded order, another one each epoch (`util/permutation.ts`, constant memory), long ones cut into
 * pieces as the original does; shards that are appended take part from the next epoch. Objectives and targets are drawn
 * when a sample is read, from a sequence that the seed, the source, the epoch and the place in the document decide.
 *
 * The whole position is a few counters a source and the list of samples that wait for room in a row; a restored source
 * gives the same batches to the last bit. The mixture may be replaced between two batches; it is part of the position.
 */
import { createHash } from "node:crypto";
import { basename, resolve } from "node:path";
import { z } from "zod";
import { countTargets, createBatch } from "../model/batch.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { createPermutation } from "../util/permutation.ts";
import { createRandom, type Seed } from "../util/random.ts";
import type { BatchGeometry, BatchSource, HeldOutBatch, SampleOrigin } from "./batch-source.ts";
import { type Dataset, openDataset, reopenDataset } from "./dataset.ts";
import { allTargets, drawTargets, type Objective, writePackedSample } from "./objectives.ts";
import { fitRows, type PackingKind } from "./packing.ts";
import type { TokenShard } from "./token-shard.ts";

export const mixtureSchema = z.strictObject({
  sources: z
    .array(
      z.strictObject({
        /** A data set's folder. */
        data: z.string().min(1),
        /** One source of the data set; all of them where absent. */
        source: z.string().optional(),
        /** Share of tokens relative to the others; by default its number of tokens, so that all is read evenly. */
        weight: z.number().positive().optional(),
        /** At most so many passes over it. */
        epochs: z.number().positive().optional(),
        /** Share of samples with the fill objective, the rest continue a text. */
        fillShare: z.number().min(0).max(1).optional(),
      }),
    )
    .min(1),
});
export type Mixture = z.output<typeof mixtureSchema>;

export interface MixtureOptions {
  readonly seed: Seed;
  readonly promptLength: number;
  /** Where a source of the mixture says nothing else. */
  readonly fillShare: number;
  /** Share of documents held out, by the hash of their text. */
  readonly heldOutShare: number;
  readonly packing: PackingKind;
  /** Prompts as the original's packer wrote them, see `writePackedSample`. */
  readonly compat?: boolean | undefined;
  /** The tail of a cut document is left out where it is shorter; 32 as the original. */
  readonly minimumTokens?: number | undefined;
  /** This process's part: every `world`-th sample, from `rank` on. */
  readonly rank?: number | undefined;
  readonly world?: number | undefined;
}

/** A source of a data set as the mixture reads it. */
interface Entry {
  /** "dataset/source": the same in every run over the same data. */
  readonly label: string;
  readonly dataset: Dataset;
  readonly source: string;
  readonly shards: readonly TokenShard[];
  /** Documents before each shard, and of all. */
  readonly starts: readonly number[];
  readonly documents: number;
  readonly tokens: number;
  readonly weight: number;
  readonly epochs: number;
  readonly fillShare: number;
}

const counter = z.int().min(0);
const sampleSchema = z.tuple([z.string(), counter, counter, counter, counter]);
/** [label, epoch, document, from, to] */
type Sample = z.output<typeof sampleSchema>;

const streamSchema = z.object({
  epoch: counter,
  /** Place in the epoch's order, and the first id not yet given of the document there. */
  place: counter,
  from: counter,
  /** Documents that take part in this epoch, and what their shards are. */
  documents: counter,
  digest: z.string(),
  /** Samples so far, for `rank`. */
  samples: counter,
  /** Tokens given, and those that count against the weight (a source that comes later starts level with the others). */
  tokens: counter,
  served: z.number().min(0),
});
type Stream = z.output<typeof streamSchema>;

const stateSchema = z.object({
  version: z.literal(1),
  options: z.string(),
  mixture: mixtureSchema,
  streams: z.record(z.string(), streamSchema),
  pool: z.array(sampleSchema),
  batches: counter,
  tokens: counter,
  targets: counter,
});
export type MixtureState = z.output<typeof stateSchema>;

export interface MixtureSource extends BatchSource {
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  /** Labels with tokens and weight, for a report. */
  readonly sources: readonly { readonly label: string; readonly tokens: number; readonly weight: number }[];
  /** The vocabulary file's text. */
  vocabularyText(): Promise<string>;
  /** Another mixture from the next batch on. Throws like `openMixture`; the old one stays in force then. */
  replace(mixture: Mixture): Promise<void>;
  readonly mixture: Mixture;
}

/** Samples that wait for room beyond those of one batch; more of them fill rows better. */
const poolSamples = 64;

/**
 * @throws ConfigError CPM_DATA_MIXTURE for data sets of different vocabularies, sources that a data set lacks or that are
 * named twice; DataError CPM_DATA_EMPTY, and those of `openDataset`
 */
export async function openMixture(initial: Mixture, options: MixtureOptions): Promise<MixtureSource> {
  const { promptLength, packing, heldOutShare } = options;
  const { rank = 0, world = 1, minimumTokens = 32 } = options;
  const root = createRandom(options.seed, "mixture");
  const optionsKey = JSON.stringify([
    String(options.seed),
    promptLength,
    heldOutShare,
    packing,
    options.compat ?? false,
    minimumTokens,
    rank,
    world,
    options.fillShare,
  ]);
  const datasets = new Map<string, Dataset>();
  let mixture = initial;
  let entries = await openEntries(mixture, options.fillShare, datasets);
  let streams = new Map<string, Stream>();
  for (const entry of entries) streams.set(entry.label, newStream(entry, 0));
  let pool: Sample[] = [];
  let batches = 0;
  let tokens = 0;
  let targets = 0;
  const orders = new Map<string, (place: number) => number>();
  const heldOutSets = new Map<string, HeldOutBatch[]>();

  const entryOf = (label: string) => {
    const entry = entries.find((each) => each.label === label);
    if (entry === undefined) throw new Error(`internal: no source ${label}`);
    return entry;
  };

  function isHeldOut(entry: Entry, document: number): boolean {
    const [shard, index] = locate(entry, document);
    return heldOutShare > 0 && Number(shard.hashOf(index) >> 16n) / 2 ** 48 < heldOutShare;
  }

  function orderOf(entry: Entry, { epoch, documents }: Stream): (place: number) => number {
    const key = `${entry.label} ${epoch} ${documents}`;
    let order = orders.get(key);
    if (order === undefined) {
      if (orders.size >= 4 * entries.length + 8) orders.clear();
      order = createPermutation(documents, root.fork("order").fork(entry.label).fork(epoch));
      orders.set(key, order);
    }
    return order;
  }

  /** The next sample of a source that falls to this process; undefined where its epochs are over. */
  async function draw(label: string, pieceLength: number): Promise<Sample | undefined> {
    const stream = streams.get(label)!;
    let skipped = 0;
    for (;;) {
      let entry = entryOf(label);
      if (stream.place >= stream.documents) {
        if (stream.epoch + 1 >= entry.epochs) return undefined;
        if (skipped >= stream.documents) throw noText(label);
        await refresh(entry);
        entry = entryOf(label);
        Object.assign(stream, {
          epoch: stream.epoch + 1,
          place: 0,
          from: 0,
          documents: entry.documents,
          digest: digestOf(entry, entry.documents),
        });
      }
      if (isOver(entry, stream)) return undefined;
      const document = orderOf(entry, stream)(stream.place);
      const [shard, index] = locate(entry, document);
      const length = shard.lengthOf(index);
      const take = Math.min(pieceLength, length - stream.from);
      if (take <= 0 || (stream.from > 0 && take < minimumTokens) || (stream.from === 0 && isHeldOut(entry, document))) {
        stream.place++;
        stream.from = 0;
        skipped++;
        if (skipped > 2 * stream.documents + 2) throw noText(label);
        continue;
      }
      const sample: Sample = [label, stream.epoch, document, stream.from, stream.from + take];
      stream.from += take;
      if (stream.from >= length) {
        stream.place++;
        stream.from = 0;
      }
      skipped = 0;
      const mine = stream.samples++ % world === rank;
      stream.served += take + 2;
      if (!mine) continue;
      stream.tokens += take + 2;
      return sample;
    }
  }

  /** A fraction of an epoch ends where that share of the documents has been given. */
  function isOver(entry: Entry, stream: Stream): boolean {
    return stream.epoch + stream.place / stream.documents >= entry.epochs;
  }

  async function fill(count: number, pieceLength: number): Promise<void> {
    const over = new Set<string>();
    while (pool.length < count && over.size < entries.length) {
      let least: Entry | undefined;
      let leastServed = Number.POSITIVE_INFINITY;
      for (const entry of entries) {
        const served = streams.get(entry.label)!.served / entry.weight;
        if (over.has(entry.label) || served >= leastServed) continue;
        least = entry;
        leastServed = served;
      }
      const sample = await draw(least!.label, pieceLength);
      if (sample === undefined) over.add(least!.label);
      else pool.push(sample);
    }
  }

  async function refresh(entry: Entry): Promise<void> {
    const reopened = await reopenDataset(entry.dataset);
    datasets.set(resolve(entry.dataset.folder), reopened);
    if (reopened.shards.length === entry.dataset.shards.length) return;
    entries = await openEntries(mixture, options.fillShare, datasets);
    heldOutSets.clear();
  }

  /** Samples that a shorter row cannot hold are cut; the rest waits in front. */
  function cut(pieceLength: number): void {
    pool = pool.flatMap((sample): Sample[] => {
      const [label, epoch, document, from, to] = sample;
      if (to - from <= pieceLength) return [sample];
      const parts: Sample[] = [];
      for (let start = from; start < to; start += pieceLength) {
        parts.push([label, epoch, document, start, Math.min(to, start + pieceLength)]);
      }
      return parts;
    });
  }

  function read([label, epoch, document, from, to]: Sample) {
    const entry = entryOf(label);
    const [shard, index] = locate(entry, document);
    const ids = shard.ids(index, from, to);
    const random = root.fork("draws").fork(label).fork(epoch).fork(document).fork(from);
    const objective: Objective = random.uniform() < entry.fillShare ? "fill" : "lm";
    const isTarget = drawTargets(objective, ids.length + 2, random);
    return { ids, objective, isTarget, shard: basename(shard.path), document: index, origin: shard.originOf(index) };
  }

  const room = (sample: Sample) => promptLength + sample[4] - sample[3] + 2;
  const first = entries[0]!.dataset.description.tokenizer;
  const vocabulary = { bosId: first.bosId, eosId: first.eosId, promptLength };

  const source: MixtureSource = {
    packed: packing !== "none",
    vocabSize: first.vocabSize,
    bosId: first.bosId,
    eosId: first.eosId,
    vocabularyText: () => entries[0]!.dataset.vocabularyText(),
    get sources() {
      return entries.map(({ label, tokens: all, weight }) => ({ label, tokens: all, weight }));
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
      return Math.max(
        ...[...streams.values()].map(({ epoch, place, documents }) => epoch + place / Math.max(1, documents)),
      );
    },
    async next({ rows, columns }) {
      const pieceLength = pieceLengthOf(columns, promptLength);
      cut(pieceLength);
      await fill(packing === "none" ? rows : rows + poolSamples, pieceLength);
      if (pool.length === 0) return undefined;
      const { placed, left } = fitRows(pool, room, { rows, columns, kind: packing });
      pool = left;
      const batch = createBatch(rows, columns, packing !== "none");
      const samples: SampleOrigin[] = [];
      let batchTokens = 0;
      for (const [row, ofRow] of placed.entries()) {
        let start = 0;
        for (const [span, sample] of ofRow.entries()) {
          const { ids, objective, isTarget, ...where } = read(sample);
          const content = { ids, span, objective, isTarget };
          const end = writePackedSample(batch, row, start, content, vocabulary, options.compat);
          samples.push({ row, start, length: end - start, source: sample[0], objective, epoch: sample[1], ...where });
          batchTokens += ids.length + 2;
          start = end;
        }
      }
      tokens += batchTokens;
      const batchTargets = countTargets(batch);
      targets += batchTargets;
      batches++;
      return { batch, tokens: batchTokens, targets: batchTargets, samples, changes: [] };
    },
    async skip(count, { rows, columns }) {
      const pieceLength = pieceLengthOf(columns, promptLength);
      for (let i = 0; i < count; i++) {
        cut(pieceLength);
        await fill(packing === "none" ? rows : rows + poolSamples, pieceLength);
        pool = fitRows(pool, room, { rows, columns, kind: packing }).left;
        batches++;
      }
    },
    heldOut({ rows, columns }, piecesOfEach) {
      const key = `${rows} ${columns} ${piecesOfEach}`;
      let found = heldOutSets.get(key);
      if (found === undefined) {
        found = entries.flatMap((entry) => heldOutOf(entry, { rows, columns }, piecesOfEach, isHeldOut, vocabulary));
        heldOutSets.set(key, found);
      }
      return found;
    },
    state: () => ({
      version: 1,
      options: optionsKey,
      mixture,
      streams: Object.fromEntries(streams),
      pool,
      batches,
      tokens,
      targets,
    }),
    async restore(value) {
      const parsed = stateSchema.safeParse(value);
      if (!parsed.success) throw badState(JSON.stringify(value)?.slice(0, 200), parsed.error.issues[0]?.message);
      const state = parsed.data;
      if (state.options !== optionsKey) throw badState(state.options, optionsKey);
      if (JSON.stringify(state.mixture) !== JSON.stringify(mixture)) {
        throw badState(JSON.stringify(state.mixture).slice(0, 300), JSON.stringify(mixture).slice(0, 300));
      }
      for (const entry of entries) {
        const stream = state.streams[entry.label];
        if (stream === undefined) throw badState(`no position of ${entry.label}`, "one for each source");
        if (stream.documents > entry.documents || digestOf(entry, stream.documents) !== stream.digest) {
          throw badState(
            `other shards of ${entry.label}`,
            "the shards that the run has read, and perhaps more after them",
          );
        }
      }
      const known = new Set(entries.map(({ label }) => label));
      for (const [label, , document, from, to] of state.pool) {
        const isSound = known.has(label) && document < entryOf(label).documents && from < to;
        if (!isSound) throw badState(`a sample of ${label}, document ${document}`, "samples of the mixture");
      }
      streams = new Map(Object.entries(structuredClone(state.streams)));
      pool = structuredClone(state.pool);
      ({ batches, tokens, targets } = state);
    },
    async replace(next) {
      const opened = await openEntries(next, options.fillShare, datasets);
      const level = Math.min(...entries.map((entry) => streams.get(entry.label)!.served / entry.weight));
      for (const entry of opened) {
        const stream = streams.get(entry.label);
        // Weights count from now on: what was served before must not be made up for.
        if (stream === undefined) streams.set(entry.label, newStream(entry, level * entry.weight));
        else stream.served = level * entry.weight;
      }
      const known = new Set(opened.map(({ label }) => label));
      pool = pool.filter(([label]) => known.has(label));
      for (const label of streams.keys()) if (!known.has(label)) streams.delete(label);
      entries = opened;
      mixture = next;
      heldOutSets.clear();
    },
    dispose() {
      for (const dataset of datasets.values()) dataset.close();
    },
  };
  return source;
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

async function openEntries(mixture: Mixture, fillShare: number, datasets: Map<string, Dataset>): Promise<Entry[]> {
  const entries: Entry[] = [];
  const bad = (what: string, got: string, expected?: string) =>
    new ConfigError("CPM_DATA_MIXTURE", what, { where: "mixture", got, expected });
  for (const [index, part] of mixture.sources.entries()) {
    const folder = resolve(part.data);
    const dataset = datasets.get(folder) ?? (await openDataset(folder));
    datasets.set(folder, dataset);
    const { tokenizer, sources } = dataset.description;
    const names = sources.map(({ name }) => name);
    if (part.source !== undefined && !names.includes(part.source)) {
      throw bad("The data set has no such source", `${part.data}: ${part.source}`, `one of ${names.join(", ")}`);
    }
    const chosen = part.source === undefined ? names : [part.source];
    const ofPart = chosen.map((name) => {
      const shards = dataset.shards.filter((shard) => shard.source === name);
      const starts = [0];
      for (const shard of shards) starts.push(starts.at(-1)! + shard.documents);
      const all = shards.reduce((sum, shard) => sum + shard.tokens, 0);
      return { name, shards, starts, documents: starts.at(-1)!, tokens: all };
    });
    const total = ofPart.reduce((sum, each) => sum + each.tokens, 0);
    for (const { name, documents, ...rest } of ofPart) {
      if (documents === 0) continue;
      const label = `${dataset.name}/${name}`;
      if (entries.some((entry) => entry.label === label)) throw bad("A source is named twice", label);
      if (entries.length > 0 && entries[0]!.dataset.description.tokenizer.sha256 !== tokenizer.sha256) {
        throw bad(
          "Two data sets have different vocabularies",
          `${part.data} (source ${index + 1})`,
          "one vocabulary for all",
        );
      }
      entries.push({
        label,
        dataset,
        source: name,
        documents,
        ...rest,
        weight: part.weight === undefined ? Math.max(1, rest.tokens) : (part.weight * rest.tokens) / total,
        epochs: part.epochs ?? Number.POSITIVE_INFINITY,
        fillShare: part.fillShare ?? fillShare,
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

function newStream(entry: Entry, served: number): Stream {
  const { documents } = entry;
  return { epoch: 0, place: 0, from: 0, documents, digest: digestOf(entry, documents), samples: 0, tokens: 0, served };
}

/** Of the shards that hold the first `documents` documents. */
function digestOf(entry: Entry, documents: number): string {
  const digest = createHash("sha256");
  const files = entry.dataset.description.shards.filter(({ source }) => source === entry.source);
  for (const [i, { sha256 }] of files.entries()) if (entry.starts[i]! < documents) digest.update(sha256);
  return digest.digest("hex").slice(0, 32);
}

/** The shard of a document, and its number there. */
function locate({ shards, starts }: Entry, document: number): [TokenShard, number] {
  let low = 0;
  let high = shards.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= document) low = middle;
    else high = middle - 1;
  }
  return [shards[low]!, document - starts[low]!];
}

function heldOutOf(
  entry: Entry,
  { rows, columns }: BatchGeometry,
  pieces: number,
  isHeldOut: (entry: Entry, document: number) => boolean,
  vocabulary: { readonly bosId: number; readonly eosId: number; readonly promptLength: number },
): HeldOutBatch[] {
  const pieceLength = pieceLengthOf(columns, vocabulary.promptLength);
  const found: Int32Array[] = [];
  let tokens = 0;
  let characters = 0;
  for (let document = 0; document < entry.documents && found.length < pieces; document++) {
    if (!isHeldOut(entry, document)) continue;
    const [shard, index] = locate(entry, document);
    const length = shard.lengthOf(index);
    tokens += length;
    characters += shard.charactersOf(index);
    for (let from = 0; from < length && found.length < pieces; from += pieceLength) {
      found.push(shard.ids(index, from, Math.min(length, from + pieceLength)));
    }
  }
  const batches: HeldOutBatch[] = [];
  for (let start = 0; start < found.length; start += rows) {
    const batch = createBatch(rows, columns);
    for (const [row, ids] of found.slice(start, start + rows).entries()) {
      const content = { ids, span: 0, objective: "lm" as const, isTarget: allTargets(ids.length + 2) };
      writePackedSample(batch, row, 0, content, vocabulary);
    }
    batches.push({ source: entry.label, batch, tokensPerCharacter: characters === 0 ? 0 : tokens / characters });
  }
  return batches;
}

function badState(got: string | undefined, expected: string | undefined): DataError {
  return new DataError("CPM_DATA_STATE", "The position in the data does not belong to these data and options", {
    got,
    expected,
    hint: "Resume with the same data sets, mixture, row packing, held-out share and seed.",
  });
}

function noText(label: string): DataError {
  return new DataError("CPM_DATA_EMPTY", "A source of the mixture has nothing to train on", {
    where: label,
    hint: "Every document may be held out or empty: lower heldOutShare, or leave the source out.",
  });
}
