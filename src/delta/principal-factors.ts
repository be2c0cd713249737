/**
 * The r principal directions of a matrix, by subspace iteration on its rows (Halko, Martinsson and Tropp, arXiv 0909.4061):
 * enough for beginnings, where exactness buys nothing.
 */
import { fillNormal, type Seed } from "../util/random.ts";

const iterations = 8;
const oversampling = 8;

/**
 * left [O, r] and right [r, I] with left · right ≈ the best approximation of factor · W `[O, I]` of rank r, each with half
 * of the singular values: left = U √Σ, right = √Σ Vᵀ.
 */
export function principalFactors(
  weight: Float32Array,
  [O, I]: readonly [number, number],
  r: number,
  factor: number,
  seed: Seed,
  stream: string,
): { left: Float32Array; right: Float32Array } {
  const k = Math.min(r + oversampling, O, I);
  // Rows of `basis` span the row space of interest.
  const start = new Float32Array(k * I);
  fillNormal(start, seed, `principal ${stream}`);
  let basis = orthonormalRows(Float64Array.from(start), k, I);
  let image = new Float64Array(0);
  for (let round = 0; round < iterations; round++) {
    image = orthonormalRows(timesRows(weight, basis, O, I, k), k, O);
    basis = orthonormalRows(transposedTimesRows(weight, image, O, I, k), k, I);
  }
  image = timesRows(weight, basis, O, I, k);
  // W ≈ imageᵀ · basis with orthonormal rows in `basis`: the small Gram matrix of `image` has the singular values.
  const { values, vectors } = symmetricEigen(gram(image, k, O), k);
  const left = new Float32Array(O * r);
  const right = new Float32Array(r * I);
  for (let j = 0; j < r; j++) {
    const sigma = Math.sqrt(Math.max(0, values[j]!));
    const root = Math.sqrt(sigma * factor);
    for (let m = 0; m < k; m++) {
      const share = vectors[m * k + j]!;
      // U column = Σ share · image row / σ
      if (sigma > 0) for (let o = 0; o < O; o++) left[o * r + j]! += (share * image[m * O + o]! * root) / sigma;
      for (let i = 0; i < I; i++) right[j * I + i]! += share * basis[m * I + i]! * root;
    }
  }
  return { left, right };
}

/** Row m of the result is W · (row m of `rows`): [k, O]. */
function timesRows(
  weight: Float32Array,
  rows: Float64Array,
  O: number,
  I: number,
  k: number,
): Float64Array<ArrayBuffer> {
  const out = new Float64Array(k * O);
  for (let m = 0; m < k; m++) {
    for (let o = 0; o < O; o++) {
      let sum = 0;
      for (let i = 0, w = o * I, x = m * I; i < I; i++) sum += weight[w++]! * rows[x++]!;
      out[m * O + o] = sum;
    }
  }
  return out;
}

/** Row m of the result is Wᵀ · (row m of `rows`): [k, I]. */
function transposedTimesRows(
  weight: Float32Array,
  rows: Float64Array,
  O: number,
  I: number,
  k: number,
): Float64Array<ArrayBuffer> {
  const out = new Float64Array(k * I);
  for (let m = 0; m < k; m++) {
    for (let o = 0; o < O; o++) {
      const share = rows[m * O + o]!;
      for (let i = 0, w = o * I, x = m * I; i < I; i++) out[x++]! += share * weight[w++]!;
    }
  }
  return out;
}

/** Gram–Schmidt, twice for accuracy; a row that is nothing new becomes zero. */
function orthonormalRows(rows: Float64Array<ArrayBuffer>, k: number, width: number): Float64Array<ArrayBuffer> {
  for (let m = 0; m < k; m++) {
    const row = rows.subarray(m * width, (m + 1) * width);
    const before = Math.sqrt(dot(row, row));
    for (let pass = 0; pass < 2; pass++) {
      for (let other = 0; other < m; other++) {
        const basis = rows.subarray(other * width, (other + 1) * width);
        const share = dot(row, basis);
        for (let i = 0; i < width; i++) row[i]! -= share * basis[i]!;
      }
    }
    const norm = Math.sqrt(dot(row, row));
    if (norm <= 1e-12 * before || norm === 0) row.fill(0);
    else for (let i = 0; i < width; i++) row[i]! /= norm;
  }
  return rows;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function gram(rows: Float64Array, k: number, width: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(k * k);
  for (let a = 0; a < k; a++) {
    for (let b = 0; b <= a; b++) {
      const value = dot(rows.subarray(a * width, (a + 1) * width), rows.subarray(b * width, (b + 1) * width));
      out[a * k + b] = value;
      out[b * k + a] = value;
    }
  }
  return out;
}

/** Jacobi's rotations: eigenvalues descending, eigenvectors as columns of `vectors` [k, k]. */
function symmetricEigen(matrix: Float64Array<ArrayBuffer>, k: number): { values: number[]; vectors: Float64Array } {
  const a = matrix;
  const v = new Float64Array(k * k);
  for (let i = 0; i < k; i++) v[i * k + i] = 1;
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    let diagonal = 0;
    for (let p = 0; p < k; p++) {
      diagonal += a[p * k + p]! ** 2;
      for (let q = p + 1; q < k; q++) off += a[p * k + q]! ** 2;
    }
    if (off <= 1e-24 * diagonal) break;
    for (let p = 0; p < k; p++) {
      for (let q = p + 1; q < k; q++) rotate(a, v, k, p, q);
    }
  }
  const order = Array.from({ length: k }, (_, i) => i).sort((x, y) => a[y * k + y]! - a[x * k + x]!);
  const vectors = new Float64Array(k * k);
  order.forEach((from, to) => {
    for (let m = 0; m < k; m++) vectors[m * k + to] = v[m * k + from]!;
  });
  return { values: order.map((i) => a[i * k + i]!), vectors };
}

function rotate(a: Float64Array, v: Float64Array, k: number, p: number, q: number): void {
  const apq = a[p * k + q]!;
  if (apq === 0) return;
  const theta = (a[q * k + q]! - a[p * k + p]!) / (2 * apq);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let m = 0; m < k; m++) {
    const [x, y] = [a[m * k + p]!, a[m * k + q]!];
    a[m * k + p] = c * x - s * y;
    a[m * k + q] = s * x + c * y;
  }
  for (let m = 0; m < k; m++) {
    const [x, y] = [a[p * k + m]!, a[q * k + m]!];
    a[p * k + m] = c * x - s * y;
    a[q * k + m] = s * x + c * y;
    const [z, w] = [v[m * k + p]!, v[m * k + q]!];
    v[m * k + p] = c * z - s * w;
    v[m * k + q] = s * z + c * w;
  }
}
