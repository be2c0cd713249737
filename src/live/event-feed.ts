/**
 * A run's events as a growing sequence of bytes, read once for all who watch.
 *
 * A feed knows how many bytes there are in whole lines, gives any part of them, and tells its listeners when there are
 * more. `openFileFeed` follows a file that a trainer appends to; `replay.ts` releases a finished one by the clock.
 */
import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { type FeedListener, releaseBytes } from "./released-bytes.ts";
import { eventsFile, maxLineBytes } from "./run-folder.ts";

export interface EventFeed {
  /** Bytes in whole lines that may be read. */
  readonly size: number;
  /** Bytes `from` to `to`, at most `size`. */
  read(from: number, to: number): Promise<Buffer>;
  /** Called after `size` has grown, with the bytes from the old size to the new one where they are at hand. */
  subscribe(listener: FeedListener): () => void;
  close(): Promise<void>;
}

/** Between two looks at the file where the system does not tell of changes. */
const fallbackMs = 1000;
/** What is handed to listeners at once, or one line where it is longer. */
const chunkBytes = 1 << 20;
/** What is read at once of what lies behind. */
const partBytes = 256 * 1024;

/**
 * The next whole lines from a byte on, some hundred kilobytes or one line, and the byte where to go on. What is too long for an
 * event is passed over, its end left as a line that cannot be read.
 */
export async function readLines(feed: EventFeed, from: number): Promise<{ lines: Buffer; end: number }> {
  for (let bytes = partBytes; ; bytes *= 2) {
    const part = await feed.read(from, Math.min(feed.size, from + bytes));
    const length = part.lastIndexOf(10) + 1;
    if (length > 0 || part.length < bytes) return { lines: part.subarray(0, length), end: from + length };
    if (bytes >= maxLineBytes) return { lines: part.subarray(0, 0), end: from + part.length };
  }
}

/** Follows `events.jsonl` of a run's folder. */
export async function openFileFeed(folder: string): Promise<EventFeed> {
  const path = join(folder, eventsFile);
  const file: FileHandle = await open(path, "r");
  const released = releaseBytes(file);
  let closed = false;
  let reading: Promise<void> | undefined;
  let again = false;

  async function advance(): Promise<void> {
    for (let bytes = chunkBytes; ; ) {
      const { size: fileSize } = await file.stat();
      const { size } = released;
      if (closed || fileSize <= size) return;
      const buffer = Buffer.alloc(Math.min(bytes, fileSize - size));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, size);
      const end = buffer.subarray(0, bytesRead).lastIndexOf(10) + 1;
      if (end > 0) {
        released.release(buffer.subarray(0, end));
        bytes = chunkBytes;
      } else if (bytesRead < bytes)
        return; // a line is being written
      else if (bytes < maxLineBytes) bytes *= 2;
      else released.passOver(bytesRead);
    }
  }

  /** One reader at a time; what comes meanwhile is looked at once more. */
  function look(): Promise<void> {
    again = true;
    reading ??= (async () => {
      try {
        while (again && !closed) {
          again = false;
          await advance();
        }
      } catch {
        // the file may be gone for a moment; the next look tells
      } finally {
        reading = undefined;
      }
    })();
    return reading;
  }

  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(path, { persistent: false }, () => void look());
    watcher.on("error", () => watcher?.close());
  } catch {
    watcher = undefined;
  }
  const timer = setInterval(() => void look(), fallbackMs);
  timer.unref();
  await look();
  return {
    get size() {
      return released.size;
    },
    read: released.read,
    subscribe: released.subscribe,
    async close() {
      closed = true;
      watcher?.close();
      clearInterval(timer);
      await reading;
      await file.close();
    },
  };
}
