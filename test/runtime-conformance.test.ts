/** What every runtime owes its callers: memory, ownership, ports, errors. Operators are compared in operators.test.ts. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  accumulateOutputs,
  add,
  createReferenceRuntime,
  dim,
  type Graph,
  mul,
  reshape,
  spec,
  trace,
} from "../src/graph/index.ts";
import { createNativeRuntime, type DeviceTensor, type Runtime } from "../src/runtime/index.ts";

const implementations: Readonly<Record<string, () => Runtime>> = {
  native: () => createNativeRuntime({ threads: 1 }),
  reference: () => createReferenceRuntime(),
};

const N = dim("N");
/** c = a + b of one length. */
const sum: Graph = trace("sum", ({ a, b }) => ({ c: add(a, b) }), {
  a: spec("float32", [N]),
  b: spec("float32", [N]),
});
const doubled: Graph = trace("doubled", ({ x, w }) => ({ flat: reshape(mul(x, w), [-1]) }), {
  x: spec("float32", [N, 2]),
  w: spec("float32", [2]),
});

const ended = { code: "CPM_RUNTIME_DISPOSED" };
const coded = (code: string) => ({ code });

for (const [kind, create] of Object.entries(implementations)) {
  suite(`${kind} runtime`, () => {
    const vector = (runtime: Runtime, ...data: number[]) =>
      runtime.upload(Float32Array.from(data), "float32", [data.length]);
    const values = (tensor: DeviceTensor) => Array.from(tensor.view(), Number);

    test("says what it is", () => {
      using runtime = create();
      assert.equal(runtime.info.kind, kind);
      assert.ok(runtime.info.availableProviders.length > 0 && runtime.info.threads >= 1);
    });

    test("memory is zeroed, counted once, and freed with the last tensor over it", () => {
      using runtime = create();
      const tensor = runtime.allocate("float32", [3, 4]);
      assert.deepEqual(tensor.view(), new Float32Array(12));
      const row = tensor.alias([4], 16);
      row.view().set([1, 2, 3, 4] as never);
      assert.deepEqual(values(tensor).slice(3, 9), [0, 1, 2, 3, 4, 0]);
      const { tensorBytes, tensors } = runtime.memory();
      assert.deepEqual({ tensorBytes, tensors }, { tensorBytes: 48, tensors: 2 });
      tensor.dispose();
      assert.deepEqual(values(row), [1, 2, 3, 4], "the memory lives on");
      const view = row.view();
      row.dispose();
      assert.equal(view.length, 0, "a stale view is empty");
      assert.equal(runtime.memory().tensorBytes, 0);
      assert.ok(runtime.memory().peakTensorBytes >= 48);
    });

    test("every dtype goes up and comes down; empty tensors exist", async () => {
      using runtime = create();
      const data = {
        float32: Float32Array.of(1.5, -2),
        float64: Float64Array.of(0.1, 2),
        int64: BigInt64Array.of(-5n, 2n ** 60n),
        int32: Int32Array.of(-1, 2 ** 31 - 1),
        int8: Int8Array.of(-128, 127),
        uint8: Uint8Array.of(0, 255),
        bool: Uint8Array.of(1, 0),
        float16: Uint16Array.of(0x3c00, 0xffff),
        bfloat16: Uint16Array.of(0x3f80, 1),
      } as const;
      for (const [dtype, array] of Object.entries(data)) {
        using tensor = runtime.upload(array, dtype as keyof typeof data, [2]);
        assert.deepEqual(await runtime.download(tensor), array);
      }
      using empty = runtime.allocate("float32", [0, 3]);
      assert.equal((await runtime.download(empty)).length, 0);
    });

    test("a shape is copied, and is a shape", () => {
      using runtime = create();
      const shape = [2, 3];
      using tensor = runtime.allocate("float32", shape);
      shape[0] = 9;
      assert.deepEqual(tensor.shape, [2, 3]);
      assert.throws(() => runtime.allocate("float32", [-1]), coded("CPM_RUNTIME_SHAPE"));
      assert.throws(() => runtime.allocate("float32", [1.5]), coded("CPM_RUNTIME_SHAPE"));
      assert.throws(() => tensor.alias([-2]), coded("CPM_RUNTIME_SHAPE"));
    });

    test("an alias stays inside of its tensor and begins at an element", () => {
      using runtime = create();
      using tensor = runtime.allocate("float32", [4]);
      using part = tensor.alias([2], 8);
      const refused = coded("CPM_RUNTIME_ALIAS");
      assert.throws(() => tensor.alias([5]), refused);
      assert.throws(() => tensor.alias([2], 12), refused);
      assert.throws(() => part.alias([2], 4), refused);
      assert.throws(() => tensor.alias([1], -4), refused);
      assert.throws(() => tensor.alias([1], 2), refused);
      assert.throws(() => tensor.alias([1], 4, "int64"), refused);
      assert.throws(() => tensor.alias([1], Number.NaN), refused);
    });

    test("host data must fit", () => {
      using runtime = create();
      using tensor = vector(runtime, 1, 2, 3);
      runtime.write(tensor, Float32Array.of(7, 8), 1);
      assert.deepEqual(values(tensor), [1, 7, 8]);
      assert.throws(() => runtime.write(tensor, Float32Array.of(1, 2), 2), coded("CPM_RUNTIME_SHAPE"));
      assert.throws(() => runtime.write(tensor, Float32Array.of(1), -1), coded("CPM_RUNTIME_SHAPE"));
      assert.throws(() => runtime.write(tensor, Int32Array.of(1)), coded("CPM_RUNTIME_DTYPE"));
      assert.throws(() => runtime.upload(Float32Array.of(1), "float32", [2]), coded("CPM_RUNTIME_SHAPE"));
      using longer = runtime.upload(Float32Array.of(1, 2, 3), "float32", [2]);
      assert.deepEqual(values(longer), [1, 2]);
      assert.equal(runtime.memory().tensors, 2, "a refused upload leaves nothing");
    });

    test("tensors end once", async () => {
      using runtime = create();
      const tensor = vector(runtime, 1);
      assert.equal(tensor.disposed, false);
      tensor.dispose();
      assert.equal(tensor.disposed, true);
      assert.throws(() => tensor.dispose(), ended);
      assert.throws(() => tensor.view(), ended);
      assert.throws(() => tensor.alias([1]), ended);
      assert.throws(() => runtime.write(tensor, Float32Array.of(1)), ended);
      await assert.rejects(runtime.download(tensor), ended);
      {
        using scoped = vector(runtime, 1);
        scoped.dispose(); // and the scope's end then does nothing
      }
      assert.equal(runtime.memory().tensors, 0);
    });

    test("programs and bindings end once", async () => {
      using runtime = create();
      const program = await runtime.compile(sum);
      const [a, b] = [vector(runtime, 1), vector(runtime, 2)];
      const binding = program.bind({ a, b }, { c: b });
      binding.runSync();
      await binding.run();
      assert.deepEqual(values(b), [4], "in place, twice");
      a.dispose();
      await assert.rejects(program.run({ a, b }), ended);
      assert.throws(() => program.bind({ a, b }, { c: b }), ended);
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
      {
        using scoped = await runtime.compile(sum);
        scoped.dispose();
      }
      assert.equal(runtime.memory().programs, 0);
    });

    test("a binding whose program is gone does not run", async () => {
      using runtime = create();
      const program = await runtime.compile(sum);
      using a = vector(runtime, 1);
      const binding = program.bind({ a, b: a }, { c: a });
      program.dispose();
      assert.throws(() => binding.runSync(), ended);
      await assert.rejects(binding.run(), ended);
    });

    test("a runtime ends once, with all that is in it", async () => {
      const runtime = create();
      const tensor = vector(runtime, 1);
      const program = await runtime.compile(sum);
      const binding = program.bind({ a: tensor, b: tensor }, { c: tensor });
      runtime.dispose();
      assert.ok(tensor.disposed && program.disposed);
      assert.throws(() => binding.runSync(), ended);
      assert.throws(() => runtime.dispose(), ended);
      assert.throws(() => runtime.allocate("float32", [1]), ended);
      assert.throws(() => runtime.upload(Float32Array.of(1), "float32", [1]), ended);
      assert.throws(() => runtime.memory(), ended);
      await assert.rejects(runtime.compile(sum), ended);
      await assert.rejects(runtime.download(tensor), ended);
      assert.throws(() => tensor.dispose(), ended);
      using scoped = create();
      scoped.dispose();
    });

    test("constants leave the inputs and outlive their programs", async () => {
      using runtime = create();
      const w = vector(runtime, 10, 20);
      const program = await runtime.compile(doubled, { constants: { w } });
      assert.deepEqual(
        program.inputs.map(({ name }) => name),
        ["x"],
      );
      const x = runtime.upload(Float32Array.of(1, 2, 3, 4), "float32", [2, 2]);
      const { flat } = await program.run({ x });
      assert.deepEqual(values(flat!), [10, 40, 30, 80]);
      assert.throws(() => w.dispose(), { code: "CPM_RUNTIME_IN_USE", where: 'program "doubled"' });
      program.dispose();
      for (const tensor of [w, x, flat!]) tensor.dispose();
      const short = vector(runtime, 1);
      await assert.rejects(runtime.compile(doubled, { constants: { w: short } }), coded("CPM_RUNTIME_SHAPE"));
      await assert.rejects(runtime.compile(doubled, { constants: { v: short } }), coded("CPM_RUNTIME_PORT"));
      short.dispose();
      assert.equal(runtime.memory().tensors, 0);
    });

    test("wrong tensors are refused, and nothing is left behind", async () => {
      using runtime = create();
      using program = await runtime.compile(sum);
      using a = vector(runtime, 1, 2, 3);
      using short = vector(runtime, 1);
      using square = runtime.allocate("float32", [3, 3]);
      using whole = runtime.allocate("int32", [3]);
      const before = runtime.memory().tensors;
      const rejects = (inputs: Record<string, DeviceTensor>, code: string, outputs = {}) =>
        assert.rejects(program.run(inputs, outputs), { code, where: /program "sum"/ });
      await rejects({ a }, "CPM_RUNTIME_PORT");
      await rejects({ a, b: a, extra: a }, "CPM_RUNTIME_PORT");
      await rejects({ a, b: whole }, "CPM_RUNTIME_DTYPE");
      await rejects({ a, b: square }, "CPM_RUNTIME_SHAPE");
      await rejects({ a, b: short }, "CPM_RUNTIME_SHAPE");
      await rejects({ a, b: a }, "CPM_RUNTIME_SHAPE", { c: short });
      await rejects({ a, b: a }, "CPM_RUNTIME_PORT", { d: a });
      assert.throws(() => program.bind({ a, b: a }, {}), coded("CPM_RUNTIME_PORT"));
      assert.throws(() => program.bind({ a, b: short }, { c: a }), coded("CPM_RUNTIME_SHAPE"));
      assert.throws(() => program.bind({ a, b: a }, { c: short }), coded("CPM_RUNTIME_SHAPE"));
      assert.equal(runtime.memory().tensors, before);
    });

    test("tensors of another runtime are refused", async () => {
      using runtime = create();
      using other = createReferenceRuntime();
      using program = await runtime.compile(sum);
      using own = vector(runtime, 1);
      using foreign = vector(other, 1);
      const refused = coded("CPM_RUNTIME_FOREIGN");
      await assert.rejects(program.run({ a: own, b: foreign }), refused);
      assert.throws(() => program.bind({ a: own, b: own }, { c: foreign }), refused);
      assert.throws(() => runtime.write(foreign, Float32Array.of(1)), refused);
      await assert.rejects(runtime.download(foreign), refused);
    });

    test("outputs that are not given are allocated for the caller, in the shape that the run finds", async () => {
      using runtime = create();
      using program = await runtime.compile(doubled);
      using w = vector(runtime, 1, 1);
      for (const rows of [3, 1, 0]) {
        using x = runtime.allocate("float32", [rows, 2]);
        const { flat } = await program.run({ x, w });
        assert.deepEqual(flat!.shape, [2 * rows]);
        flat!.dispose();
      }
    });

    test("outputs add up in place", async () => {
      using runtime = create();
      using program = await runtime.compile(accumulateOutputs(sum, (name) => name === "c"));
      using a = vector(runtime, 1, 2);
      using total = runtime.allocate("float32", [2]);
      const binding = program.bind({ a, b: a, "sum.c": total }, { c: total });
      for (let i = 0; i < 3; i++) binding.runSync();
      assert.deepEqual(values(total), [6, 12]);
      binding.dispose();
    });
  });
}
