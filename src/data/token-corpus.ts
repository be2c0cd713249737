/**
 * Documents as token pieces: what a training row holds, cut once and kept as one array of ids with offsets.
 *
 * Cutting is the original's: a document becomes pieces of maxLength − promptLength − 2 ids (the prompt, `<s>` and
 * `</s>` fill the row) and ends at the first piece shorter than a minimum. Short texts leave such rows empty (Tang poems
 * in rows of 512: 76 % padding, news items 41 %), so by default short pieces are joined into fuller ones, with `</s><s>`
 * between (then 2 % and 3 %); the original's behaviour is `join: false`. Where documents are a little more than half a
 * row, joining cannot help. Objectives are drawn later, at read time.
 */
import { hash } from "node:crypto";
import type { EncodeOptions, Tokenizer } from "../tokenizer/tokenizer.ts";
import { ConfigError, DataError } from "../util/error.ts";
import type { Document } from "./read-documents.ts";

/** What the corpus needs of a tokenizer. */
export type CorpusTokenizer = Pick<Tokenizer, "vocabSize" | "bosId" | "eosId" | "encode">;

export interface CorpusOptions {
  /** Length of a row with its prompt. */
  readonly maxLength: number;
  readonly promptLength: number;
  /** Pieces shorter than this are left out; by default 32 as the original, in short rows a quarter of their text. */
  readonly minimumTokens?: number;
  /**
   * Put short pieces together in one row (default). Whole documents are then kept however short; tails of cut documents
   * still end at the minimum.
   */
  readonly join?: boolean;
  /** What becomes of text that the vocabulary cannot spell; `drop` as the original. */
  readonly unknown?: EncodeOptions["unknown"];
  /** Share of documents to hold out, chosen by a hash of their text: the same text always falls on the same side. */
  readonly heldOutShare?: number;
}

export interface CorpusStatistics {
  readonly documents: number;
  /** Code points of all documents. */
  readonly characters: number;
  /** Ids of all documents, before cutting, without `<s>` and `</s>`. */
  readonly tokens: number;
  /** Of these, how many the pieces hold. */
  readonly keptTokens: number;
  readonly tokensPerCharacter: number;
  /** Of the tokens, with the dropped ones counted as one each: the share that stands for text without an id. */
  readonly unknownShare: number;
  readonly pieces: number;
  /** Entropy of the pieces' tokens (with one `</s>` a piece) when each is drawn alone: what a loss must fall below. */
  readonly unigramNatsPerToken: number;
  /** The same in bits for each character. */
  readonly unigramBitsPerCharacter: number;
}

/** Token pieces. Piece p is ids[offsets[p]] to ids[offsets[p + 1]], without the `<s>` before and the `</s>` after it. */
export interface TokenCorpus {
  readonly ids: Uint16Array | Uint32Array;
  /** pieces + 1 numbers */
  readonly offsets: Float64Array;
  readonly pieces: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly vocabSize: number;
  /** The row length that the pieces were cut for. */
  readonly maxLength: number;
  readonly promptLength: number;
  readonly statistics: CorpusStatistics;
}

/** Pieces that wait for company; more of them fill rows better and mix documents from farther apart. */
const openPieces = 16;

/**
 * Reads all documents and cuts them into pieces, each document into the training or the held-out corpus.
 *
 * @throws ConfigError CPM_DATA_CORPUS_OPTIONS for lengths that leave no room for text or a share outside [0, 1)
 * @throws DataError CPM_DATA_EMPTY where no piece is left to train on
 */
export async function buildTokenCorpus(
  documents: AsyncIterable<Document> | Iterable<Document>,
  tokenizer: CorpusTokenizer,
  options: CorpusOptions,
): Promise<{ readonly train: TokenCorpus; readonly heldOut: TokenCorpus }> {
  const heldOutShare = options.heldOutShare ?? 0;
  const pieceLength = options.maxLength - options.promptLength - 2;
  if (!Number.isInteger(pieceLength) || pieceLength < 1) {
    throw new ConfigError("CPM_DATA_CORPUS_OPTIONS", "A row has no room for text", {
      where: "maxLength, promptLength",
      got: `${options.maxLength} with a prompt of ${options.promptLength}`,
      expected: "whole numbers, the row at least 3 longer than the prompt",
    });
  }
  if (!(heldOutShare >= 0 && heldOutShare < 1)) {
    throw new ConfigError("CPM_DATA_CORPUS_OPTIONS", "The share of held-out documents is out of range", {
      where: "heldOutShare",
      got: String(heldOutShare),
      expected: "0 or more, below 1",
    });
  }
  const train = createCorpusBuilder(tokenizer, options);
  const heldOut = createCorpusBuilder(tokenizer, options);
  for await (const document of documents) {
    const builder = isHeldOut(document.text, heldOutShare) ? heldOut : train;
    const { ids, unknownCount } = tokenizer.encode(document.text, { unknown: options.unknown });
    builder.add(ids, unknownCount, countCharacters(document.text));
  }
  const result = { train: train.finish(), heldOut: heldOut.finish() };
  if (result.train.pieces === 0) {
    throw new DataError("CPM_DATA_EMPTY", "There is no text to train on", {
      got: `${result.train.statistics.documents} documents with ${result.train.statistics.tokens} tokens, ${result.heldOut.statistics.documents} more held out`,
      expected: `at least one piece of ${train.minimum} tokens`,
      hint: "Give more text, or a smaller minimum or held-out share.",
    });
  }
  return result;
}

/** Whether a text is held out at this share, by a hash of it: what looks at texts before the corpus asks the same. */
export function isHeldOut(text: string, share: number): boolean {
  return share > 0 && hash("sha256", text, "buffer").readUIntBE(0, 6) / 2 ** 48 < share;
}

function countCharacters(text: string): number {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xd800) pairs++;
  return text.length - pairs;
}

function createCorpusBuilder(tokenizer: CorpusTokenizer, options: CorpusOptions) {
  const { bosId, eosId, vocabSize } = tokenizer;
  const pieceLength = options.maxLength - options.promptLength - 2;
  const minimum = Math.min(options.minimumTokens ?? Math.min(32, Math.ceil(pieceLength / 4)), pieceLength);
  const join = options.join ?? true;
  const pool = createIdPool(vocabSize);
  const counts = new Float64Array(vocabSize);
  /** Pieces not yet full, the longest-waiting first. */
  const open: number[][] = [];
  let documents = 0;
  let characters = 0;
  let tokens = 0;
  let keptTokens = 0;
  let unknownCount = 0;

  function close(piece: ArrayLike<number>, from: number, to: number): void {
    pool.push(piece, from, to);
    for (let i = from; i < to; i++) counts[piece[i]!]!++;
    counts[eosId]!++;
  }

  /** First fit: into the first open piece with room for it and two separators. */
  function place(ids: ArrayLike<number>, from: number, to: number): void {
    const length = to - from;
    keptTokens += length;
    if (!join || length > pieceLength - 2 - minimum) {
      close(ids, from, to); // hardly anything more would fit
      return;
    }
    let at = open.findIndex((piece) => piece.length + 2 + length <= pieceLength);
    if (at < 0) {
      if (open.length === openPieces) closeFullest();
      at = open.push([]) - 1;
    }
    const piece = open[at]!;
    if (piece.length > 0) piece.push(eosId, bosId);
    for (let i = from; i < to; i++) piece.push(ids[i]!);
  }

  function closeFullest(): void {
    let fullest = 0;
    for (let i = 1; i < open.length; i++) if (open[i]!.length > open[fullest]!.length) fullest = i;
    const piece = open.splice(fullest, 1)[0]!;
    close(piece, 0, piece.length);
  }

  return {
    minimum,
    add(ids: ArrayLike<number>, unknown: number, documentCharacters: number): void {
      documents++;
      characters += documentCharacters;
      tokens += ids.length;
      unknownCount += unknown;
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i]!;
        if (!(id >= 0 && id < vocabSize)) throw new Error(`internal: the tokenizer gave id ${id} of ${vocabSize}`);
      }
      for (let from = 0; from < ids.length; from += pieceLength) {
        const to = Math.min(ids.length, from + pieceLength);
        if (to - from < minimum && !(join && from === 0)) break;
        place(ids, from, to);
      }
    },
    finish(): TokenCorpus {
      while (open.length > 0) closeFullest();
      const { ids, offsets } = pool.finish();
      const nats = entropyNats(counts);
      const tokensPerCharacter = characters === 0 ? 0 : tokens / characters;
      return {
        ids,
        offsets,
        pieces: offsets.length - 1,
        bosId,
        eosId,
        vocabSize,
        maxLength: options.maxLength,
        promptLength: options.promptLength,
        statistics: {
          documents,
          characters,
          tokens,
          keptTokens,
          tokensPerCharacter,
          unknownShare: unknownCount / Math.max(1, options.unknown === "keep" ? tokens : tokens + unknownCount),
          pieces: offsets.length - 1,
          unigramNatsPerToken: nats,
          unigramBitsPerCharacter: bitsPerCharacter(nats, tokensPerCharacter),
        },
      };
    },
  };
}

/** −Σ p ln p of counts, in nats; 0 where nothing was counted. */
export function entropyNats(counts: ArrayLike<number>): number {
  let total = 0;
  let weighted = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    if (count === 0) continue;
    total += count;
    weighted += count * Math.log(count);
  }
  return total === 0 ? 0 : Math.log(total) - weighted / total;
}

/** A loss in nats for each token as bits for each character: nats / ln 2 · tokens per character. */
export function bitsPerCharacter(natsPerToken: number, tokensPerCharacter: number): number {
  return (natsPerToken / Math.LN2) * tokensPerCharacter;
}

/** Growing storage: two bytes an id where the vocabulary allows. */
function createIdPool(vocabSize: number) {
  const create = (size: number) => (vocabSize <= 0x10000 ? new Uint16Array(size) : new Uint32Array(size));
  let ids = create(1 << 16);
  let used = 0;
  const offsets: number[] = [0];
  return {
    push(source: ArrayLike<number>, from: number, to: number): void {
      if (used + to - from > ids.length) {
        const grown = create(Math.max(2 * ids.length, used + to - from));
        grown.set(ids);
        ids = grown;
      }
      for (let i = from; i < to; i++) ids[used++] = source[i]!;
      offsets.push(used);
    },
    finish: () => ({ ids: ids.slice(0, used), offsets: Float64Array.from(offsets) }),
  };
}
