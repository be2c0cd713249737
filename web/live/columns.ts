/** Columns of numbers that grow, and what a chart draws of them. */

/** A growing column of doubles. */
export interface Column {
  readonly length: number;
  /** The numbers; longer than `length`, and another array after growth. */
  readonly values: Float64Array;
  push(value: number): void;
  /** Keeps the first so many. */
  truncate(length: number): void;
}

export function createColumn(): Column {
  let values = new Float64Array(1024);
  let length = 0;
  return {
    get length() {
      return length;
    },
    get values() {
      return values;
    },
    push(value) {
      if (length === values.length) {
        const grown = new Float64Array(2 * length);
        grown.set(values);
        values = grown;
      }
      values[length++] = value;
    },
    truncate(to) {
      length = Math.min(length, Math.max(0, to));
    },
  };
}

/** The first place whose value is above `limit`, of ascending values. */
export function upperBound(values: ArrayLike<number>, length: number, limit: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * At most 2 · buckets points of y over x that look like all of them: the lowest and the highest of each bucket of equal
 * width in x, in their order. x ascends; what is not finite is left out.
 */
export function decimate(
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  from: number,
  to: number,
  buckets: number,
): { readonly x: number[]; readonly y: number[] } {
  const outX: number[] = [];
  const outY: number[] = [];
  const push = (i: number) => {
    outX.push(x[i]!);
    outY.push(y[i]!);
  };
  if (to - from <= 2 * buckets) {
    for (let i = from; i < to; i++) if (Number.isFinite(y[i]!)) push(i);
    return { x: outX, y: outY };
  }
  const start = x[from]!;
  const width = (x[to - 1]! - start) / buckets || 1;
  let bucket = -1;
  let low = -1;
  let high = -1;
  const flush = () => {
    if (low < 0) return;
    push(Math.min(low, high));
    if (low !== high) push(Math.max(low, high));
  };
  for (let i = from; i < to; i++) {
    const value = y[i]!;
    if (!Number.isFinite(value)) continue;
    const own = Math.min(buckets - 1, Math.floor((x[i]! - start) / width));
    if (own !== bucket) {
      flush();
      bucket = own;
      low = high = i;
    } else {
      if (value < y[low]!) low = i;
      if (value > y[high]!) high = i;
    }
  }
  flush();
  return { x: outX, y: outY };
}

/** Running mean that is right from the first value; `weight` 0 changes nothing, towards 1 it smooths more. */
export function smooth(y: ArrayLike<number>, length: number, weight: number): Float64Array {
  const out = new Float64Array(length);
  let sum = 0;
  let norm = 0;
  for (let i = 0; i < length; i++) {
    const value = y[i]!;
    if (Number.isFinite(value)) {
      sum = weight * sum + (1 - weight) * value;
      norm = weight * norm + (1 - weight);
    }
    out[i] = norm > 0 ? sum / norm : Number.NaN;
  }
  return out;
}
