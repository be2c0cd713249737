/**
 * Random yes and no by position, as a pure function of a few random words: which values dropout keeps.
 *
 * Multiply-shift hashing (Dietzfelbinger and others, A reliable randomized algorithm for the closest-pair problem, 1997):
 * h(i, j) = aᵢ·cⱼ + bᵢ modulo 2³². With random words a, b of each row and c of each column every h is uniform and any two of
 * one row are as good as independent, at three operations an element; two words a row and one a column are all that has to
 * be made and moved.
 */
import { defineOperator, mismatch, requireDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { mul } from "./elementwise.ts";

const keepMaskOperator = defineOperator<{ readonly rate: number }>({
  name: "keepMask",
  infer: (inputs, { rate }) => {
    const [multipliers, offsets, columns] = inputs as [Tensor, Tensor, Tensor];
    for (const words of inputs) requireDType(words, ["int32"], "a word");
    if (inputs.some(({ shape }) => shape.length !== 1) || multipliers.shape[0] !== offsets.shape[0]) {
      mismatch("the words do not fit", "[R], [R] and [C]");
    }
    if (!(rate >= 0 && rate < 1)) mismatch(`a rate of ${rate}`, "0 or more, less than 1");
    return [{ dtype: "bool", shape: [multipliers.shape[0]!, columns.shape[0]!] }];
  },
  onnx: ({ inputs, outputs, attributes: { rate }, emit, ints, scalar, temporary }) => {
    const step = (type: string, from: string[]) => emit(type, from, {}, { outputs: [temporary()] });
    const [multipliers, offsets] = inputs.slice(0, 2).map((words) => step("Unsqueeze", [words, ints([1])]));
    const hash = step("Add", [step("Mul", [multipliers!, inputs[2]!]), offsets!]);
    emit("GreaterOrEqual", [hash, scalar("int32", thresholdOf(rate))], {}, { outputs });
  },
  evaluate: ([multipliers, offsets, columns], { attributes: { rate }, shapes, allocate }) => {
    const out = allocate("bool", shapes[0]!);
    const C = columns!.data.length;
    const threshold = thresholdOf(rate);
    for (let i = 0; i < out.data.length; i++) {
      const row = Math.floor(i / C);
      const hash = (Math.imul(multipliers!.data[row]!, columns!.data[i % C]!) + offsets!.data[row]!) | 0;
      out.data[i] = Number(hash >= threshold);
    }
    return [out];
  },
});

/** The signed word below which a share `rate` of all words lies. */
function thresholdOf(rate: number): number {
  return Math.round(rate * 2 ** 32) - 2 ** 31;
}

/** Whether each element of `[R, C]` is kept, no with probability `rate`: words `[R]`, `[R]` and `[C]` int32 give bool. */
export function keepMask(multipliers: Tensor, offsets: Tensor, columns: Tensor, rate: number): Tensor {
  return apply1(keepMaskOperator, [multipliers, offsets, columns], { rate });
}

// Free: a program that reads factors back stores the mask, a quarter as many bytes.
const keepFactorsOperator = defineOperator<{ readonly factor: number }>({
  name: "keepFactors",
  cost: "free",
  infer: ([mask]) => {
    requireDType(mask!, ["bool"], "the mask");
    return [{ dtype: "float32", shape: mask!.shape }];
  },
  onnx: ({ inputs, outputs, attributes: { factor }, emit, scalar, temporary }) => {
    const ones = emit("Cast", inputs, { to: 1 }, { outputs: [temporary()] });
    emit("Mul", [ones, scalar("float32", factor)], {}, { outputs });
  },
  evaluate: ([mask], { attributes: { factor }, allocate }) => {
    const out = allocate("float32", mask!.shape);
    for (let i = 0; i < out.data.length; i++) out.data[i] = mask!.data[i]! * factor;
    return [out];
  },
});

/** x float32 times `factor` where the mask of its shape holds, else 0. */
export function keepWhere(mask: Tensor, x: Tensor, factor: number): Tensor {
  return mul(x, apply1(keepFactorsOperator, [mask], { factor }));
}
