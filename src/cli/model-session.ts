/** What the verbs that generate share: how much memory they may keep, and how a terminal shows a model's text. */
import type { CommandContext } from "./context.ts";
import { memoryLimitBytes } from "./machine.ts";

/** Of a limit from outside some is left to the file cache, which counts there, and to what is not foreseen. */
const containerShare = 0.87;

/** What the process may keep: what was asked for, else most of a limit that is set on it from outside, else no limit. */
export function memoryBudgetBytes(asked: number | undefined): number | undefined {
  const limit = asked === undefined ? memoryLimitBytes() : undefined;
  return limit === undefined ? asked : limit * containerShare;
}

/** A terminal must not obey what a model writes: control characters are shown as U+FFFD, line breaks and tabs stay. */
export function shownText(text: string, context: CommandContext): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return context.stdout.isTTY ? text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd") : text;
}
