/**
 * The lines of a file as bytes: plain, gzip or zstd, in bounded memory. What they mean is for others to say.
 *
 * A line over the limit is given without its bytes, so that a compressed bomb costs no memory.
 */
import { createReadStream, type ReadStream } from "node:fs";
import { pipeline, Readable, type Transform } from "node:stream";
import * as zlib from "node:zlib";
import { FileError, UnsupportedError } from "../util/error.ts";

export interface LineOptions {
  /** Told how many bytes of the file, as it lies on the disk, have been read so far. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** What the name `-` stands for. */
  readonly stdin?: AsyncIterable<Uint8Array | string> | undefined;
}

/** The name of the standard input among files. */
export const stdinName = "-";

export interface Line {
  /** Without the line feed; undefined where it was longer than the limit. */
  readonly bytes: Buffer | undefined;
  readonly number: number;
}

/** The lines of a file, unpacked, as many at a time as a chunk holds; an Error as the last item where it breaks off. */
export async function* lineBatches(
  file: string,
  maxBytes: number,
  { stdin, onBytes }: LineOptions = {},
): AsyncGenerator<Line[] | Error> {
  const { raw, stream } =
    file === stdinName && stdin ? { raw: undefined, stream: Readable.from(bytesOf(stdin)) } : openUnpacked(file);
  let rest: Buffer[] = [];
  let restBytes = 0;
  let number = 1;
  const finish = (tail: Buffer): Line => {
    const tooLong = restBytes + tail.length > maxBytes;
    const bytes = tooLong ? undefined : rest.length === 0 ? tail : Buffer.concat([...rest, tail]);
    rest = [];
    restBytes = 0;
    return { bytes, number: number++ };
  };
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (raw !== undefined) onBytes?.(raw.bytesRead);
      const lines: Line[] = [];
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        lines.push(finish(chunk.subarray(start, end)));
        start = end + 1;
      }
      if (start < chunk.length) {
        restBytes += chunk.length - start;
        if (restBytes <= maxBytes) rest.push(chunk.subarray(start));
        else rest = [];
      }
      if (lines.length > 0) yield lines;
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const system = (error as NodeJS.ErrnoException).syscall;
    if (system !== undefined) {
      throw new FileError("CPM_DATA_FILE", "A text file cannot be read", {
        where: file,
        got: error.message,
        cause: error,
      });
    }
    yield error; // damaged or cut compression
    return;
  }
  if (restBytes > 0) yield [finish(Buffer.alloc(0))];
}

async function* bytesOf(input: AsyncIterable<Uint8Array | string>): AsyncGenerator<Buffer> {
  for await (const chunk of input) yield typeof chunk === "string" ? Buffer.from(chunk) : Buffer.from(chunk);
}

function openUnpacked(file: string): { readonly raw: ReadStream; readonly stream: Readable } {
  const raw = createReadStream(file, { highWaterMark: 256 * 1024 });
  let unpack: Transform;
  if (/\.gz$/i.test(file)) unpack = zlib.createGunzip({ chunkSize: 256 * 1024 });
  else if (/\.zst$/i.test(file)) {
    if (typeof zlib.createZstdDecompress !== "function") {
      raw.destroy();
      throw new UnsupportedError("CPM_DATA_ZSTD", "This Node.js cannot read zstd", {
        where: file,
        got: process.version,
        expected: "Node.js 22.15 or later",
      });
    }
    unpack = zlib.createZstdDecompress({ chunkSize: 256 * 1024 });
  } else return { raw, stream: raw };
  // The iteration over the last stream sees the error of either one; it must not also be thrown from here.
  pipeline(raw, unpack, () => {});
  return { raw, stream: unpack };
}
