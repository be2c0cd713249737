/**
 * What a task is: the shape of its rows, what samples a row gives, and the templates that come with it.
 *
 * Beside its own rows every task takes those of CPM-Ant's tuning scripts: `{input, target}` where a text is to be written,
 * `{input, options, target}` (an index) where an option is to be chosen.
 */
import { z } from "zod";
import type { SampleKind, TaskSample } from "./sample.ts";
import { maxOptions } from "./sample.ts";
import type { TaskTemplate } from "./template.ts";
import { templateSchema } from "./template.ts";

export interface Task {
  readonly name: string;
  readonly kind: SampleKind;
  /** The samples of a row. Throws a `z.ZodError` where it is not one of this task's. */
  samples(row: unknown, id: string): readonly TaskSample[];
  /** By name; the first is what is used where none is asked for. */
  readonly templates: Readonly<Record<string, TaskTemplate>>;
  /** Longest row in tokens without the soft prompt, as the original tuned. */
  readonly lengthTokens: number;
  /** Most tokens of a generated answer, and of one that is taught. */
  readonly answerTokens: number;
}

/** A text of a row: not longer than anything of its kind may be. */
export const textSchema = z.string().max(1_000_000);
export const wordsSchema = z.string().trim().min(1).max(1_000_000);
export const idSchema = z.string().min(1).max(200).optional();
export const optionsSchema = z.array(wordsSchema).min(2).max(maxOptions);

/** Rows of the original's scripts for texts. */
export const originalTextSchema = z.object({ id: idSchema, input: wordsSchema, target: wordsSchema });

/** Rows of the original's scripts for choices. */
export const originalChoiceSchema = z
  .object({ id: idSchema, input: wordsSchema, options: optionsSchema, target: z.int().min(0) })
  .refine(({ options, target }) => target < options.length, {
    path: ["target"],
    error: "must be the index of an option",
  });

/** A template with its defaults. */
export function template(value: z.input<typeof templateSchema>): TaskTemplate {
  return templateSchema.parse(value);
}

/** The original's soft prompt and segment in tuning. */
export const originalLayout = { promptTask: 1, segment: 2 } as const;

/** What the original put behind an option. */
export const originalQuestion = "[是否正确]";

/** Whether a row has this field. */
export function hasField(row: unknown, name: string): boolean {
  return typeof row === "object" && row !== null && Object.hasOwn(row, name);
}
