/** ln Σ eˣ: the logarithm of softmax's denominator. */
import { rowsOf } from "../ndarray.ts";
import { defineOperator, mismatch, requireDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { mul } from "./elementwise.ts";
import { reshape } from "./movement.ts";
import { softmax } from "./normalization.ts";

const logSumExpOperator = defineOperator<Record<string, never>>({
  name: "logSumExp",
  infer: ([x]) => {
    requireDType(x!, ["float32", "float64"], "the operand");
    if (x!.shape.length === 0) mismatch("a scalar has no last axis");
    return [{ dtype: x!.dtype, shape: x!.shape.slice(0, -1) }];
  },
  // The softmax is the one that cross entropy's gradient takes of the same logits: made once.
  gradient: ({ inputs: [x], cotangents: [dy] }) => [mul(softmax(x!), reshape(dy!, [...dy!.shape, 1]))],
  // ReduceLogSumExp of some providers overflows, so the largest is taken out here.
  onnx: ({ inputs, outputs, emit, ints, temporary }) => {
    const step = (type: string, from: string[], keepdims?: number) =>
      emit(type, from, keepdims === undefined ? {} : { keepdims }, { outputs: [temporary()] });
    const axis = ints([-1]);
    const largest = step("ReduceMax", [inputs[0]!, axis], 1);
    const sum = step("ReduceSum", [step("Exp", [step("Sub", [inputs[0]!, largest])]), axis], 0);
    emit("Add", [step("Log", [sum]), step("Squeeze", [largest, axis])], {}, { outputs });
  },
  evaluate: ([x], { shapes, allocate }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const { rows, columns } = rowsOf(x!.shape);
    for (let row = 0; row < rows; row++) {
      const values = Array.from(x!.data.subarray(row * columns, (row + 1) * columns));
      const largest = Math.max(...values);
      out.data[row] = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    }
    return [out];
  },
});

/** ln Σ eˣ over the last axis, which must have an element: x `[…, C]` gives `[…]`. */
export function logSumExp(x: Tensor): Tensor {
  return apply1(logSumExpOperator, [x], {});
}
