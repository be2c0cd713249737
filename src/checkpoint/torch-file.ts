/**
 * PyTorch state dicts (`.pt`, `.bin`, `.pth`, `.ckpt`) as `torch.save` has written them since 1.6: a ZIP archive with
 * `NAME/data.pkl`, a pickle that describes the tensors, and one entry `NAME/data/KEY` with the bytes of each storage.
 *
 * The pickle is read by a machine that runs nothing (`pickle.ts`) and knows only the names below. Storages are read when a
 * tensor of theirs is. Views that are not contiguous are gathered; a view that repeats elements is refused, so a
 * tensor is never larger than the bytes that are there. Older, tar-like and TorchScript files are refused by name.
 */
import type { DType } from "../runtime/dtype.ts";
import { CheckpointError, type ErrorCode } from "../util/error.ts";
import { type AllowedGlobal, PickleArgumentError, type PickleDict, type PickleValue, unpickle } from "./pickle.ts";
import {
  asElements,
  checkedElementCount,
  checkTensorName,
  elementRange,
  type RawCheckpoint,
  type RawTensor,
  requireDType,
  show,
} from "./raw.ts";
import { allocateBytes, type ByteSource, readFrom } from "./source.ts";
import { checkCrc, readZip, readZipEntry, type ZipEntry } from "./zip.ts";

const pickleLimitBytes = 16 * 1024 * 1024;
const tensorLimit = 100_000;

/** PyTorch's storage types: bytes of an element and our dtype, where we have it. */
const storageTypes: Readonly<Record<string, readonly [bytes: number, dtype: DType | undefined]>> = {
  FloatStorage: [4, "float32"],
  HalfStorage: [2, "float16"],
  BFloat16Storage: [2, "bfloat16"],
  DoubleStorage: [8, "float64"],
  LongStorage: [8, "int64"],
  IntStorage: [4, "int32"],
  ShortStorage: [2, undefined],
  CharStorage: [1, "int8"],
  ByteStorage: [1, "uint8"],
  BoolStorage: [1, "bool"],
};

/** A tensor as the pickle describes it: a view of a storage. Nothing of it is checked yet. */
class TensorView {
  readonly storage: PickleValue;
  readonly offset: PickleValue;
  readonly shape: PickleValue;
  readonly stride: PickleValue;

  constructor(args: readonly PickleValue[]) {
    [this.storage, this.offset, this.shape, this.stride] = args as [PickleValue, PickleValue, PickleValue, PickleValue];
  }
}

/** The only names that a state dict needs. */
const globals: ReadonlyMap<string, AllowedGlobal> = new Map<string, AllowedGlobal>([
  [
    "collections OrderedDict",
    {
      call(args) {
        // Items always come afterwards; a call with items could copy them again and again.
        if (args.length !== 0) throw new PickleArgumentError("expected none");
        return { kind: "dict", entries: new Map() };
      },
    },
  ],
  [
    "torch._utils _rebuild_tensor_v2",
    {
      call(args) {
        if (args.length < 6 || args.length > 7) throw new PickleArgumentError(`expected 6 or 7, got ${args.length}`);
        return { kind: "built", value: new TensorView(args) };
      },
    },
  ],
  [
    "torch._utils _rebuild_parameter",
    {
      call(args) {
        const [data] = args;
        if (args.length !== 3 || tensorOf(data) === undefined) throw new PickleArgumentError("expected a tensor first");
        return data!;
      },
    },
  ],
  ...Object.keys(storageTypes).map((name): [string, AllowedGlobal] => [`torch ${name}`, {}]),
]);

/** Keys under which training scripts keep the state dict beside other things. */
const wrappers = ["state_dict", "model_state_dict", "model", "module"];

function bad(code: ErrorCode, what: string, where: string, got?: string, expected?: string): CheckpointError {
  return new CheckpointError(code, what, { where, got, expected });
}

function tensorOf(value: PickleValue | undefined): TensorView | undefined {
  if (typeof value !== "object" || value === null || value.kind !== "built") return undefined;
  return value.value instanceof TensorView ? value.value : undefined;
}

function dictOf(value: PickleValue | undefined): PickleDict | undefined {
  return typeof value === "object" && value !== null && value.kind === "dict" ? value : undefined;
}

/** Items of a tuple (torch.Size is pickled as one). */
function itemsOf(value: PickleValue): readonly PickleValue[] | undefined {
  return typeof value === "object" && value !== null && value.kind === "tuple" ? value.items : undefined;
}

/**
 * Refuses files that are PyTorch's but not in the format that is read here, by the first bytes of the file.
 *
 * @throws CheckpointError `CPM_TORCH_LEGACY`
 */
export function refuseLegacyTorch(head: Uint8Array, where: string): void {
  // PROTO 2, LONG1 of 10 bytes, then the magic number of the format before 1.6.
  const magic = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  const tar = head.length >= 262 && new TextDecoder("latin1").decode(head.subarray(257, 262)) === "ustar";
  const bare = head.length >= 2 && head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5;
  if (!tar && !bare) return;
  const legacy = magic.every((byte, i) => head[i] === byte);
  throw new CheckpointError(
    "CPM_TORCH_LEGACY",
    tar || legacy ? "the file is in PyTorch's format before version 1.6" : "the file is a bare pickle",
    {
      where,
      expected: "a ZIP archive, as torch.save writes it since version 1.6",
      hint: "Load it with PyTorch and save its state dict again with torch.save, or as safetensors.",
    },
  );
}

/**
 * Opens a state dict.
 *
 * @throws FileError where it cannot be read; CheckpointError `CPM_TORCH_…`, `CPM_ZIP_…`, `CPM_PICKLE_…`,
 * `CPM_CHECKPOINT_…`
 */
export async function openTorchFile(path: string): Promise<RawCheckpoint> {
  return readFrom(path, readTorchFile);
}

/** As `openTorchFile`, from an open source, which the result then owns. */
export async function readTorchFile(source: ByteSource): Promise<RawCheckpoint> {
  refuseLegacyTorch(await source.read(0, Math.min(512, source.sizeBytes)), source.path);
  const archive = await readZip(source);
  const prefix = prefixOf(archive, source.path);
  await checkByteOrder(source, archive, prefix);
  const entry = archive.get(`${prefix}/data.pkl`)!;
  const root = unpickle(await readZipEntry(source, entry, pickleLimitBytes), {
    globals,
    where: `${source.path}: ${entry.name}`,
  });
  const { state, ignored } = stateDictOf(root, source.path);
  const tensors = new Map<string, RawTensor>();
  for (const [name, view] of state) {
    checkTensorName(name, source.path);
    tensors.set(name, resolveTensor(name, view, { source, archive, prefix }));
  }
  return { format: "torch", files: [source.path], tensors, metadata: {}, ignored, close: () => source.close() };
}

/** The archive's one top folder. */
function prefixOf(archive: ReadonlyMap<string, ZipEntry>, where: string): string {
  const prefixes = [...archive.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (prefixes.length !== 1) {
    const got = prefixes.length === 0 ? "none" : prefixes.slice(0, 5).join(", ");
    throw bad("CPM_TORCH_MALFORMED", "the archive is no state dict", where, got, "one NAME/data.pkl");
  }
  const prefix = prefixes[0]!.slice(0, -"/data.pkl".length);
  if (
    archive.has(`${prefix}/constants.pkl`) ||
    [...archive.keys()].some((name) => name.startsWith(`${prefix}/code/`))
  ) {
    throw new CheckpointError("CPM_TORCH_SCRIPT", "the archive is a TorchScript program, not a state dict", {
      where,
      hint: "Save the model's state_dict() with torch.save.",
    });
  }
  return prefix;
}

async function checkByteOrder(
  source: ByteSource,
  archive: ReadonlyMap<string, ZipEntry>,
  prefix: string,
): Promise<void> {
  const entry = archive.get(`${prefix}/byteorder`);
  if (entry === undefined) return; // before PyTorch 2.1: always little-endian in practice
  const order = new TextDecoder().decode(await readZipEntry(source, entry, 64)).trim();
  if (order === "little") return;
  throw new CheckpointError("CPM_TORCH_BYTE_ORDER", "the tensors are not little-endian", {
    where: `${source.path}: ${entry.name}`,
    got: show(order),
    expected: "little",
    hint: "Save the state dict again on a little-endian machine.",
  });
}

/** The tensors of the root dict, or of the one dict in it that training scripts put them in. */
function stateDictOf(root: PickleValue, where: string): { state: Map<string, TensorView>; ignored: string[] } {
  const dict = dictOf(root);
  if (dict === undefined)
    throw bad("CPM_TORCH_MALFORMED", "the file holds no state dict", where, describe(root), "a dict");
  const top = tensorsOf(dict, where);
  if (top.state.size > 0) return top;
  for (const key of wrappers) {
    const inner = dictOf(dict.entries.get(key));
    if (inner === undefined) continue;
    const found = tensorsOf(inner, where);
    if (found.state.size === 0) continue;
    return { state: found.state, ignored: [...found.ignored, ...top.ignored.filter((name) => name !== key)] };
  }
  return top;
}

function tensorsOf(dict: PickleDict, where: string): { state: Map<string, TensorView>; ignored: string[] } {
  const state = new Map<string, TensorView>();
  const ignored: string[] = [];
  for (const [key, value] of dict.entries) {
    const view = tensorOf(value);
    if (view !== undefined && typeof key === "string") state.set(key, view);
    else ignored.push(typeof key === "string" ? key.slice(0, 200) : describe(key));
  }
  if (state.size > tensorLimit) throw bad("CPM_TORCH_LIMIT", `the file has more than ${tensorLimit} tensors`, where);
  return { state, ignored };
}

function describe(value: PickleValue): string {
  if (typeof value === "object" && value !== null) return `a ${value.kind}`;
  return show(typeof value === "bigint" ? String(value) : value);
}

interface Archive {
  readonly source: ByteSource;
  readonly archive: ReadonlyMap<string, ZipEntry>;
  readonly prefix: string;
}

interface Storage {
  readonly type: string;
  readonly dtype: DType | undefined;
  readonly width: number;
  /** Elements. */
  readonly count: number;
  readonly entry: ZipEntry;
}

/** The storage behind a persistent id `("storage", type, key, location, numel)`, its size checked. */
function resolveStorage(name: string, value: PickleValue, { source, archive, prefix }: Archive): Storage {
  const where = `${source.path}: ${name}`;
  const id = typeof value === "object" && value !== null && value.kind === "persistent" ? itemsOf(value.id) : undefined;
  const [word, type, key, , count] = id ?? [];
  const typeName = typeof type === "object" && type !== null && type.kind === "global" ? type.name : "";
  const facts = storageTypes[typeName.replace(/^torch /, "")];
  if (word !== "storage" || facts === undefined || typeof key !== "string" || typeof count !== "number") {
    throw bad("CPM_TORCH_STORAGE", "a tensor's storage is not described as PyTorch does", where);
  }
  const entry = archive.get(`${prefix}/data/${key}`);
  if (entry === undefined) {
    throw bad(
      "CPM_TORCH_STORAGE",
      "a tensor's storage is missing from the archive",
      where,
      `data/${key.slice(0, 100)}`,
    );
  }
  const [width, dtype] = facts;
  if (!Number.isSafeInteger(count) || count < 0 || count * width !== entry.sizeBytes) {
    const expected = `${count} elements of ${width} bytes`;
    throw bad(
      "CPM_TORCH_STORAGE",
      "a storage has another size than announced",
      where,
      `${entry.sizeBytes} bytes`,
      expected,
    );
  }
  return { type: typeName.slice("torch ".length), dtype, width, count, entry };
}

function resolveTensor(name: string, view: TensorView, archive: Archive): RawTensor {
  const { source } = archive;
  const where = `${source.path}: ${name}`;
  const storage = resolveStorage(name, view.storage, archive);
  const shape = itemsOf(view.shape) as readonly number[] | undefined;
  const count = checkedElementCount(shape, name, source.path);
  const stride = itemsOf(view.stride) as readonly number[] | undefined;
  const { offset } = view;
  const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!isCount(offset) || stride === undefined || stride.length !== shape!.length || !stride.every(isCount)) {
    throw bad("CPM_TORCH_STRIDE", "a tensor's offset or strides are impossible", where);
  }
  let last = offset;
  let contiguous = true;
  for (let axis = shape!.length - 1, expected = 1; axis >= 0; axis--) {
    if (shape![axis]! > 1) {
      contiguous &&= stride[axis] === expected;
      last += (shape![axis]! - 1) * stride[axis]!;
    }
    expected *= shape![axis]!;
  }
  if (count === 0) {
    contiguous = true;
    last = offset - 1;
  }
  if (!(last < storage.count)) {
    const expected = `elements below ${storage.count}`;
    throw bad("CPM_TORCH_STRIDE", "a tensor reaches beyond its storage", where, `element ${last}`, expected);
  }
  if (count > storage.count) {
    const got = `${count} elements of ${storage.count}`;
    throw bad("CPM_TORCH_STRIDE", "a tensor repeats its storage's elements", where, got);
  }
  const { width, entry, dtype, type } = storage;
  const byteOffset = entry.dataOffset + offset * width;
  const whole = offset === 0 && count === storage.count;
  const tensor = { name, storedDType: type, dtype, shape: [...shape!] };
  return {
    ...tensor,
    location: contiguous ? { file: source.path, byteOffset, byteLength: count * width } : undefined,
    async read(start, end) {
      const known = requireDType(tensor, source.path);
      const [from, to] = elementRange(tensor.shape, start, end);
      if (!contiguous) {
        const bytes = await source.read(byteOffset, (last - offset + 1) * width);
        return asElements(known, gather(bytes, width, tensor.shape, stride, from, to, where));
      }
      const bytes = await source.read(byteOffset + from * width, (to - from) * width);
      if (whole && to - from === count) checkCrc(bytes, entry, where);
      return asElements(known, bytes);
    },
  };
}

/** Elements `from` to `to` of a strided view, in row-major order. */
function gather(
  bytes: Uint8Array,
  width: number,
  shape: readonly number[],
  stride: readonly number[],
  from: number,
  to: number,
  where: string,
): Uint8Array<ArrayBuffer> {
  const out = allocateBytes((to - from) * width, where);
  const index = shape.map(() => 0);
  let rest = from;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  let at = index.reduce((sum, i, axis) => sum + i * stride[axis]!, 0);
  for (let element = 0; element < to - from; element++) {
    for (let byte = 0; byte < width; byte++) out[element * width + byte] = bytes[at * width + byte]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += stride[axis]!;
      index[axis]! += 1;
      if (index[axis]! < shape[axis]!) break;
      at -= index[axis]! * stride[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}
