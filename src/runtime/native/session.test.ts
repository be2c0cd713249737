import assert from "node:assert/strict";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { port, tinyProgram } from "../../../test/support/tiny-onnx.ts";
import type { CompileOptions, DeviceTensor } from "../runtime.ts";
import { createNativeRuntime } from "./runtime.ts";

const runtime = createNativeRuntime({ threads: 2 });
const folder = mkdtempSync(join(tmpdir(), "cpm-session-"));
after(() => {
  runtime.dispose();
  rmSync(folder, { recursive: true });
});

/** y = x·w, with w [size, size]. */
const product = (size: number, op = "MatMul") =>
  tinyProgram({
    name: `product${size}`,
    inputs: [port("x", "float32", ["T", size]), port("w", "float32", [size, size])],
    outputs: [port("y", "float32", ["T", size])],
    nodes: [{ op, inputs: ["x", "w"], outputs: ["y"] }],
  });

function weights(size: number): DeviceTensor {
  const tensor = runtime.allocate("float32", [size, size]);
  const view = tensor.view() as Float32Array;
  for (let i = 0; i < view.length; i++) view[i] = ((i * 7) % 11) - 5;
  return tensor;
}

async function productOf(source: ReturnType<typeof product>, x: DeviceTensor, options: CompileOptions) {
  using program = await runtime.compile(source, options);
  const { y } = await program.run({ x });
  using owned = y!;
  return Array.from(owned.view() as Float32Array);
}

test("a constant leaves the inputs, gives the same result, and must outlive the program", async () => {
  using w = weights(8);
  using x = runtime.upload(
    Float32Array.from({ length: 16 }, (_, i) => i),
    "float32",
    [2, 8],
  );
  using asInput = await runtime.compile(product(8));
  const { y: expected } = await asInput.run({ x, w });
  using expectedOwned = expected!;
  const program = await runtime.compile(product(8), { constants: { w } });
  assert.deepEqual(
    program.inputs.map(({ name }) => name),
    ["x"],
  );
  const { y } = await program.run({ x });
  using owned = y!;
  assert.deepEqual(owned.view(), expectedOwned.view());
  assert.throws(() => w.dispose(), { code: "CPM_RUNTIME_IN_USE", where: 'program "product8"' });
  program.dispose();
});

test("wrong constants are named", async () => {
  using w = weights(8);
  using small = weights(4);
  await assert.rejects(runtime.compile(product(8), { constants: { v: w } }), { code: "CPM_RUNTIME_PORT", got: "v" });
  await assert.rejects(runtime.compile(product(8), { constants: { w: small } }), {
    code: "CPM_RUNTIME_SHAPE",
    expected: "float32[8, 8]",
  });
});

test("a constant that no kernel packs is shared with the caller, not copied", async () => {
  // Doubling a 64 MB table would show; Gather reads rows in place.
  using table = runtime.allocate("float32", [2 ** 14, 2 ** 10]);
  table.view().fill(3 as never);
  using row = runtime.upload(BigInt64Array.of(5n), "int64", [1]);
  const source = tinyProgram({
    name: "rows",
    inputs: [port("table", "float32", [2 ** 14, 2 ** 10]), port("row", "int64", [1])],
    outputs: [port("y", "float32", [1, 2 ** 10])],
    nodes: [{ op: "Gather", inputs: ["table", "row"], outputs: ["y"] }],
  });
  const before = process.memoryUsage.rss();
  using first = await runtime.compile(source, { constants: { table } });
  using second = await runtime.compile(source, { constants: { table } });
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 16e6, `resident size grew by ${grown / 1e6} MB`);
  (table.view() as Float32Array)[5 * 2 ** 10] = 4;
  for (const program of [first, second]) {
    const { y } = await program.run({ row });
    assert.deepEqual(Array.from((y!.view() as Float32Array).subarray(0, 2)), [4, 3], "it is the same memory");
    y!.dispose();
  }
});

test("programs around the same constants share their packed form", async () => {
  const size = 3072; // 38 MB: above what malloc keeps for itself
  using w = weights(size);
  using x = runtime.allocate("float32", [1, size]);
  const grown: number[] = [];
  const programs = [];
  for (let i = 0; i < 4; i++) {
    const before = process.memoryUsage.rss();
    const program = await runtime.compile(product(size), { constants: { w } });
    (await program.run({ x })).y!.dispose();
    programs.push(program);
    grown.push(process.memoryUsage.rss() - before);
  }
  for (const program of programs) program.dispose();
  assert.ok(grown[0]! > 30e6, `the first packs: ${grown}`);
  assert.ok(grown[1]! + grown[2]! + grown[3]! < 12e6, `the others share: ${grown}`);
});

test("a program that cannot be compiled says which and where", async () => {
  const unknown = tinyProgram({
    name: "unknown",
    inputs: [port("x", "float32", [2, 3])],
    outputs: [port("y", "float32", [2, 3])],
    nodes: [{ op: "Frobnicate", inputs: ["x"], outputs: ["y"], name: "layer.0/frobnicate" }],
  });
  await assert.rejects(runtime.compile(unknown), {
    code: "CPM_RUNTIME_COMPILE",
    where: 'program "unknown", node "layer.0/frobnicate" (Frobnicate)',
  });
  const misshapen = tinyProgram({
    ...unknown,
    nodes: [{ op: "MatMul", inputs: ["x", "x"], outputs: ["y"], name: "mm" }],
  });
  await assert.rejects(runtime.compile(misshapen), {
    code: "CPM_RUNTIME_COMPILE",
    where: 'program "unknown", node "mm" (MatMul)',
  });
  const garbage = { ...unknown, onnx: () => Uint8Array.of(255, 1, 2, 3) };
  await assert.rejects(runtime.compile(garbage), { code: "CPM_RUNTIME_COMPILE", where: 'program "unknown"' });
  const empty = { ...unknown, onnx: () => new Uint8Array(0) };
  await assert.rejects(runtime.compile(empty), { code: "CPM_RUNTIME_COMPILE" });
  const renamed = { ...product(8), outputs: [port("z", "float32", ["T", 8])] };
  await assert.rejects(runtime.compile(renamed), { code: "CPM_RUNTIME_COMPILE", got: "y", expected: "z" });
});

test("a profile is complete after dispose and names the nodes", async () => {
  const profilePath = join(folder, "profile");
  using w = weights(8);
  using x = runtime.allocate("float32", [1, 8]);
  await productOf(product(8), x, { constants: { w }, profilePath });
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith("profile")),
    ["profile.json"],
  );
  const events = JSON.parse(readFileSync(`${profilePath}.json`, "utf8")) as {
    cat: string;
    args?: { op_name?: string };
  }[];
  assert.ok(events.some((event) => event.cat === "Node" && event.args?.op_name === "MatMul"));
});

test("packed weights are saved, mapped back, and rebuilt when stale or damaged", async () => {
  const prepackedPath = join(folder, "product.onnx");
  const data = `${prepackedPath}.data`;
  using w = weights(256);
  using x = runtime.upload(
    Float32Array.from({ length: 256 }, (_, i) => i % 5),
    "float32",
    [1, 256],
  );
  const expected = await productOf(product(256), x, { constants: { w } });
  const run = (options: CompileOptions = {}) =>
    productOf(product(256), x, { constants: { w }, prepackedPath, ...options });
  const stamp = () => statSync(prepackedPath).ino;

  assert.deepEqual(await run(), expected);
  assert.ok(statSync(data).size >= w.byteLength);
  const first = stamp();
  assert.deepEqual(await run(), expected);
  assert.equal(stamp(), first, "a current cache is used as it is");

  const damage = {
    "one byte of the data": () => {
      const bytes = readFileSync(data);
      bytes[200_001]! ^= 1;
      writeFileSync(data, bytes);
    },
    "shorter data": () => truncateSync(data, 1000),
    "no data": () => rmSync(data),
    "one byte of the model": () => {
      const bytes = readFileSync(prepackedPath);
      bytes[40]! ^= 1;
      writeFileSync(prepackedPath, bytes);
    },
    "an empty model": () => truncateSync(prepackedPath, 0),
  };
  for (const [name, spoil] of Object.entries(damage)) {
    const before = stamp();
    spoil();
    assert.deepEqual(await run(), expected, name);
    assert.notEqual(stamp(), before, `${name}: rebuilt`);
  }

  const before = stamp();
  (w.view() as Float32Array)[0]! += 1;
  const changed = await productOf(product(256), x, { constants: { w } });
  assert.deepEqual(await run(), changed, "other constants");
  assert.notEqual(stamp(), before);
  const level = stamp();
  await run({ optimization: "basic" });
  assert.notEqual(stamp(), level, "another optimization level");
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.includes(".new-")),
    [],
    "nothing is left over",
  );
});

test("a cache with a key for its constants does not read them", async () => {
  const prepackedPath = join(folder, "keyed.onnx");
  using w = weights(256);
  using x = runtime.upload(new Float32Array(256).fill(1), "float32", [1, 256]);
  const run = (constantsKey: string) => productOf(product(256), x, { constants: { w }, prepackedPath, constantsKey });
  const old = await run("step 1");
  w.view().fill(0 as never);
  assert.deepEqual(await run("step 1"), old, "the key alone counts");
  assert.deepEqual(await run("step 2"), Array(256).fill(0));
  // The constants may go: the program has its own.
  using program = await runtime.compile(product(256), { constants: { w }, prepackedPath, constantsKey: "step 2" });
  using copy = w.alias([256, 256]);
  copy.dispose();
  assert.equal(program.disposed, false);
  assert.ok(existsSync(prepackedPath));
});

test("an unwritable cache is an error that names the folder", async () => {
  using w = weights(8);
  const prepackedPath = join(folder, "absent", "product.onnx");
  await assert.rejects(runtime.compile(product(8), { constants: { w }, prepackedPath }), {
    code: "CPM_RUNTIME_PREPACKED",
    where: prepackedPath,
  });
  w.view();
});
