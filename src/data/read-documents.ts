/**
 * Documents out of files: plain text and JSON Lines, also gzip or zstd, and Parquet, one at a time in bounded memory.
 * The name `-` is the standard input, where it is given.
 *
 * This reads and judges lines; it does not tokenise, deduplicate or filter. Input is untrusted: a line has a size limit
 * (so a compressed bomb costs no memory), bytes must be valid in their encoding, JSON is only parsed. A bad line is
 * reported with file, line and reason and left out; it stops the reading only in strict mode.
 */
import type { Dirent } from "node:fs";
import { glob, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataError, FileError } from "../util/error.ts";
import { readParquetTexts } from "./parquet.ts";
import { type Line, type LineOptions, lineBatches, stdinName } from "./text-lines.ts";

export interface Document {
  readonly text: string;
  /** The file it came from. */
  readonly source: string;
  /** Where it starts in that file, from 1. */
  readonly line: number;
}

/**
 * How a file is cut into documents.
 *
 * - `jsonl`: one JSON object a line, the text in one field.
 * - `lines`: one document a line, `<n>` standing for a line break (the original's raw format).
 * - `blocks`: documents are runs of lines between blank lines.
 * - `file`: the whole file is one document.
 *
 * Parquet files are known by their name; the text is the column that `field` names.
 */
export type TextFormat = "jsonl" | "lines" | "blocks" | "file";

export interface BadLine {
  readonly source: string;
  readonly line: number;
  readonly reason: string;
}

export interface ReadOptions extends LineOptions {
  /**
   * `auto` (default) goes by the name without .gz and .zst: .jsonl .ndjson .json are `jsonl`, .md is `file`, all else
   * is `blocks` where the first 64 KiB of lines hold a blank line between two others and no `<n>`, else `lines`.
   */
  readonly format?: TextFormat | "auto";
  /** The field of a JSON line that holds the text; `text` by default. */
  readonly field?: string;
  /** UTF-8 by default; older Chinese text files are often GB18030 (which contains GBK and GB2312). */
  readonly encoding?: "utf-8" | "gb18030";
  /** Longest line, block or file in bytes; 16 MiB by default. */
  readonly maxDocumentBytes?: number;
  /** Told of every line that was left out. */
  readonly onBadLine?: (bad: BadLine) => void;
  /** Fail at the first bad line. */
  readonly strict?: boolean;
}

const defaultMaxBytes = 16 * 1024 * 1024;
const sniffBytes = 64 * 1024;
const documentName = /\.(txt|text|md|jsonl|ndjson|json)(\.gz|\.zst)?$|\.parquet$/i;

/**
 * The files behind names, patterns and folders: a folder gives every text or JSON Lines file below it, a pattern
 * (`*`, `**`, `?`, `[…]`, `{…}`) what it matches. Sorted within each entry and never twice, so the order is stable.
 *
 * @throws FileError CPM_DATA_FILE where a name does not exist or a pattern or folder has no file
 */
export async function expandPaths(entries: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const entry of entries) {
    if (entry === stdinName) {
      found.add(entry);
      continue;
    }
    const info = await stat(entry).catch(() => undefined);
    let files: string[];
    if (info?.isDirectory()) files = await filesBelow(entry);
    else if (info !== undefined) files = [entry];
    else files = /[*?[{]/.test(entry) ? await Array.fromAsync(glob(entry)) : [];
    if (files.length === 0) {
      throw new FileError("CPM_DATA_FILE", "There is no text to read under this name", {
        where: entry,
        expected: "a file, a folder with .txt .md .jsonl files (also .gz, .zst), or a pattern that matches some",
        hint: "Check the spelling, and put quotes around a pattern.",
      });
    }
    for (const file of files.sort()) found.add(file);
  }
  return [...found];
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries: Dirent[] = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && documentName.test(entry.name) && !/^readme\b/i.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

/**
 * Every document of the files in order.
 *
 * @throws FileError CPM_DATA_FILE where a file cannot be opened
 * @throws DataError CPM_DATA_LINE at the first bad line in strict mode
 */
export async function* readDocuments(files: readonly string[], options: ReadOptions = {}): AsyncGenerator<Document> {
  for (const file of files) yield* readFileDocuments(file, options);
}

async function* readFileDocuments(file: string, options: ReadOptions): AsyncGenerator<Document> {
  const maxBytes = options.maxDocumentBytes ?? defaultMaxBytes;
  const decoder = new TextDecoder(options.encoding ?? "utf-8", { fatal: true, ignoreBOM: true });
  const reject = (line: number, reason: string): void => {
    if (options.strict === true) {
      throw new DataError("CPM_DATA_LINE", "A line of the text cannot be used", {
        where: `${file}, line ${line}`,
        got: reason,
        hint: "Mend the line, or read without strict mode to leave such lines out and count them.",
      });
    }
    options.onBadLine?.({ source: file, line, reason });
  };
  if (/\.parquet$/i.test(file)) {
    for await (const { row, text, reason } of readParquetTexts(file, options.field ?? "text", options.onBytes)) {
      if (text !== undefined) yield { text, source: file, line: row };
      else reject(row, reason ?? "no text");
    }
    return;
  }
  let format = options.format === undefined || options.format === "auto" ? formatByName(file) : options.format;
  let waiting: Line[] | undefined = format === undefined ? [] : undefined; // lines held until the format is known
  let waitingBytes = 0;
  const block = createBlock(file, maxBytes, reject);

  function* documentsOf(line: Line): Generator<Document> {
    const { bytes, number } = line;
    if (bytes === undefined) {
      reject(number, `longer than ${maxBytes} bytes`);
      if (format === "file" || format === "blocks") block.spoil();
      return;
    }
    let text: string;
    try {
      text = decoder.decode(bytes);
    } catch {
      const hint = decoder.encoding === "utf-8" ? " (older Chinese files may be gb18030)" : "";
      reject(number, `the bytes are not ${decoder.encoding}${hint}`);
      return;
    }
    if (number === 1 && text.startsWith("\uFEFF")) text = text.slice(1);
    if (text.endsWith("\r")) text = text.slice(0, -1);
    const blank = text.trim() === "";
    switch (format) {
      case "jsonl": {
        if (blank) return;
        const parsed = textOfJson(text, options.field ?? "text");
        if ("reason" in parsed) reject(number, parsed.reason);
        else yield { text: parsed.text, source: file, line: number };
        return;
      }
      case "lines":
        if (!blank) yield { text: text.replaceAll("<n>", "\n").trim(), source: file, line: number };
        return;
      case "blocks":
        if (!blank) block.add(text, number, bytes.length);
        else yield* block.take();
        return;
      default:
        block.add(text, number, bytes.length);
    }
  }

  let lastLine = 0;
  for await (const lines of lineBatches(file, maxBytes, options)) {
    if (lines instanceof Error) {
      reject(lastLine + 1, `the file breaks off: ${lines.message}`);
      break;
    }
    lastLine = lines.at(-1)?.number ?? lastLine;
    if (waiting === undefined) {
      for (const line of lines) yield* documentsOf(line);
      continue;
    }
    for (const line of lines) {
      waiting.push(line);
      waitingBytes += (line.bytes?.length ?? maxBytes) + 1;
    }
    if (waitingBytes < sniffBytes) continue;
    format = formatByLines(waiting);
    for (const line of waiting) yield* documentsOf(line);
    waiting = undefined;
  }
  if (waiting !== undefined) {
    format = formatByLines(waiting);
    for (const line of waiting) yield* documentsOf(line);
  }
  yield* block.take();
}

function formatByName(file: string): TextFormat | undefined {
  const name = file.replace(/\.(gz|zst)$/i, "");
  if (/\.(jsonl|ndjson|json)$/i.test(name)) return "jsonl";
  return /\.md$/i.test(name) ? "file" : undefined;
}

/** Of plain text: `blocks` where its beginning has a blank line between two others and no `<n>`. */
function formatByLines(lines: readonly Line[]): TextFormat {
  let started = false;
  let gap = false;
  let blocks = false;
  let seenBytes = 0; // whatever the chunks were, only the first 64 KiB count
  for (const { bytes } of lines) {
    if (seenBytes >= sniffBytes) break;
    if (bytes === undefined) continue;
    seenBytes += bytes.length + 1;
    if (bytes.includes("<n>")) return "lines";
    const blank = bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
    if (!blank && gap) blocks = true;
    if (!blank) started = true;
    else gap = started;
  }
  return blocks ? "blocks" : "lines";
}

/** Gathers the lines of a document that spans several. */
function createBlock(source: string, maxBytes: number, reject: (line: number, reason: string) => void) {
  let lines: string[] = [];
  let first = 0;
  let size = 0;
  let spoiled = false;
  return {
    add(text: string, line: number, bytes: number): void {
      if (lines.length === 0) first = line;
      size += bytes + 1;
      if (size > maxBytes && !spoiled) {
        reject(first, `a document longer than ${maxBytes} bytes`);
        spoiled = true;
      }
      lines.push(spoiled ? "" : text);
      if (spoiled) lines.length = 1;
    },
    /** The document has a part that cannot be held. */
    spoil(): void {
      spoiled = true;
    },
    *take(): Generator<Document> {
      const text = lines.join("\n").trim();
      if (!spoiled && text !== "") yield { text, source, line: first };
      lines = [];
      size = 0;
      spoiled = false;
    },
  };
}

function textOfJson(line: string, field: string): { readonly text: string } | { readonly reason: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    return { reason: `not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return { reason: "not a JSON object" };
  const text = Object.hasOwn(value, field) ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof text !== "string") {
    const fields = Object.keys(value).slice(0, 8).join(", ");
    return { reason: `no text in field "${field}" (fields: ${fields.slice(0, 200)})` };
  }
  if (!text.isWellFormed()) return { reason: `the text of "${field}" has half a surrogate pair` };
  const trimmed = text.trim();
  return trimmed === "" ? { reason: `the text of "${field}" is empty` } : { text: trimmed };
}
