/** Deltas on a base of 4 or 8 bits: the same losses and gradients as on that base unpacked, which never exists whole. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { unpackWeight } from "../src/checkpoint/packed-weight.ts";
import { roundToNearest } from "../src/compress/round-to-nearest.ts";
import { attachDelta } from "../src/delta/attach.ts";
import { baseHash, parameterReader } from "../src/delta/base-hash.ts";
import { initialValues } from "../src/delta/initial-values.ts";
import type { DeltaSpec } from "../src/delta/methods/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { names, parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime, type DeviceTensor, type Runtime } from "../src/runtime/index.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createAdamW, tunedDelta } from "../src/train/index.ts";
import { createTrainingStep } from "../src/train/step.ts";
import { fillNormal } from "../src/util/random.ts";
import { assertClose } from "./support/close.ts";
import { randomBatch } from "./support/delta-world.ts";
import { randomWeights, tinyConfig } from "./support/tiny-model.ts";

const config: ModelConfig = { ...tinyConfig, dimModel: 32, dimFf: 48, heads: 4, dimHead: 8, layers: 2 };

/** A vocabulary as large as makes a softmax's gradient one large number a row and many small ones. */
const wide: ModelConfig = { ...config, vocabSize: 1500 };

function packedAndPlain(runtime: Runtime, bits: 4 | 8, model = config, perChannel = false) {
  const weights = randomWeights(model);
  // Rows of trained tables have much in common, so that the many small numbers count.
  if (model === wide) {
    const token = weights.get(names.token)!;
    token.forEach((value, i) => {
      token[i] = value + (i % model.dimModel < 8 ? 2 : 0);
    });
  }
  const packed = new Map<string, DeviceTensor>();
  const plain = new Map<string, DeviceTensor>();
  for (const { name, shape, kind } of parameterTable(model)) {
    const values = weights.get(name)!;
    if (kind !== "linear" && name !== names.token) {
      for (const tensors of [packed, plain]) tensors.set(name, runtime.upload(values, "float32", shape));
      continue;
    }
    const [N, K] = shape as [number, number];
    const groupSize = perChannel ? K : 16;
    const { values: rounded } = roundToNearest(values, [N, K], { bits, groupSize, symmetric: bits === 8 });
    const G = K / groupSize;
    packed.set(`${name}.packed`, runtime.upload(rounded.packed, "uint8", [N, G, (groupSize * bits) / 8]));
    packed.set(`${name}.scales`, runtime.upload(rounded.scales, "float32", [N, G]));
    if (rounded.zeros)
      packed.set(`${name}.zeros`, runtime.upload(rounded.zeros, "uint8", [N, Math.ceil((G * bits) / 8)]));
    plain.set(name, runtime.upload(unpackWeight(rounded, { bits, groupSize }, [N, K]), "float32", shape));
  }
  return { packed, plain };
}

const methods: readonly DeltaSpec[][] = [
  [{ method: "lora", rank: 4, places: ["attn", "ffn"] }],
  [{ method: "lora", rank: 2, dora: true }],
  [{ method: "ia3" }, { method: "houlsby", bottleneck: 4 }],
];

suite("a packed base", () => {
  for (const bits of [8, 4] as const) {
    for (const specs of methods) {
      test(`${bits} bits, ${specs.map((spec) => `${spec.method}${spec.dora ? " dora" : ""}`).join(" and ")}`, async () => {
        using runtime = createNativeRuntime({ threads: 1 });
        const { packed, plain } = packedAndPlain(runtime, bits);
        const delta = attachDelta(config, specs);
        const read = parameterReader(runtime, config, packed);
        const before = await baseHash(config, read);
        assert.equal(await baseHash(config, parameterReader(runtime, config, plain)), before);
        const values = createArena(runtime, arenaLayout(delta.parameters));
        const initial = await initialValues(delta, { seed: 1, base: read });
        for (const [name, tensor] of values.tensors) {
          const noise = new Float32Array(tensor.byteLength / 4);
          fillNormal(noise, 7, name, 0, 0.1);
          runtime.write(
            tensor,
            initial.get(name)!.map((x, i) => x + noise[i]!),
          );
        }
        const batch = randomBatch(config);
        const run = async (base: ReadonlyMap<string, DeviceTensor>) => {
          const gradients = createArena(runtime, arenaLayout(delta.parameters));
          const tensors = new Map([...base, ...values.tensors]);
          const { rows, columns } = batch;
          const settings = { rows, columns, recompute: "none", grafts: delta.grafts } as const;
          const step = await createTrainingStep(runtime, config, { tensors }, gradients, settings);
          const loss = await step.lossAndGradients(batch);
          const found = new Map(
            [...gradients.tensors].map(([name, tensor]) => [name, [...(tensor.view() as Float32Array)]]),
          );
          step.dispose();
          gradients.dispose();
          return { loss, found };
        };
        const ofPacked = await run(packed);
        const ofPlain = await run(plain);
        assertClose([ofPacked.loss], [ofPlain.loss], 1e-5, "loss");
        for (const [name, expected] of ofPlain.found) assertClose(ofPacked.found.get(name)!, expected, 1e-4, name);
        assert.equal(await baseHash(config, read), before);
      });
    }
  }

  test("multiplied in whole numbers, losses and gradients are those of float32 products but for rounding", async (t) => {
    using runtime = createNativeRuntime({ threads: 1 });
    const { packed } = packedAndPlain(runtime, 8, wide, true);
    const delta = attachDelta(wide, [{ method: "lora", rank: 4, places: ["attn", "ffn"] }]);
    const batch = randomBatch(wide);
    const input = { delta, base: packed, readBase: parameterReader(runtime, wide, packed), baseSha256: "", seed: 1 };
    const train = async (products: "float32" | "int8") => {
      const trainee = await tunedDelta(runtime, { ...input, products });
      const arena = () => createArena(runtime, arenaLayout(trainee.parameters));
      const [values, gradients, moments] = [arena(), arena(), { first: arena(), second: arena() }];
      for (const parameter of trainee.parameters) {
        const tensor = values.tensors.get(parameter.name)!;
        const initial = new Float32Array(tensor.byteLength / 4);
        await trainee.initialize(parameter, initial, 1);
        runtime.write(tensor, initial);
      }
      const { rows, columns } = batch;
      const step = await trainee.createStep(values, gradients, { rows, columns, recompute: "none" });
      const optimizer = await createAdamW(runtime, values, gradients, moments);
      const losses: number[] = [];
      let first: number[] = [];
      for (let i = 0; i < 30; i++) {
        losses.push(await step.lossAndGradients(batch));
        if (i === 0) first = [...gradients.tensors.values()].flatMap((tensor) => [...(tensor.view() as Float32Array)]);
        await optimizer.update(0.01, await optimizer.gradientNorm());
      }
      trainee.dispose();
      return { losses, first };
    };
    const plain = await train("float32");
    const whole = await train("int8").catch((error: { readonly code?: string }) => {
      if (error.code !== "CPM_TUNE_PRODUCTS_INEXACT") throw error;
    });
    if (!whole) return t.skip("this processor's products of 8-bit numbers overflow");
    assertClose([whole.losses[0]!], [plain.losses[0]!], 0.01, "first loss");
    const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
    const { first: a } = plain;
    const { first: b } = whole;
    const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    assert.ok(cosine > 0.999 && cosine < 1, `cosine of the gradients ${cosine}`);
    const fallen = plain.losses[0]! - plain.losses.at(-1)!;
    assert.ok(fallen > 0.1, `the loss falls by ${fallen}`);
    assert.ok(Math.abs(whole.losses.at(-1)! - plain.losses.at(-1)!) < 0.1 * fallen, `${whole.losses.at(-1)}`);
  });

  test("whole numbers are refused where a row has several scales, and for other bases", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const delta = attachDelta(config, [{ method: "bitfit" }]);
    const { plain, packed } = packedAndPlain(runtime, 8);
    for (const base of [plain, packed, packedAndPlain(runtime, 4).packed]) {
      const readBase = parameterReader(runtime, config, base);
      const input = { delta, base, readBase, baseSha256: "", seed: 1, products: "int8" } as const;
      await assert.rejects(tunedDelta(runtime, input), { code: "CPM_TUNE_PRODUCTS" });
    }
  });
});
