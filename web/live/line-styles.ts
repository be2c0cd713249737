/** Lines that can be told apart in one chart: eight colours, then the same dashed, then dotted. */

export interface LineStyle {
  /** A CSS variable's name. */
  readonly color: string;
  /** Lengths of dash and gap in pixels; empty: solid. */
  readonly dash: readonly number[];
}

const colors = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7", "--s8"];
const dashes: readonly (readonly number[])[] = [[], [9, 5], [2, 4]];

/** So many lines differ from each other. */
export const distinctLines = colors.length * dashes.length;

export function lineStyle(index: number): LineStyle {
  const place = index % distinctLines;
  return { color: colors[place % colors.length]!, dash: dashes[Math.floor(place / colors.length)]! };
}

/** The line as a background, for legends. */
export function lineBackground(color: string, [dash, gap = 0]: readonly number[] = []): string {
  return dash === undefined
    ? color
    : `repeating-linear-gradient(90deg, ${color} 0 ${dash}px, transparent ${dash}px ${dash + gap}px)`;
}
