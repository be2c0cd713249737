/**
 * Texts for a command, exactly as they are written: from arguments, from stdin or a file (one a line), or from the field
 * of a JSON Lines file (files plain, gzip or zstd). Unlike `data/read-documents.ts` nothing is trimmed or left out, so that what comes
 * out lines up with what went in.
 */
import { createReadStream } from "node:fs";
import { pipeline, type Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { DataError, FileError } from "../util/error.ts";

/** Longer than any sane text of one line; keeps memory bounded for what is no text at all. */
export const maxLineBytes = 16 * 2 ** 20;

/**
 * The lines of a byte stream, without their line feed and a carriage return before it. Only U+000A ends a line. Throws
 * DataError `CPM_CLI_TEXT` for a line over the limit or bytes that are not UTF-8, naming `where` and the line.
 */
export async function* linesOf(source: AsyncIterable<Uint8Array | string>, where: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  let number = 1;
  const fail = (what: string, got: string) =>
    new DataError("CPM_CLI_TEXT", what, { where: `${where}, line ${number}`, got });
  const finish = (tail: Uint8Array): string => {
    const whole = pieces.length === 0 ? tail : Buffer.concat([...pieces, tail]);
    pieces = [];
    bytes = 0;
    let line: string;
    try {
      line = decoder.decode(whole);
    } catch {
      throw fail("A line is not UTF-8.", `${whole.length} bytes`);
    }
    number++;
    return line.endsWith("\r") ? line.slice(0, -1) : line;
  };
  for await (const piece of source) {
    const chunk = typeof piece === "string" ? Buffer.from(piece) : piece;
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield finish(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start === chunk.length) continue;
    pieces.push(chunk.subarray(start));
    bytes += chunk.length - start;
    if (bytes > maxLineBytes) throw fail("A line is too long.", `over ${maxLineBytes} bytes`);
  }
  if (bytes > 0) yield finish(new Uint8Array(0));
}

/** The texts of one field of a JSON Lines file; blank lines are passed over. Throws FileError, DataError `CPM_CLI_TEXT`. */
export async function* jsonLineTexts(path: string, field: string): AsyncGenerator<string> {
  let number = 0;
  for await (const line of fileLines(path)) {
    number++;
    if (line.trim() === "") continue;
    const fail = (got: string) =>
      new DataError("CPM_CLI_TEXT", "A line of the JSON Lines file has no text.", {
        where: `${path}, line ${number}`,
        got,
        expected: `a JSON object with a string in "${field}"`,
      });
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw fail(error instanceof Error ? error.message : String(error));
    }
    const isObject = typeof value === "object" && value !== null && Object.hasOwn(value, field);
    const text = isObject ? (value as Record<string, unknown>)[field] : undefined;
    if (typeof text !== "string") throw fail(line.length > 80 ? `${line.slice(0, 80)}…` : line);
    yield text;
  }
}

/** The lines of a text file (plain, gzip or zstd), as `linesOf`. Throws FileError `CPM_CLI_FILE` too. */
export function fileLines(path: string): AsyncGenerator<string> {
  return linesOf(fileChunks(path), path);
}

async function* fileChunks(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* openUnpacked(path) as AsyncIterable<Buffer>;
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new FileError("CPM_CLI_FILE", "A file cannot be read.", {
      where: path,
      got: cause instanceof Error ? cause.message : String(cause),
      cause,
    });
  }
}

function openUnpacked(path: string): Readable {
  const raw = createReadStream(path, { highWaterMark: 256 * 1024 });
  let unpack: Transform;
  if (/\.gz$/i.test(path)) unpack = createGunzip();
  else if (/\.zst$/i.test(path)) unpack = createZstdDecompress();
  else return raw;
  // Iterating over the last stream reports the errors of both; this only keeps them from being thrown twice.
  pipeline(raw, unpack, () => {});
  return unpack;
}
