/** The part that every feed has: how far an open file may be read, and who is told when that is further. */
import type { FileHandle } from "node:fs/promises";

export type FeedListener = (from: number, lines: Buffer) => void;

export interface ReleasedBytes {
  /** Bytes from the beginning that may be read. */
  readonly size: number;
  /** Bytes `from` to `to`, at most `size`; fewer where the file has become shorter. */
  read(from: number, to: number): Promise<Buffer>;
  subscribe(listener: FeedListener): () => void;
  /** Releases what follows and tells it. */
  release(lines: Buffer): void;
  /** Releases bytes that are nobody's. */
  passOver(bytes: number): void;
}

export function releaseBytes(file: FileHandle): ReleasedBytes {
  const listeners = new Set<FeedListener>();
  let size = 0;
  return {
    get size() {
      return size;
    },
    read: (from, to) => readRange(file, from, Math.min(to, size)),
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    release(lines) {
      const from = size;
      size += lines.length;
      for (const listener of listeners) listener(from, lines);
    },
    passOver(bytes) {
      size += bytes;
    },
  };
}

export async function readRange(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.alloc(Math.max(0, to - from));
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, from + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
