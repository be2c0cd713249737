/**
 * Attention of one query of one head over keys and values of 8 bits, in vectors of the processor: scores, their
 * exponentials, and the mean of the values. Nothing is unpacked but what is in a register.
 *
 * A key or value of a position is E int8 and one float32 scale. The query is rounded to 16 bits (1.5e-5 of its largest entry), so
 * that products with keys are of whole numbers.
 *
 * Legend: S positions, E width of a head (a multiple of 16).
 */
import {
  type Code,
  compileWasm,
  f32,
  f32x4,
  f64,
  i16x8,
  i32,
  i32x4,
  v128,
  type WasmFunction,
  type WasmMemory,
  whileLoop,
} from "../util/wasm.ts";
import { exponentialsFunction, largestFunction } from "./row-kernels.ts";

/** (query, keys, scales, bias, scores, end of scores, E, factor) → 0; score = (query · key) · factor · scale + bias. */
const scoresFunction: WasmFunction = {
  parameters: ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "f64"],
  result: "i32",
  body: ([query, keys, scales, bias, scores, end, width, factor], local) => {
    const [at, stop] = [local("i32"), local("i32")];
    const [key, sum] = [local("v128"), local("v128")];
    const part = (extend: (x: Code) => Code, offset: number) =>
      sum.set(i32x4.add(sum.get, i32x4.dot(extend(key.get), v128.load([at.get], offset))));
    const step = (local: typeof at, bytes: number) => local.set(i32.add(local.get, i32.const(bytes)));
    const lane = (index: 0 | 1 | 2 | 3) => i32x4.lane(index, sum.get);
    const total = i32.add(i32.add(lane(0), lane(1)), i32.add(lane(2), lane(3)));
    return [
      whileLoop(i32.ltU(scores!.get, end!.get), [
        sum.set(f32x4.splat(f32.demote(f64.const(0)))),
        at.set(query!.get),
        stop.set(i32.add(keys!.get, width!.get)),
        whileLoop(i32.ltU(keys!.get, stop.get), [
          key.set(v128.load([keys!.get])),
          part(i16x8.extendLow, 0),
          part(i16x8.extendHigh, 16),
          step(at, 32),
          step(keys!, 16),
        ]),
        f32.store([
          scores!.get,
          f32.demote(
            f64.add(
              f64.mul(f64.mul(f64.convert(total), factor!.get), f64.promote(f32.load([scales!.get]))),
              f64.promote(f32.load([bias!.get])),
            ),
          ),
        ]),
        step(scores!, 4),
        step(scales!, 4),
        step(bias!, 4),
      ]),
      i32.const(0),
    ];
  },
};

/** (weights, end, scales, factor) → 0; weight = weight · scale · factor, four by four. */
const scaleFunction: WasmFunction = {
  parameters: ["i32", "i32", "i32", "f64"],
  result: "i32",
  body: ([weights, end, scales, factor], local) => {
    const factors = local("v128");
    return [
      factors.set(f32x4.splat(f32.demote(factor!.get))),
      whileLoop(i32.ltU(weights!.get, end!.get), [
        v128.store([
          weights!.get,
          f32x4.mul(f32x4.mul(v128.load([weights!.get]), v128.load([scales!.get])), factors.get),
        ]),
        weights!.set(i32.add(weights!.get, i32.const(16))),
        scales!.set(i32.add(scales!.get, i32.const(16))),
      ]),
      i32.const(0),
    ];
  },
};

/** (weights, end, values, out, end of out, E) → 0; out = Σ weight · value, sixteen entries at a time. */
const meanFunction: WasmFunction = {
  parameters: ["i32", "i32", "i32", "i32", "i32", "i32"],
  result: "i32",
  body: ([weights, end, values, out, outEnd, width], local) => {
    const [weightAt, valueAt] = [local("i32"), local("i32")];
    const [weight, bytes, low, high] = [local("v128"), local("v128"), local("v128"), local("v128")];
    const sums = [0, 1, 2, 3].map(() => local("v128"));
    const zero = f32x4.splat(f32.demote(f64.const(0)));
    const add = (index: number, four: Code) =>
      sums[index]!.set(f32x4.add(sums[index]!.get, f32x4.mul(weight.get, f32x4.convert(four))));
    return [
      whileLoop(i32.ltU(out!.get, outEnd!.get), [
        ...sums.map((sum) => sum.set(zero)),
        weightAt.set(weights!.get),
        valueAt.set(values!.get),
        whileLoop(i32.ltU(weightAt.get, end!.get), [
          weight.set(v128.load32Splat([weightAt.get])),
          bytes.set(v128.load([valueAt.get])),
          low.set(i16x8.extendLow(bytes.get)),
          high.set(i16x8.extendHigh(bytes.get)),
          add(0, i32x4.extendLow(low.get)),
          add(1, i32x4.extendHigh(low.get)),
          add(2, i32x4.extendLow(high.get)),
          add(3, i32x4.extendHigh(high.get)),
          weightAt.set(i32.add(weightAt.get, i32.const(4))),
          valueAt.set(i32.add(valueAt.get, width!.get)),
        ]),
        ...sums.map((sum, index) => v128.store([out!.get, sum.get], 16 * index)),
        out!.set(i32.add(out!.get, i32.const(64))),
        values!.set(i32.add(values!.get, i32.const(16))),
      ]),
      i32.const(0),
    ];
  },
};

/** Where in the memory a head's part of the cache and a query's bias lie, in bytes. */
export interface HeadPlaces {
  /** [S, E] int8, then [S] float32. */
  readonly keys: number;
  readonly keyScales: number;
  readonly values: number;
  readonly valueScales: number;
  /** [S] float32. */
  readonly bias: number;
}

export interface PackedAttention {
  /**
   * Sees the first `count` positions with a query of a head, [E] or shorter; `scale` is a factor of the scores. The result is
   * valid until the next call.
   */
  attend(query: Float32Array, places: HeadPlaces, count: number, scale: number): Float32Array;
}

/** Bytes of scratch memory for at most S positions. */
export function scratchBytes(S: number, E: number): number {
  return 2 * E + 4 * E + 4 * (Math.ceil(S / 16) * 16);
}

/** Kernels over a memory whose bytes from `at` on, `scratchBytes` of them, are scratch. */
export function createPackedAttention(memory: WasmMemory, at: number, S: number, E: number): PackedAttention {
  const kernels = compileWasm(memory, {
    scores: scoresFunction,
    largest: largestFunction,
    exponentials: exponentialsFunction,
    scale: scaleFunction,
    mean: meanFunction,
  });
  const { buffer } = memory;
  const rounded = new Int16Array(buffer, at, E);
  const out = new Float32Array(buffer, at + 2 * E, E);
  const scoresAt = at + 6 * E;
  const scores = new Float32Array(buffer, scoresAt, Math.ceil(S / 16) * 16);
  return {
    attend(query, { keys, keyScales, values, valueScales, bias }, count, scale) {
      let most = 0;
      for (let i = 0; i < query.length; i++) most = Math.max(most, Math.abs(query[i]!));
      const step = most > 0 ? 32767 / most : 0;
      for (let i = 0; i < query.length; i++) rounded[i] = Math.round(query[i]! * step);
      const end = scoresAt + 4 * count;
      const factor = step > 0 ? scale / step : 0;
      kernels.scores(at, keys, keyScales, bias, scoresAt, end, E, factor);
      // Whole turns of the widest loop: what is behind weighs nothing.
      const padded = Math.ceil(count / 16) * 16;
      const paddedEnd = scoresAt + 4 * padded;
      scores.fill(-Infinity, count, padded);
      const sum = kernels.exponentials(scoresAt, paddedEnd, kernels.largest(scoresAt, paddedEnd), 1, scoresAt);
      kernels.scale(scoresAt, paddedEnd, valueScales, 1 / sum);
      kernels.mean(scoresAt, end, values, at + 2 * E, at + 6 * E, E);
      return out;
    },
  };
}
