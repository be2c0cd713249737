/**
 * Which samples share a row. Samples of one row never see each other (they have different spans), and each has its own
 * prompt, so packing changes nothing but the padding.
 */

/**
 * - `none`: one sample a row
 * - `firstFit`: in the order in which they come, each into the first row with room; the batch ends at the first that fits
 *   nowhere (the original's packer)
 * - `bestFit`: row by row, the sample that waited longest, then again and again the largest that still fits
 */
export const packingKinds = ["none", "firstFit", "bestFit"] as const;
export type PackingKind = (typeof packingKinds)[number];

export interface RowShape {
  readonly rows: number;
  readonly columns: number;
  readonly kind: PackingKind;
}

/**
 * Distributes waiting samples over rows. `room` is what a sample takes of a row, prompt included, at most `columns`.
 *
 * @returns the samples of each row in order, and those that go on waiting, in their order
 */
export function fitRows<S>(
  waiting: readonly S[],
  room: (sample: S) => number,
  { rows, columns, kind }: RowShape,
): { readonly placed: readonly (readonly S[])[]; readonly left: S[] } {
  const placed: S[][] = Array.from({ length: rows }, () => []);
  if (kind === "none") {
    for (let row = 0; row < Math.min(rows, waiting.length); row++) placed[row]!.push(waiting[row]!);
    return { placed, left: waiting.slice(rows) };
  }
  if (kind === "firstFit") {
    const used = new Array<number>(rows).fill(0);
    for (const [i, sample] of waiting.entries()) {
      const row = used.findIndex((length) => length + room(sample) <= columns);
      if (row < 0) return { placed, left: waiting.slice(i) };
      placed[row]!.push(sample);
      used[row]! += room(sample);
    }
    return { placed, left: [] };
  }
  const left = [...waiting];
  for (const row of placed) {
    const first = left.shift();
    if (first === undefined) break;
    row.push(first);
    let free = columns - room(first);
    for (;;) {
      let best = -1;
      for (let i = 0; i < left.length; i++) {
        const size = room(left[i]!);
        if (size <= free && (best < 0 || size > room(left[best]!))) best = i;
      }
      if (best < 0) break;
      const [sample] = left.splice(best, 1);
      row.push(sample!);
      free -= room(sample!);
    }
  }
  return { placed, left };
}
