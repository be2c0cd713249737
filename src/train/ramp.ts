/** Rows, row length and batches an update that change in the middle of a run, as the original went from 512 to 1,024 tokens. */
import { z } from "zod";

export const rampSchema = z
  .array(
    z
      .strictObject({
        /** What the part of the run that begins here is called. */
        name: z.string().min(1).max(64).optional(),
        /** From the update after so many on. */
        fromStep: z.int().min(0).optional(),
        /** From the update on that begins with so many text tokens read. */
        fromTokens: z.int().min(0).optional(),
        rows: z.int().min(1).max(65536).optional(),
        length: z.int().min(8).max(65536).optional(),
        accumulate: z.int().min(1).max(65536).optional(),
      })
      .refine(({ fromStep, fromTokens }) => (fromStep === undefined) !== (fromTokens === undefined), {
        message: "either fromStep or fromTokens",
      }),
  )
  .refine((entries) => isAscending(entries.map(({ fromStep }) => fromStep)), { message: "fromStep must not fall" })
  .refine((entries) => isAscending(entries.map(({ fromTokens }) => fromTokens)), {
    message: "fromTokens must not fall",
  })
  .default([]);

function isAscending(values: readonly (number | undefined)[]): boolean {
  const known = values.filter((value) => value !== undefined);
  return known.every((value, i) => i === 0 || value >= known[i - 1]!);
}

export type GeometryRamp = z.output<typeof rampSchema>;

export interface UpdateShape {
  readonly rows: number;
  readonly columns: number;
  /** Batches that an update is made of. */
  readonly accumulate: number;
}

/** What holds at a step and a number of tokens: the last entry that has begun; what it leaves out stays as before it. */
export function geometryAt(ramp: GeometryRamp, initial: UpdateShape, step: number, tokens: number): UpdateShape {
  let { rows, columns, accumulate } = initial;
  for (const entry of ramp) {
    const begun = entry.fromStep === undefined ? tokens >= entry.fromTokens! : step >= entry.fromStep;
    if (!begun) continue;
    rows = entry.rows ?? rows;
    columns = entry.length ?? columns;
    accumulate = entry.accumulate ?? accumulate;
  }
  return { rows, columns, accumulate };
}
