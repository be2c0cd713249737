/**
 * Bytes that are read by position: a file, or memory in tests. Nothing is read before it is asked for, and nothing is
 * believed about a length before it is checked against the size.
 */
import { open } from "node:fs/promises";
import { fileErrorOf } from "../util/atomic-file.ts";
import { CheckpointError } from "../util/error.ts";

export interface ByteSource {
  /** The file's path, or a name for memory; appears in errors. */
  readonly path: string;
  readonly sizeBytes: number;
  /**
   * `length` bytes from `offset` on, in memory of their own.
   *
   * @throws CheckpointError `CPM_CHECKPOINT_TRUNCATED` where the source has not that many, `CPM_CHECKPOINT_TOO_LARGE`
   * where they do not fit in memory
   */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** Bytes that one system call reads: it takes less than 2 GiB. */
const readChunkBytes = 64 * 1024 * 1024;

/** A zeroed buffer, or a clear error where the machine has not so much memory. */
export function allocateBytes(length: number, where: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new CheckpointError("CPM_CHECKPOINT_TOO_LARGE", "a tensor does not fit in one piece of memory", {
      where,
      got: `${length} bytes`,
      cause,
    });
  }
}

function requireRange(offset: number, length: number, sizeBytes: number, path: string): void {
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0) {
    if (offset <= sizeBytes && length <= sizeBytes - offset) return;
  }
  throw new CheckpointError("CPM_CHECKPOINT_TRUNCATED", "the file is shorter than what it announces", {
    where: path,
    got: `${sizeBytes} bytes`,
    expected: `${length} bytes from ${offset} on`,
    hint: "Copy or download the file again.",
  });
}

/**
 * Opens a file for reading. It stays open, so that a file renamed over it meanwhile changes nothing, until `close`.
 *
 * @throws FileError where it cannot be opened or is no regular file
 */
export async function openSource(path: string): Promise<ByteSource> {
  try {
    const handle = await open(path, "r");
    const facts = await handle.stat();
    if (!facts.isFile()) {
      await handle.close();
      throw Object.assign(new Error("not a regular file"), { code: "EISDIR", syscall: "open" });
    }
    const sizeBytes = facts.size;
    return {
      path,
      sizeBytes,
      async read(offset, length) {
        requireRange(offset, length, sizeBytes, path);
        const bytes = allocateBytes(length, path);
        for (let done = 0; done < length; ) {
          const count = Math.min(readChunkBytes, length - done);
          const { bytesRead } = await handle.read(bytes, done, count, offset + done).catch((error) => {
            throw fileErrorOf(error, "read", path);
          });
          // The file has been cut since it was opened.
          if (bytesRead === 0) requireRange(offset, length, offset + done, path);
          done += bytesRead;
        }
        return bytes;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    throw fileErrorOf(error, "read", path);
  }
}

/** Memory as a source. */
export function memorySource(bytes: Uint8Array, path = "memory"): ByteSource {
  return {
    path,
    sizeBytes: bytes.length,
    async read(offset, length) {
      requireRange(offset, length, bytes.length, path);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
    async close() {},
  };
}

/** Opens a file for a reader whose result owns it; closes it again where the reader fails. */
export async function readFrom<T>(path: string, read: (source: ByteSource) => Promise<T>): Promise<T> {
  const source = await openSource(path);
  try {
    return await read(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}
