/**
 * What a line of a task's file becomes, whatever its task: texts by name, and what is right. How they turn into a prompt
 * is a template's matter (`template.ts`), how into tokens that of `encode-sample.ts`.
 */

/** Texts that a template may name. `input` is there always: what CPM-Ant's own scripts called so. */
export type SampleFields = Readonly<Record<string, string>>;

interface SampleBase {
  /** Of the row, or file and line where it has none. */
  readonly id: string;
  readonly fields: SampleFields;
  /** A part of the data that is reported by itself too: KdConv's domain, C3's kind of text. */
  readonly group?: string | undefined;
}

/** A text is to be written. */
export interface GenerationSample extends SampleBase {
  readonly kind: "generation";
  /** What would be right; the first is what tuning teaches. */
  readonly references: readonly string[];
}

/** One of the options is right. */
export interface ChoiceSample extends SampleBase {
  readonly kind: "choice";
  readonly options: readonly string[];
  /** Index of the right one. */
  readonly answer: number;
}

/** The options are to be put in an order, relevant ones first. */
export interface RankingSample extends SampleBase {
  readonly kind: "ranking";
  readonly options: readonly string[];
  /** Of each option, 0: not relevant. */
  readonly relevance: readonly number[];
}

export type TaskSample = GenerationSample | ChoiceSample | RankingSample;
export type SampleKind = TaskSample["kind"];

/** How options are called in a prompt. */
export function optionLetter(index: number): string {
  return String.fromCharCode(65 + index);
}

/** Letters go from A to Z. */
export const maxOptions = 26;

/** The options of a sample, none of a generation's. */
export function optionsOf(sample: TaskSample): readonly string[] {
  return sample.kind === "generation" ? [] : sample.options;
}
