/** Operators over the rows of the last axis: softmax, its logarithm, cross entropy, RMSNorm. */
import { sameShape, sizeOf } from "../dim.ts";
import { rowsOf } from "../ndarray.ts";
import { defineOperator, type EmitContext, mismatch, requireDType, sameDType } from "../operator.ts";
import { apply, apply1, type Tensor } from "../tensor.ts";
import { size } from "./constant.ts";
import { add, cast, div, exp, greaterEqual, maximum, mul, neg, sub } from "./elementwise.ts";
import { addAt } from "./indexing.ts";
import { reshape } from "./movement.ts";
import { matmul } from "./product.ts";
import { reduceSum } from "./reduction.ts";

type None = Record<string, never>;

function rowwise(x: Tensor): void {
  requireDType(x, ["float32", "float64", "float16"], "the operand");
  if (x.shape.length === 0) mismatch("a scalar has no last axis");
}

/** Of two parts of a gradient, either of which may be missing. */
function sumOf(a: Tensor | undefined, b: Tensor | undefined): Tensor | undefined {
  return a && b ? add(a, b) : (a ?? b);
}

function rowSums(x: Tensor): Tensor {
  return reduceSum(x, -1, true);
}

const softmaxOperator = defineOperator<None>({
  name: "softmax",
  infer: ([x]) => {
    rowwise(x!);
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  // dx = y ∘ (dy − Σ dy∘y)
  gradient: ({ outputs: [y], cotangents: [dy] }) => [mul(y!, sub(dy!, reduceSum(mul(dy!, y!), -1, true)))],
  onnx: ({ inputs, outputs, emit }) => void emit("Softmax", inputs, { axis: -1 }, { outputs }),
  evaluate: ([x], { allocate }) => {
    const out = allocate(x!.dtype, x!.shape);
    const { rows, columns } = rowsOf(x!.shape);
    for (let row = 0; row < rows; row++) {
      const values = Array.from(x!.data.subarray(row * columns, (row + 1) * columns));
      const largest = Math.max(...values);
      const powers = values.map((value) => Math.exp(value - largest));
      const sum = powers.reduce((a, b) => a + b, 0);
      powers.forEach((power, i) => {
        out.data[row * columns + i] = power / sum;
      });
    }
    return [out];
  },
});

/** eˣ / Σ eˣ over the last axis. */
export function softmax(x: Tensor): Tensor {
  return apply1(softmaxOperator, [x], {});
}

const softmaxMixOperator = defineOperator<None>({
  name: "softmaxMix",
  infer: (inputs) => {
    const [scores, values] = inputs as [Tensor, Tensor];
    rowwise(scores);
    const dtype = sameDType(inputs);
    const batch = scores.shape.slice(0, -2);
    if (!sameShape(batch, values.shape.slice(0, -2)) || scores.shape.at(-1) !== values.shape.at(-2)) {
      mismatch("scores and values do not fit", "[…, Q, K] and […, K, E]");
    }
    return [
      { dtype, shape: [...batch, scores.shape.at(-2)!, values.shape.at(-1)!] },
      { dtype, shape: scores.shape },
    ];
  },
  // With P the weights: dV = Pᵀ·dy, dP = dy·Vᵀ, dS = P∘(dP − Σₖ dP∘P), and that sum is Σₑ dy∘y, which is shorter. P is a
  // result too: this gradient uses it, so a gradient of the gradient reaches it directly.
  gradient: ({ inputs: [, values], outputs: [y, weights], cotangents: [dy, direct], needs }) => {
    const towardsScores = () => {
      const dWeights = sumOf(dy && matmul(dy, values!, { transposeB: true }), direct)!;
      const sums = sumOf(dy && rowSums(mul(dy, y!)), direct && rowSums(mul(direct, weights!)))!;
      return mul(weights!, sub(dWeights, sums));
    };
    const towardsValues = () => dy && matmul(weights!, dy, { transposeA: true });
    return [needs[0] ? towardsScores() : undefined, needs[1] ? towardsValues() : undefined];
  },
  onnx: ({ inputs, outputs, emit }) => {
    emit("Softmax", [inputs[0]!], { axis: -1 }, { outputs: [outputs[1]!] });
    emit("MatMul", [outputs[1]!, inputs[1]!], {}, { outputs: [outputs[0]!] });
  },
  evaluate: ([scores, values], context) => {
    const weights = softmaxOperator.evaluate([scores!], { ...context, attributes: {} })[0]!;
    const out = context.allocate(scores!.dtype, context.shapes[0]!);
    const [Q, K] = scores!.shape.slice(-2) as [number, number];
    const E = values!.shape.at(-1)!;
    for (let i = 0; i < out.data.length; i++) {
      const [row, e] = [Math.floor(i / E), i % E];
      const batch = Math.floor(row / Q);
      let sum = 0;
      for (let k = 0; k < K; k++) sum += weights.data[row * K + k]! * values!.data[(batch * K + k) * E + e]!;
      out.data[i] = sum;
    }
    return [out, weights];
  },
});

/**
 * softmax(scores) · values: attention's mixing of values `[…, K, E]` by scores `[…, Q, K]` into `[…, Q, E]`. The same as
 * the two operators, with a shorter gradient. Leading axes must be equal.
 */
export function softmaxMix(scores: Tensor, values: Tensor): Tensor {
  return apply(softmaxMixOperator, [scores, values], {})[0]!;
}

/** The logarithm of the first input's softmax under a name; spelled out for targets that lack the operator. */
function emitLogSoftmax({ inputs, target, emit, ints, temporary }: EmitContext<None>, output: string): void {
  if (target === "cpu") {
    emit("LogSoftmax", [inputs[0]!], { axis: -1 }, { outputs: [output] });
    return;
  }
  const step = (type: string, from: string[]) =>
    emit(type, from, type.startsWith("Reduce") ? { keepdims: 1 } : {}, { outputs: [temporary()] });
  const axis = ints([-1]);
  const shifted = step("Sub", [inputs[0]!, step("ReduceMax", [inputs[0]!, axis])]);
  const sum = step("ReduceSum", [step("Exp", [shifted]), axis]);
  emit("Sub", [shifted, step("Log", [sum])], {}, { outputs: [output] });
}

const logSoftmaxOperator = defineOperator<None>({
  name: "logSoftmax",
  infer: ([x]) => {
    rowwise(x!);
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  // dx = dy − eʸ · Σ dy
  gradient: ({ outputs: [y], cotangents: [dy] }) => [sub(dy!, mul(exp(y!), reduceSum(dy!, -1, true)))],
  onnx: (context) => emitLogSoftmax(context, context.outputs[0]!),
  evaluate: ([x], { allocate }) => {
    const out = allocate(x!.dtype, x!.shape);
    const { rows, columns } = rowsOf(x!.shape);
    for (let row = 0; row < rows; row++) {
      const values = Array.from(x!.data.subarray(row * columns, (row + 1) * columns));
      const largest = Math.max(...values);
      const logSum = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      values.forEach((value, i) => {
        out.data[row * columns + i] = value - logSum;
      });
    }
    return [out];
  },
});

/** x − ln Σ eˣ over the last axis. */
export function logSoftmax(x: Tensor): Tensor {
  return apply1(logSoftmaxOperator, [x], {});
}

const crossEntropyOperator = defineOperator<None>({
  name: "crossEntropy",
  infer: ([logits, targets]) => {
    rowwise(logits!);
    requireDType(targets!, ["int32"], "the targets");
    if (!sameShape(logits!.shape.slice(0, -1), targets!.shape) || targets!.shape.length !== 1) {
      mismatch("there is not one target for each row", "logits [N, V] and targets [N]");
    }
    return [{ dtype: logits!.dtype, shape: targets!.shape }];
  },
  // dlogits = (softmax(logits) − one-hot(target)) · dy, and 0 in rows whose target is ignored
  gradient: ({ inputs: [logits, targets], cotangents: [dy] }) => {
    const rows = targets!.shape[0]!;
    const weight = reshape(mul(dy!, cast(greaterEqual(targets!, 0), dy!.dtype)), [rows, 1]);
    const index = reshape(maximum(targets!, 0), [rows, 1]);
    return [addAt(mul(softmax(logits!), weight), index, neg(weight)), undefined];
  },
  onnx: (context) => {
    const { inputs, outputs, inputTypes, emit, scalar, ints, temporary } = context;
    const step = (type: string, from: string[], attributes = {}) =>
      emit(type, from, attributes, { outputs: [temporary()] });
    const logs = temporary();
    emitLogSoftmax(context, logs);
    const known = step("GreaterOrEqual", [inputs[1]!, scalar("int32", 0)]);
    const index = step("Unsqueeze", [step("Max", [inputs[1]!, scalar("int32", 0)]), ints([1])]);
    const picked = step("Squeeze", [step("GatherElements", [logs, index], { axis: 1 }), ints([1])]);
    emit("Where", [known, step("Neg", [picked]), scalar(inputTypes[0]!.dtype, 0)], {}, { outputs });
  },
  evaluate: ([logits, targets], { shapes, allocate }) => {
    const out = allocate(logits!.dtype, shapes[0]!);
    const { rows, columns } = rowsOf(logits!.shape);
    for (let row = 0; row < rows; row++) {
      const target = targets!.data[row]!;
      if (target < 0) continue;
      if (target >= columns) throw new RangeError(`crossEntropy: target ${target} is outside 0 to ${columns - 1}`);
      const values = Array.from(logits!.data.subarray(row * columns, (row + 1) * columns));
      const largest = Math.max(...values);
      const logSum = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      out.data[row] = logSum - values[target]!;
    }
    return [out];
  },
});

/**
 * −ln softmax(logits)[target] of each row; 0 where the target is negative (ignored, −100 by custom).
 *
 * logits `[N, V]`, targets `[N]` int32 give `[N]`.
 */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return apply1(crossEntropyOperator, [logits, targets], {});
}

const rmsNormOperator = defineOperator<{ readonly eps: number }>({
  name: "rmsNorm",
  cost: "cheap",
  infer: ([x, weight]) => {
    rowwise(x!);
    sameDType([x!, weight!]);
    if (!sameShape(weight!.shape, x!.shape.slice(-1))) mismatch("the weight is not as long as the last axis");
    return [
      { dtype: x!.dtype, shape: x!.shape },
      { dtype: x!.dtype, shape: x!.shape.with(-1, 1) },
    ];
  },
  // With r = 1/√(mean x² + ε) and t = dy∘x:  dw = Σ r·t,  dx = r·(dy∘w) − x·(r³/D · Σ t∘w). The two sums are products
  // with a vector, so nothing but t and the two terms of dx is as large as x. r is a result too: this gradient uses it, so
  // a gradient of the gradient reaches it directly, and dx −= x·dr·r³/D.
  gradient: ({ inputs, outputs: [, r], cotangents: [dy, dr], needs }) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    const D = x.shape.at(-1)!;
    const rows = [sizeOf(x.shape.slice(0, -1)), D];
    const t_ND = dy && reshape(mul(dy, x), rows);
    const towardsX = () => {
      const sums = sumOf(t_ND && reshape(matmul(t_ND, reshape(weight, [D, 1])), r!.shape), dr)!;
      const share = div(mul(sums, mul(r!, mul(r!, r!))), cast(size(D), x.dtype));
      return dy ? sub(mul(mul(dy, weight), r!), mul(x, share)) : neg(mul(x, share));
    };
    const towardsWeight = () => t_ND && reshape(matmul(reshape(r!, [1, rows[0]!]), t_ND), [D]);
    return [needs[0] ? towardsX() : undefined, needs[1] ? towardsWeight() : undefined];
  },
  onnx: ({ inputs, outputs, target, attributes: { eps }, emit, ints, scalar, temporary }) => {
    if (target === "cpu") {
      emit("SimplifiedLayerNormalization", inputs, { axis: -1, epsilon: { float: eps } }, { outputs });
      return;
    }
    const step = (type: string, from: string[], attributes = {}) =>
      emit(type, from, attributes, { outputs: [temporary()] });
    const mean = step("ReduceMean", [step("Mul", [inputs[0]!, inputs[0]!]), ints([-1])], { keepdims: 1 });
    emit("Reciprocal", [step("Sqrt", [step("Add", [mean, scalar("float32", eps)])])], {}, { outputs: [outputs[1]!] });
    emit("Mul", [step("Mul", [inputs[0]!, outputs[1]!]), inputs[1]!], {}, { outputs: [outputs[0]!] });
  },
  evaluate: ([x, weight], { attributes: { eps }, shapes, allocate }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    const inverse = allocate(x!.dtype, shapes[1]!);
    const { rows, columns } = rowsOf(x!.shape);
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let i = 0; i < columns; i++) sum += x!.data[row * columns + i]! ** 2;
      inverse.data[row] = 1 / Math.sqrt(sum / columns + eps);
      for (let i = 0; i < columns; i++) {
        out.data[row * columns + i] = x!.data[row * columns + i]! * inverse.data[row]! * weight!.data[i]!;
      }
    }
    return [out, inverse];
  },
});

/** x / √(mean x² + ε) · weight over the last axis: x `[…, D]`, weight `[D]`. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  return apply(rmsNormOperator, [x, weight], { eps })[0]!;
}
