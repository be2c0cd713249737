/**
 * A restricted unpickler: reads Python pickles as data and runs nothing.
 *
 * A pickle is a program for a small stack machine that may name any function of Python and call it. This one knows the
 * instructions that build plain values, and a fixed list of names given by its caller; every other instruction and
 * name is refused by its name. From the machine's description in CPython's `pickletools`; protocols 2 to 5.
 */
import { CheckpointError, type ErrorCode } from "../util/error.ts";

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleBytes
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PicklePersistent
  | PickleBuilt;

/** A view of the pickle's own bytes. */
export interface PickleBytes {
  readonly kind: "bytes";
  readonly bytes: Uint8Array;
}
export interface PickleTuple {
  readonly kind: "tuple";
  readonly items: readonly PickleValue[];
}
export interface PickleList {
  readonly kind: "list";
  readonly items: PickleValue[];
}
export interface PickleDict {
  readonly kind: "dict";
  readonly entries: Map<PickleValue, PickleValue>;
}
/** A name that stands for something, such as a storage type. */
export interface PickleGlobal {
  readonly kind: "global";
  /** `module name`. */
  readonly name: string;
}
/** What the pickle's owner keeps elsewhere, by its id. */
export interface PicklePersistent {
  readonly kind: "persistent";
  readonly id: PickleValue;
}
/** What an allowed call made. */
export interface PickleBuilt {
  readonly kind: "built";
  readonly value: unknown;
}

/** An allowed name: a constant, or something that may be called. `call` throws a `PickleArgumentError`. */
export interface AllowedGlobal {
  readonly call?: (args: readonly PickleValue[]) => PickleValue;
}

export interface PickleOptions {
  /** Allowed names as `module name`. */
  readonly globals: ReadonlyMap<string, AllowedGlobal>;
  /** Whether byte strings may occur; state dicts have none. */
  readonly bytes?: boolean | undefined;
  /** Gives a state to what an allowed call made. Throws a `PickleArgumentError`. Without it, only dicts may have one. */
  readonly build?: ((object: PickleBuilt, state: PickleValue) => void) | undefined;
  /** The file and entry, for errors. */
  readonly where: string;
}

/** Refuses the arguments of an allowed call. */
export class PickleArgumentError extends Error {}

/** A CPM-Ant of 48 layers needs some 12,000 instructions; each makes at most one value of some 300 bytes. */
const instructionLimit = 500_000;
const stackLimit = 100_000;

/** Instructions that are not carried out, by code, so that they can be refused by name. */
const refused: Readonly<Record<number, string>> = {
  50: "DUP",
  66: "BINBYTES",
  67: "SHORT_BINBYTES",
  70: "FLOAT",
  73: "INT",
  76: "LONG",
  80: "PERSID",
  83: "STRING",
  84: "BINSTRING",
  85: "SHORT_BINSTRING",
  86: "UNICODE",
  100: "DICT",
  103: "GET",
  105: "INST",
  108: "LIST",
  111: "OBJ",
  112: "PUT",
  129: "NEWOBJ",
  130: "EXT1",
  131: "EXT2",
  132: "EXT4",
  139: "LONG4",
  142: "BINBYTES8",
  143: "EMPTY_SET",
  144: "ADDITEMS",
  145: "FROZENSET",
  146: "NEWOBJ_EX",
  150: "BYTEARRAY8",
  151: "NEXT_BUFFER",
  152: "READONLY_BUFFER",
};

/**
 * The value that a pickle builds.
 *
 * @throws CheckpointError `CPM_PICKLE_GLOBAL` (a name that is not allowed), `CPM_PICKLE_OPCODE` (an instruction that is
 * not carried out), `CPM_PICKLE_CALL` (a call of what may not be called, or with other arguments),
 * `CPM_PICKLE_MALFORMED`, `CPM_PICKLE_LIMIT`
 */
export function unpickle(bytes: Uint8Array, options: PickleOptions): PickleValue {
  return new Machine(bytes, options).run();
}

/** The value of a pickle that others follow, and where it ends. Throws like `unpickle`. */
export function unpickleFirst(bytes: Uint8Array, options: PickleOptions): { value: PickleValue; end: number } {
  const machine = new Machine(bytes, options);
  return { value: machine.run(), end: machine.at };
}

class Machine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: PickleOptions;
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack at each open MARK. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #at = 0;

  constructor(bytes: Uint8Array, options: PickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
  }

  /** Bytes read so far. */
  get at(): number {
    return this.#at;
  }

  run(): PickleValue {
    for (let count = 0; count < instructionLimit; count++) {
      const start = this.#at;
      const opcode = this.#view.getUint8(this.#take(1));
      if (opcode === 0x2e) return this.#finish(); // STOP
      this.#step(opcode, start);
      if (this.#stack.length > stackLimit) throw this.#error("CPM_PICKLE_LIMIT", "the pickle's stack grows too high");
    }
    throw this.#error("CPM_PICKLE_LIMIT", `the pickle has more than ${instructionLimit} instructions`);
  }

  #finish(): PickleValue {
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) throw this.#malformed("values are left when it stops");
    return value;
  }

  #step(opcode: number, start: number): void {
    switch (opcode) {
      case 0x80: {
        // PROTO
        const version = this.#view.getUint8(this.#take(1));
        if (version < 2 || version > 5 || start !== 0) throw this.#malformed(`protocol ${version} at byte ${start}`);
        return;
      }
      case 0x95: // FRAME: a hint for streams; its length must be right all the same
        this.#requireRest(this.#length64());
        return;
      case 0x28: // MARK
        if (this.#marks.length >= stackLimit) throw this.#error("CPM_PICKLE_LIMIT", "the pickle has too many marks");
        this.#marks.push(this.#stack.length);
        return;
      case 0x30: // POP
        this.#pop();
        return;
      case 0x31: // POP_MARK
        this.#popToMark();
        return;
      case 0x4e: // NONE
        this.#stack.push(null);
        return;
      case 0x88: // NEWTRUE
        this.#stack.push(true);
        return;
      case 0x89: // NEWFALSE
        this.#stack.push(false);
        return;
      case 0x4a: // BININT
        this.#stack.push(this.#view.getInt32(this.#take(4), true));
        return;
      case 0x4b: // BININT1
        this.#stack.push(this.#view.getUint8(this.#take(1)));
        return;
      case 0x4d: // BININT2
        this.#stack.push(this.#view.getUint16(this.#take(2), true));
        return;
      case 0x8a: // LONG1
        this.#stack.push(this.#long());
        return;
      case 0x47: // BINFLOAT
        this.#stack.push(this.#view.getFloat64(this.#take(8), false));
        return;
      case 0x58: // BINUNICODE
        this.#stack.push(this.#text(this.#view.getUint32(this.#take(4), true)));
        return;
      case 0x8c: // SHORT_BINUNICODE
        this.#stack.push(this.#text(this.#view.getUint8(this.#take(1))));
        return;
      case 0x8d: // BINUNICODE8
        this.#stack.push(this.#text(this.#length64()));
        return;
      case 0x29: // EMPTY_TUPLE
        this.#stack.push({ kind: "tuple", items: [] });
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        this.#stack.push({ kind: "tuple", items: this.#popMany(opcode - 0x84) });
        return;
      case 0x74: // TUPLE
        this.#stack.push({ kind: "tuple", items: this.#popToMark() });
        return;
      case 0x5d: // EMPTY_LIST
        this.#stack.push({ kind: "list", items: [] });
        return;
      case 0x61: // APPEND
        this.#append(this.#popMany(1));
        return;
      case 0x65: // APPENDS
        this.#append(this.#popToMark());
        return;
      case 0x7d: // EMPTY_DICT
        this.#stack.push({ kind: "dict", entries: new Map() });
        return;
      case 0x73: // SETITEM
        this.#setItems(this.#popMany(2));
        return;
      case 0x75: // SETITEMS
        this.#setItems(this.#popToMark());
        return;
      case 0x71: // BINPUT
        this.#memo.set(this.#view.getUint8(this.#take(1)), this.#top());
        return;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top());
        return;
      case 0x94: // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        return;
      case 0x68: // BINGET
        this.#stack.push(this.#recall(this.#view.getUint8(this.#take(1))));
        return;
      case 0x6a: // LONG_BINGET
        this.#stack.push(this.#recall(this.#view.getUint32(this.#take(4), true)));
        return;
      case 0x51: // BINPERSID
        this.#stack.push({ kind: "persistent", id: this.#pop() });
        return;
      case 0x63: {
        // GLOBAL
        const module = this.#line();
        this.#stack.push(this.#global(module, this.#line(), start));
        return;
      }
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        if (typeof module !== "string" || typeof name !== "string") throw this.#malformed("a global without a name");
        this.#stack.push(this.#global(module, name, start));
        return;
      }
      case 0x52: // REDUCE
        this.#reduce(start);
        return;
      case 0x62: // BUILD
        this.#build(start);
        return;
      case 0x42: // BINBYTES
        if (!this.#options.bytes) break;
        this.#stack.push(this.#rawBytes(this.#view.getUint32(this.#take(4), true)));
        return;
      case 0x43: // SHORT_BINBYTES
        if (!this.#options.bytes) break;
        this.#stack.push(this.#rawBytes(this.#view.getUint8(this.#take(1))));
        return;
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        if (!this.#options.bytes) break;
        this.#stack.push(this.#rawBytes(this.#length64()));
        return;
    }
    const name = refused[opcode] ?? `0x${opcode.toString(16).padStart(2, "0")}`;
    throw this.#error("CPM_PICKLE_OPCODE", `the pickle has the instruction ${name}, which is not carried out`, start);
  }

  #rawBytes(length: number): PickleBytes {
    const start = this.#take(length);
    return { kind: "bytes", bytes: this.#bytes.subarray(start, start + length) };
  }

  #global(module: string, name: string, start: number): PickleGlobal {
    const full = `${module} ${name}`;
    if (this.#options.globals.has(full)) return { kind: "global", name: full };
    const shown = `${module}.${name}`.slice(0, 200);
    throw new CheckpointError(
      "CPM_PICKLE_GLOBAL",
      `the file names ${JSON.stringify(shown)}, which is not allowed there`,
      {
        where: `${this.#options.where}, byte ${start}`,
        expected: [...this.#options.globals.keys()].map((allowed) => allowed.replace(" ", ".")).join(", "),
        hint: "Nothing of the file was run. If you trust where it comes from, save its plain state dict again.",
      },
    );
  }

  #reduce(start: number): void {
    const [callee, args] = this.#popMany(2) as [PickleValue, PickleValue];
    if (typeof callee !== "object" || callee === null || callee.kind !== "global") {
      throw this.#error("CPM_PICKLE_CALL", "the pickle calls something that is no name", start);
    }
    const call = this.#options.globals.get(callee.name)?.call;
    if (call === undefined || typeof args !== "object" || args === null || args.kind !== "tuple") {
      throw this.#error(
        "CPM_PICKLE_CALL",
        `the pickle calls ${callee.name.replace(" ", ".")}, which is not callable`,
        start,
      );
    }
    this.#stack.push(this.#allowed(() => call(args.items), callee.name.replace(" ", "."), start));
  }

  /** State of a dict (PyTorch keeps the versions of modules there) changes none of its entries and is dropped. */
  #build(start: number): void {
    const state = this.#pop();
    const object = this.#top();
    if (typeof object === "object" && object !== null) {
      if (object.kind === "dict") return;
      if (object.kind === "built" && this.#options.build !== undefined) {
        const { build } = this.#options;
        this.#allowed(() => build(object, state), "a state", start);
        return;
      }
    }
    throw this.#error("CPM_PICKLE_CALL", "the pickle sets the state of something that is no dict", start);
  }

  /** Runs what was allowed; its refusal becomes an error of the pickle. */
  #allowed<T>(run: () => T, what: string, start: number): T {
    try {
      return run();
    } catch (cause) {
      if (!(cause instanceof PickleArgumentError)) throw cause;
      throw this.#error("CPM_PICKLE_CALL", `the pickle calls ${what} with other arguments: ${cause.message}`, start);
    }
  }

  #append(values: readonly PickleValue[]): void {
    const list = this.#top();
    if (typeof list !== "object" || list === null || list.kind !== "list") throw this.#malformed("append to no list");
    for (const value of values) list.items.push(value);
  }

  #setItems(values: readonly PickleValue[]): void {
    const dict = this.#top();
    if (typeof dict !== "object" || dict === null || dict.kind !== "dict") throw this.#malformed("items for no dict");
    if (values.length % 2 !== 0) throw this.#malformed("a key without a value");
    for (let i = 0; i < values.length; i += 2) dict.entries.set(values[i]!, values[i + 1]!);
  }

  #long(): number | bigint {
    const length = this.#view.getUint8(this.#take(1));
    if (length > 16) throw this.#error("CPM_PICKLE_LIMIT", "the pickle has an integer of more than 128 bits");
    const start = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[start + i]!);
    if (length > 0 && this.#bytes[start + length - 1]! >= 0x80) value -= 1n << BigInt(8 * length);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #text(length: number): string {
    const start = this.#take(length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        this.#bytes.subarray(start, start + length),
      );
    } catch {
      throw this.#malformed("a string that is not valid UTF-8");
    }
  }

  /** Text up to a line's end. */
  #line(): string {
    const start = this.#at;
    const end = this.#bytes.indexOf(0x0a, start);
    if (end < 0 || end - start > 1024) throw this.#malformed("a name that does not end");
    this.#at = end + 1;
    return new TextDecoder().decode(this.#bytes.subarray(start, end));
  }

  #length64(): number {
    const length = this.#view.getBigUint64(this.#take(8), true);
    if (length > BigInt(this.#bytes.length)) throw this.#malformed("a length beyond its end");
    return Number(length);
  }

  /** Moves past `length` bytes and returns where they start. */
  #take(length: number): number {
    this.#requireRest(length);
    this.#at += length;
    return this.#at - length;
  }

  #requireRest(length: number): void {
    if (length > this.#bytes.length - this.#at) throw this.#malformed("it ends in the middle");
  }

  #top(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.#malformed("it uses a value that is not there");
    return this.#stack.at(-1)!;
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue[] {
    if (this.#stack.length - (this.#marks.at(-1) ?? 0) < count)
      throw this.#malformed("it uses values that are not there");
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#malformed("it goes back to a mark that is not there");
    return this.#stack.splice(mark);
  }

  #recall(index: number): PickleValue {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#malformed(`it recalls ${index}, which it never kept`);
    return value;
  }

  #malformed(detail: string): CheckpointError {
    return this.#error("CPM_PICKLE_MALFORMED", `the pickle is damaged: ${detail}`);
  }

  #error(code: ErrorCode, what: string, at = this.#at): CheckpointError {
    return new CheckpointError(code, what, { where: `${this.#options.where}, byte ${at}` });
  }
}
