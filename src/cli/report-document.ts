/** A report as plain structure, and its three forms: a terminal's text, Markdown, an HTML page without scripts. */
import { renderTable } from "./table.ts";
import { htmlText, visibleText } from "./visible-text.ts";

export interface ReportTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns from this one on hold numbers and align at their end. */
  readonly numbersFrom: number;
}

export interface ReportSection {
  readonly title: string;
  readonly lines: readonly string[];
  readonly tables: readonly ReportTable[];
  /** Shown on the page alone: too much to read elsewhere. */
  readonly details?: { readonly title: string; readonly table: ReportTable } | undefined;
}

export interface ReportDocument {
  readonly language: string;
  readonly title: string;
  readonly lines: readonly string[];
  readonly sections: readonly ReportSection[];
}

export function terminalReport({ lines, sections }: ReportDocument): string {
  const parts = sections.map((section) =>
    [
      section.title,
      ...section.lines.map((line) => `  ${line}`),
      ...section.tables.map(({ columns, rows, numbersFrom }) =>
        renderTable(
          columns.map((title, index) => ({ title, align: index < numbersFrom ? "start" : "end" })),
          rows.map((row) => row.map(visibleText)),
        ),
      ),
    ].join("\n"),
  );
  return [...parts, lines.join("\n")].join("\n\n");
}

export function markdownReport({ title, lines, sections }: ReportDocument): string {
  const parts = [`# ${markdownText(title)}`, ...lines.map(markdownText)];
  for (const section of sections) {
    parts.push(`## ${markdownText(section.title)}`, ...section.lines.map(markdownText));
    parts.push(...section.tables.map(markdownTable));
  }
  return `${parts.join("\n\n")}\n`;
}

function markdownTable({ columns, rows, numbersFrom }: ReportTable): string {
  const line = (cells: readonly string[]) => `| ${cells.map(markdownText).join(" | ")} |`;
  const rule = columns.map((_, index) => (index < numbersFrom ? "---" : "---:"));
  return [line(columns), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}

/** Text that Markdown takes as it is. */
function markdownText(text: string): string {
  return visibleText(text).replaceAll(/[\\`*_<>[\]|#]/g, (character) => `\\${character}`);
}

const style = `
:root { color-scheme: light dark; --ink: light-dark(#1d1d1f, #e8e8ea); --paper: light-dark(#ffffff, #17181a);
  --quiet: light-dark(#6b6b70, #9a9aa0); --line: light-dark(#dcdce0, #36373b); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.6 system-ui, "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .25rem; }
p { margin: .25rem 0; color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; text-align: start; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } .n { text-align: end; white-space: nowrap; } details table { font-size: .9rem; }
summary { cursor: pointer; color: var(--quiet); }
`;

export function htmlReport({ language, title, lines, sections }: ReportDocument): string {
  const paragraphs = (texts: readonly string[]) => texts.map((text) => `<p>${htmlText(text)}</p>`).join("\n");
  const body = sections.map(
    (section) => `<section><h2>${htmlText(section.title)}</h2>
${paragraphs(section.lines)}
${section.tables.map(htmlTable).join("\n")}
${section.details === undefined ? "" : `<details><summary>${htmlText(section.details.title)}</summary>${htmlTable(section.details.table)}</details>`}
</section>`,
  );
  return `<!doctype html>
<html lang="${language}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${htmlText(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${htmlText(title)}</h1>
${paragraphs(lines)}
${body.join("\n")}
</body>
</html>
`;
}

function htmlTable({ columns, rows, numbersFrom }: ReportTable): string {
  const cells = (tag: "th" | "td", row: readonly string[]) =>
    row.map((cell, index) => `<${tag}${index >= numbersFrom ? ' class="n"' : ""}>${htmlText(cell)}</${tag}>`).join("");
  const body = rows.map((row) => `<tr>${cells("td", row)}</tr>`).join("\n");
  return `<div class="scroll"><table><thead><tr>${cells("th", columns)}</tr></thead><tbody>
${body}
</tbody></table></div>`;
}
