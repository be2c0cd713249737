/**
 * What a trainer reads: batches one after the other, from a source whose position can be saved and restored exactly.
 * `mixture.ts` implements it over data sets, `batches.ts` over a corpus in memory.
 */
import type { ModelBatch } from "../model/batch.ts";
import type { Objective } from "./objectives.ts";

/** Rows and row length (prompt included) of the batch that is asked for. Both may change from batch to batch. */
export interface BatchGeometry {
  readonly rows: number;
  readonly columns: number;
}

/** Where a sample of a batch stands and where it came from. */
export interface SampleOrigin {
  readonly row: number;
  /** First column, the prompt's. */
  readonly start: number;
  /** Columns, the prompt's included. */
  readonly length: number;
  readonly source: string;
  /** The file of a data set that it was read from; the source's name where there is none. */
  readonly shard: string;
  /** Number of the document in the shard; of the piece, where the corpus is in memory. */
  readonly document: number;
  /** File and line of the document, as far as known. */
  readonly origin: string;
  readonly objective: Objective;
  readonly epoch: number;
}

/** Something that came into force with a batch, for the record of a run. */
export interface DataChange {
  readonly what: "mixture" | "shards" | "length";
  readonly text: string;
}

export interface SourceBatch {
  readonly batch: ModelBatch;
  /** Text tokens: `<s>` and `</s>` count, prompts and padding do not. */
  readonly tokens: number;
  /** Of these, how many bear a loss. */
  readonly targets: number;
  readonly samples: readonly SampleOrigin[];
  readonly changes: readonly DataChange[];
}

/** Held-out text of one source, the same at each call. */
export interface HeldOutBatch {
  readonly source: string;
  readonly batch: ModelBatch;
  /** Of the source's held-out text: turns nats a token into bits a character. */
  readonly tokensPerCharacter: number;
}

export interface BatchSource {
  /** The next batch, in fresh arrays; undefined when every source has been read as often as it may be. */
  next(geometry: BatchGeometry): Promise<SourceBatch | undefined>;
  /** Leaves out so many batches, as if they had been given; their tokens do not count. */
  skip(batches: number, geometry: BatchGeometry): Promise<void>;
  /** Held-out text, at most so many pieces of each source. Every token is a target. */
  heldOut(geometry: BatchGeometry, piecesOfEach: number): Iterable<HeldOutBatch>;
  /** The position after the last batch that was given, as plain JSON. */
  state(): unknown;
  /** Goes on from a position. Throws DataError CPM_DATA_STATE where it belongs to other data or options. */
  restore(state: unknown): Promise<void>;
  /** Batches and text tokens given so far. */
  readonly batches: number;
  readonly tokens: number;
  /** Passes over the data so far, the most of any source. */
  readonly epoch: number;
  /** Whether rows may hold several samples. */
  readonly packed: boolean;
  dispose(): void;
}
