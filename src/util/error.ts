/**
 * Errors that a user of the kit can act on.
 *
 * Every error says what went wrong, where, what it got, what it expected and what to do, under a stable code
 * (`CPM_…`). Library text is English; the command line adds the Chinese wording by code (`cli/messages`).
 * Errors of our own making are plain `Error`s whose message starts with `internal:`.
 */

/** Stable, documented, never reused: `CPM_` and words in capitals. */
export type ErrorCode = `CPM_${string}`;

export interface ErrorDetails {
  /** The file, the parameter, the program and node, the line: as exact as is known. */
  readonly where?: string | undefined;
  /** What was found. */
  readonly got?: string | undefined;
  /** What would have been right. */
  readonly expected?: string | undefined;
  /** The next step for the reader, as an imperative sentence. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

export class CpmError extends Error {
  readonly code: ErrorCode;
  /** The first sentence alone, without the details. */
  readonly what: string;
  readonly where: string | undefined;
  readonly got: string | undefined;
  readonly expected: string | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, what: string, details: ErrorDetails = {}) {
    super(describe(code, what, details), details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.what = what;
    this.where = details.where;
    this.got = details.got;
    this.expected = details.expected;
    this.hint = details.hint;
  }
}

/** A setting, a configuration file or a command line is wrong: change it and call again. */
export class ConfigError extends CpmError {}
/** Shapes or dtypes do not fit an operator: change the model's code or its input. */
export class ShapeError extends CpmError {}
/** A weights file is damaged, hostile, or not of a layout that we know: use another file. */
export class CheckpointError extends CpmError {}
/** Text, tokens or a vocabulary are not as they must be. */
export class DataError extends CpmError {}
/** The runtime refused a program or lost it, or a handle was used after its end. */
export class RuntimeError extends CpmError {}
/** This device, provider, platform or operator cannot do what was asked. */
export class UnsupportedError extends CpmError {}
/** A file could not be read or written. */
export class FileError extends CpmError {}
/** The caller asked to stop. */
export class CancelledError extends CpmError {}

function describe(code: ErrorCode, what: string, details: ErrorDetails): string {
  const lines = [`${code}: ${what}`];
  if (details.where !== undefined) lines.push(`  where: ${details.where}`);
  if (details.got !== undefined) lines.push(`  got: ${details.got}`);
  if (details.expected !== undefined) lines.push(`  expected: ${details.expected}`);
  if (details.hint !== undefined) lines.push(`  hint: ${details.hint}`);
  return lines.join("\n");
}
