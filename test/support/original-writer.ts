/**
 * Writes the binary data sets of CPM-Live, version 1 and 2, with pickles as Python 3 makes them of NumPy arrays, lists of
 * integers and version 1's entries. For tests only; nothing here checks anything.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const text = (value: string) => Buffer.concat([Buffer.from([0x8c, Buffer.byteLength(value)]), Buffer.from(value)]);
const integer = (value: number) => {
  const bytes = Buffer.alloc(5);
  bytes[0] = 0x4a;
  bytes.writeInt32LE(value, 1);
  return bytes;
};
const ops = (...parts: readonly (number | Buffer)[]) =>
  Buffer.concat(parts.map((part) => (typeof part === "number" ? Buffer.from([part]) : part)));
const stackGlobal = (module: string, name: string) => ops(text(module), 0x94, text(name), 0x94, 0x93, 0x94);

export type ArrayType = "u1" | "i2" | "u2" | "i4" | "i8";

export interface PickledArray {
  readonly type?: ArrayType;
  /** ">" for a foreign one. */
  readonly order?: string;
  readonly shape?: readonly number[];
  readonly module?: string;
  /** Protocol 5: the array out of a buffer. */
  readonly fromBuffer?: boolean;
  /** Another class than `ndarray`'s helpers: an attack. */
  readonly reconstruct?: readonly [string, string];
  readonly bytes?: Buffer;
}

/** An array as `pickle.dumps` writes it: protocol 4, or 5 with a buffer in place. */
export function pickledArray(ids: readonly number[], options: PickledArray = {}): Buffer {
  const { type = "i4", order = type === "u1" ? "|" : "<", shape = [ids.length], module = "numpy.core" } = options;
  const size = Number(type[1]);
  const raw = Buffer.alloc(ids.length * size);
  for (const [i, id] of ids.entries()) {
    if (size === 8) raw.writeBigInt64LE(BigInt(id), 8 * i);
    else if (type.startsWith("u")) raw.writeUIntLE(id, size * i, size);
    else raw.writeIntLE(id, size * i, size);
  }
  const bytes = options.bytes ?? raw;
  const sizes = shape.length === 1 ? ops(integer(shape[0]!), 0x85) : ops(0x28, ...shape.map(integer), 0x74);
  const dtype = ops(
    ...[stackGlobal("numpy", "dtype"), text(type), 0x94, 0x89, 0x88, 0x87, 0x94, 0x52, 0x94],
    ...[0x28, integer(3), text(order), 0x94, 0x4e, 0x4e, 0x4e, integer(-1), integer(-1), integer(0), 0x74, 0x94, 0x62],
  );
  if (options.fromBuffer) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    return ops(
      ...[0x80, 5, stackGlobal(`${module}.numeric`, "_frombuffer"), 0x28, 0x96, length, bytes, 0x94],
      ...[dtype, sizes, 0x94, text("C"), 0x94, 0x74, 0x94, 0x52, 0x94, 0x2e],
    );
  }
  const [from, name] = options.reconstruct ?? [`${module}.multiarray`, "_reconstruct"];
  return ops(
    ...[0x80, 4, stackGlobal(from, name), stackGlobal("numpy", "ndarray"), integer(0), 0x85, 0x94],
    ...[0x43, 1, Buffer.from("b"), 0x94, 0x87, 0x94, 0x52, 0x94],
    ...[0x28, integer(1), sizes, 0x94, dtype, 0x89, 0x42, u32(bytes.length), bytes, 0x94, 0x74, 0x94, 0x62, 0x2e],
  );
}

/** A Python list of integers. */
export function pickledList(ids: readonly number[]): Buffer {
  return ops(0x80, 4, 0x5d, 0x94, 0x28, ...ids.map(integer), 0x65, 0x2e);
}

export interface WrittenFile {
  readonly name: string;
  /** What stands after 0x1F: version 1's pickles, version 2's payloads. */
  readonly records: readonly Buffer[];
  readonly mask?: boolean;
  /** Bytes of the file instead of those of the records. */
  readonly bytes?: Buffer;
  readonly absent?: boolean;
}

/** Writes a folder with blocks of so many bytes, and returns it. */
export function writeOriginal(folder: string, version: 1 | 2, files: readonly WrittenFile[], blockBytes = 512): string {
  mkdirSync(folder, { recursive: true });
  let block = 0;
  const entries = files.map(({ name, records, mask = false, bytes, absent }) => {
    const blocks: Buffer[] = [];
    let parts: Buffer[] = [];
    let size = 0;
    const end = () => {
      blocks.push(Buffer.concat([...parts, Buffer.alloc(blockBytes - size)]));
      parts = [];
      size = 0;
    };
    for (const record of records) {
      const whole = version === 1 ? ops(0x1f, record) : ops(0x1f, u32(record.length), record);
      if (size + whole.length + 1 > blockBytes) end();
      parts.push(whole);
      size += whole.length;
    }
    end();
    const content = bytes ?? Buffer.concat(blocks);
    if (!absent) writeFileSync(join(folder, name), content);
    const count = Math.max(1, Math.round(content.length / blockBytes));
    const entry = [name, block, block + count, content.length, records.length, mask] as const;
    block += count;
    return entry;
  });
  writeFileSync(join(folder, "meta.bin"), version === 1 ? pickledEntries(entries) : jsonEntries(entries, blockBytes));
  return folder;
}

type Entry = readonly [string, number, number, number, number, boolean];

/** Version 1's list: each entry is made again by a class method, looked up by `getattr`. */
export function pickledEntries(entries: readonly Entry[], method = "_load_from_state"): Buffer {
  const made = entries.map(([name, begin, end, bytes, lines, mask]) =>
    ops(
      ...[stackGlobal("builtins", "getattr"), stackGlobal("cpm_live.dataset.distributed_dataset", "FileInfo")],
      ...[text(method), 0x94, 0x86, 0x94, 0x52, 0x94, integer(1), 0x28, text(name), 0x94],
      ...[integer(begin), integer(end), integer(bytes), integer(lines), mask ? 0x88 : 0x89, 0x74, 0x94],
      ...[0x86, 0x94, 0x52, 0x94],
    ),
  );
  return ops(0x80, 4, 0x5d, 0x94, 0x28, ...made, 0x65, 0x2e);
}

function jsonEntries(entries: readonly Entry[], blockBytes: number): string {
  const keys = ["file_name", "block_begin", "block_end", "nbytes", "nlines", "mask"] as const;
  return entries
    .map(
      (entry) =>
        `${JSON.stringify({ ...Object.fromEntries(keys.map((key, i) => [key, entry[i]])), block_size: blockBytes })}\n`,
    )
    .join("");
}
