/** Statistics by a compiled program against plain sums in float64. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createNativeRuntime } from "../runtime/index.ts";
import { createRandom } from "../util/random.ts";
import { arenaLayout, createArena } from "./arena.ts";
import { createStatisticsTaker } from "./parameter-statistics.ts";

function plain(values: Float32Array) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const [min, max] = values.reduce(
    ([a, b], value) => [Math.min(a, value), Math.max(b, value)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
  return { mean, std: Math.sqrt(square / values.length), min, max };
}

const near = (a: number, b: number, scale: number) => assert.ok(Math.abs(a - b) <= 1e-5 * scale, `${a} ${b}`);

test("mean, spread and limits of weights and gradients, of one piece and of several, of a spread beside a large mean", async () => {
  using runtime = createNativeRuntime({ threads: 2, spin: false });
  const kind = "linear" as const;
  const parameters = [
    { name: "several", shape: [700, 300], kind },
    { name: "norm", shape: [77], kind },
    { name: "one", shape: [1], kind },
  ];
  const layout = arenaLayout(parameters);
  const [weights, gradients] = [createArena(runtime, layout), createArena(runtime, layout)];
  const random = createRandom(1, "statistics");
  const write = (arena: typeof weights, name: string, mean: number, spread: number) => {
    const tensor = arena.tensors.get(name)!;
    const values = Float32Array.from({ length: tensor.byteLength / 4 }, () => mean + spread * (random.uniform() - 0.5));
    runtime.write(tensor, values);
    return plain(values);
  };
  const expected = [
    ["several", write(weights, "several", 0.3, 2), write(gradients, "several", 1e-4, 1e-3)],
    ["norm", write(weights, "norm", 1, 1e-3), write(gradients, "norm", 0, 1e-6)],
    ["one", write(weights, "one", -5, 0), write(gradients, "one", 2, 0)],
  ] as const;
  const taker = await createStatisticsTaker(runtime, weights, gradients);
  for (let time = 0; time < 2; time++) {
    const found = await taker.take();
    assert.deepEqual(
      found.map(({ name, shape }) => [name, shape]),
      parameters.map(({ name, shape }) => [name, shape]),
    );
    for (const [i, [, weight, gradient]] of expected.entries()) {
      const each = found[i]!;
      near(each.mean, weight.mean, Math.abs(weight.mean));
      near(each.std, weight.std, 100 * weight.std + 1e-9);
      assert.deepEqual([each.min, each.max], [weight.min, weight.max]);
      near(each.gradMean, gradient.mean, Math.abs(gradient.mean) + gradient.std);
      near(each.gradStd, gradient.std, 100 * gradient.std + 1e-12);
    }
  }
  taker.dispose();
  weights.dispose();
  gradients.dispose();
  assert.equal(runtime.memory().tensors, 0);
});
