import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { byteLength, type DType, elementCount, hostArray } from "../runtime/dtype.ts";
import { CpmError } from "../util/error.ts";
import { openRaw } from "./open-raw.ts";
import { openSafetensors, readSafetensors } from "./safetensors.ts";
import { type WritableTensor, writeSafetensors, writeShardedSafetensors } from "./safetensors-writer.ts";
import { readShardIndex } from "./shards.ts";
import { memorySource } from "./source.ts";

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "cpm-safetensors-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A file with this header, as text, and this many bytes of data. */
function fileOf(header: string | Record<string, unknown>, dataBytes = 0, lengthBytes?: bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, lengthBytes ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

async function refused(bytes: Uint8Array, code: string): Promise<CpmError> {
  try {
    const raw = await readSafetensors(memorySource(bytes));
    for (const tensor of raw.tensors.values()) await tensor.read();
  } catch (error) {
    assert.ok(error instanceof CpmError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`not refused with ${code}`);
}

const f32 = (begin: number, end: number, shape: readonly number[] = [(end - begin) / 4]) => {
  return { dtype: "F32", shape, data_offsets: [begin, end] };
};

test("tensors that overlap, leave holes or leave a rest are refused", async () => {
  await refused(fileOf({ a: f32(0, 8), b: f32(4, 12) }, 12), "CPM_SAFETENSORS_OVERLAP");
  await refused(fileOf({ a: f32(0, 8), b: f32(0, 8) }, 8), "CPM_SAFETENSORS_OVERLAP");
  await refused(fileOf({ a: f32(0, 4), b: f32(8, 12) }, 12), "CPM_SAFETENSORS_HOLE");
  await refused(fileOf({ a: f32(4, 8) }, 8), "CPM_SAFETENSORS_HOLE");
  await refused(fileOf({ a: f32(0, 4) }, 8), "CPM_SAFETENSORS_HOLE");
});

test("offsets and shapes that do not fit are refused", async () => {
  await refused(fileOf({ a: f32(0, 8) }, 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: f32(0, 8, [3]) }, 8), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: { ...f32(0, 4), data_offsets: [4, 0] } }, 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: { ...f32(0, 4), data_offsets: [-4, 0] } }, 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: { ...f32(0, 4), data_offsets: [0] } }, 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: { ...f32(0, 4), data_offsets: [0, 4.5] } }, 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e400]}}', 4), "CPM_SAFETENSORS_OFFSETS");
  await refused(fileOf({ a: f32(0, 4, [-1]) }, 4), "CPM_CHECKPOINT_SHAPE_INVALID");
  await refused(fileOf({ a: f32(0, 4, [2 ** 53]) }, 4), "CPM_CHECKPOINT_SHAPE_INVALID");
  await refused(fileOf({ a: f32(0, 4, [2 ** 32, 2 ** 32]) }, 4), "CPM_CHECKPOINT_SHAPE_INVALID");
  await refused(fileOf({ a: f32(0, 4, new Array(33).fill(1)) }, 4), "CPM_CHECKPOINT_SHAPE_INVALID");
});

test("headers that lie about their length or content are refused", async () => {
  await refused(new Uint8Array(7), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf({}, 0, 100n), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf({}, 0, 2n ** 63n), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf({}, 0, 0n), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf("[]"), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf(' {"a":1}'), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf("{]"), "CPM_CHECKPOINT_JSON");
  await refused(fileOf('{"a'), "CPM_CHECKPOINT_JSON");
  await refused(fileOf(`{"a":${"[".repeat(5000)}`), "CPM_CHECKPOINT_JSON");
  const latin = fileOf('{"x":1}');
  latin[10] = 0xff;
  await refused(latin, "CPM_CHECKPOINT_JSON");
  await refused(fileOf({ a: 1 }), "CPM_SAFETENSORS_ENTRY");
  await refused(fileOf({ a: { ...f32(0, 4), extra: 1 } }, 4), "CPM_SAFETENSORS_ENTRY");
  await refused(fileOf({ a: { ...f32(0, 4), dtype: "F31" } }, 4), "CPM_SAFETENSORS_DTYPE");
  await refused(fileOf({ a: { ...f32(0, 4), dtype: "toString" } }, 4), "CPM_SAFETENSORS_DTYPE");
  await refused(fileOf({ __metadata__: { a: 1 } }), "CPM_SAFETENSORS_HEADER");
  const strings = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`k${i}`, ""]));
  await refused(fileOf({ __metadata__: strings }), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf({ __metadata__: [] }), "CPM_SAFETENSORS_HEADER");
  await refused(fileOf({ "": f32(0, 0) }), "CPM_CHECKPOINT_NAME");
  await refused(fileOf('{"__proto__":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'), "CPM_CHECKPOINT_NAME");
  await refused(fileOf({ "a\u001b[31m": f32(0, 0) }), "CPM_CHECKPOINT_NAME");
});

test("a key that stands twice is seen, however it is written", async () => {
  const entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
  await refused(fileOf(`{"a":${entry},"a":${entry}}`, 4), "CPM_CHECKPOINT_JSON");
  await refused(fileOf(`{"a":${entry},"\\u0061" : ${entry}}`, 4), "CPM_CHECKPOINT_JSON");
  await refused(
    fileOf('{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', 4),
    "CPM_CHECKPOINT_JSON",
  );
});

test("dtypes that nothing here computes with are listed but not read", async () => {
  const bytes = fileOf({ a: { dtype: "U16", shape: [2], data_offsets: [0, 4] }, b: f32(4, 8) }, 8);
  const raw = await readSafetensors(memorySource(bytes));
  assert.equal(raw.tensors.get("a")!.storedDType, "U16");
  assert.equal(raw.tensors.get("a")!.dtype, undefined);
  await refused(bytes, "CPM_CHECKPOINT_DTYPE_UNSUPPORTED");
});

test("only the header is read on opening, and only its part on reading", async (t) => {
  const path = join(scratch(t), "sparse.safetensors");
  // 64 GiB of zeros, of which the disk holds none.
  const count = 2 ** 34;
  writeFileSync(path, fileOf({ big: f32(0, count * 4) }));
  truncateSync(path, readFileSync(path).length + count * 4);
  const before = process.memoryUsage().arrayBuffers;
  const raw = await openSafetensors(path);
  const tensor = raw.tensors.get("big")!;
  assert.deepEqual(await tensor.read(count - 3, count), new Float32Array(3));
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
  await assert.rejects(
    tensor.read(),
    (error) => error instanceof CpmError && error.code === "CPM_CHECKPOINT_TOO_LARGE",
  );
  await raw.close();
});

test("a file that is cut after it was opened is an error", async (t) => {
  const path = join(scratch(t), "cut.safetensors");
  writeFileSync(path, fileOf({ a: f32(0, 400) }, 400));
  const raw = await openSafetensors(path);
  truncateSync(path, 100);
  const cut = (error: unknown) => error instanceof CpmError && error.code === "CPM_CHECKPOINT_TRUNCATED";
  await assert.rejects(raw.tensors.get("a")!.read(), cut);
  await raw.close();
});

const arbitraryTensors = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" }).filter((name) => !/[\p{Cc}]|^__/u.test(name)),
    dtype: fc.constantFrom<DType>(
      "float32",
      "float16",
      "bfloat16",
      "float64",
      "int64",
      "int32",
      "int8",
      "uint8",
      "bool",
    ),
    shape: fc.array(fc.nat(5), { maxLength: 3 }),
  }),
  { selector: ({ name }) => name, maxLength: 8 },
);

function tensorsOf(specs: readonly { name: string; dtype: DType; shape: number[] }[]): WritableTensor[] {
  return specs.map(({ name, dtype, shape }, i) => {
    const bytes = Uint8Array.from({ length: byteLength(dtype, shape) }, (_, j) => (i * 37 + j * 11) & 0xff);
    return { name, dtype, shape, read: () => hostArray(dtype, bytes.buffer, 0, bytes.length) };
  });
}

test("what is written is read back, whole and in shards, aligned", async (t) => {
  const folder = scratch(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(arbitraryTensors, fc.integer({ min: 1, max: 200 }), async (specs, maxShardBytes) => {
      const target = join(folder, String(run++));
      mkdirSync(target);
      const tensors = tensorsOf(specs);
      const path = join(target, "one.safetensors");
      await writeSafetensors(path, tensors, { note: "空 ok" });
      const shards = await writeShardedSafetensors(target, tensors, { maxShardBytes, metadata: { note: "空 ok" } });
      for (const file of [path, join(target, shards.at(-1)!)]) {
        const raw = await openRaw(file);
        assert.equal(raw.tensors.size, tensors.length);
        if (tensors.length > 0) assert.equal(raw.metadata.note, "空 ok");
        for (const { name, dtype, shape, read } of tensors) {
          const found = raw.tensors.get(name)!;
          assert.equal(found.dtype, dtype);
          assert.deepEqual(found.shape, shape);
          const expected = await read();
          assert.equal(found.location!.byteOffset % expected.BYTES_PER_ELEMENT, 0);
          assert.deepEqual(await found.read(), expected);
          const half = Math.floor(elementCount(shape) / 2);
          assert.deepEqual(await found.read(half), expected.subarray(half));
        }
        await raw.close();
      }
      const header = readFileSync(path);
      assert.equal((8 + Number(header.readBigUInt64LE(0))) % 64, 0);
    }),
    { seed: 11, numRuns: 60 },
  );
});

test("a failing tensor leaves the old file", async (t) => {
  const folder = scratch(t);
  const path = join(folder, "a.safetensors");
  const [good] = tensorsOf([{ name: "a", dtype: "float32", shape: [2] }]);
  await writeSafetensors(path, [good!]);
  const old = readFileSync(path);
  const failing = { ...good!, read: () => Promise.reject(new RangeError("lost")) };
  await assert.rejects(writeSafetensors(path, [failing]), RangeError);
  await assert.rejects(writeSafetensors(path, [{ ...good!, shape: [3] }]), /internal/);
  await assert.rejects(writeSafetensors(path, [good!, good!]), /internal/);
  assert.deepEqual(readFileSync(path), old);
  assert.deepEqual(readdirSync(folder), ["a.safetensors"]);
});

test("an index that leaves its folder or disagrees with its files is refused", async (t) => {
  const folder = scratch(t);
  const path = join(folder, "model.safetensors.index.json");
  const withMap = (map: unknown) => writeFileSync(path, JSON.stringify({ weight_map: map }));
  const refusedIndex = (error: unknown) => error instanceof CpmError && error.code === "CPM_CHECKPOINT_INDEX";
  for (const file of ["../x.safetensors", "/etc/passwd", "a/b", "..", ".hidden", "", 3, "a\\b", "x..y"]) {
    withMap({ a: file });
    await assert.rejects(readShardIndex(path), refusedIndex, String(file));
  }
  for (const map of [undefined, [], "x"]) {
    withMap(map);
    await assert.rejects(readShardIndex(path), refusedIndex);
  }
  await writeSafetensors(join(folder, "x.safetensors"), tensorsOf([{ name: "a", dtype: "bool", shape: [1] }]));
  withMap({ a: "x.safetensors", b: "x.safetensors" });
  await assert.rejects(openRaw(path), refusedIndex);
  withMap({ b: "x.safetensors" });
  await assert.rejects(openRaw(path), refusedIndex);
  withMap({ a: "y.safetensors" });
  await assert.rejects(openRaw(path), (error) => error instanceof CpmError && error.code === "CPM_FILE_NOT_FOUND");
  symlinkSync(join(folder, "x.safetensors"), join(folder, "y.safetensors"));
  const raw = await openRaw(path); // links are how caches keep files
  assert.equal(raw.tensors.size, 1);
  await raw.close();
});
