import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { dim } from "./dim.ts";
import { createGraph, inputsFor, named, nodesFor, trace } from "./graph.ts";
import { add, cast, concat, matmul, mul, reduceSum, reshape, slice, transpose } from "./operators/index.ts";
import { input } from "./operators/mark.ts";
import { spec, type Tensor } from "./tensor.ts";

suite("tracing", () => {
  test("ports are named by their paths and typed by the specs", () => {
    const graph = trace("pair", ({ params, x }) => ({ sum: add(params.w, x), parts: [x, mul(x, params.list[0]!)] }), {
      params: { w: spec("float32", [dim("N"), 3]), list: [spec("float32", [3])] },
      x: spec("float32", [dim("N"), 3]),
    });
    assert.equal(graph.name, "pair");
    assert.deepEqual(graph.inputs, [
      { name: "params.w", dtype: "float32", shape: ["N", 3] },
      { name: "params.list.0", dtype: "float32", shape: [3] },
      { name: "x", dtype: "float32", shape: ["N", 3] },
    ]);
    assert.deepEqual(
      graph.outputs.map(({ name }) => name),
      ["sum", "parts.0", "parts.1"],
    );
  });

  test("nodes are what the outputs need, each after its inputs", () => {
    const graph = trace(
      "f",
      ({ x, unused }) => {
        mul(x, 7); // needed by nothing
        void unused;
        const y = add(x, 1);
        return { z: mul(y, reduceSum(y)) };
      },
      { x: spec("float32", [3]), unused: spec("float32", []) },
    );
    const seen = new Set<Tensor>();
    for (const node of graph.nodes) {
      for (const tensor of node.inputs) assert.ok(seen.has(tensor));
      for (const tensor of node.outputs) seen.add(tensor);
    }
    assert.deepEqual(graph.nodes.map((node) => node.operator.name).sort(), [
      "add",
      "constant",
      "input",
      "mul",
      "reduceSum",
    ]);
    assert.deepEqual(
      graph.inputs.map(({ name }) => name),
      ["x", "unused"],
      "an unused input stays in the signature",
    );
  });

  test("deep graphs do not exhaust the stack", () => {
    let y: Tensor = input("x", spec("float32", []));
    for (let i = 0; i < 20_000; i++) y = add(y, y);
    assert.equal(nodesFor([y]).length, 20_001);
  });

  test("two ports of one name, a port without a name and an input from elsewhere are refused", () => {
    const x = spec("float32", [2]);
    assert.throws(() => trace("f", ({ x: given }) => ({ x: mul(given, 2) }), { x }), /f has two ports named x/);
    assert.throws(() => trace("f", (args) => args as Tensor, x), /f has a port without a name/);
    const stranger = input("stranger", x);
    assert.throws(() => trace("f", ({ a }) => ({ y: add(a, stranger) }), { a: x }), /f needs stranger/);
    const { a } = inputsFor({ a: x });
    assert.throws(() => createGraph("g", [], named({ y: a })), /g needs a/);
  });

  test("what is not a tensor among the results is named", () => {
    const fn = () => ({ y: 5 }) as unknown as { y: Tensor };
    assert.throws(() => trace("f", fn, { x: spec("float32", []) }), /a number at "y"/);
  });
});

suite("errors of shapes carry the operator, all shapes and the caller's line", () => {
  const { a, b, ids } = inputsFor({
    a: spec("float32", [2, 3]),
    b: spec("float32", [4, dim("T")]),
    ids: spec("int32", [2, 3]),
  });

  /** The line that `make` is written on: the error must point to it. */
  function refuses(code: string, make: () => unknown, operator: string, got: string): void {
    const before = new Error("here").stack!.split("\n").find((line, i) => i > 1 && line.includes("graph.test.ts"))!;
    const line = /graph\.test\.ts:(\d+)/.exec(before)![1];
    assert.throws(make, (error: { code: string; what: string; got: string; where: string }) => {
      assert.equal(error.code, code);
      assert.ok(error.what.startsWith(`${operator}: `), error.what);
      assert.equal(error.got, got);
      assert.match(error.where, new RegExp(`graph\\.test\\.ts:${line}:\\d+`));
      return true;
    });
  }

  // biome-ignore format: the line of the call is the line of the operator
  test("operators", () => {
    refuses("CPM_SHAPE_MISMATCH", () => add(a, b), "add", "float32[2, 3], float32[4, T]");
    refuses("CPM_SHAPE_MISMATCH", () => matmul(a, b), "matmul", "float32[2, 3], float32[4, T]");
    refuses("CPM_SHAPE_MISMATCH", () => matmul(a, b, { transposeA: true }), "matmul", "float32[2, 3], float32[4, T]");
    refuses("CPM_SHAPE_MISMATCH", () => reshape(a, [4, 2]), "reshape", "float32[2, 3]");
    refuses("CPM_SHAPE_MISMATCH", () => transpose(a, [0, 0]), "transpose", "float32[2, 3]");
    refuses("CPM_SHAPE_MISMATCH", () => concat([a, b], 0), "concat", "float32[2, 3], float32[4, T]");
    refuses("CPM_SHAPE_MISMATCH", () => slice(a, 1, 2, 4), "slice", "float32[2, 3]");
    refuses("CPM_DTYPE_MISMATCH", () => mul(a, ids), "mul", "float32[2, 3], int32[2, 3]");
    refuses("CPM_DTYPE_MISMATCH", () => matmul(ids, transpose(ids, [1, 0])), "matmul", "int32[2, 3], int32[3, 2]");
    refuses("CPM_DTYPE_MISMATCH", () => add(cast(a, "bool"), cast(a, "bool")), "add", "bool[2, 3], bool[2, 3]");
  });
});
