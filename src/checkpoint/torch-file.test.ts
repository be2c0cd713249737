import assert from "node:assert/strict";
import { test } from "node:test";
import { floatTensor, op, pickle, rebuild, type TorchInput, torchFile, zip } from "../../test/support/torch-writer.ts";
import { CpmError } from "../util/error.ts";
import { float32ToBfloat16, float32ToFloat16 } from "../util/float16.ts";
import { readRaw } from "./open-raw.ts";
import { toFloat32 } from "./raw.ts";
import { memorySource } from "./source.ts";

const open = (bytes: Uint8Array) => readRaw(memorySource(bytes));

/** Opening, or reading any tensor, must fail with this code. */
async function refused(bytes: Uint8Array, code: string): Promise<CpmError> {
  try {
    const raw = await open(bytes);
    for (const tensor of raw.tensors.values()) await tensor.read();
  } catch (error) {
    assert.ok(error instanceof CpmError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`not refused with ${code}`);
}

async function values(bytes: Uint8Array, name: string): Promise<number[]> {
  const raw = await open(bytes);
  const tensor = raw.tensors.get(name);
  assert.ok(tensor?.dtype);
  return Array.from(toFloat32(await tensor.read(), tensor.dtype, name));
}

const two = floatTensor("a", [2, 3], [1, 2, 3, 4, 5, 6]);

test("a state dict is read, plain, wrapped and with 64-bit sizes", async () => {
  assert.deepEqual(await values(torchFile([two]), "a"), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(await values(torchFile([two], { wide: true }), "a"), [1, 2, 3, 4, 5, 6]);
  const wrapped = await open(torchFile([two], { wrapper: "state_dict" }));
  assert.deepEqual([...wrapped.tensors.keys()], ["a"]);
  assert.deepEqual(wrapped.ignored, ["epoch"]);
});

test("half, bfloat16 and integer storages keep their bits", async () => {
  const floats = Float32Array.of(1, -0.5, 65504, 2 ** -24);
  const half = {
    ...two,
    shape: [4],
    data: new Uint8Array(float32ToFloat16(floats).buffer),
    storage: "HalfStorage",
    width: 2,
  };
  assert.deepEqual(await values(torchFile([half]), "a"), Array.from(floats));
  const brain = { ...half, data: new Uint8Array(float32ToBfloat16(floats).buffer), storage: "BFloat16Storage" };
  assert.deepEqual(await values(torchFile([brain]), "a"), [1, -0.5, 65536, 2 ** -24]);
  const long = {
    ...half,
    data: new Uint8Array(BigInt64Array.of(-1n, 2n).buffer),
    storage: "LongStorage",
    width: 8,
    shape: [2],
  };
  assert.deepEqual(await (await open(torchFile([long]))).tensors.get("a")!.read(), BigInt64Array.of(-1n, 2n));
  const short = { ...half, storage: "ShortStorage" };
  const raw = await open(torchFile([short]));
  assert.equal(raw.tensors.get("a")!.dtype, undefined);
  await refused(torchFile([short]), "CPM_CHECKPOINT_DTYPE_UNSUPPORTED");
});

test("views share a storage, start inside of it, and need not be contiguous", async () => {
  const views: TorchInput[] = [
    two,
    { ...two, name: "tail", key: "0", offset: 3, shape: [3] },
    { ...two, name: "transposed", key: "0", shape: [3, 2], stride: [1, 3] },
    { ...two, name: "column", key: "0", offset: 1, shape: [2], stride: [3] },
    { ...two, name: "scalar", key: "0", offset: 5, shape: [], stride: [] },
    { ...two, name: "empty", key: "0", offset: 6, shape: [0, 4] },
  ];
  const bytes = torchFile(views);
  assert.deepEqual(await values(bytes, "tail"), [4, 5, 6]);
  assert.deepEqual(await values(bytes, "transposed"), [1, 4, 2, 5, 3, 6]);
  assert.deepEqual(await values(bytes, "column"), [2, 5]);
  assert.deepEqual(await values(bytes, "scalar"), [6]);
  assert.deepEqual(await values(bytes, "empty"), []);
  const raw = await open(bytes);
  assert.equal(raw.tensors.get("transposed")!.location, undefined);
  assert.deepEqual(await raw.tensors.get("transposed")!.read(1, 5), Float32Array.of(4, 2, 5, 3));
  const { byteOffset, byteLength } = raw.tensors.get("tail")!.location!;
  assert.deepEqual(new Float32Array(bytes.slice(byteOffset, byteOffset + byteLength).buffer), Float32Array.of(4, 5, 6));
});

test("a tensor that leaves or repeats its storage is refused", async () => {
  const wrong: Partial<TorchInput>[] = [
    { offset: 1 },
    { shape: [3, 3] },
    { stride: [4, 1] },
    { stride: [0, 0], shape: [1000, 1000] },
    { stride: [3] },
    { offset: -1 },
    { stride: [-3, 1] },
    { stride: [2 ** 52, 2 ** 52] },
    { offset: 7, shape: [0] },
  ];
  for (const change of wrong) await refused(torchFile([{ ...two, ...change }]), "CPM_TORCH_STRIDE");
  await refused(torchFile([{ ...two, shape: [2 ** 40, 2 ** 40] }]), "CPM_CHECKPOINT_SHAPE_INVALID");
  await refused(torchFile([{ ...two, shape: [-2, 3] }]), "CPM_CHECKPOINT_SHAPE_INVALID");
});

test("a storage that is missing or of another size is refused", async () => {
  await refused(torchFile([{ ...two, announced: 7 }]), "CPM_TORCH_STORAGE");
  await refused(torchFile([{ ...two, announced: 5 }]), "CPM_TORCH_STORAGE");
  await refused(torchFile([{ ...two, announced: 2 ** 52 }]), "CPM_TORCH_STORAGE");
  await refused(torchFile([{ ...two, key: "9" }]), "CPM_TORCH_STORAGE");
  await refused(torchFile([{ ...two, key: "../../etc/passwd" }]), "CPM_TORCH_STORAGE");
});

test("code in a pickle is refused by name and never run", async () => {
  const attacks: [Uint8Array, RegExp][] = [
    [op.call(op.global("os", "system"), op.text("touch owned")), /os\.system/],
    [op.call(op.global("posix", "system"), op.text("touch owned")), /posix\.system/],
    [op.call(op.global("builtins", "eval"), op.text("1")), /builtins\.eval/],
    [op.call(op.global("torch.storage", "_load_from_bytes"), op.text("x")), /torch\.storage\._load_from_bytes/],
    [op.call(op.global("torch", "load"), op.text("x")), /torch\.load/],
    [op.global("torch.FloatStorage", "__init__.__globals__"), /__globals__/],
    [pickle(op.text("os"), op.text("system"), 0x93, "(", op.text("id"), "tR"), /os\.system/],
  ];
  for (const [attack, name] of attacks) {
    const error = await refused(torchFile([], { pickle: pickle(op.proto, attack, op.stop) }), "CPM_PICKLE_GLOBAL");
    assert.match(error.what, name);
    assert.match(error.hint!, /Nothing of the file was run/);
  }
});

test("instructions that tensors do not need are refused by name", async () => {
  const attacks: [Uint8Array, RegExp][] = [
    [pickle("(", op.text("id"), "ios\nsystem\n"), /INST/],
    [pickle(op.global("collections", "OrderedDict"), ")", 0x81), /NEWOBJ/],
    [pickle("(", op.global("collections", "OrderedDict"), "o"), /OBJ/],
    [pickle(0x82, 1), /EXT1/],
    [pickle("P1\n"), /PERSID/],
    [pickle("I1\n"), /INT/],
    [pickle(0xff), /0xff/],
  ];
  for (const [attack, name] of attacks) {
    const error = await refused(torchFile([], { pickle: pickle(op.proto, attack, op.stop) }), "CPM_PICKLE_OPCODE");
    assert.match(error.what, name);
  }
});

test("allowed names cannot be called with other arguments, nor constants called", async () => {
  const ordered = op.global("collections", "OrderedDict");
  const calls = [
    op.call(op.global("torch", "FloatStorage"), op.int(1)),
    op.call(ordered, pickle("]")),
    op.call(op.global("torch._utils", "_rebuild_tensor_v2"), op.int(1)),
    op.call(op.global("torch._utils", "_rebuild_parameter"), op.int(1), pickle(0x88), pickle("N")),
    op.call(op.int(1)),
    pickle(ordered, "N", "R"),
    pickle("]", "}", "b"), // state for a list
  ];
  for (const call of calls)
    await refused(torchFile([], { pickle: pickle(op.proto, call, op.stop) }), "CPM_PICKLE_CALL");
});

test("a Parameter is its tensor", async () => {
  const parameter = op.call(
    op.global("torch._utils", "_rebuild_parameter"),
    rebuild(two, "0"),
    pickle(0x88),
    op.call(op.global("collections", "OrderedDict")),
  );
  const root = pickle(op.proto, op.dict(op.text("p"), parameter), op.stop);
  assert.deepEqual(await values(torchFile([two], { pickle: root }), "p"), [1, 2, 3, 4, 5, 6]);
});

test("damaged pickles are refused", async () => {
  const damaged = [
    pickle(),
    op.proto,
    pickle(op.proto, "."),
    pickle(op.proto, "R", "."),
    pickle(op.proto, "(", "."),
    pickle(op.proto, "N", "N", "."),
    pickle(op.proto, "h", 3, "."),
    pickle(op.proto, "t", "."),
    pickle(op.proto, "(N", 0x85, "."),
    pickle(op.proto, "(", 0x85, "."),
    pickle(op.proto, "X", 255, 255, 255, 255, "."),
    pickle(op.proto, 0x8d, 255, 255, 255, 255, 255, 255, 255, 255, "."),
    pickle(op.proto, "X", 1, 0, 0, 0, 0xff, "."),
    pickle(op.proto, "}(Nu."),
    pickle(op.proto, "NNa."),
    pickle(op.proto, "cos"),
    pickle(0x80, 9, "N."),
  ];
  for (const bytes of damaged) await refused(torchFile([], { pickle: bytes }), "CPM_PICKLE_MALFORMED");
  await refused(torchFile([], { pickle: pickle(op.proto, "N.") }), "CPM_TORCH_MALFORMED");
});

test("pickles that grow are stopped", async () => {
  const marks = new Uint8Array(200_000).fill(0x28);
  await refused(torchFile([], { pickle: pickle(op.proto, marks) }), "CPM_PICKLE_LIMIT");
  const nones = new Uint8Array(200_000).fill(0x4e);
  await refused(torchFile([], { pickle: pickle(op.proto, nones) }), "CPM_PICKLE_LIMIT");
  const pairs = new Uint8Array(5_000_000).fill(0x4e);
  for (let i = 1; i < pairs.length; i += 2) pairs[i] = 0x30;
  await refused(torchFile([], { pickle: pickle(op.proto, pairs) }), "CPM_PICKLE_LIMIT");
  await refused(torchFile([], { pickle: pickle(op.proto, 0x8a, 200, new Uint8Array(200)) }), "CPM_PICKLE_LIMIT");
});

test("archives that are no plain state dicts are refused by name", async () => {
  await refused(torchFile([two], { byteOrder: "big" }), "CPM_TORCH_BYTE_ORDER");
  await refused(
    torchFile([two], { more: [{ name: "archive/constants.pkl", data: pickle("N.") }] }),
    "CPM_TORCH_SCRIPT",
  );
  await refused(torchFile([two], { more: [{ name: "other/data.pkl", data: pickle("N.") }] }), "CPM_TORCH_MALFORMED");
  await refused(zip([{ name: "readme.txt", data: pickle("hello") }]), "CPM_TORCH_MALFORMED");
  const legacy = pickle(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, ".");
  assert.match((await refused(legacy, "CPM_TORCH_LEGACY")).what, /before version 1\.6/);
  const tar = new Uint8Array(1024);
  tar.set(pickle("ustar"), 257);
  tar[8] = 1;
  await refused(tar, "CPM_TORCH_LEGACY");
  assert.match((await refused(pickle(op.proto, "N."), "CPM_TORCH_LEGACY")).what, /bare pickle/);
  await refused(pickle("hello, world"), "CPM_CHECKPOINT_FORMAT");
  assert.match(
    (await refused(pickle("version https://git-lfs.github.com/spec/v1\n"), "CPM_CHECKPOINT_FORMAT")).hint!,
    /lfs/,
  );
  await refused(new Uint8Array(0), "CPM_CHECKPOINT_FORMAT");
});
