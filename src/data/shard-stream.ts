/**
 * One source of a mixture: its documents in a seeded order, cut into pieces for rows, endlessly or for some epochs.
 *
 * The order of an epoch: the source's shards in a seeded permutation, eight at a time, and the documents of those eight in
 * another (`util/permutation.ts`, without a table). So only eight shards of a source are read at a time, however many there
 * are. Shards that come during an epoch are read at its end, and from the next epoch on they are shuffled with the rest.
 *
 * Documents longer than a row are cut as the original does: pieces as long as the row has room for, the tail left out
 * where it is shorter than a minimum. Whole documents are kept however short. Where they are to be joined, a piece goes into the
 * first of some waiting samples that has room for it, `</s><s>` between, and the fullest is given when too many wait.
 *
 * The position is a few counters and the samples that wait. It says where the next piece begins, not how long it is: the row
 * length may change at any time, and nothing is left out or comes twice.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { DataError } from "../util/error.ts";
import { createPermutation } from "../util/permutation.ts";
import type { Random } from "../util/random.ts";
import type { DatasetShard } from "./dataset.ts";
import type { TokenShard } from "./token-shard.ts";

const counter = z.int().min(0);

/** [shard, document, from, to]: ids of a document, by the shard's number in its source and the document's in the shard. */
const partSchema = z.tuple([counter, counter, counter, counter]);
export type SamplePart = z.output<typeof partSchema>;

/** What stands between one prompt and the next: one piece, or several that were joined. */
export const sampleSchema = z.object({ source: z.string(), epoch: counter, parts: z.array(partSchema).min(1) });
export type Sample = z.output<typeof sampleSchema>;

export const streamStateSchema = z.object({
  epoch: counter,
  /** Shards that take part in the epoch under way: those from its beginning, then those with each lot that came. */
  shards: z.array(counter).min(1),
  /** Of the checksums of these shards. */
  digest: z.string(),
  /** Place in the epoch's order, and the first id not yet given of the document there. */
  place: counter,
  from: counter,
  /** Samples that wait for company. */
  open: z.array(sampleSchema),
  tokens: counter,
  /** Tokens that count against the weight, and the weight. */
  served: z.number().min(0),
  weight: z.number().positive(),
});
export type StreamState = z.output<typeof streamStateSchema>;

/** What a stream reads. */
export interface StreamSource {
  readonly label: string;
  /** In the order in which they came; more may be appended. */
  readonly shards: readonly DatasetShard[];
  open(shard: number): TokenShard;
  readonly epochs: number;
}

export interface StreamOptions {
  readonly heldOutShare: number;
  readonly minimumTokens: number;
  readonly join: boolean;
}

/** Shards of a source that are read at a time. */
export const groupShards = 8;
/** Samples that wait to be joined; more of them fill rows better and mix documents from farther apart. */
const openSamples = 16;

export function newStreamState(source: StreamSource, weight: number): StreamState {
  const shards = source.shards.length;
  return {
    epoch: 0,
    shards: [shards],
    digest: shardsDigest(source, shards),
    place: 0,
    from: 0,
    open: [],
    tokens: 0,
    served: 0,
    weight,
  };
}

/** Of the checksums of the first `count` shards. */
export function shardsDigest(source: StreamSource, count: number): string {
  const digest = createHash("sha256");
  for (const { sha256 } of source.shards.slice(0, count)) digest.update(sha256);
  return digest.digest("hex").slice(0, 32);
}

/** Whether a document is held out: by the same hash of its text as in `isHeldOut`. */
export function isDocumentHeldOut(shard: TokenShard, document: number, share: number): boolean {
  return share > 0 && Number(shard.hashOf(document) >> 16n) / 2 ** 48 < share;
}

/** Tokens of a sample between `<s>` and `</s>`, those between joined parts included. */
export function sampleTokens({ parts }: Sample): number {
  let tokens = 2 * (parts.length - 1);
  for (const [, , from, to] of parts) tokens += to - from;
  return tokens;
}

/** The samples that hold a sample's text where rows have room for so many tokens alone. */
export function cutSample(sample: Sample, pieceLength: number): Sample[] {
  if (sampleTokens(sample) <= pieceLength) return [sample];
  const { source, epoch } = sample;
  const cut: Sample[] = [];
  for (const [shard, document, from, to] of sample.parts) {
    for (let start = from; start < to; start += pieceLength) {
      cut.push({ source, epoch, parts: [[shard, document, start, Math.min(to, start + pieceLength)]] });
    }
  }
  return cut;
}

export interface ShardStream {
  /** The next sample for rows with room for so many tokens; undefined where the epochs are over. */
  draw(pieceLength: number): Sample | undefined;
  readonly state: StreamState;
  /** Passes over the source, with the part of the one under way. */
  readonly epoch: number;
}

/** Reads on from `state`, which it changes. */
export function createShardStream(
  source: StreamSource,
  state: StreamState,
  options: StreamOptions,
  random: Random,
): ShardStream {
  const { heldOutShare, minimumTokens, join } = options;
  let order: EpochOrder | undefined;
  let orderKey = "";

  function currentOrder(): EpochOrder {
    const key = `${state.epoch} ${state.shards}`;
    if (order === undefined || key !== orderKey) {
      const documents = source.shards.map((shard) => shard.documents);
      order = createEpochOrder(documents, state.shards, random.fork(state.epoch));
      orderKey = key;
    }
    return order;
  }

  const epochNow = () => state.epoch + state.place / Math.max(1, currentOrder().documents);

  function piece(pieceLength: number): Sample | undefined {
    for (let skipped = 0; ; ) {
      if (state.place >= currentOrder().documents && state.epoch + 1 < source.epochs) {
        if (skipped >= currentOrder().documents) throw noText(source.label);
        const { length } = source.shards;
        Object.assign(state, {
          epoch: state.epoch + 1,
          place: 0,
          from: 0,
          shards: [length],
          digest: shardsDigest(source, length),
        });
      }
      const { documents, at } = currentOrder();
      // A part of an epoch ends where that share of the documents has been given.
      if (state.place >= documents || epochNow() >= source.epochs) return undefined;
      const { shard: number, document } = at(state.place);
      const shard = source.open(number);
      const length = shard.lengthOf(document);
      const take = Math.min(pieceLength, length - state.from);
      const isTail = state.from > 0 && take < Math.min(minimumTokens, Math.ceil(pieceLength / 4));
      if (take <= 0 || isTail || (state.from === 0 && isDocumentHeldOut(shard, document, heldOutShare))) {
        state.place++;
        state.from = 0;
        if (++skipped > 2 * documents + 2) throw noText(source.label);
        continue;
      }
      const part: SamplePart = [number, document, state.from, state.from + take];
      const epoch = state.epoch;
      state.from += take;
      if (state.from >= length) {
        state.place++;
        state.from = 0;
      }
      return { source: source.label, epoch, parts: [part] };
    }
  }

  function fullest(): number {
    let found = 0;
    for (let i = 1; i < state.open.length; i++) {
      if (sampleTokens(state.open[i]!) > sampleTokens(state.open[found]!)) found = i;
    }
    return found;
  }

  function joined(pieceLength: number): Sample | undefined {
    const tooLong = state.open.findIndex((sample) => sampleTokens(sample) > pieceLength);
    if (tooLong >= 0) {
      const [first, ...rest] = cutSample(state.open[tooLong]!, pieceLength);
      state.open.splice(tooLong, 1, ...rest);
      return first;
    }
    for (;;) {
      if (state.open.length > openSamples) return state.open.splice(fullest(), 1)[0];
      const next = piece(pieceLength);
      if (next === undefined) return state.open.length === 0 ? undefined : state.open.splice(fullest(), 1)[0];
      const tokens = sampleTokens(next);
      if (tokens > pieceLength - 2 - minimumTokens) return next; // hardly anything more would fit
      const at = state.open.findIndex((sample) => sampleTokens(sample) + 2 + tokens <= pieceLength);
      if (at < 0) state.open.push(next);
      else state.open[at] = { ...state.open[at]!, parts: [...state.open[at]!.parts, ...next.parts] };
    }
  }

  return {
    state,
    get epoch() {
      return epochNow();
    },
    draw(pieceLength) {
      const sample = join ? joined(pieceLength) : piece(pieceLength);
      if (sample === undefined) return undefined;
      const tokens = sampleTokens(sample) + 2;
      state.tokens += tokens;
      state.served += tokens;
      return sample;
    },
  };
}

interface EpochOrder {
  readonly documents: number;
  at(place: number): { readonly shard: number; readonly document: number };
}

/**
 * @param documents of each shard
 * @param lots how many shards there were at the beginning of the epoch, and after each lot that came
 */
function createEpochOrder(documents: readonly number[], lots: readonly number[], random: Random): EpochOrder {
  const groups: { readonly first: number; readonly size: number; readonly shards: readonly number[] }[] = [];
  let total = 0;
  let begin = 0;
  for (const [lot, end] of lots.entries()) {
    const shards = random
      .fork("shards")
      .fork(lot)
      .shuffle(Array.from({ length: end - begin }, (_, i) => begin + i));
    for (let i = 0; i < shards.length; i += groupShards) {
      const ofGroup = shards.slice(i, i + groupShards);
      const size = ofGroup.reduce((sum, shard) => sum + documents[shard]!, 0);
      if (size > 0) groups.push({ first: total, size, shards: ofGroup });
      total += size;
    }
    begin = end;
  }
  let current = -1;
  let permutation = (place: number) => place;
  return {
    documents: total,
    at(place) {
      let group = Math.max(0, current);
      while (place < groups[group]!.first) group--;
      while (place >= groups[group]!.first + groups[group]!.size) group++;
      const { first, size, shards } = groups[group]!;
      if (group !== current) {
        permutation = createPermutation(size, random.fork("documents").fork(group));
        current = group;
      }
      let document = permutation(place - first);
      for (const shard of shards) {
        if (document < documents[shard]!) return { shard, document };
        document -= documents[shard]!;
      }
      throw new Error(`internal: place ${place} lies in no shard`);
    },
  };
}

function noText(label: string): DataError {
  return new DataError("CPM_DATA_EMPTY", "A source of the mixture has nothing to train on", {
    where: label,
    hint: "Every document may be held out or empty: lower heldOutShare, or leave the source out.",
  });
}
