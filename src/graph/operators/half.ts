/**
 * There and back between float32 and float16: how a program that computes in float32 gets the values of one that
 * computes in 16 bits. What is stored between the two is half as large.
 */
import { float16ToNumber, numberToFloat16 } from "../../util/float16.ts";
import { defineOperator, requireDType } from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";

type None = Record<string, never>;

const narrowOperator = defineOperator<None>({
  name: "narrow",
  cost: "cheap",
  infer: ([x]) => {
    requireDType(x!, ["float32"], "the operand");
    return [{ dtype: "float16", shape: x!.shape }];
  },
  gradient: ({ cotangents: [dy] }) => [widen(dy!)],
  onnx: ({ inputs, outputs, emit }) => void emit("Cast", inputs, { to: 10 }, { outputs }),
  evaluate: ([x], { allocate }) => {
    const out = allocate("float16", x!.shape);
    for (let i = 0; i < out.data.length; i++) out.data[i] = rounded(x!.data[i]!);
    return [out];
  },
});

// Free: a program that reads it back stores the narrow value, half as many bytes.
const widenOperator = defineOperator<None>({
  name: "widen",
  cost: "free",
  infer: ([x]) => {
    requireDType(x!, ["float16"], "the operand");
    return [{ dtype: "float32", shape: x!.shape }];
  },
  gradient: ({ cotangents: [dy] }) => [narrow(dy!)],
  onnx: ({ inputs, outputs, emit }) => void emit("Cast", inputs, { to: 1 }, { outputs }),
  evaluate: ([x], { allocate }) => {
    const out = allocate("float32", x!.shape);
    out.data.set(x!.data);
    return [out];
  },
});

function rounded(value: number): number {
  return float16ToNumber(numberToFloat16(value));
}

/** float32 as the nearest float16; beyond ±65504 infinite. */
export function narrow(x: Tensor): Tensor {
  return apply1(narrowOperator, [x], {});
}

/** float16 as float32, exactly. */
export function widen(x: Tensor): Tensor {
  return apply1(widenOperator, [x], {});
}
