import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { assertClose } from "../../test/support/close.ts";
import { evaluateGraph } from "./evaluate.ts";
import { grad } from "./gradient.ts";
import { type Graph, trace } from "./graph.ts";
import type { NdArray } from "./operator.ts";
import {
  add,
  boundary,
  cast,
  exp,
  greater,
  matmul,
  mul,
  reduceSum,
  reshape,
  rmsNorm,
  softmax,
} from "./operators/index.ts";
import { type RecomputePolicy, splitGradient } from "./split.ts";
import { spec, type Tensor } from "./tensor.ts";

const policies: readonly RecomputePolicy[] = ["none", "block", "all"];
const layers = 3;

type Args<T> = {
  readonly weights: readonly T[];
  readonly gain: T;
  readonly unused: T;
  readonly x: T;
};

const specs: Args<ReturnType<typeof spec>> = {
  weights: Array.from({ length: layers }, () => spec("float32", [4, 4])),
  gain: spec("float32", [4]),
  unused: spec("float32", [2]),
  x: spec("float32", [3, 4]),
};

/** Three layers of softmax(rmsNorm(h) W) + h, with a mark between two layers. */
function stack({ weights, gain, x }: Args<Tensor>): Tensor {
  let h = x;
  for (const weight of weights) h = boundary(add(softmax(matmul(rmsNorm(h, gain, 0.1), weight)), h));
  return h;
}

function array(shape: readonly number[], phase: number): NdArray {
  const count = shape.reduce((a, b) => a * b, 1);
  return { dtype: "float32", shape, data: Float64Array.from({ length: count }, (_, i) => Math.sin(phase + 2 * i)) };
}

const values: Record<string, NdArray> = {
  ...Object.fromEntries(Array.from({ length: layers }, (_, i) => [`weights.${i}`, array([4, 4], i)])),
  gain: array([4], 7),
  x: array([3, 4], 8),
};
const cotangent = array([3, 4], 9);
const wanted = ["weights", "gain", "unused", "x"];

function split(recompute: RecomputePolicy, which = wanted) {
  return splitGradient("stack", (args: Args<Tensor>) => ({ h: stack(args) }), specs, { wanted: which, recompute });
}

/** Runs forward and then backward, which gets what it asks for. */
function run({ forward, backward }: { readonly forward: Graph; readonly backward: Graph }) {
  const results = evaluateGraph(forward, values);
  const all: Record<string, NdArray> = { ...values, ...results, "cotangent.h": cotangent };
  const given = Object.fromEntries(backward.inputs.map(({ name }) => [name, all[name]!]));
  return { results, gradients: evaluateGraph(backward, given) };
}

const direct = trace(
  "direct",
  ({ args, c }) => ({
    h: stack(args),
    grad: grad(({ unused, ...chosen }: Args<Tensor>) => reduceSum(mul(stack({ unused, ...chosen }), c)))(args),
  }),
  { args: specs, c: spec("float32", [3, 4]) },
);
const expected = evaluateGraph(direct, {
  ...Object.fromEntries(Object.entries(values).map(([name, value]) => [`args.${name}`, value])),
  c: cotangent,
});

suite("split", () => {
  for (const recompute of policies) {
    test(`${recompute}: value and gradients are those of the whole`, () => {
      const { results, gradients } = run(split(recompute));
      assertClose(results.h!.data, expected.h!.data, 1e-14);
      const names = Object.keys(gradients);
      assert.deepEqual(names.sort(), ["grad.gain", "grad.weights.0", "grad.weights.1", "grad.weights.2", "grad.x"]);
      for (const name of names) assertClose(gradients[name]!.data, expected[name]!.data, 1e-13, name);
    });
  }

  test("what is stored: everything that costs, what is marked, nothing", () => {
    const none = split("none");
    const block = split("block");
    const all = split("all");
    assert.deepEqual(all.residuals, []);
    // The last mark is the result; the first two are what the layers after them start from.
    assert.deepEqual(block.residuals, ["residual.0", "residual.1"]);
    const { results } = run(block);
    assert.deepEqual(
      block.residuals.map((name) => results[name]!.shape),
      [
        [3, 4],
        [3, 4],
      ],
    );
    assert.ok(none.residuals.length > block.residuals.length);
    const products = ({ backward }: { backward: Graph }) =>
      backward.nodes.filter(({ operator }) => operator.name === "softmax").length;
    assert.deepEqual([products(none), products(block), products(all)], [0, 3, 3]);
  });

  test("cheap values are made again beside stored ones instead of stored", () => {
    const fn = ({ x, w }: { x: Tensor; w: Tensor }) => {
      const product = matmul(x, w); // stored
      return { y: matmul(mul(product, product), w) }; // the square is made again from the product
    };
    const program = splitGradient(
      "cheap",
      fn,
      { x: spec("float32", [3, 4]), w: spec("float32", [4, 4]) },
      {
        wanted: ["x", "w"],
        recompute: "none",
      },
    );
    assert.deepEqual(program.residuals, ["residual.0"]);
    const inside = program.backward.nodes.map(({ operator }) => operator.name);
    const [, stored] = program.forward.outputTensors.find(([name]) => name === "residual.0")!;
    assert.equal(stored.node.operator.name, "matmul");
    assert.ok(inside.includes("mul"));
    assert.equal(
      inside.filter((name) => name === "matmul").length,
      4,
      "two gradients for each product, no product again",
    );
  });

  test("a long chain of cheap values is walked once", () => {
    const fn = ({ x }: { x: Tensor }) => {
      let y = reduceSum(x, 1, true);
      for (let i = 0; i < 60; i++) y = mul(y, y);
      return { y };
    };
    const program = splitGradient("chain", fn, { x: spec("float32", [2, 2]) }, { wanted: ["x"], recompute: "none" });
    assert.equal(program.residuals.length, 1);
  });

  test("only what is wanted is differentiated; what does not matter is said", () => {
    const { unused, backward } = split("none", ["weights.2", "unused"]);
    assert.deepEqual(unused, ["unused"]);
    assert.deepEqual(
      backward.outputs.map(({ name }) => name),
      ["grad.weights.2"],
    );
    assert.equal(backward.nodes.filter(({ operator }) => operator.name === "matmul").length, 1);
    assert.ok(!backward.inputs.some(({ name }) => name === "weights.1"));
    // `weights.2` is no prefix of another name, but `x` is none of `xs` either.
    assert.deepEqual(split("none", ["weight"]).backward.outputs, []);
  });

  test("results that are no floats get no cotangent", () => {
    const program = splitGradient(
      "mixed",
      ({ x }) => ({ y: mul(x, cast(greater(x, 0), "float32")), positive: greater(x, 0) }),
      { x: spec("float32", [3]) },
      { wanted: ["x"], recompute: "none" },
    );
    assert.deepEqual(
      program.backward.inputs.map(({ name }) => name).filter((name) => name.startsWith("cotangent")),
      ["cotangent.y"],
    );
  });

  test("several results, one of them a view of an argument", () => {
    const program = splitGradient(
      "two",
      ({ x }) => ({ a: exp(x), b: reshape(x, [3]) }),
      { x: spec("float32", [3, 1]) },
      { wanted: ["x"], recompute: "none" },
    );
    const x = array([3, 1], 1);
    const { a } = evaluateGraph(program.forward, { x });
    const residuals = evaluateGraph(program.forward, { x });
    const given: Record<string, NdArray> = {
      x,
      ...residuals,
      "cotangent.a": { ...x, data: Float64Array.of(1, 2, 3) },
      "cotangent.b": { dtype: "float32", shape: [3], data: Float64Array.of(10, 20, 30) },
    };
    const inputs = Object.fromEntries(program.backward.inputs.map(({ name }) => [name, given[name]!]));
    assertClose(
      evaluateGraph(program.backward, inputs)["grad.x"]!.data,
      Array.from(a!.data, (value, i) => value * (i + 1) + 10 * (i + 1)),
      1e-15,
    );
  });
});
