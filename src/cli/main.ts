/**
 * The `cpm` command: finds the verb, reads its options, runs it and turns what happens into an exit code. Nothing here
 * knows what any verb does. `main` takes its world as an argument, so that tests need no process.
 */
import { readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { CancelledError, ConfigError } from "../util/error.ts";
import type { CommandContext, Writer } from "./context.ts";
import { exitCodeOf, exitCodes } from "./exit-codes.ts";
import { type Locale, resolveLocale } from "./locale.ts";
import { frame } from "./messages/frame.ts";
import { text } from "./messages/message.ts";
import { findVerb, verbs } from "./registry.ts";
import { nearest } from "./suggest.ts";
import { padColumns, textWidth, wrapColumns } from "./text-width.ts";

/** What the command runs in: the process's streams, or a test's. */
export type World = Omit<CommandContext, "json" | "locale">;

/** Runs `cpm` with the words after its name; returns the exit code (`exit-codes.ts`). */
export async function main(argv: readonly string[], world?: World): Promise<number> {
  if (world !== undefined) return await runCommand(argv, world);
  const stop = new AbortController();
  const own = processWorld(stop.signal);
  const release = stopOnSignals(stop, argv, own);
  try {
    return await runCommand(argv, own);
  } finally {
    release();
  }
}

async function runCommand(argv: readonly string[], world: World): Promise<number> {
  let locale: Locale = "zh";
  let json = argv.includes("--json");
  try {
    locale = resolveLocale(languageFlag(argv), world.env);
    const words = withoutLanguage(argv);
    const [first] = words;
    if (first === "--version" || first === "-V") {
      world.stdout.write(`${version()}\n`);
      return exitCodes.ok.code;
    }
    if (first === "--help" || first === "-h" || (first === "help" && words.length === 1)) {
      world.stdout.write(overview(locale, world.stdout.columns));
      return exitCodes.ok.code;
    }
    const asked = first === "help" ? [...words.slice(1), "--help"] : words;
    const found = findVerb(asked);
    if (found === undefined) return unknownVerb(asked, locale, world);

    const [{ default: definition }, { parseRequest }] = await Promise.all([
      found.verb.load(),
      import("./parse-options.ts"),
    ]);
    const request = parseRequest(definition, found.rest, locale, Math.min(100, world.stdout.columns));
    if (request.kind === "help") {
      world.stdout.write(request.text);
      return exitCodes.ok.code;
    }
    if (request.kind === "schema") {
      world.stdout.write(`${JSON.stringify(request.schema, null, 2)}\n`);
      return exitCodes.ok.code;
    }
    json = request.json;
    const code = await definition.run(request.options, { ...world, json, locale });
    await world.stdout.flush();
    return code ?? exitCodes.ok.code;
  } catch (error) {
    return await reportError(error, locale, json, world);
  }
}

async function reportError(error: unknown, locale: Locale, json: boolean, world: World): Promise<number> {
  if (world.signal.aborted && (error === world.signal.reason || error instanceof CancelledError)) {
    world.stderr.write(`${frame.interrupted[locale]}\n`);
    return world.signal.reason instanceof TerminatedError ? exitCodes.terminated.code : exitCodes.interrupted.code;
  }
  const { errorAsJson, renderError } = await import("./render-error.ts");
  const report = json ? JSON.stringify(errorAsJson(error)) : renderError(error, locale);
  world.stderr.write(`${report}\n`);
  return exitCodeOf(error);
}

/** The list of commands. Written without the option parser, which would take most of the time. */
export function overview(locale: Locale, columns: number): string {
  const width = Math.max(...verbs.map(({ name }) => textWidth(name)));
  const options: readonly (readonly [string, string])[] = [
    ["--lang <LANG>", frame.langOption[locale]],
    ["-V, --version", frame.versionOption[locale]],
    ["-h, --help", frame.helpOption[locale]],
  ];
  const optionWidth = Math.max(width, ...options.map(([flag]) => flag.length));
  const item = (term: string, description: string) => {
    const wrapped = wrapColumns(description, Math.max(20, Math.min(100, columns) - optionWidth - 4));
    return `  ${padColumns(term, optionWidth)}  ${wrapped.replaceAll("\n", `\n${" ".repeat(optionWidth + 4)}`)}`;
  };
  return [
    `cpm ${version()} · ${frame.tagline[locale]}`,
    "",
    `${frame.usage[locale]}${locale === "zh" ? "" : " "}cpm ${frame.commandPlaceholder[locale]} ${frame.optionsPlaceholder[locale]}`,
    "",
    frame.commandsTitle[locale],
    ...verbs.map(({ name, summary }) => item(name, summary[locale])),
    "",
    frame.optionsTitle[locale],
    ...options.map(([flag, description]) => item(flag, description)),
    "",
    frame.helpFooter[locale],
    "",
  ].join("\n");
}

function unknownVerb(words: readonly string[], locale: Locale, world: World): number {
  const name = words
    .filter((word) => !word.startsWith("-"))
    .slice(0, 2)
    .join(" ");
  const group = verbs.filter((verb) => verb.name.startsWith(`${words[0]} `)).map((verb) => verb.name);
  if (words.length === 0) {
    world.stderr.write(overview(locale, world.stderr.columns));
    return exitCodes.usage.code;
  }
  const names = verbs.map((verb) => verb.name);
  const suggestion = nearest(name, names) ?? nearest(words[0]!, names);
  throw new ConfigError(
    "CPM_CLI_USAGE",
    words[0]!.startsWith("-")
      ? text(locale, frame.unknownOption, { command: "cpm", name: words[0]! })
      : text(locale, frame.unknownVerb, { name }),
    {
      expected: group.length > 0 ? group.join(", ") : undefined,
      hint:
        suggestion === undefined
          ? text(locale, frame.seeHelp, { command: "cpm" })
          : text(locale, frame.didYouMean, { name: `cpm ${suggestion}` }),
    },
  );
}

/** The value of the last `--lang` before a `--`, wherever it stands. */
function languageFlag(argv: readonly string[]): string | undefined {
  let language: string | undefined;
  for (const [index, word] of argv.entries()) {
    if (word === "--") break;
    if (word === "--lang") language = argv[index + 1] ?? "";
    else if (word.startsWith("--lang=")) language = word.slice("--lang=".length);
  }
  return language;
}

/** The words without the `--lang` that stand before the verb; those after it are the verb's own. */
function withoutLanguage(argv: readonly string[]): readonly string[] {
  let start = 0;
  for (;;) {
    const word = argv[start];
    if (word === "--lang") start += 2;
    else if (word?.startsWith("--lang=")) start += 1;
    else return argv.slice(start);
  }
}

/** The version in package.json, which lies two folders up from here in a checkout and in the package. */
function version(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

/** SIGTERM rather than Ctrl-C. */
class TerminatedError extends CancelledError {}

/** Ctrl-C and SIGTERM abort first; the second of them ends the process at once. Returns what takes the handlers off. */
function stopOnSignals(stop: AbortController, argv: readonly string[], world: World): () => void {
  const onSignal = (signal: NodeJS.Signals) => {
    const terminated = signal === "SIGTERM";
    if (stop.signal.aborted) process.exit(terminated ? exitCodes.terminated.code : exitCodes.interrupted.code);
    const Reason = terminated ? TerminatedError : CancelledError;
    let locale: Locale = "zh";
    try {
      locale = resolveLocale(languageFlag(argv), world.env);
    } catch {
      // A wrong language is reported where it is read; here it only decides the wording.
    }
    world.stderr.write(`\n${frame.stopping[locale]}\n`);
    stop.abort(new Reason("CPM_CANCELLED", frame.interrupted[locale]));
  };
  // A reader such as `head` that has enough: end as the shell's own tools do.
  const onPipeError = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(exitCodes.pipeClosed.code);
    throw error;
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  process.stdout.on("error", onPipeError);
  return () => {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  };
}

function processWorld(signal: AbortSignal): World {
  return {
    stdout: writerOf(process.stdout),
    stderr: writerOf(process.stderr),
    // The stream itself is made when it is first read: an open one would keep the process alive.
    stdin: {
      isTTY: isatty(0),
      [Symbol.asyncIterator]() {
        const { stdin } = process;
        // Waiting for input that never comes must end with the signal.
        signal.addEventListener("abort", () => stdin.destroy(signal.reason), { once: true });
        return stdin[Symbol.asyncIterator]();
      },
    },
    env: process.env,
    now: () => Date.now(),
    signal,
  };
}

function writerOf(stream: NodeJS.WriteStream): Writer {
  let full = false;
  return {
    isTTY: stream.isTTY === true,
    get columns() {
      return stream.columns ?? 80;
    },
    write(piece) {
      full = !stream.write(piece);
    },
    async flush() {
      if (!full || stream.writableLength === 0) return;
      await new Promise<void>((resolve) => stream.once("drain", resolve));
      full = false;
    },
  };
}
