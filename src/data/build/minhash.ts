/**
 * MinHash (Broder 1997): a signature of a text such that the share of equal places in two signatures estimates how much the
 * texts have in common, as the Jaccard similarity of their sets of shingles (runs of five characters, spaces left out).
 *
 * With h a shingle's hash of 32 bits, place i of the signature is the least of aᵢ·h + bᵢ mod 2³² over all shingles, of which the
 * lower 16 bits are kept: half the memory, and places that differ agree by chance once in 65,536. The passes over shingles
 * are in WebAssembly vectors, some five times as fast as JavaScript.
 */
import { compileWasm, createWasmMemory, i32, i32x4, v128, type WasmFunction, whileLoop } from "../../util/wasm.ts";

/** Places of a signature. */
export const signatureLength = 64;
const shingleLength = 5;
/** Letters that a text needs for a signature: with fewer shingles the estimate says nothing. */
const minimumLetters = 4 * shingleLength;

const hashBasis = 0x811c9dc5;
const hashPrime = 0x01000193;

/** (units, end, hashes) → where the next hash would go: FNV-1a of the shingle that begins at each unit, four by four. */
const shinglesFunction: WasmFunction = {
  parameters: ["i32", "i32", "i32"],
  result: "i32",
  body: ([units, end, hashes], local) => {
    const [hash, prime] = [local("v128"), local("v128")];
    const steps = Array.from({ length: shingleLength }, (_, i) =>
      hash.set(i32x4.mul(v128.xor(hash.get, v128.load([units!.get], 4 * i)), prime.get)),
    );
    return [
      prime.set(i32x4.splat(i32.const(hashPrime))),
      whileLoop(i32.ltU(units!.get, end!.get), [
        hash.set(i32x4.splat(i32.const(hashBasis | 0))),
        ...steps,
        v128.store([hashes!.get, v128.xor(hash.get, i32x4.shrU(hash.get, i32.const(15)))]),
        units!.set(i32.add(units!.get, i32.const(16))),
        hashes!.set(i32.add(hashes!.get, i32.const(16))),
      ]),
      hashes!.get,
    ];
  },
};

/** Places of the signature in one pass: as many as there are registers for. */
const passLength = 32;

/** (hashes, end, family, least) → `end`: the least of each place over the hashes, in place. `family` has four aᵢ, four bᵢ, and so on. */
const leastFunction: WasmFunction = {
  parameters: ["i32", "i32", "i32", "i32"],
  result: "i32",
  body: ([hashes, end, family, least], local) => {
    const hash = local("v128");
    const places = Array.from({ length: passLength / 4 }, () => local("v128"));
    return [
      ...places.map((place, k) => place.set(v128.load([least!.get], 16 * k))),
      whileLoop(i32.ltU(hashes!.get, end!.get), [
        hash.set(v128.load32Splat([hashes!.get])),
        ...places.map((place, k) => {
          const product = i32x4.mul(hash.get, v128.load([family!.get], 32 * k));
          return place.set(i32x4.minU(place.get, i32x4.add(product, v128.load([family!.get], 32 * k + 16))));
        }),
        hashes!.set(i32.add(hashes!.get, i32.const(4))),
      ]),
      ...places.map((place, k) => v128.store([least!.get, place.get], 16 * k)),
      end!.get,
    ];
  },
};

/** Shingles that are taken at once. */
const chunkShingles = 4096;
const leastAt = 0;
const familyAt = leastAt + 4 * signatureLength;
const hashesAt = familyAt + 8 * signatureLength;
const unitsAt = hashesAt + 4 * chunkShingles;
const memory = createWasmMemory(1);
const kernels = compileWasm(memory, { shingles: shinglesFunction, least: leastFunction });
const least = new Uint32Array(memory.buffer, leastAt, signatureLength);
/** Behind the last shingle's units up to three more are read with it. */
const units = new Uint32Array(memory.buffer, unitsAt, chunkShingles + shingleLength - 1 + 4);

// Odd multipliers and offsets from a fixed linear congruence: signatures must be the same everywhere.
const family = new Uint32Array(memory.buffer, familyAt, 2 * signatureLength);
let state = 0x2545f491;
for (let i = 0; i < signatureLength; i++) {
  const at = 8 * (i >> 2) + (i & 3);
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  family[at] = state | 1;
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  family[at + 4] = state;
}

const isSpace = new Uint8Array(65536);
for (const space of "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff") isSpace[space.charCodeAt(0)] = 1;
isSpace.fill(1, 0x2000, 0x200a + 1);

/** The signature of a text; empty where the text is too short for one. */
export function signatureOf(text: string): Uint16Array<ArrayBuffer> {
  least.fill(0xffffffff);
  let waiting = 0;
  let letters = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (isSpace[unit] === 1) continue;
    units[waiting++] = unit;
    letters++;
    if (waiting < chunkShingles + shingleLength - 1) continue;
    takeShingles(chunkShingles);
    units.copyWithin(0, chunkShingles, waiting);
    waiting = shingleLength - 1;
  }
  if (letters < minimumLetters) return new Uint16Array(0);
  if (waiting >= shingleLength) takeShingles(waiting - shingleLength + 1);
  return Uint16Array.from(least);
}

/** The first so many shingles of `units`. */
function takeShingles(count: number): void {
  kernels.shingles(unitsAt, unitsAt + 4 * count, hashesAt);
  const end = hashesAt + 4 * count;
  for (let place = 0; place < signatureLength; place += passLength)
    kernels.least(hashesAt, end, familyAt + 8 * place, leastAt + 4 * place);
}
