import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { port, tinyProgram } from "../../../test/support/tiny-onnx.ts";
import { UnsupportedError } from "../../util/error.ts";
import { libraryPath } from "./library.ts";
import { createNativeRuntime } from "./runtime.ts";
import { nodeOf } from "./status.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-runtime-"));
after(() => rmSync(folder, { recursive: true }));

const negate = tinyProgram({
  name: "negate",
  inputs: [port("x", "float32", ["N"])],
  outputs: [port("y", "float32", ["N"])],
  nodes: [{ op: "Neg", inputs: ["x"], outputs: ["y"] }],
});

test("the library is found for every platform that onnxruntime-node carries", () => {
  for (const [platform, arch] of [
    ["linux", "x64"],
    ["linux", "arm64"],
    ["darwin", "arm64"],
    ["win32", "x64"],
    ["win32", "arm64"],
  ] as const) {
    assert.ok(existsSync(libraryPath(platform, arch)), `${platform} ${arch}`);
  }
  assert.throws(() => libraryPath("aix", "ppc64"), { code: "CPM_RUNTIME_LIBRARY", got: "aix ppc64" });
});

test("a runtime tells what it is and ends with all that is in it", async () => {
  const runtime = createNativeRuntime({ threads: 1 });
  assert.equal(runtime.info.kind, "native");
  assert.match(runtime.info.version, /^1\.\d+\.\d+/);
  assert.equal(runtime.info.threads, 1);
  assert.ok(runtime.info.availableProviders.includes("CPUExecutionProvider"));
  const program = await runtime.compile(negate);
  const tensor = runtime.allocate("float32", [4]);
  const view = tensor.view();
  runtime.dispose();
  const ended = { code: "CPM_RUNTIME_DISPOSED" };
  assert.equal(view.length, 0);
  assert.equal(program.disposed, true);
  assert.equal(tensor.disposed, true);
  assert.throws(() => runtime.dispose(), ended);
  assert.throws(() => runtime.allocate("float32", [1]), ended);
  assert.throws(() => runtime.memory(), ended);
  await assert.rejects(runtime.compile(negate), ended);
});

test("runtimes of one process agree on threads, one after another need not", async () => {
  const run = async (threads: number) => {
    using runtime = createNativeRuntime({ threads });
    using beside = createNativeRuntime({ threads });
    assert.throws(() => createNativeRuntime({ threads: threads + 1 }), { code: "CPM_RUNTIME_THREADS" });
    assert.throws(() => createNativeRuntime({ threads, spin: false }), { code: "CPM_RUNTIME_THREADS" });
    using program = await runtime.compile(negate);
    using x = runtime.upload(Float32Array.of(1, 2), "float32", [2]);
    using foreign = beside.upload(Float32Array.of(1, 2), "float32", [2]);
    const { y } = await program.run({ x });
    assert.deepEqual(Array.from(y!.view() as Float32Array), [-1, -2]);
    await assert.rejects(program.run({ x: foreign }), { code: "CPM_RUNTIME_FOREIGN" });
    await assert.rejects(runtime.download(foreign), { code: "CPM_RUNTIME_FOREIGN" });
  };
  for (const threads of [1, 2, 3]) await run(threads);
});

test("wrong settings are refused", () => {
  assert.throws(() => createNativeRuntime({ threads: 0 }), { code: "CPM_RUNTIME_THREADS" });
  assert.throws(() => createNativeRuntime({ threads: 1.5 }), { code: "CPM_RUNTIME_THREADS" });
  assert.throws(() => createNativeRuntime({ device: "tpu" as never }), { code: "CPM_RUNTIME_DEVICE" });
  assert.throws(() => createNativeRuntime({ device: "cuda" }), { code: "CPM_RUNTIME_UNSUPPORTED" });
  assert.throws(() => createNativeRuntime({ libraryPath: join(folder, "absent.so") }), { code: "CPM_RUNTIME_LIBRARY" });
});

test("WebGPU works or says what is missing", async () => {
  try {
    using runtime = createNativeRuntime({ threads: 1, device: "webgpu" });
    assert.equal(runtime.info.provider, "webgpu");
    using program = await runtime.compile(negate);
    using x = runtime.upload(Float32Array.of(1, 2), "float32", [2]);
    const { y } = await program.run({ x });
    assert.deepEqual(y!.view(), Float32Array.of(-1, -2));
  } catch (error) {
    assert.ok(error instanceof UnsupportedError, String(error));
    assert.equal(error.code, "CPM_RUNTIME_UNSUPPORTED");
  }
  using after = createNativeRuntime({ threads: 2 }); // the failed attempt holds nothing
  assert.equal(after.info.provider, "cpu");
});

test("a tensor over a file reads the file, is never written, and stays within it", async () => {
  const path = join(folder, "weights.bin");
  const stored = Float32Array.from({ length: 5000 }, (_, i) => i);
  writeFileSync(path, stored);
  using runtime = createNativeRuntime({ threads: 1 });
  using program = await runtime.compile(negate);
  for (const byteOffset of [0, 4, 4096, 8004]) {
    using x = runtime.mapTensor(path, byteOffset, "float32", [3]);
    const { y } = await program.run({ x });
    const first = byteOffset / 4;
    assert.deepEqual(y!.view(), Float32Array.of(-first, -first - 1, -first - 2));
    assert.deepEqual(await runtime.download(x), Float32Array.of(first, first + 1, first + 2));
    assert.throws(() => runtime.write(x, Float32Array.of(1)), { code: "CPM_RUNTIME_READ_ONLY" });
    assert.throws(() => program.bind({ x: y! }, { y: x }), { code: "CPM_RUNTIME_READ_ONLY" });
    if (process.platform !== "win32") assert.throws(() => x.view(), { code: "CPM_RUNTIME_UNSUPPORTED" });
    y!.dispose();
  }
  // Not at an element: copied, so it has a view.
  using odd = runtime.mapTensor(path, 1, "uint8", [4]);
  using shifted = runtime.mapTensor(path, 2, "float32", [1]);
  assert.deepEqual(await runtime.download(odd), Uint8Array.of(0, 0, 0, 0));
  assert.equal(shifted.view().length, 1);
  using nothing = runtime.mapTensor(path, 20_000, "float32", [0]);
  assert.equal(nothing.byteLength, 0);
  const outside = { code: "CPM_RUNTIME_MAP" };
  assert.throws(() => runtime.mapTensor(path, 19_997, "float32", [1]), outside);
  assert.throws(() => runtime.mapTensor(path, -4, "float32", [1]), outside);
  assert.throws(() => runtime.mapTensor(path, 2 ** 60, "float32", [1]), outside);
  assert.throws(() => runtime.mapTensor(join(folder, "absent"), 0, "float32", [1]), outside);
});

test("a mapped tensor serves as a constant, and mapping in a loop leaves nothing", async () => {
  const path = join(folder, "matrix.bin");
  const size = 512;
  writeFileSync(path, new Float32Array(size * size).fill(0.5));
  using runtime = createNativeRuntime({ threads: 1 });
  const product = tinyProgram({
    name: "product",
    inputs: [port("x", "float32", ["T", size]), port("w", "float32", [size, size])],
    outputs: [port("y", "float32", ["T", size])],
    nodes: [{ op: "MatMul", inputs: ["x", "w"], outputs: ["y"] }],
  });
  using x = runtime.upload(new Float32Array(size).fill(1), "float32", [1, size]);
  const round = async () => {
    using w = runtime.mapTensor(path, 0, "float32", [size, size]);
    using program = await runtime.compile(product, { constants: { w } });
    const { y } = await program.run({ x });
    assert.equal((y!.view() as Float32Array)[17], size / 2);
    y!.dispose();
  };
  for (let i = 0; i < 5; i++) await round();
  const warm = process.memoryUsage.rss();
  for (let i = 0; i < 100; i++) await round();
  const grown = process.memoryUsage.rss() - warm;
  // Four threads compile, and each keeps a heap of the 1 MB that it packed. Rounds that forgot such a block, or a mapping
  // of it, would show 100 MB.
  assert.ok(grown < 16e6, `resident size grew by ${grown / 1e6} MB`);
});

test("nodes are found in the messages of ONNX Runtime", () => {
  assert.equal(nodeOf("Non-zero status code returned while running Add node. Name:'a.b' Status"), '"a.b" (Add)');
  assert.equal(nodeOf("Node (mm) Op (MatMul) [ShapeInferenceError] …"), '"mm" (MatMul)');
  assert.equal(nodeOf('In Node, ("x/y", Nope, "", -1) : ("a": tensor(float),)'), '"x/y" (Nope)');
  assert.equal(nodeOf("Could not find an implementation for Gelu(20) node with name 'act'"), '"act"');
  assert.equal(nodeOf("invalid protobuf"), undefined);
});
