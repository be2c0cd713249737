/**
 * Small WebAssembly modules written as expressions: loops over numbers in the processor's vectors of 128 bits, which
 * JavaScript itself cannot have.
 *
 * An expression is its bytes; an instruction is a function from its operands' bytes to its own. Nothing is checked here: the
 * engine validates types when the module is made. Instructions are those of the core specification 2.0 with fixed-width vectors;
 * only what is used is there.
 */

export type Code = readonly number[];
export type ValueType = "i32" | "f64" | "v128";

/** A function's local, its parameters first. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
  /** set, and the value stays. */
  tee(value: Code): Code;
}

const typeCodes: Readonly<Record<ValueType, number>> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };
const noResult = 0x40;

/** LEB128 without a sign. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value > 0);
  return bytes;
}

/** LEB128 with a sign. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const isLast = (value === 0 && low < 0x40) || (value === -1 && low >= 0x40);
    bytes.push(isLast ? low : low | 0x80);
    if (isLast) return bytes;
  }
}

type Instruction = (...operands: readonly Code[]) => Code;

function plain(opcode: number): Instruction {
  return (...operands) => [...operands.flat(), opcode];
}

function vector(opcode: number): Instruction {
  return (...operands) => [...operands.flat(), 0xfd, ...unsigned(opcode)];
}

/** Loads and stores: the address first. `alignment` is a hint, the logarithm of bytes. */
function memory(opcode: number, alignment: number, prefix: readonly number[] = []) {
  const code = prefix.length > 0 ? unsigned(opcode) : [opcode];
  return (operands: readonly Code[], offset = 0): Code => [
    ...operands.flat(),
    ...prefix,
    ...code,
    alignment,
    ...unsigned(offset),
  ];
}

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: plain(0x6a),
  and: plain(0x71),
  shl: plain(0x74),
  ltU: plain(0x49),
  store: memory(0x36, 2),
} as const;

export const f64 = {
  const: (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer)],
  add: plain(0xa0),
  mul: plain(0xa2),
  ge: plain(0x66),
  max: plain(0xa5),
  /** Of an int32. */
  convert: plain(0xb7),
  /** Of a float32. */
  promote: plain(0xbb),
  store: memory(0x39, 3),
} as const;

export const v128 = {
  load: memory(0x00, 4, [0xfd]),
  /** Four bytes in all four lanes. */
  load32Splat: memory(0x09, 2, [0xfd]),
  store: memory(0x0b, 4, [0xfd]),
  /** a and not b. */
  andNot: vector(0x4f),
  xor: vector(0x51),
  /** The upper half in both halves. */
  upper: (value: Code): Code => [
    ...value.concat(value),
    ...[0xfd, 0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15],
  ],
} as const;

export const f32 = {
  load: memory(0x2a, 2),
  store: memory(0x38, 2),
  /** Of a float64. */
  demote: plain(0xb6),
} as const;

export const f32x4 = {
  splat: vector(0x13),
  lane: (lane: 0 | 1 | 2 | 3, value: Code): Code => [...value, 0xfd, 0x1f, lane],
  add: vector(0xe4),
  sub: vector(0xe5),
  mul: vector(0xe6),
  /** The second where it is less than the first, else the first: NaN there goes through. */
  pmin: vector(0xea),
  /** The second where it is more than the first, else the first: NaN in the second is passed over. */
  pmax: vector(0xeb),
  ge: vector(0x46),
  nearest: vector(0x6a),
  /** Of four int32. */
  convert: vector(0xfa),
} as const;

export const f64x2 = {
  lane: (lane: 0 | 1, value: Code): Code => [...value, 0xfd, 0x21, lane],
  add: vector(0xf0),
  /** The lower two of four float32. */
  promoteLow: vector(0x5f),
} as const;

export const i32x4 = {
  splat: vector(0x11),
  shl: vector(0xab),
  shrU: vector(0xad),
  add: vector(0xae),
  mul: vector(0xb5),
  minU: vector(0xb7),
  lane: (lane: 0 | 1 | 2 | 3, value: Code): Code => [...value, 0xfd, 0x1b, lane],
  /** The lower and the upper half of eight int16. */
  extendLow: vector(0xa7),
  extendHigh: vector(0xa8),
  /** Eight int16 times eight, neighbours added. */
  dot: vector(0xba),
} as const;

export const i16x8 = {
  /** The lower and the upper half of sixteen int8. */
  extendLow: vector(0x87),
  extendHigh: vector(0x88),
} as const;

/** Runs the body while the condition holds. */
export function whileLoop(condition: Code, body: readonly Code[]): Code {
  // block { loop { leave if not condition; body; again } }
  return [0x02, noResult, 0x03, noResult, ...condition, 0x45, 0x0d, 1, ...body.flat(), 0x0c, 0, 0x0b, 0x0b];
}

export interface WasmFunction {
  readonly parameters: readonly ValueType[];
  readonly result: ValueType;
  /** Gives the function's code, the result last. `local` makes a local beside the parameters, zero at first. */
  readonly body: (parameters: readonly Local[], local: (type: ValueType) => Local) => readonly Code[];
}

/** What the engine makes of a module: the standard's names, of which only these are used. */
declare const WebAssembly: {
  readonly Memory: new (limits: { readonly initial: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

export interface WasmMemory {
  /** Another one after each `grow`. */
  readonly buffer: ArrayBuffer;
  /** By so many pages of 64 KiB. */
  grow(pages: number): number;
}

export function createWasmMemory(pages: number): WasmMemory {
  return new WebAssembly.Memory({ initial: pages });
}

/** Compiles functions over a memory. */
export function compileWasm<Name extends string>(
  memory: WasmMemory,
  functions: Readonly<Record<Name, WasmFunction>>,
): Readonly<Record<Name, (...given: number[]) => number>> {
  const entries = Object.entries<WasmFunction>(functions);
  const section = (id: number, items: readonly (readonly number[])[]) => {
    const bytes = [...unsigned(items.length), ...items.flat()];
    return [id, ...unsigned(bytes.length), ...bytes];
  };
  const name = (text: string) => [text.length, ...Buffer.from(text)];
  const types = entries.map(([, { parameters, result }]) => {
    return [0x60, parameters.length, ...parameters.map((type) => typeCodes[type]), 1, typeCodes[result]];
  });
  const bodies = entries.map(([, { parameters, body }]) => {
    const locals: ValueType[] = [];
    const at = (index: number): Local => ({
      get: [0x20, ...unsigned(index)],
      set: (value) => [...value, 0x21, ...unsigned(index)],
      tee: (value) => [...value, 0x22, ...unsigned(index)],
    });
    const code = body(
      parameters.map((_, index) => at(index)),
      (type) => at(parameters.length + locals.push(type) - 1),
    ).flat();
    const declared = [...unsigned(locals.length), ...locals.flatMap((type) => [1, typeCodes[type]])];
    const bytes = [...declared, ...code, 0x0b];
    return [...unsigned(bytes.length), ...bytes];
  });
  const bytes = Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(2, [[...name("host"), ...name("memory"), 2, 0, 1]]),
    ...section(
      3,
      entries.map((_, index) => unsigned(index)),
    ),
    ...section(
      7,
      entries.map(([key], index) => [...name(key), 0, ...unsigned(index)]),
    ),
    ...section(10, bodies),
  ]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { host: { memory } });
  return instance.exports as Readonly<Record<Name, (...given: number[]) => number>>;
}
