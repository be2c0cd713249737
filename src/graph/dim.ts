/**
 * Sizes of axes: numbers, or polynomials over named sizes that are known only at run time (`past + 1`, `B*T`).
 *
 * A polynomial is kept in one normal form and interned, so two equal sizes are the same object and `===` compares them.
 */

/** A size that depends on named sizes. Made by `dim` and the arithmetic below; equal sizes are identical objects. */
export interface SymbolicDim {
  /** For instance `B*T+32`: its ONNX `dim_param` and its identity. */
  readonly text: string;
  /** Coefficients of products of names; the empty product is the constant term. Sorted by product. */
  readonly terms: readonly (readonly [product: string, coefficient: number])[];
}

export type Dim = number | SymbolicDim;
export type Shape = readonly Dim[];
/** What named sizes are at run time. */
export type DimValues = ReadonlyMap<string, number>;

/** Whether something found among attributes is a size that is not a number. */
export function isSymbolic(value: unknown): value is SymbolicDim {
  return typeof value === "object" && value !== null && "terms" in value && "text" in value;
}

const interned = new Map<string, SymbolicDim>();

function fromTerms(terms: Map<string, number>): Dim {
  const kept = [...terms].filter(([, coefficient]) => coefficient !== 0).sort(([a], [b]) => (a < b ? 1 : -1));
  if (kept.length === 0) return 0;
  if (kept.length === 1 && kept[0]![0] === "") return kept[0]![1];
  const text = kept
    .map(([product, coefficient], i) => {
      const sign = coefficient < 0 ? "-" : i > 0 ? "+" : "";
      const size = Math.abs(coefficient);
      return sign + (product === "" ? size : size === 1 ? product : `${size}*${product}`);
    })
    .join("");
  let found = interned.get(text);
  if (found === undefined) interned.set(text, (found = { text, terms: kept }));
  return found;
}

function termsOf(size: Dim): readonly (readonly [string, number])[] {
  return typeof size === "number" ? (size === 0 ? [] : [["", size]]) : size.terms;
}

/** A named size. Names are letters, digits and underscores. */
export function dim(name: string): SymbolicDim {
  if (!/^[A-Za-z_]\w*$/.test(name)) throw new Error(`internal: ${JSON.stringify(name)} cannot name a size`);
  return fromTerms(new Map([[name, 1]])) as SymbolicDim;
}

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(termsOf(a));
  for (const [product, coefficient] of termsOf(b)) sum.set(product, (sum.get(product) ?? 0) + coefficient);
  return fromTerms(sum);
}

export function subDims(a: Dim, b: Dim): Dim {
  return addDims(a, mulDims(b, -1));
}

export function mulDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  const out = new Map<string, number>();
  for (const [p, c] of termsOf(a)) {
    for (const [q, d] of termsOf(b)) {
      const product = [...p.split("*"), ...q.split("*")].filter(Boolean).sort().join("*");
      out.set(product, (out.get(product) ?? 0) + c * d);
    }
  }
  return fromTerms(out);
}

/** The number of elements of a shape. */
export function sizeOf(shape: Shape): Dim {
  return shape.reduce<Dim>(mulDims, 1);
}

/** a / b where b is one term that divides every term of a; else undefined. */
export function divideDims(a: Dim, b: Dim): Dim | undefined {
  const divisors = termsOf(b);
  if (divisors.length !== 1) return undefined;
  const [[divisor, by]] = divisors as [readonly [string, number]];
  const out = new Map<string, number>();
  for (const [product, coefficient] of termsOf(a)) {
    const names = product.split("*").filter(Boolean);
    for (const name of divisor.split("*").filter(Boolean)) {
      const at = names.indexOf(name);
      if (at < 0) return undefined;
      names.splice(at, 1);
    }
    if (coefficient % by !== 0) return undefined;
    out.set(names.join("*"), coefficient / by);
  }
  return fromTerms(out);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** Replaces named sizes by numbers; names without a value stay. */
export function substituteDim(size: Dim, values: DimValues): Dim {
  if (typeof size === "number") return size;
  let sum: Dim = 0;
  for (const [product, coefficient] of size.terms) {
    let term: Dim = coefficient;
    for (const name of product.split("*").filter(Boolean)) term = mulDims(term, values.get(name) ?? dim(name));
    sum = addDims(sum, term);
  }
  return sum;
}

/** A shape with all names replaced. Throws where a name has no value. */
export function resolveShape(shape: Shape, values: DimValues): number[] {
  return shape.map((size) => {
    const resolved = substituteDim(size, values);
    if (typeof resolved !== "number") throw new Error(`internal: no value for the size ${resolved.text}`);
    return resolved;
  });
}

export function formatDim(size: Dim): string {
  return typeof size === "number" ? String(size) : size.text;
}

export function formatShape(shape: Shape): string {
  return `[${shape.map(formatDim).join(", ")}]`;
}

/** The names that a size depends on. */
export function namesIn(size: Dim): string[] {
  return typeof size === "number" ? [] : [...new Set(size.terms.flatMap(([p]) => p.split("*").filter(Boolean)))];
}
