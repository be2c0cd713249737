import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { preset } from "../model/presets.ts";
import { createNativeRuntime } from "../runtime/index.ts";
import { type InferencePlanOptions, planInference } from "./inference-plan.ts";
import { kernelRates } from "./kernel-rate.ts";

const gibibyte = 2 ** 30;
const options: InferencePlanOptions = {
  group: 128,
  rows: 1,
  capacityTokens: 512,
  memoryBytes: 6e9,
  kernelBytesPerSecond: { float32: 20e9, int8: 18e9, int4: 15e9 },
  diskBytesPerSecond: 1e9,
};

suite("inference plan", () => {
  test("ten billion parameters in six gigabytes: int4 with few layers on disk, int8 with most, float32 hardly", () => {
    const [float32, int8, int4] = (["float32", "int8", "int4"] as const).map((precision) =>
      planInference(preset("10b"), precision, options),
    );
    assert.ok(Math.abs(float32!.bytes.layers / gibibyte - 34.4) < 0.5);
    assert.ok(Math.abs(int4!.bytes.layers / gibibyte - 4.85) < 0.2, `${int4!.bytes.layers / gibibyte}`);
    assert.deepEqual([float32!.verdict, int8!.verdict, int4!.verdict], ["streams", "streams", "streams"]);
    assert.ok(int4!.residentLayers > int8!.residentLayers && int8!.residentLayers > float32!.residentLayers);
    // What is streamed decides: its bytes over the disk's rate, and the rest over the kernels'.
    const seconds = (int4!.bytes.layers - int4!.streamedBytes + int4!.bytes.table) / 15e9 + int4!.streamedBytes / 1e9;
    assert.ok(Math.abs(int4!.tokensPerSecond! - 1 / seconds) < 1e-9);
  });

  test("with room for all nothing is read, and with none it says so", () => {
    const roomy = planInference(preset("10b"), "int4", { ...options, memoryBytes: 16e9 });
    assert.deepEqual([roomy.verdict, roomy.residentLayers, roomy.streamedBytes], ["fits", 48, 0]);
    const tight = planInference(preset("10b"), "int4", { ...options, memoryBytes: 5e8 });
    assert.deepEqual([tight.verdict, tight.tokensPerSecond], ["tooLarge", undefined]);
  });

  test("keys and values grow with texts and tokens; absent sub-layers take nothing", () => {
    const one = planInference(preset("1b"), "int8", options);
    const many = planInference(preset("1b"), "int8", { ...options, rows: 16 });
    assert.ok(many.bytes.cache > 15 * one.bytes.cache);
    const packed = planInference(preset("1b"), "int8", { ...options, rows: 16, cacheType: "int8" });
    assert.ok(packed.bytes.cache < 0.3 * many.bytes.cache && packed.bytes.total < many.bytes.total);
    assert.ok(one.bytes.layers < planInference(preset("3b"), "int8", options).bytes.layers / 2);
  });

  test("the kernels' rates are measured", async () => {
    using runtime = createNativeRuntime({ threads: 1 });
    const rates = await kernelRates(runtime);
    for (const rate of Object.values(rates)) assert.ok(rate > 1e8 && rate < 1e12, `${rate}`);
    assert.equal(runtime.memory().tensors, 0);
    assert.equal(runtime.memory().programs, 0);
  });
});
