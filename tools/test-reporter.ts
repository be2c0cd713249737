/**
 * The test report of `npm test`: one line a file, failures in full, skipped tests with their reasons at the end, and as
 * the very last line `N passed, N failed` (with `, N skipped` behind it where tests were skipped). Suites are not counted,
 * only tests. A custom reporter for `node --test --test-reporter=./tools/test-reporter.ts`.
 */
import { relative } from "node:path";
import { inspect } from "node:util";

/** What we read of the events that node:test emits (https://nodejs.org/api/test.html#event-testpass). */
export interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly file?: string;
    readonly line?: number;
    readonly nesting?: number;
    readonly skip?: string | boolean;
    readonly todo?: string | boolean;
    readonly message?: string;
    readonly details?: { readonly duration_ms?: number; readonly type?: string; readonly error?: unknown };
  };
}

interface Failure {
  readonly name: string;
  readonly place: string;
  readonly error: unknown;
}

interface FileTally {
  passed: number;
  failed: number;
  skipped: number;
  durationMs: number;
}

/** Turns test events into the report. */
export default async function* report(source: AsyncIterable<TestEvent> | Iterable<TestEvent>): AsyncGenerator<string> {
  const root = process.cwd();
  const files = new Map<string, FileTally>();
  const failures: Failure[] = [];
  const skipped: { readonly name: string; readonly place: string; readonly reason: string }[] = [];
  const todo: string[] = [];
  const noise: string[] = [];

  for await (const { type, data } of source) {
    if (type === "test:stderr") noise.push(data.message ?? "");
    if (type !== "test:pass" && type !== "test:fail") continue;
    const file = relative(root, data.file ?? "?");
    const place = data.line === undefined ? file : `${file}:${data.line}`;
    const name = data.name ?? "?";
    const suite = data.details?.type === "suite";
    const tally = tallyOf(files, file);
    if ((data.nesting ?? 0) === 0) tally.durationMs += data.details?.duration_ms ?? 0;
    if (type === "test:fail") {
      // A suite or a parent that failed only because of what is inside it is told by what is inside.
      if (isSubtestFailure(data.details?.error)) continue;
      tally.failed++;
      failures.push({ name, place, error: data.details?.error });
      yield `✖ ${place} ${name}\n`;
    } else if (data.skip !== undefined && data.skip !== false) {
      tally.skipped++;
      skipped.push({ name, place, reason: typeof data.skip === "string" ? data.skip : "no reason given" });
    } else if (data.todo !== undefined && data.todo !== false) {
      todo.push(`${place} ${name}`);
    } else if (!suite) {
      tally.passed++;
    }
  }

  const total: FileTally = { passed: 0, failed: 0, skipped: 0, durationMs: 0 };
  for (const [file, tally] of [...files].sort(([a], [b]) => a.localeCompare(b))) {
    total.passed += tally.passed;
    total.failed += tally.failed;
    total.skipped += tally.skipped;
    total.durationMs += tally.durationMs;
    yield `${tally.failed > 0 ? "✖" : "✔"} ${file}  ${counts(tally)}  ${(tally.durationMs / 1000).toFixed(2)} s\n`;
  }
  if (failures.length > 0) {
    yield `\nFAILED\n`;
    if (noise.length > 0) yield `${noise.join("").trimEnd()}\n`;
    for (const failure of failures) yield `\n✖ ${failure.name}\n  ${failure.place}\n${errorText(failure.error)}\n`;
  }
  if (skipped.length > 0) {
    yield `\nSKIPPED: ${skipped.length} tests were not run\n`;
    const byReason = Map.groupBy(skipped, ({ reason }) => reason);
    for (const [reason, tests] of byReason) {
      yield `  ${reason}\n${tests.map(({ place, name }) => `    - ${place} ${name}\n`).join("")}`;
    }
  }
  if (todo.length > 0) yield `\nTODO, not counted:\n${todo.map((line) => `  - ${line}\n`).join("")}`;
  yield `\n${files.size} files, ${(total.durationMs / 1000).toFixed(1)} s of tests\n${counts(total)}\n`;
}

/** `N passed, N failed`, and `, N skipped` where there are any. */
function counts({ passed, failed, skipped }: FileTally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function tallyOf(files: Map<string, FileTally>, file: string): FileTally {
  let tally = files.get(file);
  if (tally === undefined) files.set(file, (tally = { passed: 0, failed: 0, skipped: 0, durationMs: 0 }));
  return tally;
}

function isSubtestFailure(error: unknown): boolean {
  return (error as { failureType?: string } | undefined)?.failureType === "subtestsFailed";
}

/** The error that the test threw, without the runner's wrapper. */
function errorText(error: unknown): string {
  const cause = (error as { cause?: unknown } | undefined)?.cause ?? error;
  const shown = cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
  const lines = shown.split("\n").filter((line) => !/\(node:|at node:|at async node:/.test(line));
  return lines.map((line) => `  ${line}`).join("\n");
}
