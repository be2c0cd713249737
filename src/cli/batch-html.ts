/**
 * A batch as one HTML page: no scripts, nothing from elsewhere, light and dark by the reader's system. Text of the data
 * is escaped and made visible (`visible-text.ts`), and the page's own policy forbids scripts should any come through.
 */
import type { BatchView, ViewedSample, ViewedToken } from "../data/batch-view.ts";
import { isMark, sampleLine } from "./batch-terminal.ts";
import type { CommandContext } from "./context.ts";
import { say } from "./context.ts";
import { dataViewMessages as messages } from "./messages/data-view.ts";
import { formatInteger, formatPercent } from "./quantity.ts";
import { htmlText } from "./visible-text.ts";

export interface HtmlOptions {
  /** The batch's number, from 1. */
  readonly batch: number;
  readonly tokenText: (id: number) => string;
  /** Said before the rows. */
  readonly notes?: readonly string[] | undefined;
  readonly masks?: readonly (readonly Float64Array[])[] | undefined;
}

const style = `
:root { color-scheme: light dark; --ink: light-dark(#1d1d1f, #e8e8ea); --paper: light-dark(#ffffff, #17181a);
  --quiet: light-dark(#6b6b70, #9a9aa0); --line: light-dark(#dcdce0, #36373b); --prompt: light-dark(#e9ddfb, #43345f);
  --fill: light-dark(#bfe8c4, #1f5a2c); --lm: light-dark(#bfe0f5, #17506f); --seen: light-dark(#3f6fb5, #7fa8e0); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.9 system-ui, "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0; } .quiet { color: var(--quiet); font-size: .875rem; line-height: 1.5; }
.legend span, .t { border-radius: 3px; } .legend span { padding: .1em .45em; margin-right: .6em; }
article { border-left: 3px solid var(--line); padding: .1rem 0 .1rem .75rem; margin: .75rem 0; }
.text { overflow-wrap: anywhere; }
.t { padding: .1em 0; box-shadow: inset -1px 0 0 0 var(--line); }
.prompt { background: var(--prompt); font-size: .7rem; padding: .15em .3em; }
.fill { background: var(--fill); } .lm { background: var(--lm); } .mark { color: var(--quiet); font-size: .8rem; }
svg { width: min(24rem, 100%); border: 1px solid var(--line); display: block; } path { fill: var(--seen); }
`;

export function batchPage(view: BatchView, options: HtmlOptions, context: CommandContext): string {
  const title = htmlText(say(context, messages.title));
  const lead = say(context, messages.batchLine, {
    batch: formatInteger(options.batch),
    rows: formatInteger(view.rows.length),
    columns: formatInteger(view.columns),
    tokens: formatInteger(view.tokens),
    targets: formatInteger(view.targets),
    fill: formatPercent(view.fill),
  });
  const legend = [
    ["prompt", say(context, messages.prompt)],
    ["context", say(context, messages.context)],
    ["fill", `${say(context, messages.target)} · ${say(context, messages.fill)}`],
    ["lm", `${say(context, messages.target)} · ${say(context, messages.lm)}`],
    ["mark", say(context, messages.special)],
  ] as const;
  const rows = view.rows.map(({ row, used, samples }) => {
    const line = say(context, messages.rowLine, {
      row: row + 1,
      used,
      samples: samples.length,
      padding: view.columns - used,
    });
    const articles = samples.map((sample) => sampleArticle(sample, options, context));
    const mask = options.masks?.[row];
    const figure =
      mask === undefined || mask.length === 0
        ? ""
        : `<p class="quiet">${htmlText(say(context, messages.maskLine, { cells: mask.length }))}</p>${maskSvg(mask)}`;
    return `<section><h2>${htmlText(line)}</h2>${articles.join("\n")}${figure}</section>`;
  });
  return `<!doctype html>
<html lang="${context.locale === "zh" ? "zh-CN" : "en"}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<h1>${title}</h1>
<p>${htmlText(lead)}</p>
<p class="legend">${legend.map(([name, text]) => `<span class="${name}">${htmlText(text)}</span>`).join("")}</p>
${(options.notes ?? []).map((line) => `<p>${htmlText(line)}</p>`).join("\n")}
${rows.join("\n")}
</body>
</html>
`;
}

function sampleArticle(sample: ViewedSample, options: HtmlOptions, context: CommandContext): string {
  const tokens = sample.tokens.map((token) => tokenSpan(token, sample, options, context));
  const asked = sample.tokens.at(-1)?.predicts;
  if (asked !== undefined) tokens.push(` → <span class="t lm">${htmlText(options.tokenText(asked))}</span>`);
  return `<article><p class="quiet">${htmlText(sampleLine(sample, context))}</p><div class="text">${tokens.join("")}</div></article>`;
}

function tokenSpan(
  token: ViewedToken,
  sample: ViewedSample,
  { tokenText }: HtmlOptions,
  context: CommandContext,
): string {
  const name = token.role === "target" ? sample.objective : token.role;
  const classes = ["t", name, ...(isMark(token) ? ["mark"] : [])].join(" ");
  const about = say(context, messages.tokenTitle, {
    column: token.column,
    id: token.id,
    role: say(context, messages[token.role]),
  });
  const next =
    token.predicts === undefined ? "" : say(context, messages.predicts, { token: tokenText(token.predicts) });
  return `<span class="${classes}" title="${htmlText(about + next)}">${htmlText(token.text)}</span>`;
}

/** Cells where at least half of the pairs may be seen, as runs along each line. */
function maskSvg(mask: readonly Float64Array[]): string {
  const size = mask.length;
  let path = "";
  for (const [y, line] of mask.entries()) {
    for (let x = 0; x < size; x++) {
      if (line[x]! < 0.5) continue;
      let end = x + 1;
      while (end < size && line[end]! >= 0.5) end++;
      path += `M${x} ${y}h${end - x}v1h${x - end}z`;
      x = end;
    }
  }
  return `<svg viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges" role="img"><path d="${path}"/></svg>`;
}
