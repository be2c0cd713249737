/**
 * Held-out text of a source of a mixture, to judge a model by: the same pieces at each call, every token a target, with
 * the characters that they stand for.
 */
import { createBatch } from "../model/batch.ts";
import type { BatchGeometry, HeldOutBatch } from "./batch-source.ts";
import { allTargets, writePackedSample } from "./objectives.ts";
import { fitRows } from "./packing.ts";
import { isDocumentHeldOut, type StreamSource } from "./shard-stream.ts";

/** From so many shards at most, the first ones: what comes later changes no validation. */
const maxShards = 32;
/** Of one document, so that a book does not stand for its whole source. */
const maxPiecesOfDocument = 8;

export interface HeldOutOptions extends BatchGeometry {
  readonly share: number;
  readonly pieces: number;
  readonly packed: boolean;
  readonly vocabulary: { readonly bosId: number; readonly eosId: number; readonly promptLength: number };
}

/** At most `pieces` pieces, taken from the first shards evenly. */
export function heldOutBatches(source: StreamSource, options: HeldOutOptions): HeldOutBatch[] {
  const { rows, columns, packed, vocabulary, share } = options;
  const { promptLength } = vocabulary;
  const pieceLength = columns - promptLength - 2;
  const shards = Math.min(source.shards.length, maxShards);
  const next = new Array<number>(shards).fill(0);
  const found: Int32Array[] = [];
  let tokens = 0;
  let characters = 0;

  function takeFrom(number: number, quota: number): void {
    const shard = source.open(number);
    const goal = found.length + quota;
    for (; next[number]! < shard.documents && found.length < goal; next[number]!++) {
      const document = next[number]!;
      if (!isDocumentHeldOut(shard, document, share)) continue;
      const length = shard.lengthOf(document);
      let taken = 0;
      for (let i = 0; i < maxPiecesOfDocument && taken < length && found.length < goal; i++) {
        const to = Math.min(length, taken + pieceLength);
        found.push(shard.ids(document, taken, to));
        taken = to;
      }
      tokens += taken;
      characters += length === 0 ? 0 : (shard.charactersOf(document) * taken) / length;
    }
  }

  const quota = Math.ceil(options.pieces / shards);
  for (let number = 0; number < shards; number++) takeFrom(number, Math.min(quota, options.pieces - found.length));
  for (let number = 0; number < shards && found.length < options.pieces; number++) {
    takeFrom(number, options.pieces - found.length);
  }

  const tokensPerCharacter = characters === 0 ? 0 : tokens / characters;
  const batches: HeldOutBatch[] = [];
  const room = (ids: Int32Array) => promptLength + ids.length + 2;
  for (let waiting = found; waiting.length > 0; ) {
    const { placed, left } = fitRows(waiting, () => undefined, room, {
      rows,
      columns,
      kind: packed ? "bestFit" : "none",
    });
    const batch = createBatch(rows, columns, packed);
    for (const [row, pieces] of placed.entries()) {
      let start = 0;
      for (const [span, ids] of pieces.entries()) {
        const content = { ids, span, objective: "lm" as const, isTarget: allTargets(ids.length + 2) };
        start = writePackedSample(batch, row, start, content, vocabulary);
      }
    }
    batches.push({ source: source.label, batch, tokensPerCharacter });
    waiting = left;
  }
  return batches;
}
