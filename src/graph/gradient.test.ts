/** Differentiation as a whole; each operator's own gradient is checked in test/operators.test.ts. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { assertClose } from "../../test/support/close.ts";
import { evaluateGraph } from "./evaluate.ts";
import { grad, valueAndGrad, vjp } from "./gradient.ts";
import { createGraph, inputsFor, nodesFor, trace } from "./graph.ts";
import type { NdArray } from "./operator.ts";
import {
  add,
  cachedAttention,
  cast,
  crossEntropy,
  exp,
  floor,
  gather,
  gelu,
  logSoftmax,
  matmul,
  maximum,
  minimum,
  mul,
  reduceMax,
  reduceMean,
  reduceSum,
  rmsNorm,
  sin,
  softmax,
  softmaxMix,
  stopGradient,
} from "./operators/index.ts";
import { input } from "./operators/mark.ts";
import { spec, type Tensor } from "./tensor.ts";

const vector = spec("float32", [3]);
const matrix = spec("float32", [3, 3]);

function array(shape: readonly number[], data: readonly number[]): NdArray {
  return { dtype: "float32", shape, data: Float64Array.from(data) };
}

/** Numbers in (−1, 1) that look irregular. */
function numbers(count: number, phase = 0): number[] {
  return Array.from({ length: count }, (_, i) => Math.sin(1 + phase + 2.7 * i));
}

suite("valueAndGrad", () => {
  test("gives the value and a tree of gradients like the parameters' tree", () => {
    const graph = trace(
      "f",
      ({ params, x }) => valueAndGrad((p: typeof params) => reduceSum(mul(mul(p.scale, x), p.inner[0]!)))(params),
      { params: { scale: vector, inner: [vector] as const }, x: vector },
    );
    assert.deepEqual(
      graph.outputs.map(({ name }) => name),
      ["value", "grad.scale", "grad.inner.0"],
    );
    const [scale, inner, x] = [
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ] as const;
    const results = evaluateGraph(graph, {
      "params.scale": array([3], scale),
      "params.inner.0": array([3], inner),
      x: array([3], x),
    });
    assert.deepEqual(Array.from(results.value!.data), [28 + 80 + 162]);
    assert.deepEqual(Array.from(results["grad.scale"]!.data), [28, 40, 54]);
    assert.deepEqual(Array.from(results["grad.inner.0"]!.data), [7, 16, 27]);
  });

  test("leaves that the value does not depend on get zeros", () => {
    const graph = trace("f", ({ params }) => grad((p: typeof params) => reduceSum(p.used))(params), {
      params: { used: vector, unused: spec("float32", [2, 2]) },
    });
    const results = evaluateGraph(graph, { "params.used": array([3], [1, 2, 3]) });
    assert.deepEqual(Array.from(results.used!.data), [1, 1, 1]);
    assert.deepEqual(results.unused!.shape, [2, 2]);
    assert.deepEqual(Array.from(results.unused!.data), [0, 0, 0, 0]);
  });

  test("a value that is itself a parameter", () => {
    const graph = trace("f", ({ x }) => valueAndGrad((p: { x: Tensor }) => p.x)({ x }), { x: spec("float32", []) });
    assert.deepEqual(Array.from(evaluateGraph(graph, { x: array([], [5]) })["grad.x"]!.data), [1]);
  });

  test("a subexpression used twice counts twice", () => {
    const graph = trace(
      "f",
      ({ x }) =>
        valueAndGrad((p: { x: Tensor }) => {
          const shared = exp(p.x);
          return reduceSum(add(mul(shared, shared), mul(shared, p.x)));
        })({ x }),
      { x: vector },
    );
    const at = [0.1, -0.4, 0.7];
    // d/dx (e²ˣ + x·eˣ) = 2e²ˣ + eˣ + x·eˣ
    const expected = at.map((x) => 2 * Math.exp(2 * x) + Math.exp(x) * (1 + x));
    assertClose(evaluateGraph(graph, { x: array([3], at) })["grad.x"]!.data, expected, 1e-14);
  });

  test("integers among the parameters get zeros, and no gradient flows through them", () => {
    const graph = trace("f", ({ params }) => grad((p: typeof params) => reduceSum(gather(p.table, p.ids)))(params), {
      params: { table: vector, ids: spec("int32", [2]) },
    });
    const ids: NdArray = { dtype: "int32", shape: [2], data: Int32Array.of(2, 2) };
    const results = evaluateGraph(graph, { "params.table": array([3], [1, 2, 3]), "params.ids": ids });
    assert.deepEqual(Array.from(results.table!.data), [0, 0, 2]);
    assert.equal(results.ids!.dtype, "int32");
  });

  test("stopGradient and piecewise constant functions end a gradient", () => {
    const graph = trace(
      "f",
      ({ x }) => ({
        stopped: grad((p: { x: Tensor }) => reduceSum(mul(stopGradient(p.x), p.x)))({ x }).x,
        steps: grad((p: { x: Tensor }) => reduceSum(add(floor(p.x), cast(cast(p.x, "int32"), "float32"))))({ x }).x,
      }),
      { x: vector },
    );
    const results = evaluateGraph(graph, { x: array([3], [0.5, 1.5, -2.5]) });
    assert.deepEqual(Array.from(results.stopped!.data), [0.5, 1.5, -2.5]);
    assert.deepEqual(Array.from(results.steps!.data), [0, 0, 0]);
  });

  test("the gradient of a tie goes to the first operand", () => {
    const graph = trace(
      "f",
      ({ x, y }) => ({
        largest: grad((p: { x: Tensor; y: Tensor }) => reduceSum(maximum(p.x, p.y)))({ x, y }),
        least: grad((p: { x: Tensor; y: Tensor }) => reduceSum(minimum(p.x, p.y)))({ x, y }),
      }),
      { x: vector, y: vector },
    );
    const results = evaluateGraph(graph, { x: array([3], [1, 2, 3]), y: array([3], [1, 1, 4]) });
    const gradients = Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, Array.from(data)]));
    assert.deepEqual(gradients, {
      "largest.x": [1, 1, 0],
      "largest.y": [0, 0, 1],
      "least.x": [1, 0, 1],
      "least.y": [0, 1, 0],
    });
  });

  test("only a floating scalar has a gradient; the error names the line of the caller", () => {
    const { x, n } = inputsFor({ x: vector, n: spec("int32", [3]) });
    const here = { code: "CPM_GRADIENT_NOT_SCALAR", where: /gradient\.test\.ts:\d+/ };
    assert.throws(() => valueAndGrad((p: { x: Tensor }) => mul(p.x, 2))({ x }), { ...here, got: "float32[3]" });
    assert.throws(() => valueAndGrad(() => reduceSum(n))({ x }), { ...here, got: "int32[]" });
  });

  test("an operator that cannot be differentiated says so", () => {
    const heads = spec("float32", [1, 2, 4, 8]);
    const token = spec("float32", [1, 1, 16]);
    const args = inputsFor({
      ...{ q: token, k: token, v: token, keys: heads, values: heads },
      ...{ last: spec("int32", [1]), bias: spec("float32", [1, 2, 1, 4]) },
    });
    const attend = (p: { q: Tensor }) => reduceSum(cachedAttention({ ...args, ...p }, { heads: 2, scale: 1 }).mixed);
    assert.throws(() => grad(attend)({ q: args.q }), {
      code: "CPM_GRADIENT_UNSUPPORTED",
      where: /gradient\.test\.ts:\d+/,
    });
    // Frozen attention is no obstacle.
    assert.doesNotThrow(() => grad((p: { x: Tensor }) => add(reduceSum(p.x), attend(args)))({ x: input("x", vector) }));
  });
});

suite("vjp", () => {
  test("nothing is computed for frozen parameters, nor below the lowest trained one", () => {
    const weights = inputsFor(Array.from({ length: 6 }, () => matrix)) as readonly Tensor[];
    const x = input("x", matrix);
    const layers: Tensor[] = [x];
    for (const weight of weights) layers.push(matmul(layers.at(-1)!, weight));
    const loss = reduceSum(layers.at(-1)!);
    const forward = new Set(nodesFor([loss]));
    const products = (wanted: readonly Tensor[]) => {
      const gradients = vjp([loss], [input("one", spec("float32", []))], wanted).map((gradient) => gradient!);
      return nodesFor(gradients).filter((node) => !forward.has(node) && node.operator.name === "matmul").length;
    };
    assert.equal(products([weights[5]!]), 1, "the last weight: one product");
    assert.equal(products([weights[3]!]), 3, "two layers above it, and its own");
    assert.equal(products([...weights]), 11, "two a layer, but none towards x");
    assert.equal(products([x]), 6, "towards x alone: one a layer");
    assert.equal(products([layers[4]!]), 2, "towards a value inside");
  });

  test("wanted tensors that nothing depends on, and outputs without a cotangent", () => {
    const { x, y } = inputsFor({ x: vector, y: vector });
    const one = input("one", vector);
    assert.deepEqual(vjp([exp(x)], [one], [y]), [undefined]);
    assert.deepEqual(vjp([exp(x), exp(y)], [one, undefined], [x, y])[1], undefined);
    assert.throws(() => vjp([exp(x)], [input("wrong", matrix)], [x]), /cotangent/);
  });

  test("a wanted value inside of the graph gets the gradient of what comes after it", () => {
    const x = input("x", vector);
    const inside = mul(x, 3);
    const [dInside, dx] = vjp([reduceSum(mul(inside, inside))], [input("one", spec("float32", []))], [inside, x]);
    const graph = createGraph(
      "g",
      [
        ["x", x],
        ["one", nodesFor([dInside!]).find(({ attributes }) => attributes.name === "one")!.outputs[0]!],
      ],
      [
        ["inside", dInside!],
        ["dx", dx!],
      ],
    );
    const results = evaluateGraph(graph, { x: array([3], [1, 2, 3]), one: array([], [1]) });
    assert.deepEqual(Array.from(results.inside!.data), [6, 12, 18]);
    assert.deepEqual(Array.from(results.dx!.data), [18, 36, 54]);
  });
});

suite("second order", () => {
  const targets: NdArray = { dtype: "int32", shape: [3], data: Int32Array.of(1, -100, 2) };
  const functions: Record<string, (x: Tensor, extra: { target: Tensor; w: Tensor }) => Tensor> = {
    "sin of a product": (x, { w }) => reduceSum(sin(matmul(x, w, { transposeA: true, alpha: 0.7 }))),
    gelu: (x) => reduceSum(mul(gelu(x), x)),
    softmax: (x, { w }) => reduceSum(mul(softmax(x), w)),
    logSoftmax: (x, { w }) => reduceSum(mul(logSoftmax(x), w)),
    "softmaxMix, scores": (x, { w }) => reduceSum(mul(softmaxMix(x, w), w)),
    "softmaxMix, both": (x, { w }) => reduceSum(mul(softmaxMix(x, mul(x, w)), w)),
    rmsNorm: (x, { w }) => reduceSum(mul(rmsNorm(x, reduceMean(w, 0), 0.1), w)),
    "rmsNorm's weight": (x, { w }) => reduceSum(sin(rmsNorm(w, reduceMean(x, 0), 0.1))),
    crossEntropy: (x, { target }) => reduceSum(crossEntropy(mul(x, x), target)),
    reduceMax: (x) => reduceSum(exp(reduceMax(mul(x, x), 1))),
  };
  for (const [name, fn] of Object.entries(functions)) {
    test(name, () => {
      // The gradient of Σ u∘∇f is the Hessian times u: compared with differences of ∇f.
      const graph = trace(
        "hessian",
        ({ x, u, w, target }) => {
          const first = (p: { x: Tensor }) => grad((q: { x: Tensor }) => fn(q.x, { w, target }))(p).x;
          return { first: first({ x }), second: grad((p: { x: Tensor }) => reduceSum(mul(first(p), u)))({ x }).x };
        },
        { x: matrix, u: matrix, w: matrix, target: spec("int32", [3]) },
      );
      const [x, u, w] = [numbers(9), numbers(9, 1), numbers(9, 2)];
      const at = (delta: number) =>
        evaluateGraph(graph, {
          x: array(
            [3, 3],
            x.map((value, i) => value + delta * u[i]!),
          ),
          u: array([3, 3], u),
          w: array([3, 3], w),
          target: targets,
        });
      const [ahead, behind] = [at(1e-5).first!.data, at(-1e-5).first!.data];
      const numeric = Array.from(ahead, (value, i) => (value - behind[i]!) / 2e-5);
      assertClose(at(0).second!.data, numeric, 1e-7);
    });
  }
});
