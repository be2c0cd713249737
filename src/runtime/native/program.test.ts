import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { port, tinyProgram } from "../../../test/support/tiny-onnx.ts";
import type { DeviceTensor } from "../runtime.ts";
import { createNativeRuntime } from "./runtime.ts";

const runtime = createNativeRuntime({ threads: 2 });
after(() => runtime.dispose());

const vector = (values: readonly number[]) => runtime.upload(Float32Array.from(values), "float32", [values.length]);
const values = (tensor: DeviceTensor | undefined) => Array.from(tensor!.view() as Float32Array);

const add = () =>
  runtime.compile(
    tinyProgram({
      name: "add",
      inputs: [port("a", "float32", ["N"]), port("b", "float32", ["N"])],
      outputs: [port("c", "float32", ["N"])],
      nodes: [{ op: "Add", inputs: ["a", "b"], outputs: ["c"], name: "sum" }],
    }),
  );

/** Some 100 ms of matrix products on two threads. */
const slow = () =>
  runtime.compile(
    tinyProgram({
      name: "slow",
      inputs: [port("x", "float32", [1024, 1024])],
      outputs: [port("y", "float32", [1024, 1024])],
      nodes: ["x", "y1", "y2", "y3", "y4", "y5"].map((input, index, all) => ({
        op: "MatMul",
        inputs: [input, "x"],
        outputs: [all[index + 1] ?? "y"],
      })),
    }),
  );

test("a binding updates memory in place, at once and asynchronously", async () => {
  using program = await add();
  using a = vector([1, 2, 3]);
  using b = vector([10, 20, 30]);
  const binding = program.bind({ a, b }, { c: a });
  const view = a.view();
  binding.runSync();
  assert.deepEqual(Array.from(view as Float32Array), [11, 22, 33]);
  await binding.run();
  assert.deepEqual(values(a), [21, 42, 63]);
  binding.dispose();
});

test("sizes may change from run to run, down to nothing", async () => {
  using program = await add();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: -1000, max: 1000 }), { maxLength: 65 }), async (numbers) => {
      using a = vector(numbers);
      const { c } = await program.run({ a, b: a });
      assert.deepEqual(
        values(c),
        numbers.map((value) => value * 2),
      );
      c!.dispose();
    }),
    { numRuns: 30 },
  );
});

test("outputs of unknown shape are allocated and belong to the caller", async () => {
  using program = await runtime.compile(
    tinyProgram({
      name: "nonzero",
      inputs: [port("x", "float32", ["N"])],
      outputs: [port("where", "int64", [1, "found"]), port("double", "float32", ["N"])],
      nodes: [
        { op: "NonZero", inputs: ["x"], outputs: ["where"] },
        { op: "Add", inputs: ["x", "x"], outputs: ["double"] },
      ],
    }),
  );
  using x = vector([0, 5, 0, 7]);
  const before = runtime.memory();
  const { where, double } = await program.run({ x });
  assert.deepEqual(where!.shape, [1, 2]);
  assert.deepEqual(where!.view(), BigInt64Array.of(1n, 3n));
  assert.deepEqual(values(double), [0, 10, 0, 14]);
  assert.equal(runtime.memory().tensors, before.tensors + 2);
  where!.dispose();
  double!.dispose();
  assert.equal(runtime.memory().tensorBytes, before.tensorBytes);
});

test("an asynchronous run leaves the event loop free", async () => {
  using program = await slow();
  using x = runtime.allocate("float32", [1024, 1024]);
  using y = runtime.allocate("float32", [1024, 1024]);
  let turns = 0;
  let done = false;
  const binding = program.bind({ x }, { y });
  const run = binding.run().then(() => {
    done = true;
  });
  while (!done) {
    turns++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await run;
  assert.ok(turns > 100, `${turns} turns`);
});

test("one program runs several times at once", async () => {
  using program = await add();
  const results = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      using a = vector([index, 1]);
      using b = vector([1, index]);
      const { c } = await program.run({ a, b });
      using owned = c!;
      return values(owned);
    }),
  );
  assert.deepEqual(
    results,
    results.map((_, index) => [index + 1, index + 1]),
  );
});

test("what a run uses cannot be disposed before it ends", async () => {
  const inUse = { code: "CPM_RUNTIME_IN_USE" };
  const program = await slow();
  const x = runtime.allocate("float32", [1024, 1024]);
  const y = runtime.allocate("float32", [1024, 1024]);
  const binding = program.bind({ x }, { y });
  const run = binding.run();
  assert.throws(() => x.dispose(), inUse);
  assert.throws(() => y.dispose(), inUse);
  assert.throws(() => program.dispose(), inUse);
  assert.throws(() => binding.runSync(), inUse);
  assert.throws(() => binding.dispose(), inUse);
  await assert.rejects(binding.run(), inUse);
  assert.throws(() => runtime.dispose(), inUse);
  await run;
  for (const handle of [binding, program, x, y]) handle.dispose();
});

test("nothing works after its end, and nothing crashes", async () => {
  const ended = { code: "CPM_RUNTIME_DISPOSED" };
  const program = await add();
  const a = vector([1]);
  const b = vector([2]);
  const view = a.view();
  const binding = program.bind({ a, b }, { c: b });
  a.dispose();
  assert.equal(view.length, 0, "a stale view is empty");
  assert.equal(a.disposed, true);
  assert.throws(() => a.dispose(), ended);
  assert.throws(() => a.view(), ended);
  assert.throws(() => a.alias([1]), ended);
  assert.throws(() => runtime.write(a, Float32Array.of(1)), ended);
  await assert.rejects(runtime.download(a), ended);
  await assert.rejects(program.run({ a, b }), ended);
  assert.throws(() => binding.runSync(), ended);
  await assert.rejects(binding.run(), ended);
  program.dispose();
  assert.equal(program.disposed, true);
  assert.throws(() => program.dispose(), ended);
  assert.throws(() => program.bind({ a: b, b }, { c: b }), ended);
  await assert.rejects(program.run({ a: b, b }), ended);
  binding.dispose();
  assert.throws(() => binding.dispose(), ended);
  assert.throws(() => binding.runSync(), ended);
  b.dispose();
});

test("wrong tensors are named before ONNX Runtime sees them", async () => {
  using program = await add();
  using a = vector([1, 2, 3]);
  using short = vector([1]);
  using square = runtime.allocate("float32", [3, 3]);
  using whole = runtime.allocate("int64", [3]);
  const rejects = (inputs: Record<string, DeviceTensor>, code: string, message: RegExp) =>
    assert.rejects(program.run(inputs), (error: Error & { code: string }) => {
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.match(error.message, /program "add"/);
      return true;
    });
  await rejects({ a }, "CPM_RUNTIME_PORT", /expected: b: float32\[N\]/);
  await rejects({ a, b: a, extra: a }, "CPM_RUNTIME_PORT", /got: extra/);
  await rejects({ a, b: whole }, "CPM_RUNTIME_DTYPE", /input "b"\n {2}got: int64\[3\]\n {2}expected: float32\[N\]/);
  await rejects({ a, b: square }, "CPM_RUNTIME_SHAPE", /got: float32\[3, 3\]/);
  await rejects({ a, b: short }, "CPM_RUNTIME_SHAPE", /where N is 3 as in "a"/);
  await assert.rejects(program.run({ a, b: a }, { c: short }), { code: "CPM_RUNTIME_SHAPE" });
  await assert.rejects(program.run({ a, b: a }, { d: a }), { code: "CPM_RUNTIME_PORT" });
  assert.throws(() => program.bind({ a, b: a }, {}), { code: "CPM_RUNTIME_PORT" });
});

test("a failing node is named with its program", async () => {
  using program = await runtime.compile(
    tinyProgram({
      name: "broadcast",
      inputs: [port("a", "float32", ["N"]), port("b", "float32", ["M"])],
      outputs: [port("c", "float32", ["K"])],
      nodes: [{ op: "Add", inputs: ["a", "b"], outputs: ["c"], name: "layer.3/sum" }],
    }),
  );
  using a = vector([1, 2, 3]);
  using b = vector([1, 2]);
  using c = vector([0, 0, 0]);
  const failed = { code: "CPM_RUNTIME_RUN", where: 'program "broadcast", node "layer.3/sum" (Add)' };
  await assert.rejects(program.run({ a, b }), failed);
  const binding = program.bind({ a, b }, { c });
  assert.throws(() => binding.runSync(), failed);
  await assert.rejects(binding.run(), failed);
  using fits = vector([1]);
  program.bind({ a, b: fits }, { c }).runSync();
  assert.deepEqual(values(c), [2, 3, 4], "the program still works");
});

test("denormals are kept, on every thread alike", async () => {
  using program = await add();
  const size = 2 ** 20; // enough that all threads take part
  using tiny = runtime.upload(new Float32Array(size).fill(1e-40), "float32", [size]);
  const { c } = await program.run({ a: tiny, b: tiny });
  using sum = c!;
  assert.ok((sum.view() as Float32Array).every((value) => value === 2 * Math.fround(1e-40)));
});

test("allocating, compiling, running and disposing in a loop keeps the resident size flat", async () => {
  const round = async () => {
    using weights = runtime.allocate("float32", [256, 1024]);
    using program = await runtime.compile(
      tinyProgram({
        name: "round",
        inputs: [port("x", "float32", ["T", 256]), port("w", "float32", [256, 1024])],
        outputs: [port("y", "float32", ["T", 1024]), port("z", "float32", ["T", "unknown"])],
        nodes: [
          { op: "MatMul", inputs: ["x", "w"], outputs: ["y"] },
          { op: "Identity", inputs: ["y"], outputs: ["z"] },
        ],
      }),
      { constants: { w: weights } },
    );
    using x = runtime.allocate("float32", [512, 256]);
    for (let i = 0; i < 3; i++) {
      const { y, z } = await program.run({ x });
      y!.dispose();
      z!.dispose();
    }
    using y = runtime.allocate("float32", [512, 1024]);
    using z = runtime.allocate("float32", [512, 1024]);
    const binding = program.bind({ x }, { y, z });
    binding.runSync();
    await binding.run();
    binding.dispose();
    await assert.rejects(program.run({ x, w: x }));
  };
  const before = runtime.memory();
  for (let i = 0; i < 20; i++) await round();
  const warm = process.memoryUsage.rss();
  for (let i = 0; i < 60; i++) await round();
  const grown = process.memoryUsage.rss() - warm;
  // Each round touches some 17 MB: 60 rounds that forgot one 2 MB output would show 120 MB.
  assert.ok(grown < 24e6, `resident size grew by ${(grown / 1e6).toFixed(1)} MB`);
  const { tensors, programs, tensorBytes } = runtime.memory();
  assert.deepEqual(
    { tensors, programs, tensorBytes },
    { tensors: before.tensors, programs: before.programs, tensorBytes: before.tensorBytes },
  );
});
