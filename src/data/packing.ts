/**
 * Which samples share a row. Samples of one row never see each other (they have different spans), and each has its own
 * prompt, so packing changes nothing but the padding.
 */
import { z } from "zod";

/**
 * - `none`: one sample a row
 * - `firstFit`: in the order in which they come, each into the first row with room; the batch ends at the first that fits
 *   nowhere (the original's packer, which did not fill a row to its last column: `strict`)
 * - `bestFit`: row by row, the sample that waited longest, then again and again the largest that still fits
 */
export const packingKinds = ["none", "firstFit", "bestFit"] as const;
export type PackingKind = (typeof packingKinds)[number];

export const packingSchema = z.strictObject({
  kind: z.enum(packingKinds).default("none"),
  /** As the original's packer: later prompts of a row are looked up in the token table, rows keep a column free. */
  compat: z.boolean().default(false),
  /**
   * Whether short documents are joined to one sample, `</s><s>` between, as `buildTokenCorpus` does; by default where
   * `kind` is none, since rows would be mostly padding otherwise.
   */
  join: z.boolean().optional(),
});
export type Packing = z.output<typeof packingSchema>;

export interface RowShape {
  readonly rows: number;
  readonly columns: number;
  readonly kind: PackingKind;
  /** Leaves at least one column of a row with several samples free. */
  readonly strict?: boolean;
}

export interface PackedRows<S> {
  /** The samples of each row in order. */
  readonly placed: readonly (readonly S[])[];
  /** Those that go on waiting, in their order. */
  readonly left: S[];
}

/** Best fit looks over so many rows' worth of samples beyond those of the batch, at least. */
const lookaheadRows = 16;

/**
 * Distributes samples over rows: those that wait, then as many more from `draw` as are needed.
 *
 * @param room what a sample takes of a row, prompt included, at most `columns`
 * @param draw the next sample, or undefined where there is none
 */
export function fitRows<S>(
  waiting: readonly S[],
  draw: () => S | undefined,
  room: (sample: S) => number,
  shape: RowShape,
): PackedRows<S> {
  if (shape.kind === "none") return oneEach(waiting, draw, shape.rows);
  return shape.kind === "firstFit" ? firstFit(waiting, draw, room, shape) : bestFit(waiting, draw, room, shape);
}

function oneEach<S>(waiting: readonly S[], draw: () => S | undefined, rows: number): PackedRows<S> {
  const left = [...waiting];
  const placed: S[][] = [];
  while (placed.length < rows) {
    const sample = left.shift() ?? draw();
    placed.push(sample === undefined ? [] : [sample]);
  }
  return { placed, left };
}

function firstFit<S>(
  waiting: readonly S[],
  draw: () => S | undefined,
  room: (sample: S) => number,
  { rows, columns, strict = false }: RowShape,
): PackedRows<S> {
  const placed: S[][] = Array.from({ length: rows }, () => []);
  const used = new Array<number>(rows).fill(0);
  for (let i = 0; ; i++) {
    const sample = waiting[i] ?? draw();
    if (sample === undefined) return { placed, left: [] };
    const needed = room(sample) + (strict ? 1 : 0);
    const row = used.findIndex((length) => length === 0 || length + needed <= columns);
    if (row < 0) return { placed, left: [sample, ...waiting.slice(i + 1)] };
    placed[row]!.push(sample);
    used[row]! += room(sample);
  }
}

function bestFit<S>(
  waiting: readonly S[],
  draw: () => S | undefined,
  room: (sample: S) => number,
  { rows, columns, strict = false }: RowShape,
): PackedRows<S> {
  const left = [...waiting];
  const enough = columns * (rows + Math.max(rows, lookaheadRows));
  let total = left.reduce((sum, sample) => sum + room(sample), 0);
  while (total < enough) {
    const sample = draw();
    if (sample === undefined) break;
    left.push(sample);
    total += room(sample);
  }
  const sizes = left.map((sample) => room(sample) + (strict ? 1 : 0));
  const placed: S[][] = Array.from({ length: rows }, () => []);
  for (const row of placed) {
    let free = columns;
    for (let best = 0; best >= 0 && best < left.length; ) {
      free -= sizes[best]!;
      row.push(left[best]!);
      left.splice(best, 1);
      sizes.splice(best, 1);
      best = -1;
      for (let i = 0; i < sizes.length; i++) {
        if (sizes[i]! <= free && (best < 0 || sizes[i]! > sizes[best]!)) best = i;
      }
    }
  }
  return { placed, left };
}
