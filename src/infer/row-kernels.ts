/**
 * The passes over a row of logits [V] that every generated token takes, two to four numbers at a time: the largest entry,
 * exponentials with their sum, and what is left above a bar. In WebAssembly, several times as fast as JavaScript.
 *
 * All work on one memory of the thread: a row, its weights and ids. `load` copies a row in; what a call gives is valid until
 * the next row.
 */
import {
  type Code,
  compileWasm,
  createWasmMemory,
  f32,
  f32x4,
  f64,
  f64x2,
  i32,
  i32x4,
  v128,
  type WasmFunction,
  whileLoop,
} from "../util/wasm.ts";

// With y = (largest − x) · scale: exp(−y) = 2^−n · exp(r), where n is y/ln 2 to the nearest and r = n · ln 2 − y at most ln 2/2
// by size, so that seven terms of the series leave 5e-9. ln 2 comes in two parts, the first short enough that n times it
// is exact. 2^−n is made of its bits: n taken from 2^23 + 127 has that exponent in the lowest bits of the float32.
const negligibleNats = 64 * Math.LN2;
const longNats = 0.693359375;
const shortNats = Math.LN2 - longNats;
const exponentMagic = 2 ** 23 + 127;
const evenTerms = [1, 1 / 2, 1 / 24, 1 / 720];
const oddTerms = [1, 1 / 6, 1 / 120, 1 / 5040];

/**
 * (row, end, largest, scale, weights) → Σ exp((x − largest) · scale) over the float32 from `row` to `end`, sixteen by
 * sixteen.
 */
export const exponentialsFunction: WasmFunction = {
  parameters: ["i32", "i32", "f64", "f64", "i32"],
  result: "f64",
  body: ([row, end, largest, scale, weights], local) => {
    const before: Code[] = [];
    /** A local with a number in all lanes, set before the loop: a constant in it would be made anew at every turn. */
    const everywhere = (value: Code): Code => {
      const variable = local("v128");
      before.push(variable.set(f32x4.splat(f32.demote(value))));
      return variable.get;
    };
    const number = (value: number) => everywhere(f64.const(value));
    const [most, factor] = [everywhere(largest!.get), everywhere(scale!.get)];
    const [limit, turns, long, short, magic] = [negligibleNats, 1 / Math.LN2, longNats, shortNats, exponentMagic].map(
      number,
    );
    const [even, odd] = [evenTerms.map(number), oddTerms.map(number)];
    const [y, n, r, r2, e] = Array.from({ length: 5 }, () => local("v128"));
    const sum = local("v128");
    /** The terms of every other power: two chains of operations that overlap. */
    const chain = (terms: readonly Code[]): Code =>
      terms.reduceRight((inner, term) => f32x4.add(term, f32x4.mul(r2!.get, inner)));
    /** Weights of four numbers. */
    const four = (offset: number): Code =>
      [
        y!.set(f32x4.pmin(f32x4.mul(f32x4.sub(most, v128.load([row!.get], offset)), factor), limit!)),
        n!.set(f32x4.nearest(f32x4.mul(y!.get, turns!))),
        r!.set(f32x4.add(f32x4.sub(f32x4.mul(n!.get, long!), y!.get), f32x4.mul(n!.get, short!))),
        r2!.set(f32x4.mul(r!.get, r!.get)),
        e!.set(
          f32x4.mul(
            f32x4.add(chain(even), f32x4.mul(r!.get, chain(odd))),
            i32x4.shl(f32x4.sub(magic!, n!.get), i32.const(23)),
          ),
        ),
        e!.set(v128.andNot(e!.get, f32x4.ge(y!.get, limit!))),
        v128.store([weights!.get, e!.get], offset),
        sum.set(f64x2.add(sum.get, f64x2.add(f64x2.promoteLow(e!.get), f64x2.promoteLow(v128.upper(e!.get))))),
      ].flat();
    const loop = whileLoop(i32.ltU(row!.get, end!.get), [
      ...[0, 16, 32, 48].map(four),
      row!.set(i32.add(row!.get, i32.const(64))),
      weights!.set(i32.add(weights!.get, i32.const(64))),
    ]);
    return [...before, loop, f64.add(f64x2.lane(0, sum.get), f64x2.lane(1, sum.get))];
  },
};

/** (row, end) → the largest float32 from `row` to `end`, eight by eight. NaN is passed over behind the first eight. */
export const largestFunction: WasmFunction = {
  parameters: ["i32", "i32"],
  result: "f64",
  body: ([row, end], local) => {
    const [a, b] = [local("v128"), local("v128")];
    const lane = (index: 0 | 1 | 2 | 3) => f64.promote(f32x4.lane(index, a.get));
    return [
      a.set(v128.load([row!.get])),
      b.set(v128.load([row!.get], 16)),
      whileLoop(i32.ltU(row!.set(i32.add(row!.get, i32.const(32))).concat(row!.get), end!.get), [
        a.set(f32x4.pmax(a.get, v128.load([row!.get]))),
        b.set(f32x4.pmax(b.get, v128.load([row!.get], 16))),
      ]),
      a.set(f32x4.pmax(a.get, b.get)),
      f64.max(f64.max(lane(0), lane(1)), f64.max(lane(2), lane(3))),
    ];
  },
};

/**
 * (weights, end, bar, to, ids) → behind the last of the ids of float32 weights that are not below `bar`, which go to `to` as
 * float64. Without a branch on the weight, which could not be predicted: the next one overwrites what is too light.
 */
const gatherFunction: WasmFunction = {
  parameters: ["i32", "i32", "f64", "i32", "i32"],
  result: "i32",
  body: ([weights, end, bar, to, ids], local) => {
    const [id, kept] = [local("i32"), local("i32")];
    const weight = local("f64");
    return [
      whileLoop(i32.ltU(weights!.get, end!.get), [
        f64.store([to!.get, weight.tee(f64.promote(f32.load([weights!.get])))]),
        i32.store([ids!.get, id.get]),
        kept.set(f64.ge(weight.get, bar!.get)),
        to!.set(i32.add(to!.get, i32.shl(kept.get, i32.const(3)))),
        ids!.set(i32.add(ids!.get, i32.shl(kept.get, i32.const(2)))),
        id.set(i32.add(id.get, i32.const(1))),
        weights!.set(i32.add(weights!.get, i32.const(4))),
      ]),
      ids!.get,
    ];
  },
};

/** A row in the kernels' memory. */
export interface LoadedRow {
  /** [V]: of `gather`. */
  readonly weights: Float64Array;
  readonly ids: Int32Array;
  /** The largest entry, whether or not there is NaN: that shows in the sum. */
  largest(): number;
  /**
   * Makes weights exp((row[i] − largest) · scale) and tells their sum. `largest` is the row's and `scale` > 0. A weight of y
   * nats is (1 + y) · 1e-7 off, as y is in float32; below exp(−44.3) it is 0 (90,000 of them would add up to less than 1e-14).
   * NaN in the row gives a NaN sum.
   */
  exponentials(largest: number, scale: number): number;
  /** Collects the weights of at least `bar` and their ids at the front of `weights` and `ids`, in order; tells how many. */
  gather(bar: number): number;
}

const pageBytes = 65536;
const rowAt = 64;
const memory = createWasmMemory(1);
const kernels = compileWasm(memory, {
  largest: largestFunction,
  exponentials: exponentialsFunction,
  gather: gatherFunction,
});
/** By length. */
const laidOut = new Map<number, LoadedRow & { readonly row: Float32Array }>();

function layOut(length: number): LoadedRow & { readonly row: Float32Array } {
  // Whole turns of the widest loop.
  const padded = Math.ceil(length / 16) * 16;
  const exponentialsAt = rowAt + 4 * padded;
  const weightsAt = exponentialsAt + 4 * padded;
  const idsAt = weightsAt + 8 * padded;
  const bytes = idsAt + 4 * padded;
  if (bytes > memory.buffer.byteLength) {
    memory.grow(Math.ceil((bytes - memory.buffer.byteLength) / pageBytes));
    // Views of the smaller memory are void.
    laidOut.clear();
  }
  const { buffer } = memory;
  const end = rowAt + 4 * padded;
  return {
    row: new Float32Array(buffer, rowAt, padded),
    weights: new Float64Array(buffer, weightsAt, length),
    ids: new Int32Array(buffer, idsAt, length),
    largest: () => kernels.largest(rowAt, end),
    exponentials: (largest, scale) => kernels.exponentials(rowAt, end, largest, scale, exponentialsAt),
    gather: (bar) => {
      const behind = kernels.gather(exponentialsAt, exponentialsAt + 4 * length, bar, weightsAt, idsAt);
      return (behind - idsAt) / 4;
    },
  };
}

/** Copies a row in. What was found of the row before is void. */
export function loadRow(row: Float32Array): LoadedRow {
  let loaded = laidOut.get(row.length);
  if (loaded === undefined) {
    loaded = layOut(row.length);
    laidOut.set(row.length, loaded);
  }
  loaded.row.set(row);
  loaded.row.fill(-Infinity, row.length);
  return loaded;
}
