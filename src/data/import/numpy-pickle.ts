/**
 * What the pickles of CPM-Live's data sets hold: records as NumPy arrays or lists of integers, and version 1's list of
 * files. Read by the machine that runs nothing (`checkpoint/pickle.ts`) with a list of names of their own; an array is
 * taken only as it lies there: one dimension, whole numbers of at most 8 bytes, little-endian.
 */
import {
  type AllowedGlobal,
  PickleArgumentError,
  type PickleBuilt,
  type PickleValue,
  unpickle,
  unpickleFirst,
} from "../../checkpoint/pickle.ts";

/** Bytes of an element and whether it has a sign, by NumPy's letters. */
const elementTypes: Readonly<Record<string, readonly [bytes: 1 | 2 | 4 | 8, signed: boolean]>> = {
  i1: [1, true],
  i2: [2, true],
  i4: [4, true],
  i8: [8, true],
  u1: [1, false],
  u2: [2, false],
  u4: [4, false],
  u8: [8, false],
};

class DType {
  readonly name: string;
  littleEndian = true;
  constructor(name: string) {
    this.name = name;
  }
}

class Ndarray {
  ids: Int32Array | undefined;
}

class FileEntry {
  readonly fields: readonly PickleValue[];
  constructor(fields: readonly PickleValue[]) {
    this.fields = fields;
  }
}

const built = (value: unknown): PickleBuilt => ({ kind: "built", value });
const refuse = (what: string): never => {
  throw new PickleArgumentError(what);
};
const kindOf = (value: PickleValue | undefined) =>
  typeof value === "object" && value !== null ? value.kind : undefined;
const builtOf = (value: PickleValue | undefined): unknown =>
  typeof value === "object" && value !== null && value.kind === "built" ? value.value : undefined;
const itemsOf = (value: PickleValue | undefined): readonly PickleValue[] | undefined =>
  typeof value === "object" && value !== null && (value.kind === "tuple" || value.kind === "list")
    ? value.items
    : undefined;

/** An empty array, which gets its content as a state. */
const reconstruct: AllowedGlobal = {
  call([type]) {
    if (kindOf(type) !== "global") refuse("not an array");
    return built(new Ndarray());
  },
};
/** An array out of a buffer: protocol 5. */
const fromBuffer: AllowedGlobal = {
  call([buffer, type, shape, order]) {
    const array = new Ndarray();
    if (order !== "C") refuse("its order is not C");
    array.ids = elements(buffer, type, shape);
    return built(array);
  },
};
const dtype: AllowedGlobal = {
  call([name]) {
    if (typeof name !== "string" || !Object.hasOwn(elementTypes, name)) refuse("elements that are no whole numbers");
    return built(new DType(name as string));
  },
};

const arrayGlobals: ReadonlyMap<string, AllowedGlobal> = new Map([
  ["numpy.core.multiarray _reconstruct", reconstruct],
  ["numpy._core.multiarray _reconstruct", reconstruct],
  ["numpy.core.numeric _frombuffer", fromBuffer],
  ["numpy._core.numeric _frombuffer", fromBuffer],
  ["numpy ndarray", {}],
  ["numpy dtype", dtype],
]);

function setState(object: PickleBuilt, state: PickleValue): void {
  const items = itemsOf(state);
  if (object.value instanceof DType) {
    const order = items?.[1];
    if (order !== "<" && order !== "|") refuse("elements that are not little-endian");
  } else if (object.value instanceof Ndarray) {
    const [, shape, type, fortran, bytes] = items ?? [];
    if (items?.length !== 5 || typeof fortran !== "boolean") refuse("not an array's state");
    object.value.ids = elements(bytes, type, shape);
  } else refuse("a state of something else");
}

function elements(bytes: PickleValue | undefined, type: PickleValue | undefined, shape: PickleValue | undefined) {
  const element = builtOf(type);
  const sizes = itemsOf(shape);
  if (!(element instanceof DType)) return refuse("no type of elements");
  if (sizes?.length !== 1 || typeof sizes[0] !== "number") return refuse("not one dimension");
  if (typeof bytes !== "object" || bytes === null || bytes.kind !== "bytes") return refuse("no bytes");
  const [size, signed] = elementTypes[element.name]!;
  const count = sizes[0];
  const source = bytes.bytes;
  if (source.length !== count * size) return refuse(`${source.length} bytes for ${count} elements of ${size}`);
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  const ids = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const value = numberAt(view, i * size, size, signed);
    ids[i] = value;
    if (ids[i] !== value) return refuse(`the number ${value}`);
  }
  return ids;
}

function numberAt(view: DataView, at: number, size: 1 | 2 | 4 | 8, signed: boolean): number {
  switch (size) {
    case 1:
      return signed ? view.getInt8(at) : view.getUint8(at);
    case 2:
      return signed ? view.getInt16(at, true) : view.getUint16(at, true);
    case 4:
      return signed ? view.getInt32(at, true) : view.getUint32(at, true);
    default:
      return Number(signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true));
  }
}

/** Whole numbers of 32 bits as an array; undefined where there is anything else among them. */
export function integersOf(values: readonly unknown[]): Int32Array | undefined {
  const ids = new Int32Array(values.length);
  for (const [i, value] of values.entries()) {
    if (typeof value !== "number") return undefined;
    ids[i] = value;
    if (ids[i] !== value) return undefined;
  }
  return ids;
}

/**
 * The integers of the pickle at the beginning of `bytes`, and where it ends.
 *
 * @throws CheckpointError CPM_PICKLE_…
 */
export function readPickledIntegers(bytes: Uint8Array, where: string): { ids: Int32Array | undefined; end: number } {
  const { value, end } = unpickleFirst(bytes, { globals: arrayGlobals, bytes: true, build: setState, where });
  const array = builtOf(value);
  if (array instanceof Ndarray) return { ids: array.ids, end };
  const items = itemsOf(value);
  return { ids: items && integersOf(items), end };
}

/** An entry of version 1's list: it is rebuilt by a class method, which the pickle looks up by its name. */
const entryClass = "cpm_live.dataset.distributed_dataset FileInfo";
const entryMethod = "_load_from_state";
const fileGlobals: ReadonlyMap<string, AllowedGlobal> = new Map<string, AllowedGlobal>([
  [entryClass, {}],
  ...["builtins getattr", "__builtin__ getattr"].map(
    (name) =>
      [
        name,
        {
          call: ([object, attribute]: readonly PickleValue[]): PickleValue => {
            const ofEntry = typeof object === "object" && object !== null && object.kind === "global";
            if (!ofEntry || object.name !== entryClass || attribute !== entryMethod) refuse("another attribute");
            return { kind: "global", name: `${entryClass}.${entryMethod}` };
          },
        },
      ] as const,
  ),
  [
    `${entryClass}.${entryMethod}`,
    {
      call([version, fields]) {
        if (version !== 1) refuse(`version ${String(version).slice(0, 20)}`);
        return built(new FileEntry(itemsOf(fields) ?? refuse("no fields")));
      },
    },
  ],
]);

/**
 * The fields of every entry of version 1's list of files, in order: name, first block, end, bytes, records, mask.
 *
 * @throws CheckpointError CPM_PICKLE_…; undefined where it is no list of entries
 */
export function readPickledFileList(bytes: Uint8Array, where: string): (readonly PickleValue[])[] | undefined {
  const list = itemsOf(unpickle(bytes, { globals: fileGlobals, where }));
  const entries = list?.map((item) => {
    const entry = builtOf(item);
    return entry instanceof FileEntry ? entry.fields : itemsOf(item);
  });
  return entries?.every((entry) => entry !== undefined) ? entries : undefined;
}
