/** A batch as lines for a terminal: tokens in colours by what they are to the model, or in brackets where there are none. */
import type { BatchView, ViewedSample, ViewedToken } from "../data/batch-view.ts";
import type { CommandContext } from "./context.ts";
import { say } from "./context.ts";
import { dataViewMessages as messages } from "./messages/data-view.ts";
import { formatInteger, formatPercent } from "./quantity.ts";
import { textWidth } from "./text-width.ts";
import { visibleText } from "./visible-text.ts";

export interface TerminalOptions {
  /** The batch's number, from 1. */
  readonly batch: number;
  readonly color: boolean;
  readonly width: number;
  readonly tokenText: (id: number) => string;
  /** Of each row: who sees whom, see `viewMask`. */
  readonly masks?: readonly (readonly Float64Array[])[] | undefined;
}

type Style = "prompt" | "context" | "fill" | "lm" | "special" | "padding";

/** Select graphic rendition: black on a colour for targets, so that spaces among them show too. */
const codes: Readonly<Record<Style, string>> = {
  prompt: "35",
  context: "",
  fill: "30;42",
  lm: "30;46",
  special: "2",
  padding: "2",
};

export function batchLines(view: BatchView, options: TerminalOptions, context: CommandContext): string[] {
  const paint = (style: Style, text: string) =>
    options.color && codes[style] !== "" ? `\u001b[${codes[style]}m${text}\u001b[0m` : text;
  const lines = [
    say(context, messages.batchLine, {
      batch: formatInteger(options.batch),
      rows: formatInteger(view.rows.length),
      columns: formatInteger(view.columns),
      tokens: formatInteger(view.tokens),
      targets: formatInteger(view.targets),
      fill: formatPercent(view.fill),
    }),
  ];
  if (options.color) {
    const legend: [Style, string][] = [
      ["prompt", say(context, messages.prompt)],
      ["context", say(context, messages.context)],
      ["fill", `${say(context, messages.target)} ${say(context, messages.fill)}`],
      ["lm", `${say(context, messages.target)} ${say(context, messages.lm)}`],
      ["special", say(context, messages.special)],
    ];
    lines.push(legend.map(([style, text]) => paint(style, text)).join("  "));
  }
  for (const { row, used, samples } of view.rows) {
    lines.push(
      "",
      say(context, messages.rowLine, { row: row + 1, used, samples: samples.length, padding: view.columns - used }),
    );
    for (const sample of samples) {
      lines.push(`  ${sampleLine(sample, context)}`);
      lines.push(...wrapTokens(sample, options, paint).map((line) => `  ${samples.length > 1 ? "│ " : ""}${line}`));
    }
    const mask = options.masks?.[row];
    if (mask === undefined || mask.length === 0) continue;
    lines.push(
      `  ${say(context, messages.maskLine, { cells: mask.length })}`,
      ...maskLines(mask).map((line) => `  ${line}`),
    );
  }
  return lines;
}

export function sampleLine(sample: ViewedSample, context: CommandContext): string {
  return say(context, messages.sampleLine, {
    span: sample.span + 1,
    objective: say(context, messages[sample.objective]),
    source: visibleText(sample.source),
    origin: visibleText(sample.origin),
    epoch: sample.epoch + 1,
    start: sample.start,
    end: sample.start + sample.length - 1,
    targets: sample.targets,
  });
}

/** Whether a token is a mark such as `<s>` rather than text. */
export function isMark(token: ViewedToken): boolean {
  return token.role !== "prompt" && /^<(?!0x)[^<>]{1,16}>$/.test(token.text);
}

function styleOf(token: ViewedToken, { objective }: ViewedSample): Style {
  if (token.role === "target") return objective;
  if (token.role === "prompt") return "prompt";
  return isMark(token) ? "special" : "context";
}

/** The tokens in lines of the terminal's width; runs of one style are painted together. */
function wrapTokens(
  sample: ViewedSample,
  { color, width, tokenText }: TerminalOptions,
  paint: (s: Style, t: string) => string,
): string[] {
  const room = Math.max(20, width - 5);
  const lines: string[] = [];
  let line = "";
  let used = 0;
  let run = "";
  let runStyle: Style | undefined;
  const endRun = () => {
    if (run !== "" && runStyle !== undefined) {
      const isTarget = runStyle === "fill" || runStyle === "lm";
      line += paint(runStyle, !color && isTarget ? `⟦${run}⟧` : run);
    }
    run = "";
  };
  for (const token of sample.tokens) {
    const style = styleOf(token, sample);
    const text = token.role === "prompt" ? `${token.text} ` : token.text;
    if (style !== runStyle) endRun();
    runStyle = style;
    // What stands for one character stays together.
    for (const character of Array.from(text, visibleText)) {
      const columns = textWidth(character);
      if (used + columns > room) {
        endRun();
        lines.push(line);
        line = "";
        used = 0;
      }
      run += character;
      used += columns;
    }
  }
  endRun();
  // Asked for behind the last token, which no token of the row answers: the logit that `yes` scores.
  const asked = sample.tokens.at(-1)?.predicts;
  return [...lines, asked === undefined ? line : `${line} → ${visibleText(tokenText(asked))}`];
}

/** Two lines of cells in one line of text: upper and lower half blocks. */
function maskLines(mask: readonly Float64Array[]): string[] {
  const lines: string[] = [];
  for (let y = 0; y < mask.length; y += 2) {
    let line = "";
    for (let x = 0; x < mask[y]!.length; x++) {
      const upper = mask[y]![x]! >= 0.5;
      const lower = (mask[y + 1]?.[x] ?? 0) >= 0.5;
      line += upper ? (lower ? "█" : "▀") : lower ? "▄" : "·";
    }
    lines.push(line);
  }
  return lines;
}
