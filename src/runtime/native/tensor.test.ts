import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { byteLength, dtypes } from "../dtype.ts";
import type { DeviceTensor } from "../runtime.ts";
import { createNativeRuntime } from "./runtime.ts";
import { NativeTensor } from "./tensor.ts";

/** The native tensor behind a handle. */
function native(tensor: DeviceTensor): NativeTensor {
  assert.ok(tensor instanceof NativeTensor);
  return tensor;
}

const runtime = createNativeRuntime({ threads: 2 });
after(() => runtime.dispose());

test("memory is zeroed, aligned to 64 bytes, and counted once however many tensors share it", () => {
  const before = runtime.memory();
  const tensor = runtime.allocate("float32", [3, 4]);
  assert.deepEqual(tensor.view(), new Float32Array(12));
  assert.equal(native(tensor).memory.address % 64, 0);
  assert.equal(tensor.byteLength, 48);
  const rows = tensor.alias([2, 4], 16);
  rows.view().fill(7 as never);
  assert.deepEqual(Array.from(tensor.view() as Float32Array), [0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
  const bits = tensor.alias([12], 0, "int32");
  assert.equal((bits.view() as Int32Array)[4], 0x40e00000);
  assert.equal(runtime.memory().tensorBytes, before.tensorBytes + 48);
  assert.equal(runtime.memory().tensors, before.tensors + 3);
  tensor.dispose();
  assert.equal((rows.view() as Float32Array)[0], 7, "the memory lives on");
  rows.dispose();
  const view = bits.view();
  bits.dispose();
  assert.equal(view.length, 0);
  const { tensorBytes, peakTensorBytes, residentBytes } = runtime.memory();
  assert.equal(tensorBytes, before.tensorBytes);
  assert.ok(peakTensorBytes >= tensorBytes + 48);
  assert.ok(residentBytes! > 1e6);
});

test("an alias stays inside of its tensor and begins at an element", () => {
  using tensor = runtime.allocate("float32", [4]);
  using part = tensor.alias([2], 8);
  const refused = { code: "CPM_RUNTIME_ALIAS" };
  assert.throws(() => tensor.alias([5]), refused);
  assert.throws(() => tensor.alias([2], 12), refused);
  assert.throws(() => part.alias([2], 4), refused);
  assert.throws(() => tensor.alias([1], -4), refused);
  assert.throws(() => tensor.alias([1], 2), refused);
  assert.throws(() => tensor.alias([1], 4, "int64"), refused);
  assert.throws(() => tensor.alias([1], Number.NaN), refused);
});

test("every dtype goes up and comes down unchanged, with every shape", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...dtypes),
      fc.array(fc.nat(5), { maxLength: 4 }),
      fc.infiniteStream(fc.nat(255)),
      async (dtype, shape, noise) => {
        using tensor = runtime.allocate(dtype, shape);
        const data = await runtime.download(tensor);
        assert.equal(data.byteLength, byteLength(dtype, shape));
        const bytes = new Uint8Array(data.buffer);
        for (let i = 0; i < bytes.length; i++) bytes[i] = noise.next().value!;
        using uploaded = runtime.upload(data, dtype, shape);
        runtime.write(tensor, data);
        assert.deepEqual(native(uploaded).bytes(), bytes);
        assert.deepEqual(native(tensor).bytes(), bytes);
        assert.deepEqual(new Uint8Array((await runtime.download(tensor)).buffer), bytes);
      },
    ),
    { numRuns: 60 },
  );
});

test("writing a part, and data that does not fit", () => {
  using tensor = runtime.upload(Float32Array.of(1, 2, 3, 4), "float32", [2, 2]);
  runtime.write(tensor, Float32Array.of(9, 8), 1);
  assert.deepEqual(Array.from(tensor.view() as Float32Array), [1, 9, 8, 4]);
  const wrong = { code: "CPM_RUNTIME_SHAPE" };
  assert.throws(() => runtime.write(tensor, Float32Array.of(1, 2), 3), wrong);
  assert.throws(() => runtime.write(tensor, Float32Array.of(1), -1), wrong);
  assert.throws(() => runtime.write(tensor, Int32Array.of(1)), { code: "CPM_RUNTIME_DTYPE" });
  assert.throws(() => runtime.upload(Float32Array.of(1), "float32", [2]), wrong);
  assert.throws(() => runtime.upload(Float32Array.of(1, 2), "float64", [1]), { code: "CPM_RUNTIME_DTYPE" });
  assert.throws(() => runtime.allocate("float32", [-1]), wrong);
  assert.throws(() => runtime.allocate("float32", [1.5]), wrong);
  assert.throws(() => runtime.allocate("float32", [2 ** 40, 2 ** 40]), wrong);
  assert.throws(() => runtime.allocate("float32", [2 ** 45]), { code: "CPM_RUNTIME_MEMORY" });
});

test("freeing is immediate: large tensors in a row need no more than one of them", () => {
  const warm = process.memoryUsage.rss();
  let highest = 0;
  for (let i = 0; i < 40; i++) {
    using tensor = runtime.allocate("uint8", [2 ** 26]);
    tensor.view().fill(1 as never);
    highest = Math.max(highest, process.memoryUsage.rss());
  }
  assert.ok(highest - warm < 2.5 * 2 ** 26, `${(highest - warm) / 2 ** 20} MiB`);
});

test("memory that was transferred away is refused, not touched", async () => {
  const tensor = runtime.allocate("float32", [4]);
  const { buffer } = tensor.view();
  structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
  const gone = { code: "CPM_RUNTIME_DETACHED" };
  assert.throws(() => tensor.view(), gone);
  assert.throws(() => tensor.alias([4]), gone);
  assert.throws(() => runtime.write(tensor, Float32Array.of(1)), gone);
  await assert.rejects(runtime.download(tensor), gone);
  tensor.dispose();
  assert.equal(tensor.disposed, true);
});
