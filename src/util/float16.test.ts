import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  bfloat16ToFloat32,
  bfloat16ToNumber,
  float16ToFloat32,
  float16ToNumber,
  float32ToBfloat16,
  float32ToFloat16,
  numberToBfloat16,
  numberToFloat16,
} from "./float16.ts";

const allPatterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** IEEE 754 by its definition, in float64: sign · significand · 2^exponent. */
function byDefinition(pattern: number, mantissaBits: number, exponentBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = pattern >> 15 ? -1 : 1;
  const exponent = (pattern >> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

const formats = [
  {
    name: "float16",
    mantissaBits: 10,
    exponentBits: 5,
    toNumber: float16ToNumber,
    fromNumber: numberToFloat16,
    toArray: float16ToFloat32,
    fromArray: float32ToFloat16,
  },
  {
    name: "bfloat16",
    mantissaBits: 7,
    exponentBits: 8,
    toNumber: bfloat16ToNumber,
    fromNumber: numberToBfloat16,
    toArray: bfloat16ToFloat32,
    fromArray: float32ToBfloat16,
  },
] as const;

for (const { name, mantissaBits, exponentBits, toNumber, fromNumber, toArray, fromArray } of formats) {
  const isNan = (pattern: number) => Number.isNaN(byDefinition(pattern, mantissaBits, exponentBits));

  test(`${name}: all 65,536 patterns decode by the definition and come back bit for bit`, () => {
    const floats = toArray(allPatterns);
    const back = fromArray(floats);
    for (const pattern of allPatterns) {
      const expected = byDefinition(pattern, mantissaBits, exponentBits);
      assert.ok(Object.is(floats[pattern], expected), `${pattern.toString(16)}: ${floats[pattern]} is not ${expected}`);
      assert.ok(Object.is(toNumber(pattern), expected), pattern.toString(16));
      assert.equal(back[pattern], pattern, pattern.toString(16)); // NaN payloads included: arrays keep bits
    }
  });

  test(`${name}: every midpoint between neighbours rounds to the even one, and its neighbours to their side`, () => {
    const top = (2 ** exponentBits - 1) << mantissaBits;
    const view = new Float32Array(1);
    const bits = new Uint32Array(view.buffer);
    for (let pattern = 0; pattern < top; pattern++) {
      const low = byDefinition(pattern, mantissaBits, exponentBits);
      // Beyond the largest number the next step, taken as if the exponent went on, decides between it and infinity.
      const next = byDefinition(pattern + 1, mantissaBits, exponentBits);
      const high = Number.isFinite(next) ? next : 2 ** (2 ** (exponentBits - 1));
      const middle = low / 2 + high / 2; // exact: one more bit than the format has
      const even = pattern % 2 === 0 ? pattern : pattern + 1;
      view[0] = middle;
      assert.equal(view[0], middle);
      const at = bits[0]!;
      assert.equal(fromNumber(middle), even, `${pattern.toString(16)}`);
      assert.equal(fromNumber(-middle), even | 0x8000);
      bits[0] = at - 1;
      assert.equal(fromNumber(view[0]!), pattern);
      bits[0] = at + 1;
      assert.equal(fromNumber(view[0]!), pattern + 1);
    }
  });

  test(`${name}: any float32 goes to the nearest pattern, one at a time and in arrays alike`, () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        const pattern = fromNumber(value);
        assert.equal(fromArray(Float32Array.of(value))[0], pattern);
        const error = Math.abs(toNumber(pattern) - value);
        for (const other of [pattern - 1, pattern + 1]) {
          if (other < 0 || other > 0xffff || isNan(other) || !Number.isFinite(toNumber(other))) continue;
          if (Number.isFinite(toNumber(pattern))) assert.ok(error <= Math.abs(toNumber(other) - value));
        }
      }),
      { seed: 7, numRuns: 5000 },
    );
  });

  test(`${name}: a NaN stays one whatever its payload`, () => {
    const nans = Uint32Array.of(0x7f800001, 0xff800001, 0x7fc00000, 0xffffffff, 0x7f802000, 0x7f810000);
    for (const pattern of fromArray(new Float32Array(nans.buffer))) assert.ok(isNan(pattern), pattern.toString(16));
    assert.ok(isNan(fromNumber(Number.NaN)));
  });
}

test("an output of another length is refused", () => {
  assert.throws(() => float16ToFloat32(new Uint16Array(2), new Float32Array(3)), /internal/);
});
