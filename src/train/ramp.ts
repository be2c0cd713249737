/** Rows and row length that change in the middle of a run, as the original went from 512 to 1,024 tokens. */
import { z } from "zod";

export const rampSchema = z
  .array(
    z.strictObject({
      /** From the update after so many on. */
      fromStep: z.int().min(0),
      rows: z.int().min(1).max(65536).optional(),
      length: z.int().min(8).max(65536).optional(),
    }),
  )
  .default([]);
export type GeometryRamp = z.output<typeof rampSchema>;

/** What holds at a step: the last entry that has begun; what an entry leaves out stays as before it. */
export function geometryAt(
  ramp: GeometryRamp,
  initial: { readonly rows: number; readonly columns: number },
  step: number,
): { rows: number; columns: number } {
  let { rows, columns } = initial;
  for (const entry of [...ramp].sort((a, b) => a.fromStep - b.fromStep)) {
    if (entry.fromStep > step) break;
    rows = entry.rows ?? rows;
    columns = entry.length ?? columns;
  }
  return { rows, columns };
}
