/**
 * What a command may touch of the world: its streams, its clock, its signal to stop, the reader's language. Everything
 * comes through here, so that a test can run a command without a process.
 */
import type { Locale } from "./locale.ts";
import { type Bilingual, type MessageArguments, text } from "./messages/message.ts";

export interface Writer {
  readonly isTTY: boolean;
  /** Columns of the terminal; 80 where it is none. */
  readonly columns: number;
  write(text: string): void;
  /** Settles when what was written has been handed on: await it inside loops that write much. */
  flush(): Promise<void>;
}

export interface CommandContext {
  readonly stdout: Writer;
  readonly stderr: Writer;
  readonly stdin: AsyncIterable<Uint8Array | string> & { readonly isTTY: boolean };
  /** The reader asked for JSON on stdout. Only commands with `json: true` are ever called with it. */
  readonly json: boolean;
  readonly locale: Locale;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Aborts on the first Ctrl-C or SIGTERM. The reason is a `CancelledError`. */
  readonly signal: AbortSignal;
}

/** A message in the reader's language. */
export function say<const M extends Bilingual>(
  context: Pick<CommandContext, "locale">,
  message: M,
  ...parameters: MessageArguments<M>
): string {
  return text(context.locale, message, ...parameters);
}

/** Writes one line to stdout. */
export function print(context: CommandContext, line: string): void {
  context.stdout.write(`${line}\n`);
}

/** Writes one line to stderr: progress and remarks, never results. */
export function note(context: CommandContext, line: string): void {
  context.stderr.write(`${line}\n`);
}

/** Writes a value as one JSON document to stdout. */
export function printJson(context: CommandContext, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value, jsonValue, 2)}\n`);
}

/** Big integers become numbers where they are exact, else text. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
