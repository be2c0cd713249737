/**
 * Read-only memory over a part of a file: pages are read when they are touched, and belong to the system's file cache.
 *
 * POSIX `mmap` through the C library. Where that cannot serve (Windows, or data that does not begin at an element), the
 * part is read into memory instead. A file that someone truncates while it is mapped kills a process that touches
 * the lost pages, as with every mapping: replace files by renaming, never by writing over them.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import koffi from "koffi";
import { FileError } from "../../util/error.ts";
import { byteLength, type DType } from "../dtype.ts";
import { allocateTensor, checkShape, elementBytes, type Ledger, NativeTensor } from "./tensor.ts";

/** A tensor over `byteOffset…` of a file. Errors: CPM_RUNTIME_MAP for a missing file or a range outside of it. */
export function mapTensor(
  ledger: Ledger,
  path: string,
  byteOffset: number,
  dtype: DType,
  shape: readonly number[],
): NativeTensor {
  checkShape(dtype, shape);
  const bytes = byteLength(dtype, shape);
  const file = openFile(path);
  try {
    const { size } = fstatSync(file);
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + bytes > size) {
      throw new FileError("CPM_RUNTIME_MAP", "A mapped tensor reaches outside of its file.", {
        where: path,
        got: `bytes ${byteOffset} to ${byteOffset + bytes} for ${dtype}[${shape.join(", ")}]`,
        expected: `within the file's ${size} bytes`,
      });
    }
    if (bytes > 0 && byteOffset % elementBytes(dtype) === 0 && process.platform !== "win32") {
      return mapped(ledger, file, path, byteOffset, dtype, shape, bytes);
    }
    return copied(ledger, file, path, byteOffset, dtype, shape);
  } finally {
    closeSync(file); // a mapping outlives its file descriptor
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new FileError("CPM_RUNTIME_MAP", "A file cannot be opened.", {
      where: path,
      got: cause instanceof Error ? cause.message : String(cause),
      cause,
    });
  }
}

function mapped(
  ledger: Ledger,
  file: number,
  path: string,
  byteOffset: number,
  dtype: DType,
  shape: readonly number[],
  bytes: number,
): NativeTensor {
  const { mmap, munmap, pageBytes } = libc();
  const pageStart = byteOffset - (byteOffset % pageBytes);
  const length = byteOffset - pageStart + bytes;
  const protRead = 1;
  const mapShared = 1;
  const start = mmap(0, length, protRead, mapShared, file, pageStart);
  if (typeof start !== "number") {
    // MAP_FAILED is the highest address, which is no safe integer.
    throw new FileError("CPM_RUNTIME_MAP", "A file cannot be mapped.", {
      where: path,
      got: `errno ${koffi.errno()} for ${length} bytes from byte ${pageStart} on`,
    });
  }
  const memory = {
    address: start + (byteOffset - pageStart),
    byteLength: bytes,
    readOnly: true,
    free: () => {
      munmap(start, length);
    },
    tensors: 0,
  };
  try {
    return new NativeTensor(ledger, memory, 0, dtype, shape);
  } catch (error) {
    memory.free();
    throw error;
  }
}

function copied(
  ledger: Ledger,
  file: number,
  path: string,
  byteOffset: number,
  dtype: DType,
  shape: readonly number[],
): NativeTensor {
  const tensor = allocateTensor(ledger, dtype, shape);
  const bytes = tensor.bytes();
  let done = 0;
  while (done < bytes.length) {
    const count = readSync(file, bytes, done, Math.min(bytes.length - done, 2 ** 30), byteOffset + done);
    if (count === 0) {
      tensor.dispose();
      throw new FileError("CPM_RUNTIME_MAP", "A file ended while it was read.", { where: path });
    }
    done += count;
  }
  return tensor;
}

interface Libc {
  readonly mmap: (
    address: number,
    bytes: number,
    protection: number,
    flags: number,
    file: number,
    offset: number,
  ) => number | bigint;
  readonly munmap: (address: number, bytes: number) => number;
  readonly pageBytes: number;
}

let loadedLibc: Libc | undefined;

function libc(): Libc {
  if (loadedLibc !== undefined) return loadedLibc;
  const library = koffi.load(null);
  loadedLibc = {
    mmap: library.func("mmap", "uintptr_t", ["uintptr_t", "size_t", "int", "int", "int", "int64_t"]),
    munmap: library.func("munmap", "int", ["uintptr_t", "size_t"]),
    pageBytes: library.func("getpagesize", "int", [])(),
  };
  return loadedLibc;
}
