/**
 * Dropout whose masks are a pure function of a seed, the update, the layer and the place: recomputation and a resumed run
 * drop the same values, and nothing has to be remembered.
 *
 * Masks are not moved but made in the program, from two random words a row and one a column (`keepMask`); these come from
 * the counted generator. A layer's words lie one after the other in one tensor.
 */
import { keepMask, keepWhere, reshape, slice, type Tensor } from "../graph/index.ts";
import type { LayerMask, ModelConfig } from "../model/config.ts";
import type { Drop, DropPlace } from "../model/cpm-ant.ts";
import { createRandom, type Seed } from "../util/random.ts";

export interface DropoutOptions {
  /** The share of values that are dropped: 0 or more, less than 1. */
  readonly rate: number;
  readonly seed: Seed;
}

interface Place {
  readonly place: DropPlace;
  readonly rows: number;
  readonly columns: number;
}

/** The places of a block, as matrices. */
function placesOf(
  config: ModelConfig,
  [attentionAbsent, ffnAbsent]: LayerMask,
  { rows: B, columns: T }: { readonly rows: number; readonly columns: number },
): readonly Place[] {
  const { heads: H, dimModel: D, dimFf: F } = config;
  return [
    ...(attentionAbsent
      ? []
      : ([
          { place: "weights", rows: B * H * T, columns: T },
          { place: "attention", rows: B * T, columns: D },
        ] as const)),
    ...(ffnAbsent
      ? []
      : ([
          { place: "inner", rows: B * T, columns: F },
          { place: "ffn", rows: B * T, columns: D },
        ] as const)),
  ];
}

/** Words that a block of a batch needs. */
export function dropoutWords(...block: Parameters<typeof placesOf>): number {
  return placesOf(...block).reduce((sum, { rows, columns }) => sum + 2 * rows + columns, 0);
}

/** Values become zero where the mask of `words` `[dropoutWords]` int32 says so, others are divided by 1 − rate. */
export function dropBy(words: Tensor, rate: number, ...block: Parameters<typeof placesOf>): Drop {
  let start = 0;
  const masks = new Map<DropPlace, Tensor>();
  for (const { place, rows, columns } of placesOf(...block)) {
    const [offsets, last, end] = [start + rows, start + 2 * rows, start + 2 * rows + columns];
    const part = (from: number, to: number) => slice(words, 0, from, to);
    masks.set(place, keepMask(part(start, offsets), part(offsets, last), part(last, end), rate));
    start = end;
  }
  return (x, place) => keepWhere(reshape(masks.get(place)!, x.shape), x, 1 / (1 - rate));
}

/** The words of a layer in the draw of a number: an update, or one of its parts. */
export function drawWords(words: number, seed: Seed, draw: number, layer: number): Int32Array {
  const random = createRandom(seed, `dropout ${draw} ${layer}`);
  return Int32Array.from({ length: words }, () => random.uint32());
}
