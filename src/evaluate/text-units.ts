/** What metrics of texts count: characters, or words as jieba cuts them. White space counts in neither. */
import { createJieba } from "../tokenizer/index.ts";

export const textUnits = ["characters", "words"] as const;
export type TextUnit = (typeof textUnits)[number];

/** The units of a text, in order. Characters are code points. */
export function unitsOf(text: string, unit: TextUnit): readonly string[] {
  const all = unit === "characters" ? [...text] : createJieba().cut(text);
  return all.filter((each) => each.trim() !== "");
}

/** How often each run of `length` units occurs. */
export function countRuns(units: readonly string[], length: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + length <= units.length; i++) {
    // No unit holds a line feed, so runs of different units never meet.
    const run = units.slice(i, i + length).join("\n");
    counts.set(run, (counts.get(run) ?? 0) + 1);
  }
  return counts;
}

/** Σ min(a, b): what two bags have in common. */
export function commonCount(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  let common = 0;
  for (const [run, count] of a) common += Math.min(count, b.get(run) ?? 0);
  return common;
}
