/**
 * Training batches out of a token corpus in memory: which piece comes when, for which objective.
 *
 * One sample a row. Everything is a pure function of (corpus, options, position): epoch e is a permutation seeded by e,
 * the objective and targets of a piece are seeded by (e, piece), batches run over the end of an epoch. The position is a
 * few counters, and a restored source goes on bit for bit. Rows may change their length: a piece that a shorter row cannot
 * hold goes on in the next row, so that nothing is left out or comes twice. Data sets larger than memory: `mixture.ts`.
 */
import { crc32 } from "node:zlib";
import { z } from "zod";
import { countTargets, createBatch, type ModelBatch } from "../model/batch.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { createRandom, type Random, type Seed } from "../util/random.ts";
import type { BatchSource, HeldOutBatch, SampleOrigin } from "./batch-source.ts";
import { allTargets, drawTargets, type Objective, writeSample } from "./objectives.ts";
import type { TokenCorpus } from "./token-corpus.ts";

export interface BatchOptions {
  readonly seed: Seed;
  /** Share of samples with the fill objective, the rest lm; half as the original. */
  readonly fillShare?: number;
  /** What a report calls the text; "text" by default. */
  readonly name?: string;
  /** Held-out text, for `heldOut`. */
  readonly heldOut?: TokenCorpus;
}

const counter = z.int().min(0);
const stateSchema = z.object({
  version: z.literal(2),
  /** Pieces begun and done so far, and the first token not yet given of the next. */
  pieces: counter,
  from: counter,
  batches: counter,
  tokens: counter,
  /** What the counters count in: another corpus or seed cannot go on from here. */
  order: z.string(),
});

/**
 * @throws ConfigError CPM_DATA_BATCH_OPTIONS for a share out of range; at `next` for rows out of range or too short
 * @throws DataError CPM_DATA_EMPTY where the corpus has no piece
 */
export function createBatchSource(corpus: TokenCorpus, options: BatchOptions): BatchSource {
  const { seed, name = "text", fillShare = 0.5 } = options;
  const { promptLength } = corpus;
  if (!(fillShare >= 0 && fillShare <= 1)) throw badOption("fillShare", fillShare, "0 to 1");
  checkPieces(corpus);
  const root = createRandom(seed, "data");
  const orderOf = createEpochOrder(root.fork("order"), corpus.pieces);
  const draws = root.fork("draws");
  const order = JSON.stringify({
    seed: String(seed),
    fillShare,
    maxLength: corpus.maxLength,
    pieces: corpus.pieces,
    checksum: crc32(corpus.ids) ^ crc32(corpus.offsets),
  });
  let pieces = 0;
  let from = 0;
  let batches = 0;
  let tokens = 0;

  /** The next sample for a row with room for so many tokens; the position goes on. */
  function take(room: number) {
    const epoch = Math.floor(pieces / corpus.pieces);
    const piece = orderOf(epoch)[pieces % corpus.pieces]!;
    const all = corpus.offsets[piece + 1]! - corpus.offsets[piece]!;
    const part = { from, to: Math.min(all, from + room) };
    const random = draws.fork(epoch).fork(piece);
    const sample = { epoch, piece, part, random: from === 0 ? random : random.fork(from) };
    if (part.to === all) {
      pieces++;
      from = 0;
    } else from = part.to;
    return sample;
  }

  return {
    packed: false,
    async next({ rows, columns }) {
      checkRows(corpus, rows, columns);
      const batch = createBatch(rows, columns);
      const samples: SampleOrigin[] = [];
      let batchTokens = 0;
      for (let row = 0; row < rows; row++) {
        const { epoch, piece, part, random } = take(columns - promptLength - 2);
        const objective: Objective = random.uniform() < fillShare ? "fill" : "lm";
        const length = part.to - part.from + 2;
        writeSample(batch, row, corpus, piece, objective, drawTargets(objective, length, random), part);
        batchTokens += length;
        samples.push({
          row,
          start: 0,
          length: promptLength + length,
          source: name,
          shard: name,
          document: piece,
          origin: `${name}:${piece}`,
          objective,
          epoch,
        });
      }
      tokens += batchTokens;
      batches++;
      return { batch, tokens: batchTokens, targets: countTargets(batch), samples, changes: [] };
    },
    async skip(count, { rows, columns }) {
      checkRows(corpus, rows, columns);
      for (let i = 0; i < count * rows; i++) take(columns - promptLength - 2);
      batches += count;
    },
    *heldOut({ rows, columns }, maxPieces): Generator<HeldOutBatch> {
      const { heldOut } = options;
      if (heldOut === undefined || heldOut.pieces === 0) return;
      const { tokensPerCharacter } = heldOut.statistics;
      for (const batch of evaluationBatches(heldOut, { rows, columns, objective: "lm", maxPieces })) {
        yield { source: name, batch, tokensPerCharacter };
      }
    },
    state: () => ({ version: 2, pieces, from, batches, tokens, order }),
    async restore(value) {
      const parsed = stateSchema.safeParse(value);
      if (!parsed.success || parsed.data.order !== order) {
        throw new DataError(
          "CPM_DATA_STATE",
          "The position in the data does not belong to this corpus and these options",
          {
            got: JSON.stringify(value)?.slice(0, 300),
            expected: order,
            hint: "Resume with the same text, vocabulary, row length and seed, or start the data from the beginning.",
          },
        );
      }
      ({ pieces, from, batches, tokens } = parsed.data);
    },
    get batches() {
      return batches;
    },
    get epoch() {
      return pieces / corpus.pieces;
    },
    get tokens() {
      return tokens;
    },
    dispose() {},
  };
}

export interface EvaluationOptions {
  readonly rows: number;
  /** Row length; the corpus's maxLength by default. Longer pieces are cut. */
  readonly columns?: number;
  readonly objective: Objective;
  /**
   * `all` (default for lm): every token after `<s>` is predicted from those before it, so that the loss is that of the
   * whole text. `drawn`: as in training, the draws fixed by the seed. fill can only be drawn.
   */
  readonly targets?: "all" | "drawn";
  readonly seed?: Seed;
  /** At most this many pieces, the first ones. */
  readonly maxPieces?: number;
}

/**
 * Every piece once, in order, the same at each call. The last batch has all its rows, those without a piece of length 0
 * and without targets.
 */
export function* evaluationBatches(corpus: TokenCorpus, options: EvaluationOptions): Generator<ModelBatch> {
  const { rows, objective, columns = corpus.maxLength } = options;
  checkPieces(corpus);
  checkRows(corpus, rows, columns);
  const all = options.targets === undefined ? objective === "lm" : options.targets === "all";
  if (all && objective === "fill") {
    throw new ConfigError("CPM_DATA_BATCH_OPTIONS", "Only the lm objective can have every token as a target", {
      where: "targets",
      hint: 'Take "drawn" to evaluate fill.',
    });
  }
  const draws = createRandom(options.seed ?? 0, "evaluation").fork(objective);
  const count = Math.min(corpus.pieces, options.maxPieces ?? corpus.pieces);
  const room = columns - corpus.promptLength - 2;
  const parts = Array.from({ length: count }, (_, piece) => piece).flatMap((piece) => {
    const length = corpus.offsets[piece + 1]! - corpus.offsets[piece]!;
    return Array.from({ length: Math.max(1, Math.ceil(length / room)) }, (_, i) => ({
      piece,
      from: i * room,
      to: Math.min(length, (i + 1) * room),
    }));
  });
  for (let first = 0; first < parts.length; first += rows) {
    const batch = createBatch(rows, columns);
    for (const [row, part] of parts.slice(first, first + rows).entries()) {
      const length = part.to - part.from + 2;
      const random = draws.fork(part.piece);
      const isTarget = all
        ? allTargets(length)
        : drawTargets(objective, length, part.from === 0 ? random : random.fork(part.from));
      writeSample(batch, row, corpus, part.piece, objective, isTarget, part);
    }
    yield batch;
  }
}

/** The permutation of each epoch; the last two are kept, since batches run over an epoch's end. */
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

function badOption(where: string, got: number, expected: string): ConfigError {
  return new ConfigError("CPM_DATA_BATCH_OPTIONS", "An option of the batches is out of range", {
    where,
    got: String(got),
    expected,
  });
}

function checkRows(corpus: TokenCorpus, rows: number, columns: number): void {
  if (!Number.isInteger(rows) || rows < 1) throw badOption("rows", rows, "a whole number from 1");
  const least = corpus.promptLength + 3;
  if (!Number.isInteger(columns) || columns < least)
    throw badOption("columns", columns, `a whole number from ${least}`);
}

function checkPieces(corpus: TokenCorpus): void {
  if (corpus.pieces > 0) return;
  throw new DataError("CPM_DATA_EMPTY", "The corpus has no piece of text", {
    hint: "Give more text, or a smaller minimum length.",
  });
}
