/**
 * Writes what PyTorch, ZIP tools and attackers write: state dicts, stored or deflated archives, 64-bit archives, pickles
 * instruction by instruction. For tests only; nothing here checks anything.
 */
import { crc32, deflateRawSync } from "node:zlib";

export interface ZipInput {
  readonly name: string;
  readonly data: Uint8Array;
  /** Writes the sizes and the offset as 64-bit numbers. */
  readonly wide?: boolean;
  readonly deflate?: boolean;
  /** Announces another size than the data has. */
  readonly announcedBytes?: number;
  readonly crc?: number;
  readonly flags?: number;
  /** Lets the directory point to an earlier entry's header. */
  readonly offset?: number;
}

class Bytes {
  #parts: Uint8Array[] = [];
  size = 0;
  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.size += bytes.length;
    return this;
  }
  uint(value: number | bigint, width: 2 | 4 | 8): this {
    const bytes = new Uint8Array(width);
    let rest = BigInt(value);
    for (let i = 0; i < width; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
    return this.raw(bytes);
  }
  join(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.size);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}

/** An archive with these entries in this order; `wideEnd` adds the 64-bit end record. */
export function zip(entries: readonly ZipInput[], options: { wideEnd?: boolean } = {}): Uint8Array<ArrayBuffer> {
  const out = new Bytes();
  const directory = new Bytes();
  for (const entry of entries) {
    const name = new TextEncoder().encode(entry.name);
    const stored = entry.deflate ? new Uint8Array(deflateRawSync(entry.data)) : entry.data;
    const sizeBytes = entry.announcedBytes ?? entry.data.length;
    const storedBytes = entry.deflate ? stored.length : sizeBytes;
    const crc = entry.crc ?? crc32(entry.data);
    const method = entry.deflate ? 8 : 0;
    const flags = entry.flags ?? 0;
    const offset = entry.offset ?? out.size;
    const short = (value: number) => (entry.wide ? 0xffffffff : value);
    const head = (bytes: Bytes) =>
      bytes
        .uint(20, 2)
        .uint(flags, 2)
        .uint(method, 2)
        .uint(0, 4)
        .uint(crc, 4)
        .uint(short(storedBytes), 4)
        .uint(short(sizeBytes), 4)
        .uint(name.length, 2);
    const localExtra = new Bytes();
    const extra = new Bytes();
    if (entry.wide) {
      localExtra.uint(1, 2).uint(16, 2).uint(sizeBytes, 8).uint(storedBytes, 8);
      extra.uint(1, 2).uint(24, 2).uint(sizeBytes, 8).uint(storedBytes, 8).uint(offset, 8);
    }
    head(out.uint(0x04034b50, 4)).uint(localExtra.size, 2).raw(name).raw(localExtra.join()).raw(stored);
    head(directory.uint(0x02014b50, 4).uint(45, 2)).uint(extra.size, 2);
    directory.uint(0, 2).uint(0, 2).uint(0, 2).uint(0, 4).uint(short(offset), 4).raw(name).raw(extra.join());
  }
  const start = out.size;
  out.raw(directory.join());
  if (options.wideEnd) {
    const record = out.size;
    out.uint(0x06064b50, 4).uint(44, 8).uint(45, 2).uint(45, 2).uint(0, 4).uint(0, 4);
    out.uint(entries.length, 8).uint(entries.length, 8).uint(directory.size, 8).uint(start, 8);
    out.uint(0x07064b50, 4).uint(0, 4).uint(record, 8).uint(1, 4);
  }
  const count = options.wideEnd ? 0xffff : entries.length;
  out.uint(0x06054b50, 4).uint(0, 2).uint(0, 2).uint(count, 2).uint(count, 2);
  out
    .uint(options.wideEnd ? 0xffffffff : directory.size, 4)
    .uint(options.wideEnd ? 0xffffffff : start, 4)
    .uint(0, 2);
  return out.join();
}

/** Bytes of pickle instructions; text goes in as ASCII, as the older instructions have it. */
export function pickle(...parts: readonly (number | string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const out = new Bytes();
  for (const part of parts) {
    if (typeof part === "number") out.raw(Uint8Array.of(part));
    else out.raw(typeof part === "string" ? new TextEncoder().encode(part) : part);
  }
  return out.join();
}

/** Pickle instructions for plain values. */
export const op = {
  proto: pickle(0x80, 2),
  stop: pickle("."),
  text(value: string): Uint8Array {
    const bytes = new TextEncoder().encode(value);
    return new Bytes().raw(pickle("X")).uint(bytes.length, 4).raw(bytes).join();
  },
  int(value: number): Uint8Array {
    if (value >= 0 && value < 256) return pickle("K", value);
    if (value >= -(2 ** 31) && value < 2 ** 31)
      return new Bytes()
        .raw(pickle("J"))
        .uint(value >>> 0, 4)
        .join();
    return new Bytes()
      .raw(pickle(0x8a, 8))
      .uint(BigInt.asUintN(64, BigInt(value)), 8)
      .join();
  },
  global: (module: string, name: string) => pickle("c", module, "\n", name, "\n"),
  tuple: (...items: Uint8Array[]) => pickle("(", ...items, "t"),
  /** Calls a global. */
  call: (callee: Uint8Array, ...args: Uint8Array[]) => pickle(callee, "(", ...args, "tR"),
  dict: (...items: Uint8Array[]) => pickle("}", "(", ...items, "u"),
};

export interface TorchInput {
  readonly name: string;
  /** The storage's bytes. */
  readonly data: Uint8Array;
  readonly storage: string;
  readonly width: number;
  readonly shape: readonly number[];
  readonly stride?: readonly number[];
  readonly offset?: number;
  /** Shares the storage of an earlier tensor by its index. */
  readonly key?: string;
  /** What the pickle says of the storage's elements. */
  readonly announced?: number;
}

/** A row-major tensor of 32-bit floats. */
export function floatTensor(name: string, shape: readonly number[], values: ArrayLike<number>): TorchInput {
  return { name, data: new Uint8Array(Float32Array.from(values).buffer), storage: "FloatStorage", width: 4, shape };
}

/** The pickle instructions that rebuild one tensor. */
export function rebuild(tensor: TorchInput, key: string): Uint8Array {
  const { storage, width, shape, offset = 0, data } = tensor;
  const stride = tensor.stride ?? shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const count = tensor.announced ?? data.length / width;
  const id = op.tuple(op.text("storage"), op.global("torch", storage), op.text(key), op.text("cpu"), op.int(count));
  return op.call(
    op.global("torch._utils", "_rebuild_tensor_v2"),
    pickle(id, "Q"),
    op.int(offset),
    op.tuple(...shape.map(op.int)),
    op.tuple(...stride.map(op.int)),
    pickle(0x89),
    op.call(op.global("collections", "OrderedDict")),
  );
}

export interface TorchOptions {
  readonly prefix?: string;
  readonly wide?: boolean;
  readonly byteOrder?: string;
  /** Replaces data.pkl. */
  readonly pickle?: Uint8Array;
  readonly more?: readonly ZipInput[];
  /** Puts the state dict under this key, beside an epoch. */
  readonly wrapper?: string;
}

/** A state dict as `torch.save` writes one. */
export function torchFile(tensors: readonly TorchInput[], options: TorchOptions = {}): Uint8Array<ArrayBuffer> {
  const { prefix = "archive", wide = false } = options;
  const keyOf = (tensor: TorchInput, index: number) => tensor.key ?? String(index);
  const state = op.dict(...tensors.flatMap((tensor, i) => [op.text(tensor.name), rebuild(tensor, keyOf(tensor, i))]));
  const root =
    options.wrapper === undefined ? state : op.dict(op.text(options.wrapper), state, op.text("epoch"), op.int(3));
  const entries: ZipInput[] = [
    { name: `${prefix}/data.pkl`, data: options.pickle ?? pickle(op.proto, root, op.stop), wide },
    { name: `${prefix}/byteorder`, data: new TextEncoder().encode(options.byteOrder ?? "little"), wide },
  ];
  for (const [i, tensor] of tensors.entries()) {
    if (tensor.key === undefined) entries.push({ name: `${prefix}/data/${i}`, data: tensor.data, wide });
  }
  entries.push({ name: `${prefix}/version`, data: new TextEncoder().encode("3\n"), wide }, ...(options.more ?? []));
  return zip(entries, { wideEnd: wide });
}
