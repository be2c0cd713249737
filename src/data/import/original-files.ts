/**
 * The binary data sets of CPM-Live: a folder with `meta.bin`, a list of files, and the files, made of equal blocks.
 *
 *     version 1    meta.bin is a pickle; a record is the byte 0x1F and a Python pickle
 *     version 2    meta.bin is JSON Lines; a record is the byte 0x1F, a u32 of its length (little-endian), and as many bytes
 *
 * A block ends with the byte 0x00 and zeros. Everything in the files is checked; what cannot be read is told and passed
 * over, up to the end of its block where a record's length is not known. Files that are masked or gone are passed over, as
 * the original does.
 */
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fileErrorOf } from "../../util/atomic-file.ts";
import { CpmError, DataError } from "../../util/error.ts";
import type { BadLine } from "../read-documents.ts";
import { readPickledFileList, readPickledIntegers } from "./numpy-pickle.ts";

const metaFile = "meta.bin";
const maxMetaBytes = 64 * 1024 * 1024;
const maxBlockBytes = 1 << 30;
const recordMark = 0x1f;
const blockEnd = 0x00;

const count = z.int().min(0);
const entrySchema = z.object({
  // A plain name: the original joins it to the folder as it is.
  file_name: z.string().regex(/^(?!\.{1,2}$)[^/\\\0]{1,255}$/),
  block_begin: count,
  block_end: count,
  nbytes: count,
  nlines: count,
  mask: z.boolean(),
  block_size: z.int().min(16).max(maxBlockBytes).optional(),
});
type FileEntry = z.output<typeof entrySchema>;

export interface OriginalDataset {
  readonly version: 1 | 2;
  readonly files: readonly FileEntry[];
}

/** A record as it lies in its file. */
export interface OriginalRecord {
  readonly file: string;
  /** Its place in the file, from 1. */
  readonly line: number;
  /** Of version 1, which pickles integers. */
  readonly ids?: Int32Array | undefined;
  /** Of version 2: what the serialiser wrote. Valid until the next record is asked for. */
  readonly payload?: Uint8Array | undefined;
}

/**
 * Reads `meta.bin`.
 *
 * @throws DataError CPM_DATA_IMPORT where there is none or it is not as it must be; CheckpointError CPM_PICKLE_…
 */
export async function readOriginalMeta(folder: string): Promise<OriginalDataset> {
  const path = join(folder, metaFile);
  const bad = (what: string, got?: string, cause?: unknown) =>
    new DataError("CPM_DATA_IMPORT", what, {
      where: path,
      got,
      cause,
      expected: "a folder with meta.bin, as CPM-Live's build_dataset writes it",
    });
  const absent = (cause: unknown) => {
    throw bad("There is no data set of CPM-Live here", undefined, cause);
  };
  const { size } = await stat(path).catch(absent);
  if (size > maxMetaBytes) throw bad("The list of files is too long", `${size} bytes`);
  const bytes = await readFile(path).catch(absent);
  const version = bytes[0] === 0x80 ? 1 : 2;
  const values = version === 1 ? entriesOfPickle(bytes, path) : entriesOfLines(bytes);
  const parsed = z.array(entrySchema).safeParse(values);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw bad("The list of files is not as it must be", `${issue?.path.join(".")}: ${issue?.message}`);
  }
  let block = 0;
  for (const { file_name, block_begin, block_end } of parsed.data) {
    if (block_begin !== block || block_end < block_begin) {
      throw bad("The blocks of the files do not follow one another", `${file_name}: ${block_begin} to ${block_end}`);
    }
    block = block_end;
  }
  return { version, files: parsed.data };
}

function entriesOfPickle(bytes: Uint8Array, where: string): unknown {
  return readPickledFileList(bytes, where)?.map(([file_name, block_begin, block_end, nbytes, nlines, mask]) => ({
    file_name,
    block_begin,
    block_end,
    nbytes,
    nlines,
    mask,
  }));
}

function entriesOfLines(bytes: Buffer): unknown {
  try {
    const lines = bytes.toString("utf8").split("\n");
    return lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line));
  } catch {
    return undefined;
  }
}

/**
 * Every record of the files in order; what cannot be read goes to `onBadLine`.
 *
 * @throws FileError CPM_FILE_… where a file that is there cannot be read
 */
export async function* readOriginalRecords(
  folder: string,
  { version, files }: OriginalDataset,
  onBadLine: (bad: BadLine) => void,
): AsyncGenerator<OriginalRecord> {
  for (const entry of files) {
    const source = join(folder, entry.file_name);
    if (entry.mask) {
      onBadLine({ source, line: 0, reason: "the file is masked and was passed over" });
      continue;
    }
    const handle = await open(source).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== "ENOENT") throw fileErrorOf(cause, "read", source);
      return undefined;
    });
    if (handle === undefined) {
      onBadLine({ source, line: 0, reason: "the file is not there and was passed over" });
      continue;
    }
    try {
      yield* recordsOf(handle, source, entry, version, onBadLine);
    } catch (error) {
      throw fileErrorOf(error, "read", source);
    } finally {
      await handle.close();
    }
  }
}

async function* recordsOf(
  handle: FileHandle,
  source: string,
  entry: FileEntry,
  version: 1 | 2,
  onBadLine: (bad: BadLine) => void,
): AsyncGenerator<OriginalRecord> {
  const fileBytes = (await handle.stat()).size;
  const blocks = entry.block_end - entry.block_begin;
  const blockBytes = entry.block_size ?? fileBytes / Math.max(1, blocks);
  if (blocks === 0 && fileBytes === 0) return;
  if (!Number.isInteger(blockBytes) || blockBytes > maxBlockBytes || blockBytes * blocks !== fileBytes) {
    const reason = `${fileBytes} bytes are not ${blocks} equal blocks${entry.block_size ? ` of ${entry.block_size}` : ""}`;
    onBadLine({ source, line: 0, reason: `${reason}: the file was passed over` });
    return;
  }
  const buffer = Buffer.alloc(blockBytes);
  let line = 0;
  for (let block = 0; block < blocks; block++) {
    const { bytesRead } = await handle.read(buffer, 0, blockBytes, block * blockBytes);
    let at = 0;
    const lose = (reason: string) => {
      onBadLine({ source, line, reason: `${reason}; the rest of block ${block} is lost` });
      at = bytesRead;
    };
    while (at < bytesRead && buffer[at] !== blockEnd) {
      line++;
      const start = at + 1;
      if (buffer[at] !== recordMark) {
        lose(`a record begins with the byte ${buffer[at]}`);
      } else if (version === 1) {
        const record = pickled(buffer.subarray(start, bytesRead), source);
        if ("reason" in record) lose(record.reason);
        else {
          at = start + record.end;
          yield { file: entry.file_name, line, ids: record.ids };
        }
      } else {
        const length = start + 4 <= bytesRead ? buffer.readUInt32LE(start) : Number.POSITIVE_INFINITY;
        if (start + 4 + length > bytesRead) lose("a record goes beyond its block");
        else {
          at = start + 4 + length;
          yield { file: entry.file_name, line, payload: buffer.subarray(start + 4, at) };
        }
      }
    }
  }
  if (line !== entry.nlines) {
    onBadLine({ source, line: 0, reason: `the list of files says ${entry.nlines} records, there are ${line}` });
  }
}

function pickled(bytes: Uint8Array, where: string): { ids: Int32Array | undefined; end: number } | { reason: string } {
  try {
    return readPickledIntegers(bytes, where);
  } catch (error) {
    if (error instanceof CpmError) return { reason: error.what };
    throw error;
  }
}
