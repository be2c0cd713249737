/**
 * Host memory that C code may keep pointers to, and small C arrays in it.
 *
 * Every block is an `ArrayBuffer` of its own: V8 never moves a buffer's bytes (small typed arrays made without a buffer
 * may live on the moving heap, so none is used), and `transfer(0)` frees them at once while every stale view
 * shrinks to length 0 instead of dangling.
 */
import koffi from "koffi";

/** Cache lines, and the widest vector registers. */
export const alignmentBytes = 64;

/** Zeroed memory whose first byte (`byteOffset` in `buffer`) lies at `address`, a multiple of 64. */
export interface HostBlock {
  readonly buffer: ArrayBuffer;
  readonly byteOffset: number;
  readonly address: number;
}

export function allocateHost(byteLength: number): HostBlock {
  const buffer = new ArrayBuffer(byteLength + alignmentBytes);
  const start = addressOf(buffer);
  const byteOffset = (alignmentBytes - (start % alignmentBytes)) % alignmentBytes;
  if (byteLength >= 2 * hugePageBytes) adviseHugePages(start, byteLength);
  return { buffer, byteOffset, address: start + byteOffset };
}

const hugePageBytes = 2 * 2 ** 20;

let advise: ((address: number, bytes: number, advice: number) => number) | undefined | null;

/**
 * Asks Linux for pages of 2 MiB, which many systems give only on request: fewer faults when memory is first touched, and
 * products and updates over large arrays stop missing the translation cache. A refusal changes nothing.
 */
function adviseHugePages(address: number, byteLength: number): void {
  if (advise === undefined) {
    try {
      advise = koffi.load(null).func("madvise", "int", ["uintptr_t", "size_t", "int"]);
    } catch {
      advise = null; // not a system with madvise
    }
  }
  const first = Math.ceil(address / hugePageBytes) * hugePageBytes;
  const last = Math.floor((address + byteLength) / hugePageBytes) * hugePageBytes;
  if (process.platform === "linux") advise?.(first, last - first, 14); // MADV_HUGEPAGE
}

/** Where a buffer's first byte lies. */
export function addressOf(buffer: ArrayBuffer | Uint8Array): number {
  return Number(koffi.address(buffer));
}

/** A C array; the memory lives as long as this object is referenced. */
export interface CArray {
  readonly address: number;
  readonly keep: readonly ArrayBuffer[];
}

/** An array of pointers, or of other 64-bit numbers. */
export function pointers(values: readonly number[]): CArray {
  const buffer = new ArrayBuffer(Math.max(8, values.length * 8));
  new BigUint64Array(buffer, 0, values.length).set(values.map((value) => BigInt(value)));
  return { address: addressOf(buffer), keep: [buffer] };
}

/** An array of pointers to NUL-terminated UTF-8 strings. */
export function strings(values: readonly string[]): CArray {
  const encoded = values.map((value) => new TextEncoder().encode(`${value}\0`));
  const text = new ArrayBuffer(encoded.reduce((sum, bytes) => sum + bytes.length, 8));
  const start = addressOf(text);
  const starts: number[] = [];
  let at = 0;
  for (const bytes of encoded) {
    starts.push(start + at);
    new Uint8Array(text, at, bytes.length).set(bytes);
    at += bytes.length;
  }
  const array = pointers(starts);
  return { address: array.address, keep: [...array.keep, text] };
}

/** One 64-bit result slot, for C functions that write through a pointer. */
export interface OutSlot {
  readonly address: number;
  /** What was written, as a number. */
  read(): number;
}

export function outSlot(): OutSlot {
  const slot = new BigUint64Array(new ArrayBuffer(8));
  const address = addressOf(slot.buffer);
  return { address, read: () => Number(slot[0]) };
}

let memcpy: ((target: number, source: number, bytes: number) => void) | undefined;

/** Copies bytes between addresses. Both ranges must be valid and must not overlap. */
export function copyNative(target: number, source: number, byteLength: number): void {
  memcpy ??= koffi
    .load(process.platform === "win32" ? "msvcrt.dll" : null)
    .func("memcpy", "void", ["uintptr_t", "uintptr_t", "size_t"]);
  memcpy(target, source, byteLength);
}
