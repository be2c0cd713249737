/**
 * Fuzzes everything that reads weights: mutated safetensors files, archives, pickles, indexes and configs.
 *
 * Only a `CpmError` may come out of a bad input: anything else is a defect, and is reported with the number of its input,
 * from which `--from N --inputs 1` makes the same bytes again. Run it in full with
 *
 *     node test/fuzz/checkpoint.ts --inputs 1000000 [--seed S] [--from N]
 *
 * Mutations are blind (bits, ranges, boundary numbers, splices) and structural (tokens of a header, instructions of a
 * pickle, fields of an archive), the latter with lengths and checksums made right again, so that what lies behind the first
 * checks is reached.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { checkpointOf } from "../../src/checkpoint/open.ts";
import { readRaw } from "../../src/checkpoint/open-raw.ts";
import { memorySource } from "../../src/checkpoint/source.ts";
import { parseStrictJson } from "../../src/checkpoint/strict-json.ts";
import { configToHfJson, configToJson, type ModelConfig, parseConfig } from "../../src/model/config.ts";
import { parameterTable } from "../../src/model/parameters.ts";
import { byteLength, elementCount } from "../../src/runtime/dtype.ts";
import { CpmError } from "../../src/util/error.ts";
import {
  floatTensor,
  op,
  pickle,
  rebuild,
  type TorchInput,
  torchFile,
  type ZipInput,
  zip,
} from "../support/torch-writer.ts";

/** A stream of numbers that depends on its seed alone: mulberry32. */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

const config: ModelConfig = {
  vocabSize: 6,
  dimModel: 2,
  dimFf: 3,
  layers: 2,
  heads: 1,
  dimHead: 3,
  dropout: 0,
  positionBuckets: 4,
  positionMaxDistance: 2048,
  eps: 1e-6,
  half: false,
  promptTypes: 1,
  promptLength: 2,
  segmentTypes: 2,
  maskModules: [
    [true, false],
    [false, false],
  ],
};

const table = parameterTable(config).map(({ name, shape }) =>
  floatTensor(name, shape, new Float32Array(elementCount(shape))),
);
const views: TorchInput[] = [
  floatTensor("a", [2, 3], [1, 2, 3, 4, 5, 6]),
  { ...floatTensor("b", [3, 2], []), key: "0", data: new Uint8Array(24), stride: [1, 3] },
  { ...floatTensor("c", [2], []), storage: "HalfStorage", width: 2, data: new Uint8Array(4) },
  { ...floatTensor("d", [1], []), storage: "LongStorage", width: 8, data: new Uint8Array(8) },
];

function safetensors(json: string, dataBytes: number): Uint8Array<ArrayBuffer> {
  const header = new TextEncoder().encode(json);
  const bytes = new Uint8Array(8 + header.length + dataBytes);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  bytes.set(header, 8);
  return bytes;
}

const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
let dataBytes = 0;
for (const { name, shape } of table) {
  const end = dataBytes + byteLength("float32", shape);
  header[name] = { dtype: "F32", shape, data_offsets: [dataBytes, end] };
  dataBytes = end;
}
const headerText = JSON.stringify(header);
const configTexts = [JSON.stringify(configToJson(config)), JSON.stringify(configToHfJson(config))];

const plainFiles = [
  safetensors(headerText, dataBytes),
  torchFile(table),
  torchFile(views),
  torchFile(views, { wide: true, wrapper: "state_dict" }),
];

/** Pickle bodies whose storages an archive of `views` has. */
const pickles = [
  pickle(
    op.proto,
    op.dict(...views.flatMap((view, i) => [op.text(view.name), rebuild(view, view.key ?? String(i))])),
    op.stop,
  ),
  pickle(op.proto, op.dict(op.text("model"), op.dict(op.text("a"), rebuild(views[0]!, "0"))), op.stop),
  pickle(op.proto, op.dict(op.text("x"), op.call(op.global("os", "system"), op.text("id"))), op.stop),
];

const numbers = [
  0, 1, 2, 3, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
];
const jsonTokens = [
  ..."0 1 -1 4 8 1.5 1e308 1e999 4294967296 9007199254740991 9007199254740993 18446744073709551616".split(" "),
  ...'null true [] {} "" "F16" "BF16" "I64" "F8_E4M3" "__proto__" "__metadata__" [0,4] [[[[]]]] {"a":1} ,'.split(" "),
];
const words = [
  ...["os", "system", "torch", "collections OrderedDict", "constructor", "__proto__", "../../x", "data.pkl", "\u0000"],
  ...[
    "input_embedding.weight",
    "cpmant.input_embedding.weight",
    "encoder.layers.9999.ffn",
    "lora_A",
    "segment_embedding.weight",
  ],
];

/** A few blind edits. */
function blind(bytes: Uint8Array<ArrayBuffer>, dice: Dice): Uint8Array<ArrayBuffer> {
  let out = bytes.slice();
  for (let edits = 1 + dice.below(4); edits > 0; edits--) {
    if (out.length === 0) return out;
    const at = dice.below(out.length);
    const length = Math.min(1 + dice.below(dice.below(2) === 0 ? 8 : 64), out.length - at);
    switch (dice.below(7)) {
      case 0:
        out[at]! ^= 1 << dice.below(8);
        break;
      case 1:
        out[at] = dice.next();
        break;
      case 2: {
        const width = dice.pick([1, 2, 4, 8]);
        let value = BigInt(dice.pick(numbers)) * (width === 8 && dice.below(3) === 0 ? 2n ** 32n : 1n);
        for (let i = 0; i < width && at + i < out.length; i++, value >>= 8n) out[at + i] = Number(value & 0xffn);
        break;
      }
      case 3: // cut
        out = out.slice(0, at);
        break;
      case 4: // take a range out
        out = pickle(out.subarray(0, at), out.subarray(at + length));
        break;
      case 5: // repeat a range elsewhere
        out = pickle(out.subarray(0, at), out.subarray(dice.below(out.length)).subarray(0, length), out.subarray(at));
        break;
      default: {
        const word = new TextEncoder().encode(dice.pick(words));
        out = pickle(out.subarray(0, at), word, out.subarray(dice.below(2) === 0 ? at : at + word.length));
      }
    }
  }
  return out;
}

/** Replaces, repeats or removes tokens of a JSON text. */
function editJson(text: string, dice: Dice): string {
  let out = text;
  for (let edits = 1 + dice.below(3); edits > 0; edits--) {
    const tokens = [...out.matchAll(/"[^"]*"|-?\d[\d.e+-]*|[[\]{}:,]|null|true|false/g)];
    if (tokens.length === 0) return out;
    const token = dice.pick(tokens);
    const other = dice.below(2) === 0 ? dice.pick(jsonTokens) : dice.pick(tokens)[0];
    const replacement = dice.pick([
      other,
      `${token[0]}${token[0]}`,
      "",
      `${other},${token[0]}`,
      `"${dice.pick(words)}"`,
    ]);
    out = out.slice(0, token.index) + replacement + out.slice(token.index + token[0].length);
  }
  return out;
}

/** Inserts, removes and repeats instructions of a pickle. */
function editPickle(bytes: Uint8Array<ArrayBuffer>, dice: Dice): Uint8Array<ArrayBuffer> {
  const instructions = [
    ...["(", ".", "0", "1", "N", "]", "}", ")", "a", "e", "s", "u", "t", "R", "b", "Q", "o"].map((code) =>
      pickle(code),
    ),
    ...[0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x93, 0x94, 0x95].map((code) => pickle(code)),
    pickle("q", dice.below(8)),
    pickle("h", dice.below(8)),
    op.int(dice.pick([0, 1, -1, 2 ** 31, -(2 ** 31), 2 ** 40, Number.MAX_SAFE_INTEGER])),
    op.text(dice.pick(words)),
    op.global("torch", dice.pick(["FloatStorage", "HalfStorage", "ByteStorage", "load"])),
    op.global("torch._utils", dice.pick(["_rebuild_tensor_v2", "_rebuild_parameter"])),
    op.global("collections", "OrderedDict"),
    op.global(dice.pick(["os", "builtins", "torch.storage"]), dice.pick(["system", "eval", "_load_from_bytes"])),
    rebuild(
      { ...dice.pick(views), offset: dice.below(4), shape: [dice.below(4), dice.pick([0, 1, 2, 2 ** 20])] },
      String(dice.below(4)),
    ),
  ];
  let out = bytes;
  for (let edits = 1 + dice.below(4); edits > 0; edits--) {
    const at = dice.below(out.length + 1);
    const skip = dice.pick([0, 0, 1, 2, 5]);
    out = pickle(out.subarray(0, at), dice.pick(instructions), out.subarray(at + skip));
  }
  return dice.below(3) === 0 ? blind(out, dice) : out;
}

/** An archive with odd entries, sizes, offsets and flags. */
function oddArchive(dice: Dice): Uint8Array<ArrayBuffer> {
  const odd = (entry: ZipInput): ZipInput => {
    switch (dice.below(12)) {
      case 0:
        return {
          ...entry,
          name: dice.pick(["../x", "archive/data/0", "archive/data.pkl", "", "/x", "a/../b", "archive/"]),
        };
      case 1:
        return { ...entry, announcedBytes: dice.pick(numbers) };
      case 2:
        return { ...entry, deflate: true };
      case 3:
        return { ...entry, crc: 1 };
      case 4:
        return { ...entry, flags: dice.pick([1, 8, 64, 2048, 8192]) };
      case 5:
        return { ...entry, offset: dice.pick(numbers) };
      case 6:
        return { ...entry, wide: true };
      default:
        return entry;
    }
  };
  const body = dice.below(2) === 0 ? dice.pick(pickles) : editPickle(dice.pick(pickles), dice);
  const entries: ZipInput[] = [{ name: "archive/data.pkl", data: body }];
  for (const [i, view] of views.entries()) entries.push({ name: `archive/data/${i}`, data: view.data });
  if (dice.below(4) === 0) entries.push({ name: "archive/byteorder", data: pickle(dice.pick(["little", "big", ""])) });
  const bytes = zip(entries.map(odd), { wideEnd: dice.below(3) === 0 });
  return dice.below(4) === 0 ? blind(bytes, dice) : bytes;
}

const sizes = [0, 1, 2, 3, 4, 6, 8, 24, -1, 0.5, 2 ** 20, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 52, Number.MAX_SAFE_INTEGER];

/** A header whose JSON is right and whose entries are odd. */
function oddHeader(dice: Dice): Uint8Array<ArrayBuffer> {
  const entries = new Map(Object.entries(JSON.parse(headerText)) as [string, Record<string, unknown>][]);
  let bytes = dataBytes;
  for (let edits = 1 + dice.below(3); edits > 0; edits--) {
    const name = dice.pick([...entries.keys()]);
    const entry = entries.get(name)!;
    if (name === "__metadata__")
      entries.set(name, dice.pick<unknown>([{}, { a: 1 }, [], null, { a: "b" }]) as typeof entry);
    else {
      const shape = (entry.shape as number[] | undefined) ?? [];
      const [begin, end] = (entry.data_offsets as [number, number] | undefined) ?? [0, 0];
      const changes: (() => unknown)[] = [
        () => (entry.dtype = dice.pick(["F16", "F64", "BF16", "I64", "U8", "U16", "BOOL", "F8_E4M3", "F31"])),
        () => (entry.shape = shape.toReversed()),
        () => (entry.shape = [...shape, dice.pick([0, 1, 2])]),
        () => (entry.shape = [dice.pick(sizes), dice.pick(sizes)]),
        () => (entry.data_offsets = [begin, dice.pick(sizes)]),
        () => (entry.data_offsets = [begin + dice.pick([4, -4, 0]), end + dice.pick([4, -4, 0])]),
        () => entries.delete(name),
        () => entries.delete(name) && entries.set(dice.pick([`cpmant.${name}`, ...words, name.slice(1)]), entry),
        () => (bytes = Math.max(0, bytes + dice.pick([4, -4, 64]))),
        () => entries.set("lm_head.weight", { dtype: "F32", shape: [6, 2], data_offsets: [(bytes += 48) - 48, bytes] }),
      ];
      dice.pick(changes)();
    }
    if (entries.size === 0) break;
  }
  return safetensors(JSON.stringify(Object.fromEntries(entries)), bytes);
}

/** A model's header in Hugging Face's layout or CPM-Ant+'s, tensors of odd sizes, laid out without a hole. */
function oddModel(dice: Dice): Uint8Array<ArrayBuffer> {
  const prefix = dice.pick(["", "cpmant.", "module.cpmant.", "module."]);
  const merged = dice.below(3) > 0;
  const entries: Record<string, unknown> = {};
  let at = 0;
  for (const { name, shape } of table) {
    if (dice.below(40) === 0 || (merged && name === "prompt_embedding.weight")) continue;
    const rows = merged && name === "input_embedding.weight" ? 6 + dice.pick([2, 1024]) : shape[0]!;
    const odd = dice.below(40) === 0 ? [dice.below(9), ...shape.slice(1)] : [rows, ...shape.slice(1)];
    const dtype = dice.below(60) === 0 ? "I32" : "F32";
    entries[prefix + name] = { dtype, shape: odd, data_offsets: [at, (at += byteLength("float32", odd))] };
  }
  if (dice.below(3) === 0) {
    const shape = [dice.pick([6, 8, 7, 1030]), 2];
    entries["lm_head.weight"] = { dtype: "F32", shape, data_offsets: [at, (at += byteLength("float32", shape))] };
  }
  const bytes = safetensors(JSON.stringify(entries), at);
  if (dice.below(4) === 0) bytes[bytes.length - 1 - dice.below(at || 1)]! ^= 1 << dice.below(8);
  return bytes;
}

/** A state dict whose tensors are described oddly. */
function oddTensors(dice: Dice): Uint8Array<ArrayBuffer> {
  const whole = () => dice.pick(sizes.filter(Number.isInteger));
  const tensors = dice.pick([views, views, table]).map((tensor): TorchInput => {
    if (dice.below(tensor.shape.length + 3) > 0) return tensor;
    const { shape } = tensor;
    return dice.pick<() => TorchInput>([
      () => ({ ...tensor, offset: whole() }),
      () => ({ ...tensor, shape: [whole(), whole()] }),
      () => ({ ...tensor, shape: shape.toReversed(), stride: shape.map(() => dice.below(4)) }),
      () => ({ ...tensor, stride: shape.map(whole) }),
      () => ({ ...tensor, stride: [] }),
      () => ({ ...tensor, announced: whole() }),
      () => ({ ...tensor, key: dice.pick(["0", "1", "9", "../0", "-1"]) }),
      () => ({ ...tensor, storage: dice.pick(["ByteStorage", "ShortStorage", "DoubleStorage", "BoolStorage"]) }),
      () => ({ ...tensor, name: dice.pick(words) }),
      () => ({ ...tensor, data: tensor.data.subarray(dice.below(8)) }),
    ])();
  });
  const wrapper = dice.pick([undefined, undefined, "state_dict", "model", "other"]);
  return torchFile(tensors, { wide: dice.below(4) === 0, ...(wrapper === undefined ? {} : { wrapper }) });
}

/** A config whose JSON is right and whose values are odd. */
function oddConfig(dice: Dice): Uint8Array {
  const json = JSON.parse(dice.pick(configTexts)) as Record<string, unknown>;
  for (let edits = 1 + dice.below(2); edits > 0; edits--) {
    const key = dice.pick(Object.keys(json));
    const value = dice.pick<unknown>([...sizes, null, true, "1", [], [[true, false]], {}, json[key]]);
    dice.pick<() => unknown>([
      () => (json[key] = value),
      () => (json[key] = value),
      () => delete json[key],
      () => (json[dice.pick([...words, `${key}s`, key.toUpperCase(), "model_type"])] = value),
    ])();
  }
  return new TextEncoder().encode(JSON.stringify(json));
}

/** One input by its number: what reads it, and the bytes. */
export function makeInput(seed: number, number: number): { kind: "weights" | "config" | "json"; bytes: Uint8Array } {
  const dice = new Dice(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b) ^ (number >>> 7));
  const text = (value: string) => Uint8Array.from(new TextEncoder().encode(value));
  switch (dice.below(12)) {
    case 0:
      return { kind: "weights", bytes: blind(plainFiles[0]!, dice) };
    case 1:
      return { kind: "weights", bytes: blind(dice.pick(plainFiles), dice) };
    case 2:
      return {
        kind: "weights",
        bytes: safetensors(editJson(headerText, dice), dataBytes - (dice.below(8) === 0 ? 4 : 0)),
      };
    case 3:
      return { kind: "weights", bytes: oddHeader(dice) };
    case 4:
      return { kind: "weights", bytes: oddModel(dice) };
    case 5:
    case 6:
      return { kind: "weights", bytes: torchFile(views, { pickle: editPickle(dice.pick(pickles), dice) }) };
    case 7:
    case 8:
      return { kind: "weights", bytes: oddTensors(dice) };
    case 9:
      return { kind: "weights", bytes: oddArchive(dice) };
    case 10:
      return { kind: "config", bytes: oddConfig(dice) };
    default:
      if (dice.below(2) === 0) return { kind: "json", bytes: blind(text(dice.pick(configTexts)), dice) };
      return { kind: "config", bytes: text(editJson(dice.pick(configTexts), dice)) };
  }
}

/** Reads one input with everything that would read it in earnest. */
async function consume({ kind, bytes }: ReturnType<typeof makeInput>): Promise<void> {
  if (kind !== "weights") {
    const json = parseStrictJson(bytes, "fuzz", { depth: 4, values: 1000 });
    if (kind === "config") parameterTable(parseConfig(json, "fuzz"));
    return;
  }
  const raw = await readRaw(memorySource(bytes, "fuzz"));
  let readBytes = 0;
  for (const tensor of raw.tensors.values()) {
    if (tensor.dtype !== undefined) readBytes += (await tensor.read()).byteLength;
    // A view may show the bytes of a file again, but each alone only once.
    if (tensor.dtype !== undefined && byteLength(tensor.dtype, tensor.shape) > bytes.length) {
      throw new Error(`internal: ${tensor.name} is larger than its file`);
    }
  }
  if (readBytes > bytes.length * (1 + raw.tensors.size)) throw new Error("internal: more was read than is there");
  const model = await checkpointOf(raw, "fuzz", {});
  for (const name of model.names()) await model.tensor(name).readFloat32();
}

export interface FuzzReport {
  readonly inputs: number;
  readonly accepted: number;
  /** How often each code was given. */
  readonly codes: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  /** Growth of the resident set from the first thousand inputs to the highest seen. */
  readonly residentGrowthBytes: number;
  readonly defects: readonly { readonly number: number; readonly error: string }[];
}

/** Runs inputs `from` up to `from + inputs`; the first ten defects are kept. */
export async function fuzzCheckpoints(options: { seed: number; from?: number; inputs: number }): Promise<FuzzReport> {
  const { seed, from = 0, inputs } = options;
  const codes: Record<string, number> = {};
  const defects: { number: number; error: string }[] = [];
  let accepted = 0;
  let slowestMs = 0;
  let baseline = 0;
  let highest = 0;
  for (let number = from; number < from + inputs; number++) {
    const input = makeInput(seed, number);
    const start = performance.now();
    try {
      await consume(input);
      accepted += 1;
    } catch (error) {
      if (error instanceof CpmError) codes[error.code] = (codes[error.code] ?? 0) + 1;
      else if (defects.length < 10) defects.push({ number, error: String((error as Error)?.stack ?? error) });
    }
    slowestMs = Math.max(slowestMs, performance.now() - start);
    if ((number - from) % 1000 === 999) {
      const resident = process.memoryUsage.rss();
      if (baseline === 0) baseline = resident;
      highest = Math.max(highest, resident);
    }
  }
  return { inputs, accepted, codes, slowestMs, residentGrowthBytes: highest - baseline, defects };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string", default: "100000" },
      seed: { type: "string", default: "1" },
      from: { type: "string", default: "0" },
    },
  });
  const start = performance.now();
  const report = await fuzzCheckpoints({ seed: +values.seed, from: +values.from, inputs: +values.inputs });
  console.log(JSON.stringify({ ...report, seconds: (performance.now() - start) / 1000 }, undefined, 2));
  process.exitCode = report.defects.length > 0 ? 1 : 0;
}
