/** Several deltas on one base in one batch: each row is what it is with its own delta alone, mixtures are sums. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { attachDelta } from "../src/delta/attach.ts";
import type { DeltaWithValues } from "../src/delta/finish.ts";
import { initialValues } from "../src/delta/initial-values.ts";
import type { DeltaSpec } from "../src/delta/methods/index.ts";
import { mixDeltas } from "../src/delta/mixed-deltas.ts";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { createNativeRuntime, type DeviceTensor, type Runtime } from "../src/runtime/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { randomWeights, tinyConfig, uploadWeights } from "./support/tiny-model.ts";

const V = tinyConfig.vocabSize;
const prompts = [[6, 9, 12], [8, 11], [17, 3, 5, 30], [21]];
const tokens = [4, 33, 7];

suite("several deltas in one batch", () => {
  let runtime: Runtime;
  let base: Map<string, DeviceTensor>;
  before(() => {
    runtime = createNativeRuntime({ threads: 1 });
    base = uploadWeights(runtime, tinyConfig);
  });
  after(() => runtime.dispose());

  async function trained(spec: DeltaSpec, seed: number): Promise<DeltaWithValues> {
    const delta = attachDelta(tinyConfig, [spec]);
    const weights = randomWeights(tinyConfig);
    const values = await initialValues(delta, { seed, base: async (name) => weights.get(name)! });
    for (const [name, data] of values) {
      const noise = new Float32Array(data.length);
      fillNormal(noise, seed, `trained ${name}`, 0, 0.1);
      data.forEach((x, i) => {
        data[i] = x + noise[i]!;
      });
    }
    return { delta, values };
  }

  /** Logits after the prompt and each token, of one row with one delta or none. */
  async function alone(row: number, tuned?: DeltaWithValues): Promise<Float32Array[]> {
    const own = (tuned?.delta.parameters ?? []).map(({ name, shape }) => {
      return [name, runtime.upload(tuned!.values.get(name)!, "float32", shape)] as const;
    });
    const session = await createCpmAntSession(runtime, tinyConfig, new Map([...base, ...own]), {
      capacityTokens: 16,
      grafts: tuned?.delta.grafts,
    });
    const found = [(await session.prefill([prompts[row]!])).slice()];
    for (const token of tokens) found.push((await session.step(Int32Array.of(token))).slice());
    session.dispose();
    return found;
  }

  for (const weights of ["packed", "shared"] as const) {
    test(`each row has its own, ${weights}; rows change places and take theirs along`, async () => {
      const a = await trained({ method: "lora", rank: 2, alpha: 6 }, 1);
      const b = await trained({ method: "lora", rank: 3, places: ["layers.1-2.ffn", "layers.0.attn.out"] }, 2);
      const pissa = await trained({ method: "lora", rank: 2, init: "pissa" }, 3);
      const mixed = mixDeltas(tinyConfig, new Map(Object.entries({ a, b, pissa })));
      const own = [...mixed.tensors].map(([name, { shape, values }]) => {
        return [name, runtime.upload(values, "float32", shape)] as const;
      });
      const session = await createCpmAntSession(runtime, tinyConfig, new Map([...base, ...own]), {
        capacityTokens: 16,
        weights,
        grafts: mixed.grafts,
      });
      const expected = [await alone(0, a), await alone(1, b), await alone(2), await alone(3, pissa)];
      const rows = [{ a: 1 }, { b: 1 }, {}, { pissa: 1 }].map((chosen) => mixed.weights(chosen));
      let logits = await session.prefill(prompts, rows);
      let order = [0, 1, 2, 3];
      for (let i = 0; ; i++) {
        order.forEach((from, row) => {
          assertClose(logits.subarray(row * V, (row + 1) * V), expected[from]![i]!, 2e-5, `row of ${from} after ${i}`);
        });
        if (i === tokens.length) break;
        if (i === 0) {
          order = [3, 1, 0, 2];
          await session.reorder(Int32Array.from(order));
        }
        logits = await session.step(new Int32Array(order.length).fill(tokens[i]!));
      }
      session.dispose();
    });
  }

  test("weights combine deltas as the sum of their branches", async () => {
    const a = await trained({ method: "lora", rank: 2 }, 1);
    const b = await trained({ method: "lora", rank: 2 }, 2);
    const mixed = mixDeltas(tinyConfig, new Map(Object.entries({ a, b })));
    const own = [...mixed.tensors].map(([name, { shape, values }]) => {
      return [name, runtime.upload(values, "float32", shape)] as const;
    });
    const all = new Map([...base, ...own]);
    const session = await createCpmAntSession(runtime, tinyConfig, all, { capacityTokens: 8, grafts: mixed.grafts });
    const logits = await session.prefill([prompts[0]!], [mixed.weights({ a: 0.5, b: 2 })]);
    // The same as one delta of rank 4 whose B is (0.5·B_a, 2·B_b).
    const both = attachDelta(tinyConfig, [{ method: "lora", rank: 4, alpha: 32 }]);
    const values = new Map<string, Float32Array>();
    for (const { name, shape, local } of both.parameters) {
      const [x, y] = [a.values.get(name)!, b.values.get(name)!];
      if (local === "lora_A") values.set(name, Float32Array.of(...x, ...y));
      else {
        const O = shape[0]!;
        values.set(
          name,
          Float32Array.from({ length: O * 4 }, (_, i) => {
            const [o, k] = [Math.floor(i / 4), i % 4];
            return k < 2 ? 0.5 * x[o * 2 + k]! : 2 * y[o * 2 + k - 2]!;
          }),
        );
      }
    }
    assertClose(logits, (await alone(0, { delta: both, values }))[0]!, 2e-5);
    session.dispose();
  });

  test("what is not LoRA cannot be mixed", async () => {
    for (const spec of [{ method: "ia3" }, { method: "lora", dora: true }]) {
      const tuned = await trained(spec, 1);
      assert.throws(() => mixDeltas(tinyConfig, new Map([["x", tuned]])), { code: "CPM_DELTA_MIX", where: "x" });
    }
  });
});
