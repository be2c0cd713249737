/** Signatures and the index of them, beside the plain definitions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createLikenessIndex } from "./likeness-index.ts";
import { signatureLength, signatureOf } from "./minhash.ts";

/** The definition, number by number. */
function plainSignature(text: string): number[] {
  const letters = text.replace(/\s+/g, "");
  if (letters.length < 20) return [];
  const least = new Uint32Array(signatureLength).fill(0xffffffff);
  for (let start = 0; start + 5 <= letters.length; start++) {
    let hash = 0x811c9dc5;
    for (let i = 0; i < 5; i++) hash = Math.imul(hash ^ letters.charCodeAt(start + i), 0x01000193);
    hash ^= hash >>> 15;
    let state = 0x2545f491;
    const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
    for (let i = 0; i < signatureLength; i++) {
      const multiplier = next() | 1;
      const value = (Math.imul(hash, multiplier) + next()) >>> 0;
      if (value < least[i]!) least[i] = value;
    }
  }
  return [...Uint16Array.from(least)];
}

const han = (length: number, step = 7919) =>
  Array.from({ length }, (_, i) => String.fromCharCode(0x4e00 + ((i * step + length) % 5000))).join("");

test("vectors give what the definition says, around the ends of their chunks too", () => {
  for (const length of [0, 19, 20, 21, 22, 23, 24, 4095, 4096, 4097, 4099, 4100, 4101, 4104, 8192, 8196, 8200]) {
    const text = han(length);
    assert.deepEqual([...signatureOf(text)], plainSignature(text), `${length}`);
  }
  fc.assert(
    fc.property(fc.string({ unit: "binary", minLength: 15, maxLength: 80 }), (text) => {
      assert.deepEqual([...signatureOf(text)], plainSignature(text));
    }),
  );
  let all = "";
  for (let unit = 0; unit < 0x10000; unit++) all += String.fromCharCode(unit); // every space
  assert.deepEqual([...signatureOf(all)], plainSignature(all));
});

test("the index finds what comparing with every signature that shares a band finds", () => {
  const bandsOf = (signature: Uint16Array) =>
    Array.from({ length: signatureLength / 4 }, (_, band) => `${band}:${signature.slice(4 * band, 4 * band + 4)}`);
  const index = createLikenessIndex(0.8);
  const kept: { readonly signature: Uint16Array; readonly bands: ReadonlySet<string> }[] = [];
  let found = 0;
  for (let i = 0; i < 3000; i++) {
    // Few kinds of numbers: bands are shared often, and whole signatures now and then.
    const base = i % 7 === 0 || kept.length === 0 ? undefined : kept[(i * 7919) % kept.length]!.signature;
    const signature = Uint16Array.from({ length: signatureLength }, (_, place) => {
      const mixed = Math.imul(i * signatureLength + place, 0x9e3779b1) >>> 8;
      return base !== undefined && mixed % 100 < 50 + (i % 50) ? base[place]! : mixed;
    });
    const bands = bandsOf(signature);
    const expected = kept.some(
      (each) =>
        bands.some((band) => each.bands.has(band)) &&
        signature.filter((value, place) => value === each.signature[place]).length >= 0.8 * signatureLength,
    );
    assert.equal(index.resembles(signature), expected, `${i}`);
    if (expected) found++;
    else {
      index.keep(signature);
      kept.push({ signature, bands: new Set(bands) });
    }
  }
  assert.ok(found > 300 && kept.length > 1024, `${found} of ${kept.length}`);
});

test("texts of one form cost no more than a bounded number of comparisons each", () => {
  const index = createLikenessIndex(1);
  const start = process.cpuUsage();
  for (let i = 0; i < 20_000; i++) {
    const signature = new Uint16Array(signatureLength); // all bands but one are those of all others
    signature[0] = i;
    signature[1] = 1 + (i >> 16);
    assert.equal(index.resembles(signature), false);
    index.keep(signature);
  }
  const { user } = process.cpuUsage(start);
  assert.ok(user < 5e6, `${user / 1e6} s`); // the square of their number would be minutes
});
