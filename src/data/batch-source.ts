/**
 * What a trainer reads: batches one after the other, from a source whose position can be saved and restored exactly.
 * `mixture.ts` implements it over data sets, `text-source.ts` over a corpus in memory.
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
  /** The column after its last. */
  readonly end: number;
  readonly source: string;
  readonly objective: Objective;
  /** File and line of the document, as far as known. */
  readonly origin: string;
  readonly epoch: number;
}

export interface SourceBatch {
  readonly batch: ModelBatch;
  /** Text tokens: `<s>` and `</s>` count, prompts and padding do not. */
  readonly tokens: number;
  readonly samples: readonly SampleOrigin[];
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
  /** Held-out text, at most so many pieces of each source. Every token is a target. */
  heldOut(geometry: BatchGeometry, piecesOfEach: number): Iterable<HeldOutBatch>;
  /** The position before the next batch, as plain JSON. */
  state(): unknown;
  /** Goes on from a position. Throws DataError CPM_DATA_STATE where it belongs to other data or options. */
  restore(state: unknown): void;
  /** Text tokens given so far. */
  readonly tokens: number;
  /** Passes over the data so far, the most of any source. */
  readonly epoch: number;
  /** Whether rows may hold several samples. */
  readonly packed: boolean;
  close(): void;
}
