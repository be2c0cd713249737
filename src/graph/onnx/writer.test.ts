/** Emitted programs on the native runtime; each operator's own form is checked in test/operators.test.ts. */
import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import { assertClose } from "../../../test/support/close.ts";
import { runOnce } from "../../../test/support/device.ts";
import { createNativeRuntime } from "../../runtime/index.ts";
import { addDims, dim, mulDims, subDims } from "../dim.ts";
import { evaluateGraph } from "../evaluate.ts";
import { trace } from "../graph.ts";
import {
  add,
  addRows,
  boundary,
  broadcastTo,
  cast,
  constant,
  crossEntropy,
  iota,
  matmul,
  mul,
  reduceMean,
  reshape,
  scalar,
  scatterAddRows,
  size,
  slice,
  stopGradient,
} from "../operators/index.ts";
import { spec } from "../tensor.ts";
import { writeOnnx } from "./writer.ts";

const runtime = createNativeRuntime({ threads: 1 });
after(() => runtime.dispose());

const floats = (shape: readonly number[], data: readonly number[]) => ({ dtype: "float32" as const, shape, data });

suite("emission", () => {
  test("symbolic sizes are computed from the shapes of the inputs", async () => {
    const [B, T] = [dim("B"), dim("T")];
    const graph = trace(
      "sizes",
      ({ x }) => ({
        polynomial: size(addDims(mulDims(mulDims(B, B), 3), subDims(T, 1)), "int32"),
        repeated: broadcastTo(scalar(7), [addDims(T, B), 2]),
        flat: reshape(x, [-1]),
        counting: iota(mulDims(B, T)),
        last: slice(x, 1, subDims(T, 1), T),
      }),
      { x: spec("float32", [B, T]) },
    );
    const { polynomial, repeated, flat, counting, last } = await runOnce(runtime, graph, {
      x: floats([2, 3], [1, 2, 3, 4, 5, 6]),
    });
    assert.deepEqual(polynomial!.data, [3 * 4 + 3 - 1]);
    assert.deepEqual([repeated!.shape, repeated!.data], [[5, 2], Array(10).fill(7)]);
    assert.deepEqual([flat!.shape, flat!.data], [[6], [1, 2, 3, 4, 5, 6]]);
    assert.deepEqual(counting!.data, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(
      [last!.shape, last!.data],
      [
        [2, 1],
        [3, 6],
      ],
    );
  });

  test("a size that no input tells is our mistake", () => {
    const graph = trace("nowhere", ({ x }) => ({ y: mul(x, size(dim("T"))) }), { x: spec("float32", [dim("B")]) });
    assert.throws(() => writeOnnx(graph, { target: "cpu" }), /no input of nowhere tells the size T/);
  });

  test("constants are initializers whose memory the runtime supplies", async () => {
    const graph = trace("linear", ({ x, w }) => ({ y: matmul(x, w, { transposeB: true, alpha: 0.5 }) }), {
      x: spec("float32", [dim("B"), 3]),
      w: spec("float32", [2, 3]),
    });
    const bytes = writeOnnx(graph, { target: "cpu", constants: new Set(["w"]) });
    assert.ok(bytes.length < 400, "the values are not in the file");
    const w = runtime.upload(Float32Array.of(1, 2, 3, 4, 5, 6), "float32", [2, 3]);
    const program = await runtime.compile(graph, { constants: { w } });
    assert.deepEqual(
      program.inputs.map(({ name }) => name),
      ["x"],
    );
    const x = runtime.upload(Float32Array.of(1, 0, 1), "float32", [1, 3]);
    const { y } = await program.run({ x });
    assert.deepEqual(Array.from(y!.view(), Number), [2, 5]);
    for (const thing of [y!, program, x, w]) thing.dispose();
    const symbolic = trace("f", ({ x: t }) => ({ y: mul(t, 2) }), { x: spec("float32", [dim("B")]) });
    assert.throws(() => writeOnnx(symbolic, { target: "cpu", constants: new Set(["x"]) }), /symbolic size/);
  });

  test("equal literals are written once, of every dtype", async () => {
    const big = Array.from({ length: 1000 }, (_, i) => i);
    const twice = trace("twice", ({ x }) => ({ y: add(add(x, constant(big, "float32")), constant(big, "float32")) }), {
      x: spec("float32", [1000]),
    });
    assert.ok(writeOnnx(twice, { target: "cpu" }).length > 8000, "named literals stay two until optimize()");
    const graph = trace(
      "dtypes",
      ({ x }) => ({
        float64: mul(cast(x, "float64"), constant([0.1, -0.2], "float64")),
        float16: cast(mul(cast(x, "float16"), constant([0.5, 2], "float16")), "float32"),
        int64: add(cast(x, "int64"), constant([2 ** 20, -3], "int64")),
        bool: cast(constant([1, 0], "bool"), "float32"),
        infinite: constant([Number.POSITIVE_INFINITY, -0], "float32"),
      }),
      { x: spec("float32", [2]) },
    );
    const results = await runOnce(runtime, graph, { x: floats([2], [3, 4]) });
    assertClose(results.float64!.data, [0.1 * 3, -0.8], 1e-15);
    assert.deepEqual(results.float16!.data.length, 2);
    assert.deepEqual(results.float16!.data, [1.5, 8]);
    assert.deepEqual(results.int64!.data, [2 ** 20 + 3, 1]);
    assert.deepEqual(results.bool!.data, [1, 0]);
    assert.deepEqual(results.infinite!.data, [Number.POSITIVE_INFINITY, -0]);
  });

  test("inputs as outputs, one value under two names, marks, literals as outputs", async () => {
    const graph = trace(
      "names",
      ({ x }) => {
        const y = mul(x, 3);
        return { same: x, y, again: y, marked: boundary(y), inner: add(stopGradient(boundary(y)), 1), one: scalar(1) };
      },
      { x: spec("float32", [2]) },
    );
    const results = await runOnce(runtime, graph, { x: floats([2], [1, 2]) });
    for (const name of ["y", "again", "marked"]) assert.deepEqual(results[name]!.data, [3, 6], name);
    assert.deepEqual(results.same!.data, [1, 2]);
    assert.deepEqual(results.inner!.data, [4, 7]);
    assert.deepEqual(results.one!.data, [1]);
  });

  test("ports may be named like values inside", async () => {
    const names = Array.from({ length: 12 }, (_, i) => `mul_${i}`);
    const graph = trace(
      "clash",
      (args) => ({ out: names.reduce((sum, name) => add(mul(sum, 2), args[name]!), scalar(0)) }),
      Object.fromEntries(names.map((name) => [name, spec("float32", [])])),
    );
    const inputs = Object.fromEntries(names.map((name, i) => [name, floats([], [i])]));
    const expected = names.reduce((sum, _, i) => 2 * sum + i, 0);
    assert.deepEqual((await runOnce(runtime, graph, inputs)).out!.data, [expected]);
  });

  test("sums by index are never left to several threads", () => {
    const graph = trace("rows", ({ ids, x }) => ({ y: scatterAddRows(4, ids, x), z: addRows(x, ids, x) }), {
      ids: spec("int32", [3]),
      x: spec("float32", [3, 2]),
    });
    // ScatterND adds in parallel, without locks: for one thread, or where no row is added to twice.
    const uses = (oneThread: boolean) =>
      Buffer.from(writeOnnx(graph, { target: "cpu", oneThread })).includes("ScatterND");
    assert.deepEqual([uses(false), uses(true)], [false, true]);
  });

  test("double precision all through", async () => {
    const graph = trace("double", ({ x, ids }) => ({ loss: reduceMean(crossEntropy(x, ids)) }), {
      x: spec("float64", [2, 3]),
      ids: spec("int32", [2]),
    });
    const x = { dtype: "float64" as const, shape: [2, 3], data: [0.1, 0.2, 0.3, -1, 0, 1] };
    const ids = { dtype: "int32" as const, shape: [2], data: [2, -100] };
    const expected = evaluateGraph(graph, {
      x: { ...x, data: Float64Array.from(x.data) },
      ids: { ...ids, data: Int32Array.from(ids.data) },
    });
    assertClose((await runOnce(runtime, graph, { x, ids })).loss!.data, expected.loss!.data, 1e-14);
  });
});
