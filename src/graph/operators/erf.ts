/**
 * The error function in double precision, which JavaScript's Math lacks.
 *
 * erf(x) = 2/√π · exp(−x²) · Σₙ 2ⁿ x²ⁿ⁺¹ / (2n+1)!! : all terms have one sign, so nothing cancels; beyond |x| = 6 the
 * result is ±1 to the last bit.
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  const value = (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  return Math.max(-1, Math.min(1, value)); // near ±1 rounding may step over it
}
