/**
 * Training batches out of a token corpus: which piece comes when, for which objective, in rows of which length.
 *
 * One sample a row: the model takes the first columns of a row for its prompt, so a second sample in the row would have
 * none. Everything is a pure function of (corpus, options, number of the batch): epoch e is a permutation seeded by e,
 * the objective and targets of a piece are seeded by (e, piece), batches run over the end of an epoch. The state is
 * therefore a few counters, and a restored source goes on bit for bit.
 */
import { crc32 } from "node:zlib";
import { countTargets, createBatch, type ModelBatch } from "../model/batch.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { createRandom, type Random, type Seed } from "../util/random.ts";
import { allTargets, drawTargets, type Objective, writeSample } from "./objectives.ts";
import type { TokenCorpus } from "./token-corpus.ts";

export interface BatchOptions {
  /** Rows of a batch. */
  readonly rows: number;
  readonly seed: Seed;
  /** Share of samples with the fill objective, the rest lm; half as the original. */
  readonly fillShare?: number;
  /**
   * Where given, rows of like length go together and a batch is only as wide as its longest row, rounded up to a multiple
   * of this (at most the corpus's maxLength). Without it every batch has maxLength columns.
   */
  readonly columnMultiple?: number;
}

/** Plain JSON. */
export interface BatchSourceState {
  readonly version: 1;
  /** Batches given so far. */
  readonly batches: number;
  readonly tokens: number;
  readonly targets: number;
  /** What the counters count in: another corpus, seed or batch shape cannot go on from here. */
  readonly order: string;
}

export interface BatchSource {
  /** The next batch, in fresh arrays; never ends. */
  next(): ModelBatch;
  state(): BatchSourceState;
  /** @throws DataError CPM_DATA_STATE where the state is of another corpus or other options */
  restore(state: BatchSourceState): void;
  /** Batches given so far. */
  readonly batches: number;
  /** Passes over the corpus, with the part of the one under way. */
  readonly epoch: number;
  /** Text tokens given so far: `<s>` and `</s>` count, prompts and padding do not. */
  readonly tokens: number;
  /** Of these, targets, which bear the loss. */
  readonly targets: number;
}

/** Batches that are sorted by length together when `columnMultiple` is given. */
const windowBatches = 64;

/**
 * @throws ConfigError CPM_DATA_BATCH_OPTIONS for rows, share or multiple out of range
 * @throws DataError CPM_DATA_EMPTY where the corpus has no piece
 */
export function createBatchSource(corpus: TokenCorpus, options: BatchOptions): BatchSource {
  const { rows, seed, columnMultiple } = options;
  const fillShare = options.fillShare ?? 0.5;
  checkOptions(corpus, rows, fillShare, columnMultiple);
  const root = createRandom(seed, "data");
  const orderOf = createEpochOrder(root.fork("order"), corpus.pieces);
  const draws = root.fork("draws");
  const windows = root.fork("windows");
  const order = JSON.stringify({
    seed: String(seed),
    rows,
    fillShare,
    columnMultiple: columnMultiple ?? null,
    maxLength: corpus.maxLength,
    pieces: corpus.pieces,
    checksum: crc32(corpus.ids) ^ crc32(corpus.offsets),
  });
  let batches = 0;
  let tokens = 0;
  let targets = 0;
  let window: { readonly number: number; readonly samples: Float64Array } | undefined;

  /** The samples of a batch: numbers in the endless sequence epoch·pieces + place in the epoch's order. */
  function samplesOf(batch: number): ArrayLike<number> {
    if (columnMultiple === undefined) return Float64Array.from({ length: rows }, (_, row) => batch * rows + row);
    const number = Math.floor(batch / windowBatches);
    if (window?.number !== number) window = { number, samples: sortedWindow(number) };
    const from = (batch % windowBatches) * rows;
    return window.samples.subarray(from, from + rows);
  }

  function sortedWindow(number: number): Float64Array {
    const size = windowBatches * rows;
    const samples = Float64Array.from({ length: size }, (_, i) => number * size + i);
    const lengths = new Map<number, number>();
    for (const sample of samples) lengths.set(sample, pieceTokens(corpus, pieceOf(sample)));
    samples.sort((a, b) => lengths.get(a)! - lengths.get(b)! || a - b);
    // The batches are like in length now, and their order must not be.
    const places = windows.fork(number).shuffle(Int32Array.from({ length: windowBatches }, (_, i) => i));
    const shuffled = new Float64Array(size);
    for (const [to, from] of places.entries())
      shuffled.set(samples.subarray(from * rows, (from + 1) * rows), to * rows);
    return shuffled;
  }

  function pieceOf(sample: number): number {
    return orderOf(Math.floor(sample / corpus.pieces))[sample % corpus.pieces]!;
  }

  return {
    next() {
      const samples = samplesOf(batches);
      const pieces = Array.from({ length: rows }, (_, row) => pieceOf(samples[row]!));
      const batch = createBatch(rows, columnsFor(corpus, pieces, columnMultiple));
      for (const [row, piece] of pieces.entries()) {
        const random = draws.fork(Math.floor(samples[row]! / corpus.pieces)).fork(piece);
        const objective: Objective = random.uniform() < fillShare ? "fill" : "lm";
        const length = pieceTokens(corpus, piece) + 2;
        writeSample(batch, row, corpus, piece, objective, drawTargets(objective, length, random));
        tokens += length;
      }
      targets += countTargets(batch);
      batches++;
      return batch;
    },
    state: () => ({ version: 1, batches, tokens, targets, order }),
    restore(state) {
      const counters = [state?.batches, state?.tokens, state?.targets];
      if (state?.version !== 1 || !counters.every((n) => Number.isSafeInteger(n) && n >= 0) || state.order !== order) {
        throw new DataError(
          "CPM_DATA_STATE",
          "The position in the data does not belong to this corpus and these options",
          {
            got: JSON.stringify(state)?.slice(0, 300),
            expected: order,
            hint: "Resume with the same text, vocabulary, row length, batch size and seed, or start the data from the beginning.",
          },
        );
      }
      ({ batches, tokens, targets } = state);
    },
    get batches() {
      return batches;
    },
    get epoch() {
      return (batches * rows) / corpus.pieces;
    },
    get tokens() {
      return tokens;
    },
    get targets() {
      return targets;
    },
  };
}

export interface EvaluationOptions {
  readonly rows: number;
  readonly objective: Objective;
  /**
   * `all` (default for lm): every token after `<s>` is predicted from those before it, so that the loss is that of the
   * whole text. `drawn`: as in training, the draws fixed by the seed. fill can only be drawn.
   */
  readonly targets?: "all" | "drawn";
  readonly seed?: Seed;
  /** At most this many pieces, the first ones. */
  readonly maxPieces?: number;
  readonly columnMultiple?: number;
}

/**
 * Every piece once, in order, the same at each call. The last batch has all its rows, those without a piece of length 0
 * and without targets.
 */
export function* evaluationBatches(corpus: TokenCorpus, options: EvaluationOptions): Generator<ModelBatch> {
  const { rows, objective, columnMultiple } = options;
  checkOptions(corpus, rows, 0, columnMultiple);
  const all = options.targets === undefined ? objective === "lm" : options.targets === "all";
  if (all && objective === "fill") {
    throw new ConfigError("CPM_DATA_BATCH_OPTIONS", "Only the lm objective can have every token as a target", {
      where: "targets",
      hint: 'Take "drawn" to evaluate fill.',
    });
  }
  const draws = createRandom(options.seed ?? 0, "evaluation").fork(objective);
  const count = Math.min(corpus.pieces, options.maxPieces ?? corpus.pieces);
  for (let first = 0; first < count; first += rows) {
    const pieces = Array.from({ length: Math.min(rows, count - first) }, (_, i) => first + i);
    const batch = createBatch(rows, columnsFor(corpus, pieces, columnMultiple));
    for (const [row, piece] of pieces.entries()) {
      const length = pieceTokens(corpus, piece) + 2;
      const isTarget = all ? allTargets(length) : drawTargets(objective, length, draws.fork(piece));
      writeSample(batch, row, corpus, piece, objective, isTarget);
    }
    yield batch;
  }
}

/** Share of a batch's columns that hold nothing: padding / (rows · columns). */
export function paddingShare(batch: ModelBatch): number {
  let used = 0;
  for (const length of batch.length) used += length;
  return 1 - used / (batch.rows * batch.columns);
}

function pieceTokens(corpus: TokenCorpus, piece: number): number {
  return corpus.offsets[piece + 1]! - corpus.offsets[piece]!;
}

function columnsFor(corpus: TokenCorpus, pieces: readonly number[], multiple: number | undefined): number {
  if (multiple === undefined) return corpus.maxLength;
  let longest = 0;
  for (const piece of pieces) longest = Math.max(longest, pieceTokens(corpus, piece));
  const needed = corpus.promptLength + longest + 2;
  return Math.min(corpus.maxLength, Math.ceil(needed / multiple) * multiple);
}

/** The permutation of each epoch; the last two are kept, since batches and windows run over an epoch's end. */
function createEpochOrder(random: Random, pieces: number): (epoch: number) => Uint32Array {
  const kept = new Map<number, Uint32Array>();
  return (epoch) => {
    let order = kept.get(epoch);
    if (order === undefined) {
      order = random.fork(epoch).shuffle(Uint32Array.from({ length: pieces }, (_, i) => i));
      if (kept.size === 2) kept.delete(Math.min(...kept.keys()));
      kept.set(epoch, order);
    }
    return order;
  };
}

function checkOptions(corpus: TokenCorpus, rows: number, fillShare: number, multiple: number | undefined): void {
  const bad = (where: string, got: number, expected: string): never => {
    throw new ConfigError("CPM_DATA_BATCH_OPTIONS", "An option of the batches is out of range", {
      where,
      got: String(got),
      expected,
    });
  };
  if (!Number.isInteger(rows) || rows < 1) bad("rows", rows, "a whole number from 1");
  if (!(fillShare >= 0 && fillShare <= 1)) bad("fillShare", fillShare, "0 to 1");
  if (multiple !== undefined && (!Number.isInteger(multiple) || multiple < 1)) {
    bad("columnMultiple", multiple, "a whole number from 1");
  }
  if (corpus.pieces === 0) {
    throw new DataError("CPM_DATA_EMPTY", "The corpus has no piece of text", {
      hint: "Give more text, or a smaller minimum length.",
    });
  }
}
