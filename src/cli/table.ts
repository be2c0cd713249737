/** Tables of plain text, aligned in terminal columns, so that Chinese and Latin cells line up. */
import { padColumns, textWidth } from "./text-width.ts";

export interface TableColumn {
  readonly title: string;
  /** Numbers align at their end. Default "start". */
  readonly align?: "start" | "end";
}

/**
 * Lines of a table: titles, a rule, one line a row, two spaces between columns. Cells beyond the columns are dropped,
 * missing ones are empty. Returns the text without a trailing line break.
 */
export function renderTable(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, index) =>
    Math.max(textWidth(title), ...rows.map((row) => textWidth(row[index] ?? ""))),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map(({ align }, index) => padColumns(cells[index] ?? "", widths[index]!, align))
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "─".repeat(width)).join("  ");
  return [line(columns.map(({ title }) => title)), rule, ...rows.map(line)].join("\n");
}

/** Lines of names and values, the values aligned in one column: `name  value`. */
export function renderFacts(facts: readonly (readonly [name: string, value: string])[], indent = ""): string {
  const width = Math.max(0, ...facts.map(([name]) => textWidth(name)));
  const hang = `\n${indent}${" ".repeat(width + 2)}`;
  return facts
    .map(([name, value]) => `${indent}${padColumns(name, width)}  ${value.replaceAll("\n", hang)}`.trimEnd())
    .join("\n");
}
