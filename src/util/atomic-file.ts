/**
 * Files and folders that are either completely there or not there at all: written aside under a temporary name in the
 * same folder, flushed to the disk, renamed into place, and the rename flushed too.
 *
 * A failure (a full disk, a lost permission, an error of the writer's own) removes what was written aside and leaves an
 * older file of that name as it was. After a crash a `.NAME.partial-PID-N` may be left over: it is never read.
 */
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { CancelledError, CpmError, FileError } from "./error.ts";

/** A file that is being written aside. End it with `commit` or `abort`, once. */
export interface AtomicFile {
  /** Where it will be. */
  readonly path: string;
  /** Bytes written so far. */
  readonly size: number;
  /** Appends. */
  write(bytes: Uint8Array): Promise<void>;
  /** Flushes and renames into place. */
  commit(): Promise<void>;
  /** Removes what was written. Harmless after `commit`. */
  abort(): Promise<void>;
}

let counter = 0;

function asideName(path: string): string {
  counter += 1;
  return join(dirname(path), `.${basename(path)}.partial-${process.pid}-${counter}`);
}

/** Bytes handed to one write call: the system takes less than 2 GiB at a time. */
const writeChunkBytes = 64 * 1024 * 1024;

/**
 * Starts a file that appears under `path` when it is committed.
 *
 * @throws FileError see `fileErrorOf`
 */
export async function openAtomicFile(path: string): Promise<AtomicFile> {
  const target = resolve(path);
  const [aside, handle] = await openAside(target);
  let size = 0;
  let open_ = true;
  const abort = async (): Promise<void> => {
    if (!open_) return;
    open_ = false;
    await handle.close().catch(() => {});
    await rm(aside, { force: true }).catch(() => {});
  };
  /** Runs one step; its failure ends the file. */
  const step = async <T>(run: () => Promise<T>): Promise<T> => {
    if (!open_) throw new Error(`internal: ${target} is already committed or aborted`);
    try {
      return await run();
    } catch (error) {
      await abort();
      throw fileErrorOf(error, "write", target);
    }
  };
  return {
    path: target,
    get size() {
      return size;
    },
    write: (bytes) =>
      step(async () => {
        for (let from = 0; from < bytes.length; ) {
          const { bytesWritten } = await handle.write(bytes, from, Math.min(writeChunkBytes, bytes.length - from));
          from += bytesWritten;
          size += bytesWritten;
        }
      }),
    commit: () =>
      step(async () => {
        await handle.sync();
        await handle.close();
        await rename(aside, target);
        open_ = false;
        await syncFolder(dirname(target));
      }),
    abort,
  };
}

async function openAside(target: string): Promise<[string, FileHandle]> {
  for (;;) {
    const aside = asideName(target);
    try {
      return [aside, await open(aside, "wx", 0o666)];
    } catch (error) {
      // Left over from a crashed process that had our number: try the next name.
      if (codeOf(error) !== "EEXIST") throw fileErrorOf(error, "write", target);
    }
  }
}

/**
 * Writes a whole file atomically; a string as UTF-8.
 *
 * @throws FileError see `fileErrorOf`; the old file is intact then
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const file = await openAtomicFile(path);
  try {
    await file.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
    await file.commit();
  } finally {
    await file.abort();
  }
}

/**
 * Makes a folder atomically: `fill` writes into a folder aside, which then takes the name `path`.
 *
 * `path` must not exist or be an empty folder. What `fill` writes should itself be flushed (`writeFileAtomic` and
 * `openAtomicFile` do that).
 *
 * @throws FileError `CPM_FILE_EXISTS` where something is there already, or see `fileErrorOf`; errors of `fill` as they are
 */
export async function writeFolderAtomic(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const target = resolve(path);
  const existing = await readdir(target).catch((error) => {
    if (codeOf(error) === "ENOENT") return [];
    throw fileErrorOf(error, "write", target);
  });
  if (existing.length > 0) {
    throw new FileError("CPM_FILE_EXISTS", "the folder is not empty", {
      where: target,
      got: `${existing.length} entries`,
      hint: "Give a new folder.",
    });
  }
  const aside = asideName(target);
  try {
    await mkdir(dirname(target), { recursive: true });
    await rm(aside, { recursive: true, force: true });
    await mkdir(aside);
    await fill(aside);
    await syncFolder(aside);
    await rename(aside, target);
    await syncFolder(dirname(target));
  } catch (error) {
    await rm(aside, { recursive: true, force: true }).catch(() => {});
    throw fileErrorOf(error, "write", target);
  }
}

/** Flushes a folder's entries: a rename is on the disk only after this. Windows has no such call and needs none. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}

/**
 * A system error as a `FileError`: `CPM_FILE_NOT_FOUND`, `CPM_FILE_PERMISSION`, `CPM_FILE_NO_SPACE`, `CPM_FILE_KIND` (a
 * folder where a file was expected, or the reverse), else `CPM_FILE_READ` or `CPM_FILE_WRITE`. Our own errors, and those
 * that are no system errors, come back as they are.
 */
export function fileErrorOf(error: unknown, action: "read" | "write", path: string): unknown {
  const code = codeOf(error);
  if (error instanceof CpmError || error instanceof CancelledError || code === undefined) return error;
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  const details = { where: path, got: code, cause: error };
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return new FileError("CPM_FILE_NOT_FOUND", "there is no such file or folder", details);
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new FileError(
        "CPM_FILE_PERMISSION",
        `the file may not be ${action === "read" ? "read" : "written"}`,
        details,
      );
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return new FileError("CPM_FILE_NO_SPACE", "there is no room for the file", {
        ...details,
        hint: "Free some space or raise the limit; what was there before is unchanged.",
      });
    case "EISDIR":
    case "EEXIST":
    case "ENOTEMPTY":
      return new FileError("CPM_FILE_KIND", "something else is at this path", details);
    default:
      return new FileError(
        action === "read" ? "CPM_FILE_READ" : "CPM_FILE_WRITE",
        `the file could not be ${action === "read" ? "read" : "written"}`,
        details,
      );
  }
}
