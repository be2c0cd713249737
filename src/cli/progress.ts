/**
 * The progress of long work on stderr: on a terminal one line that is written over, elsewhere a line every few seconds,
 * so that a log file stays readable. Knows time only from the context's clock.
 */
import type { CommandContext } from "./context.ts";
import { progressMessages } from "./messages/progress.ts";
import { formatDuration, formatNumber, formatPercent } from "./quantity.ts";
import { truncateColumns } from "./text-width.ts";

export interface ProgressState {
  /** Share of the work done, 0 to 1; the remaining time is read off it. Undefined where nobody knows. */
  readonly done?: number | undefined;
  /** The share that was done before this work began, as by a run that is resumed. */
  readonly begun?: number | undefined;
  readonly step?: number | undefined;
  readonly steps?: number | undefined;
  /** Natural logarithm, per token. */
  readonly loss?: number | undefined;
  readonly tokensPerSecond?: number | undefined;
  /** Anything else worth a few columns, as "lr 1.0e-3". */
  readonly extra?: readonly string[] | undefined;
}

export interface ProgressOptions {
  /** Between two lines where stderr is no terminal. Default 10,000. */
  readonly lineEveryMs?: number;
  /** Between two refreshes of the line on a terminal. Default 100. */
  readonly refreshEveryMs?: number;
}

export interface Progress {
  /** Shows the state, unless it is too soon after the last one. */
  update(state: ProgressState): void;
  /** Writes a line of its own above the progress. */
  note(line: string): void;
  /** Shows the last state for good and ends the line. Further calls do nothing. */
  finish(): void;
}

/** Starts a progress line. The work begins now, for the remaining time. */
export function startProgress(context: CommandContext, options: ProgressOptions = {}): Progress {
  const { stderr, now } = context;
  const interval = stderr.isTTY ? (options.refreshEveryMs ?? 100) : (options.lineEveryMs ?? 10_000);
  const startedMs = now();
  let shownMs = Number.NEGATIVE_INFINITY;
  let latest: ProgressState | undefined;
  let latestShown = true;
  let lineOpen = false;
  let finished = false;

  const show = () => {
    if (latest === undefined) return;
    const line = progressLine(latest, now() - startedMs, context);
    if (stderr.isTTY) {
      stderr.write(`\r\u001b[2K${truncateColumns(line, stderr.columns - 1)}`);
      lineOpen = true;
    } else {
      stderr.write(`${line}\n`);
    }
    shownMs = now();
    latestShown = true;
  };

  return {
    update(state) {
      if (finished) return;
      latest = state;
      latestShown = false;
      if (now() - shownMs >= interval) show();
    },
    note(line) {
      if (lineOpen) {
        stderr.write("\r\u001b[2K");
        latestShown = false;
      }
      stderr.write(`${line}\n`);
      lineOpen = false;
    },
    finish() {
      if (finished) return;
      finished = true;
      if (!latestShown) show();
      if (lineOpen) stderr.write("\n");
    },
  };
}

/** One line for a state: "step 120/400 30% | loss 5.21 | 12,345 tok/s | elapsed 31.0 s | eta 1m12s". */
export function progressLine(state: ProgressState, elapsedMs: number, context: Pick<CommandContext, "locale">): string {
  const { locale } = context;
  const parts: string[] = [];
  const share = state.done ?? (state.step !== undefined && state.steps ? state.step / state.steps : undefined);
  const position: string[] = [];
  if (state.step !== undefined) {
    const of = state.steps === undefined ? "" : `/${state.steps}`;
    position.push(`${progressMessages.step[locale]} ${state.step}${of}`);
  }
  if (share !== undefined) position.push(formatPercent(Math.floor(share * 1000) / 1000));
  if (position.length > 0) parts.push(position.join(" "));
  if (state.loss !== undefined) parts.push(`${progressMessages.loss[locale]} ${state.loss.toFixed(4)}`);
  if (state.tokensPerSecond !== undefined) parts.push(`${formatNumber(Math.round(state.tokensPerSecond))} tok/s`);
  parts.push(...(state.extra ?? []));
  parts.push(`${progressMessages.elapsed[locale]} ${formatDuration(elapsedMs)}`);
  const gained = share === undefined ? 0 : share - (state.begun ?? 0);
  if (share !== undefined && gained > 0 && share < 1) {
    parts.push(`${progressMessages.remaining[locale]} ${formatDuration((elapsedMs * (1 - share)) / gained)}`);
  }
  return parts.join(" | ");
}
