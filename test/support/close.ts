/** Assertions on numbers: relative errors of whole tensors, with what was compared in the message. */
import assert from "node:assert/strict";

/** ‖a − b‖ / ‖b‖ (Frobenius); the absolute norm of the difference where b is all zero. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(actual.length, expected.length, "lengths differ");
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const b = expected[i]!;
    if (a !== b) difference += (a - b) ** 2; // equal infinities differ by nothing
    norm += b * b;
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
}

/** Fails unless ‖actual − expected‖ ≤ tolerance · ‖expected‖; NaN anywhere fails. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  name = "tensor",
): void {
  const error = relativeError(actual, expected);
  if (error <= tolerance) return;
  const head = (values: ArrayLike<number>) => Array.from({ length: Math.min(8, values.length) }, (_, i) => values[i]);
  assert.fail(
    `${name}: relative error ${error} > ${tolerance}\n  actual   ${head(actual)}\n  expected ${head(expected)}`,
  );
}
