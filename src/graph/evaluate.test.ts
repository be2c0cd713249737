import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { addDims, dim, mulDims } from "./dim.ts";
import { evaluateGraph } from "./evaluate.ts";
import { trace } from "./graph.ts";
import type { NdArray } from "./operator.ts";
import { erf as erfOf } from "./operators/erf.ts";
import { add, mul, reduceSum } from "./operators/index.ts";
import { spec } from "./tensor.ts";

const array = (...shape: number[]): NdArray => ({
  dtype: "float32",
  shape,
  data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i),
});

suite("evaluation", () => {
  const [B, T] = [dim("B"), dim("T")];
  const graph = trace("pairs", ({ x, y, z }) => ({ sum: add(reduceSum(x), add(reduceSum(y), reduceSum(z))) }), {
    x: spec("float32", [B, T]),
    y: spec("float32", [mulDims(B, T), 3]),
    z: spec("float32", [addDims(T, 1)]),
  });

  test("sizes are solved from the inputs, expressions too", () => {
    const { sum } = evaluateGraph(graph, { x: array(2, 3), y: array(6, 3), z: array(4) });
    assert.deepEqual([sum!.shape, sum!.data[0]], [[], 15 + 153 + 6]);
  });

  test("a wrong shape names the input, what it got and what it should be", () => {
    const wrong = (inputs: Record<string, NdArray>, name: string, got: string, expected: string) => {
      assert.throws(() => evaluateGraph(graph, { x: array(2, 3), y: array(6, 3), z: array(4), ...inputs }), {
        code: "CPM_SHAPE_MISMATCH",
        what: `the input ${name} of pairs has another shape`,
        got,
        expected,
      });
    };
    wrong({ x: array(2) }, "x", "[2]", "[B, T]");
    wrong({ y: array(6, 4) }, "y", "[6, 4]", "[B*T, 3]");
    wrong({ y: array(5, 3) }, "y", "[5]", "[B*T]");
    wrong({ z: array(3) }, "z", "[3]", "[T+1]");
    const twice = trace("twice", ({ a, b }) => ({ c: mul(a, b) }), {
      a: spec("float32", [B]),
      b: spec("float32", [B]),
    });
    assert.throws(() => evaluateGraph(twice, { a: array(2), b: array(3) }), { what: /^the input b of twice/ });
  });

  test("a wrong dtype and a missing input name the input", () => {
    const ints: NdArray = { dtype: "int32", shape: [4], data: new Int32Array(4) };
    assert.throws(() => evaluateGraph(graph, { x: array(2, 3), y: array(6, 3), z: ints }), {
      code: "CPM_DTYPE_MISMATCH",
      what: "the input z of pairs has another dtype",
    });
    assert.throws(() => evaluateGraph(graph, { x: array(2, 3), y: array(6, 3) }), /the input z was not supplied/);
  });

  test("an input that nothing needs may be left out", () => {
    const needless = trace("needless", ({ x }) => ({ z: mul(x, 2) }), {
      x: spec("float32", [2]),
      y: spec("float32", [2]),
    });
    assert.deepEqual(Array.from(evaluateGraph(needless, { x: array(2) }).z!.data), [0, 2]);
  });

  test("float32 rounds each result, float64 does not", () => {
    const third = trace("third", ({ x }) => ({ y: mul(x, 1 / 3) }), { x: spec("float32", [1]) });
    const x: NdArray = { dtype: "float32", shape: [1], data: Float64Array.of(1) };
    assert.equal(evaluateGraph(third, { x }, "float64").y!.data[0], 1 / 3);
    assert.equal(evaluateGraph(third, { x }, "float32").y!.data[0], Math.fround(1 / 3));
  });
});

suite("erf", () => {
  // As C's libm has them.
  const known: readonly (readonly [number, number])[] = [
    [0, 0],
    [1e-300, 1.1283791670955126e-300],
    [1e-5, 1.1283791670579e-5],
    [0.1, 0.1124629160182849],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [1.5, 0.9661051464753108],
    [2, 0.9953222650189527],
    [3, 0.9999779095030014],
    [4, 0.9999999845827421],
    [5.5, 0.9999999999999927],
    [6, 1],
    [7, 1],
    [Number.POSITIVE_INFINITY, 1],
  ];
  test("agrees with known values to a few units in the last place", () => {
    for (const [x, y] of known) {
      assert.ok(Math.abs(erfOf(x) - y) <= 1e-15 * Math.max(Math.abs(y), Number.MIN_VALUE), `erf(${x}) = ${erfOf(x)}`);
      assert.equal(erfOf(-x), -erfOf(x));
    }
    assert.ok(Number.isNaN(erfOf(Number.NaN)));
  });

  test("never leaves [−1, 1] and falls by no more than its rounding", () => {
    let last = -1;
    for (let x = -7; x <= 7; x += 1 / 512) {
      const y = erfOf(x);
      assert.ok(y >= last - 4e-15 && Math.abs(y) <= 1, `at ${x}: ${y} after ${last}`);
      last = y;
    }
  });
});
