/** What passes do, and that they change no value. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { assertClose } from "../../../test/support/close.ts";
import { addDims, dim } from "../dim.ts";
import { evaluateGraph } from "../evaluate.ts";
import { createGraph, type Graph, inputsFor, trace } from "../graph.ts";
import type { NdArray } from "../operator.ts";
import {
  abs,
  add,
  constant,
  div,
  exp,
  gather,
  iota,
  matmul,
  maximum,
  mul,
  neg,
  pow,
  reduceSum,
  reshape,
  rmsNorm,
  scalar,
  scatterAddRows,
  size,
  slice,
  softmax,
  sub,
  transpose,
} from "../operators/index.ts";
import { rewrite } from "../rewrite.ts";
import { spec, type Tensor } from "../tensor.ts";
import { accumulateOutputs } from "./accumulate.ts";
import { bindSizes } from "./bind-sizes.ts";
import { dropUnusedInputs, optimize } from "./optimize.ts";

const matrix = spec("float32", [2, 3]);

function array(shape: readonly number[], phase = 0): NdArray {
  const count = shape.reduce((a, b) => a * b, 1);
  return { dtype: "float32", shape, data: Float64Array.from({ length: count }, (_, i) => Math.sin(1 + phase + 2 * i)) };
}

/** The operators of a graph with their counts, inputs aside. */
function census(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { operator } of graph.nodes) {
    if (operator.name !== "input") counts[operator.name] = (counts[operator.name] ?? 0) + 1;
  }
  return counts;
}

function optimized(fn: (args: { x: Tensor; y: Tensor }) => Record<string, Tensor>): Graph {
  return optimize(trace("f", (args) => ({ out: fn(args) }), { x: matrix, y: matrix }));
}

suite("common subexpressions", () => {
  test("the same operator on the same inputs is computed once, all the way up", () => {
    const graph = optimized(({ x, y }) => ({ a: exp(mul(x, y)), b: neg(exp(mul(x, y))) }));
    assert.deepEqual(census(graph), { mul: 1, exp: 1, neg: 1 });
  });

  test("other attributes, other order and other operators are kept apart", () => {
    const graph = optimized(({ x, y }) => ({
      a: reduceSum(x, 0),
      b: reduceSum(x, 1),
      c: sub(x, y),
      d: sub(y, x),
      e: mul(x, y),
    }));
    assert.deepEqual(census(graph), { reduceSum: 2, sub: 2, mul: 1 });
  });

  test("literals are merged by value and dtype alone: not infinities, NaN and zeros of two signs", () => {
    const numbers = [0, -0, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
    const graph = optimized(({ x }) => ({
      ...Object.fromEntries(numbers.map((value, i) => [`y${i}`, maximum(x, constant([value], "float32"))])),
      again: maximum(x, constant([1], "float32")),
      whole: constant([1], "int32"),
    }));
    assert.equal(census(graph).constant, numbers.length + 1);
    const results = evaluateGraph(graph, { x: array([2, 3]) });
    assert.deepEqual(Array.from(results["out.y3"]!.data), Array(6).fill(Number.POSITIVE_INFINITY));
    assert.deepEqual(Array.from(results["out.y4"]!.data), Array.from(array([2, 3]).data));
    assert.ok(Number.isNaN(results["out.y5"]!.data[0]));
  });

  test("symbolic sizes are compared", () => {
    const [B, T] = [dim("B"), dim("T")];
    const graph = optimize(
      trace("sizes", () => ({ a: add(size(B), size(T)), b: add(size(B), size(B)), c: iota(T) }), {
        x: spec("float32", [B, T]),
      }),
    );
    assert.deepEqual(census(graph), { size: 2, add: 2, iota: 1 });
  });
});

suite("constant folding", () => {
  test("arithmetic of literals becomes a literal", () => {
    const graph = optimized(({ x }) => ({ y: pow(x, add(scalar(0.5), mul(scalar(3), scalar(0.5)))) }));
    assert.deepEqual(census(graph), { pow: 1, constant: 1 });
    assert.equal(graph.nodes.find(({ operator }) => operator.name === "constant")!.attributes.data[0], 2);
  });

  test("large results stay computed", () => {
    const wide = optimize(trace("wide", ({ x }) => ({ y: add(x, exp(ramp(2000))) }), { x: spec("float32", [2000]) }));
    assert.equal(census(wide).exp, 1);
    const narrow = optimize(trace("narrow", ({ x }) => ({ y: add(x, exp(ramp(20))) }), { x: spec("float32", [20]) }));
    assert.equal(census(narrow).exp, undefined);
  });

  test("what depends on unknown sizes waits until they are known", () => {
    const B = dim("B");
    const counting = constant([1, 2, 3, 4], "float32");
    const graph = trace("parts", ({ x }) => ({ y: mul(slice(counting, 0, B, addDims(B, 2)), size(B)), z: x }), {
      x: spec("float32", [B]),
    });
    const unknown = optimize(graph);
    assert.equal(census(unknown).slice, 1);
    const x = array([2]);
    assert.deepEqual(Array.from(evaluateGraph(unknown, { x }).y!.data), [6, 8]);
    const known = optimize(bindSizes(graph, { B: 2 }));
    assert.deepEqual(census(known), { constant: 1 });
    assert.deepEqual(Array.from(evaluateGraph(known, { x }).y!.data), [6, 8]);
  });
});

function ramp(length: number): Tensor {
  return constant(
    Array.from({ length }, (_, i) => i / length),
    "float32",
  );
}

suite("algebra", () => {
  test("neutral operands vanish, and nothing else", () => {
    const same = optimized(({ x }) => ({ y: div(mul(sub(add(x, 0), 0), 1), 1) }));
    assert.deepEqual(census(same), {});
    const different = optimized(({ x }) => ({ a: sub(0, x), b: div(1, x), c: mul(x, 0), d: add(x, 1) }));
    assert.deepEqual(census(different), { sub: 1, div: 1, mul: 1, add: 1, constant: 2 });
    // The literal's other operand must have the result's shape already.
    const spread = optimized(({ x }) => ({ y: mul(reduceSum(x), constant(Array(6).fill(1), "float32", [2, 3])) }));
    assert.equal(census(spread).mul, 1);
  });

  test("views of views are one view, and a way there and back is none", () => {
    const graph = optimized(({ x }) => ({
      a: reshape(reshape(x, [6]), [3, 2]),
      b: transpose(transpose(x, [1, 0]), [1, 0]),
      c: neg(neg(x)),
      d: transpose(transpose(reshape(x, [1, 2, 3]), [1, 2, 0]), [1, 2, 0]),
    }));
    assert.deepEqual(census(graph), { reshape: 2, transpose: 1 });
  });

  test("two permutations become the one that does both", () => {
    const fn = ({ x }: { x: Tensor }) => ({ y: transpose(transpose(x, [0, 2, 1]), [1, 0, 2]) });
    const graph = trace("turns", fn, { x: spec("float32", [2, 3, 4]) });
    const better = optimize(graph);
    assert.deepEqual(census(better), { transpose: 1 });
    const x = array([2, 3, 4]);
    assert.deepEqual(evaluateGraph(better, { x }), evaluateGraph(graph, { x }));
  });

  test("a product takes a factor in, unless it is needed without it", () => {
    const alone = optimized(({ x, y }) => ({ z: mul(3, mul(matmul(x, y, { transposeB: true, alpha: 0.5 }), 4)) }));
    assert.deepEqual(census(alone), { matmul: 1 });
    assert.equal(alone.nodes.at(-1)!.attributes.alpha, 6);
    const shared = optimized(({ x, y }) => {
      const product = matmul(x, y, { transposeB: true });
      return { z: mul(product, 4), product };
    });
    assert.deepEqual(census(shared), { matmul: 1, mul: 1, constant: 1 });
  });

  test("adding rows to zeros and then to a table is adding them to the table", () => {
    const fn = ({ x, ids }: { x: Tensor; ids: Tensor }) => ({ y: add(x, scatterAddRows(2, ids, gather(x, ids))) });
    const graph = trace("rows", fn, { x: matrix, ids: spec("int32", [4]) });
    const better = optimize(graph);
    assert.deepEqual(census(better), { gather: 1, addRows: 1 });
    const inputs = { x: array([2, 3]), ids: { dtype: "int32", shape: [4], data: Int32Array.of(1, 0, 1, 1) } as const };
    assertClose(evaluateGraph(better, inputs).y!.data, evaluateGraph(graph, inputs).y!.data, 1e-15);
    // A table that would have to be broadcast first is no table to add rows to.
    const spread = optimized(({ x }) => ({
      y: add(reduceSum(x, 0), scatterAddRows(2, constant([1], "int32"), slice(x, 0, 0, 1))),
    }));
    assert.equal(census(spread).scatterAddRows, 1);
  });
});

suite("optimize", () => {
  /** Expressions over x and y that are full of what the passes look for; every value is a [2, 3] matrix. */
  type Make = (args: { x: Tensor; y: Tensor }) => Tensor;
  const literal = fc.constantFrom(0, 1, -1, 2, 0.5);
  const there = (t: Tensor) => reshape(t, [3, 2]);
  const back = (t: Tensor) => reshape(t, [2, 3]);
  const flip = (t: Tensor) => transpose(t, [1, 0]);
  const ids = () => constant([1, 0, 1], "int32");
  const { make } = fc.letrec<{ make: Make }>((tie) => ({
    make: fc.oneof(
      { maxDepth: 6, depthSize: "large" },
      fc.constantFrom<Make>(
        ({ x }) => x,
        ({ y }) => y,
      ),
      literal.map(
        (n): Make =>
          () =>
            constant(Array(6).fill(n), "float32", [2, 3]),
      ),
      fc.tuple(fc.constantFrom(add, sub, mul, maximum), tie("make"), tie("make")).map(([operator, a, b]): Make => {
        return (args) => operator(a(args), b(args));
      }),
      fc.tuple(fc.constantFrom(add, sub, mul), tie("make"), literal).map(([operator, a, n]): Make => {
        return (args) => operator(a(args), n);
      }),
      fc.tuple(fc.constantFrom(add, sub, mul), literal, tie("make")).map(([operator, n, a]): Make => {
        return (args) => operator(n, a(args));
      }),
      fc.tuple(fc.constantFrom(neg, abs, softmax, there, flip), tie("make")).map(([operator, a]): Make => {
        return (args) => {
          const result = operator(a(args));
          return operator === there ? back(result) : operator === flip ? flip(result) : result;
        };
      }),
      fc.tuple(tie("make"), tie("make"), fc.constantFrom(1, -0.5, 2), literal).map(
        ([a, b, alpha, n]): Make =>
          (args) => {
            const square = mul(matmul(a(args), flip(b(args)), { alpha }), n);
            return matmul(square, softmax(a(args)), { transposeA: true });
          },
      ),
      fc.tuple(tie("make"), tie("make")).map(([a, b]): Make => {
        return (args) => add(a(args), scatterAddRows(2, ids(), gather(b(args), ids())));
      }),
    ),
  }));

  test("changes no value of any expression", () => {
    const inputs = { x: array([2, 3]), y: array([2, 3], 5) };
    fc.assert(
      fc.property(make, make, (a, b) => {
        const graph = trace("f", (args) => ({ a: a(args), b: b(args), both: add(a(args), b(args)) }), {
          x: matrix,
          y: matrix,
        });
        const better = optimize(graph);
        const [expected, actual] = [evaluateGraph(graph, inputs), evaluateGraph(better, inputs)];
        for (const name of ["a", "b", "both"]) {
          // The scale stands for what cancels in sums: rounding is compared with the largest values inside.
          assertClose([...actual[name]!.data, 1e3], [...expected[name]!.data, 1e3], 1e-12, name);
        }
        const cost = (g: Graph) => g.nodes.filter(({ operator }) => operator.cost !== "free").length;
        assert.ok(cost(better) <= cost(graph), "nothing is computed more often than before");
      }),
      { numRuns: 300 },
    );
  });

  test("leaves the signature alone", () => {
    const graph = trace("f", ({ x }) => ({ a: mul(x, 1), b: add(x, 0), c: scalar(1) }), {
      x: matrix,
      unused: spec("int32", []),
    });
    const better = optimize(graph);
    assert.deepEqual([better.inputs, better.outputs], [graph.inputs, graph.outputs]);
    assert.deepEqual(
      dropUnusedInputs(better).inputs.map(({ name }) => name),
      ["x"],
    );
  });
});

suite("rewrite", () => {
  test("an exchanged result of an operator with several stays exchanged when the others are needed", () => {
    const { x, w, other } = inputsFor({ x: matrix, w: spec("float32", [3]), other: spec("float32", [2, 1]) });
    const normed = rmsNorm(x, w, 1e-6);
    const inverse = normed.node.outputs[1]!;
    const [y] = rewrite([mul(normed, inverse)], new Map([[inverse, other]]));
    assert.deepEqual(
      y!.node.inputs.map(({ node }) => node.operator.name),
      ["rmsNorm", "input"],
    );
    assert.equal(y!.node.inputs[1], other);
  });
});

suite("bindSizes", () => {
  const [B, T] = [dim("B"), dim("T")];
  const graph = trace(
    "f",
    ({ x }) => {
      const flat = reshape(x, [-1]);
      return { y: mul(flat, size(flat.shape[0]!)), head: slice(x, 1, 0, addDims(T, -1)) };
    },
    { x: spec("float32", [B, T]) },
  );

  test("named sizes become numbers everywhere, the others stay", () => {
    const partly = bindSizes(graph, { T: 4 });
    assert.deepEqual(partly.inputs[0]!.shape, ["B", 4]);
    assert.deepEqual(
      partly.outputs.map(({ shape }) => shape),
      [["4*B"], ["B", 3]],
    );
    const fully = bindSizes(partly, { B: 2 });
    assert.deepEqual(
      fully.outputs.map(({ shape }) => shape),
      [[8], [2, 3]],
    );
    const x = array([2, 4]);
    const expected = evaluateGraph(graph, { x });
    for (const bound of [partly, fully, optimize(fully)]) {
      const actual = evaluateGraph(bound, { x });
      assert.deepEqual(actual, expected);
    }
    assert.equal(census(optimize(fully)).size, undefined);
  });

  test("sizes that an operator cannot take are refused with its line", () => {
    assert.throws(() => bindSizes(graph, { T: 0 }), {
      code: "CPM_SHAPE_MISMATCH",
      what: /^slice: /,
      where: /passes\.test\.ts:\d+/,
    });
  });

  test("an input that is an output", () => {
    const { x } = inputsFor({ x: spec("float32", [B]) });
    const same = createGraph("same", [["x", x]], [["y", x]]);
    assert.deepEqual(bindSizes(same, { B: 3 }).outputs[0]!.shape, [3]);
  });
});

suite("accumulateOutputs", () => {
  test("chosen outputs are added to what is given, the others stay", () => {
    const graph = trace("f", ({ x }) => ({ a: mul(x, 2), b: neg(x) }), { x: matrix });
    const summed = accumulateOutputs(graph, (name) => name === "a");
    assert.deepEqual(
      summed.inputs.map(({ name }) => name),
      ["x", "sum.a"],
    );
    const [x, sum] = [array([2, 3]), array([2, 3], 9)];
    const { a, b } = evaluateGraph(summed, { x, "sum.a": sum });
    assertClose(
      a!.data,
      Array.from(sum.data, (value, i) => value + 2 * x.data[i]!),
      1e-15,
    );
    assertClose(
      b!.data,
      Array.from(x.data, (value) => -value),
      1e-15,
    );
  });
});
