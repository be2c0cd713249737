/** Greedy decoding with the cache against the original's: one row, and two of unequal length. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createCpmAntSession } from "../src/infer/cpm-ant-session.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { assertClose } from "./support/close.ts";
import { goldenConfig, readGolden } from "./support/golden.ts";
import { skipWithoutShared } from "./support/shared.ts";

suite("golden decoding", { skip: skipWithoutShared("golden") }, () => {
  for (const model of ["full", "pruned"]) {
    for (const batch of [1, 2]) {
      // Keys and values of 16 and 8 bits are off by 2⁻¹¹ and 2⁻⁸ of the largest of their head and position, logits by little more.
      for (const [mode, cacheType, tolerance] of [
        ["packed", "float32", 1e-4],
        ["shared", "float32", 1e-4],
        ["packed", "float16", 2e-3],
        ["packed", "int8", 0.02],
        ["shared", "int8", 0.02],
      ] as const) {
        test(`${model}, ${batch} rows, ${mode} weights, cache of ${cacheType}`, async () => {
          using runtime = createNativeRuntime();
          const config = goldenConfig(model);
          const golden = await readGolden(`${model}.greedy${batch}.safetensors`);
          const weights = await readGolden(`${model}.model.safetensors`);
          const parameters = new Map(
            parameterTable(config).map(({ name, shape }) => [
              name,
              runtime.upload(Float32Array.from(weights.get(name)!.data), "float32", shape),
            ]),
          );
          const { data: input, shape } = golden.get("input")!;
          const columns = shape[1]!;
          // The original pads on the left, between prompt and text: a row's text is its last `length` ids.
          const prompts = Array.from(golden.get("length")!.data, (length, row) =>
            Array.from(input).slice((row + 1) * columns - length, (row + 1) * columns),
          );
          const options = { capacityTokens: 64, weights: mode, cacheType };
          const session = await createCpmAntSession(runtime, config, parameters, options);
          const next = golden.get("next")!.data;
          const expected = Array.from(golden.get("logits")!.data);
          const V = config.vocabSize;
          const steps = golden.get("next")!.shape[1]!;
          let logits = await session.prefill(prompts);
          for (let step = 0; step < steps; step++) {
            const chosen = new Int32Array(batch);
            for (let row = 0; row < batch; row++) {
              const own = logits.subarray(row * V, (row + 1) * V);
              const at = (row * steps + step) * V;
              assertClose(own, expected.slice(at, at + V), tolerance, `row ${row}, step ${step}`);
              chosen[row] = next[row * steps + step]!;
              // Of a model with random weights the two best may lie as close as that.
              if (cacheType !== "float32") continue;
              assert.equal(own.indexOf(own.reduce((a, b) => Math.max(a, b))), chosen[row], `row ${row}, step ${step}`);
            }
            if (step < steps - 1) logits = await session.step(chosen);
          }
          // All of it in one pass instead: the same numbers.
          await session.prefill(prompts);
          const fed = prompts.map((_, row) => Array.from(next).slice(row * steps, (row + 1) * steps - 1));
          const together = await session.extend(fed);
          for (let row = 0; row < batch; row++) {
            for (let step = 1; step < steps; step++) {
              const own = (row * (steps - 1) + step - 1) * V;
              const at = (row * steps + step) * V;
              const place = `row ${row}, step ${step} of one pass`;
              assertClose(together.subarray(own, own + V), expected.slice(at, at + V), tolerance, place);
            }
          }
          session.dispose();
          for (const tensor of parameters.values()) tensor.dispose();
          assert.equal(runtime.memory().tensors, 0);
        });
      }
    }
  }
});
