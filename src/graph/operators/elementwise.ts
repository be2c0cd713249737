/**
 * Operators that work element by element, with NumPy's broadcasting: arithmetic, comparison, logic, functions.
 *
 * Formulas are those of the functions' names; gradients are stated where they are not the textbook's.
 */
import { type DType, isFloat, onnxDType } from "../../runtime/dtype.ts";
import { broadcastOffset, forEachIndex, strides } from "../ndarray.ts";
import {
  broadcastShapes,
  defineOperator,
  type GradientContext,
  mismatch,
  type Operator,
  requireDType,
  sameDType,
} from "../operator.ts";
import { apply1, type Tensor } from "../tensor.ts";
import { type Operand, operands } from "./constant.ts";
import { erf as erfOf } from "./erf.ts";
import { sumTo } from "./reduction.ts";

type None = Record<string, never>;
const none: None = {};
const numeric: readonly DType[] = ["float32", "float16", "float64", "int32", "int64"];
const floats: readonly DType[] = ["float32", "float16", "float64"];

interface BinaryRule {
  readonly onnx: string;
  readonly compute: (a: number, b: number) => number;
  /** dtype of the result; default that of the operands. */
  readonly result?: DType;
  readonly allowed?: readonly DType[];
  /** Gradients before they are summed to the operands' shapes. */
  readonly gradient?: (
    dy: Tensor,
    a: Tensor,
    b: Tensor,
    y: Tensor,
    needs: readonly boolean[],
  ) => readonly (Tensor | undefined)[];
}

function defineBinary(name: string, rule: BinaryRule): Operator<None> {
  const { gradient } = rule;
  return defineOperator<None>({
    name,
    cost: "cheap",
    infer: (inputs) => {
      const dtype = sameDType(inputs);
      requireDType(inputs[0]!, rule.allowed ?? numeric, "the operands");
      return [{ dtype: rule.result ?? dtype, shape: broadcastShapes(inputs[0]!.shape, inputs[1]!.shape) }];
    },
    ...(gradient && {
      gradient: ({ inputs, outputs, cotangents, needs }: GradientContext<None>) => {
        const [a, b] = inputs as [Tensor, Tensor];
        const gradients = gradient(cotangents[0]!, a, b, outputs[0]!, needs);
        return gradients.map((g, i) => g && sumTo(g, inputs[i]!.shape));
      },
    }),
    onnx: ({ inputs, outputs, emit }) => void emit(rule.onnx, inputs, {}, { outputs }),
    evaluate: ([a, b], { shapes, allocate }) => {
      const out = allocate(rule.result ?? a!.dtype, shapes[0]!);
      const [aStrides, bStrides] = [strides(a!.shape), strides(b!.shape)];
      forEachIndex(out.shape, (index, flat) => {
        const x = a!.data[broadcastOffset(a!, aStrides, index)]!;
        const y = b!.data[broadcastOffset(b!, bStrides, index)]!;
        out.data[flat] = rule.compute(x, y);
      });
      return [out];
    },
  });
}

function binary(operator: Operator<None>) {
  return (a: Operand, b: Operand): Tensor => apply1(operator, operands(a, b), none);
}

export const add = binary(defineBinary("add", { onnx: "Add", compute: (a, b) => a + b, gradient: (dy) => [dy, dy] }));
export const sub = binary(
  defineBinary("sub", {
    onnx: "Sub",
    compute: (a, b) => a - b,
    gradient: (dy, _a, _b, _y, needs) => [dy, needs[1] ? neg(dy) : undefined],
  }),
);
export const mul = binary(
  defineBinary("mul", {
    onnx: "Mul",
    compute: (a, b) => a * b,
    gradient: (dy, a, b, _, needs) => [needs[0] ? mul(dy, b) : undefined, needs[1] ? mul(dy, a) : undefined],
  }),
);
export const div = binary(
  defineBinary("div", {
    onnx: "Div",
    compute: (a, b) => a / b,
    gradient: (dy, _a, b, y, needs) => [
      needs[0] ? div(dy, b) : undefined,
      needs[1] ? neg(div(mul(dy, y), b)) : undefined,
    ],
  }),
);
/** aᵇ. The gradient towards b is defined for a > 0. */
export const pow = binary(
  defineBinary("pow", {
    onnx: "Pow",
    compute: (a, b) => a ** b,
    allowed: floats,
    gradient: (dy, a, b, y, needs) => [
      needs[0] ? mul(dy, mul(b, pow(a, sub(b, 1)))) : undefined,
      needs[1] ? mul(dy, mul(y, log(a))) : undefined,
    ],
  }),
);
/** The gradient of a tie goes to the first operand. */
export const maximum = binary(
  defineBinary("maximum", {
    onnx: "Max",
    compute: (a, b) => Math.max(a, b),
    gradient: (dy, a, b) => {
      const first = greaterEqual(a, b);
      return [where(first, dy, 0), where(first, 0, dy)];
    },
  }),
);
/** The gradient of a tie goes to the first operand. */
export const minimum = binary(
  defineBinary("minimum", {
    onnx: "Min",
    compute: (a, b) => Math.min(a, b),
    gradient: (dy, a, b) => {
      const first = lessEqual(a, b);
      return [where(first, dy, 0), where(first, 0, dy)];
    },
  }),
);

function comparison(name: string, onnx: string, compute: (a: number, b: number) => boolean) {
  return binary(defineBinary(name, { onnx, compute: (a, b) => Number(compute(a, b)), result: "bool" }));
}
export const equal = comparison("equal", "Equal", (a, b) => a === b);
export const less = comparison("less", "Less", (a, b) => a < b);
export const lessEqual = comparison("lessEqual", "LessOrEqual", (a, b) => a <= b);
export const greater = comparison("greater", "Greater", (a, b) => a > b);
export const greaterEqual = comparison("greaterEqual", "GreaterOrEqual", (a, b) => a >= b);

export const logicalAnd = binary(
  defineBinary("logicalAnd", { onnx: "And", compute: (a, b) => a & b, allowed: ["bool"], result: "bool" }),
);
export const logicalOr = binary(
  defineBinary("logicalOr", { onnx: "Or", compute: (a, b) => a | b, allowed: ["bool"], result: "bool" }),
);

interface UnaryRule {
  readonly onnx: string;
  readonly compute: (x: number) => number;
  readonly allowed?: readonly DType[];
  readonly gradient?: (dy: Tensor, x: Tensor, y: Tensor) => Tensor;
}

function unary(name: string, rule: UnaryRule) {
  const { gradient } = rule;
  const operator = defineOperator<None>({
    name,
    cost: "cheap",
    infer: ([x]) => {
      requireDType(x!, rule.allowed ?? floats, "the operand");
      return [{ dtype: x!.dtype, shape: x!.shape }];
    },
    ...(gradient && {
      gradient: ({ inputs, outputs, cotangents }: GradientContext<None>) => [
        gradient(cotangents[0]!, inputs[0]!, outputs[0]!),
      ],
    }),
    onnx: ({ inputs, outputs, emit }) => void emit(rule.onnx, inputs, {}, { outputs }),
    evaluate: ([x], { allocate }) => {
      const out = allocate(x!.dtype, x!.shape);
      for (let i = 0; i < out.data.length; i++) out.data[i] = rule.compute(x!.data[i]!);
      return [out];
    },
  });
  return (x: Tensor): Tensor => apply1(operator, [x], none);
}

export const neg = unary("neg", { onnx: "Neg", allowed: numeric, compute: (x) => -x, gradient: (dy) => neg(dy) });
export const abs = unary("abs", {
  onnx: "Abs",
  allowed: numeric,
  compute: Math.abs,
  gradient: (dy, x) => mul(dy, sign(x)),
});
export const sign = unary("sign", { onnx: "Sign", allowed: numeric, compute: Math.sign });
export const floor = unary("floor", { onnx: "Floor", compute: Math.floor });
export const exp = unary("exp", { onnx: "Exp", compute: Math.exp, gradient: (dy, _, y) => mul(dy, y) });
export const log = unary("log", { onnx: "Log", compute: Math.log, gradient: (dy, x) => div(dy, x) });
export const sqrt = unary("sqrt", {
  onnx: "Sqrt",
  compute: Math.sqrt,
  gradient: (dy, _, y) => div(mul(dy, 0.5), y),
});
export const reciprocal = unary("reciprocal", {
  onnx: "Reciprocal",
  compute: (x) => 1 / x,
  gradient: (dy, _, y) => neg(mul(dy, mul(y, y))),
});
export const sin = unary("sin", { onnx: "Sin", compute: Math.sin, gradient: (dy, x) => mul(dy, cos(x)) });
export const cos = unary("cos", { onnx: "Cos", compute: Math.cos, gradient: (dy, x) => neg(mul(dy, sin(x))) });
export const tanh = unary("tanh", {
  onnx: "Tanh",
  compute: Math.tanh,
  gradient: (dy, _, y) => mul(dy, sub(1, mul(y, y))),
});
export const sigmoid = unary("sigmoid", {
  onnx: "Sigmoid",
  compute: (x) => 1 / (1 + Math.exp(-x)),
  gradient: (dy, _, y) => mul(dy, mul(y, sub(1, y))),
});
export const erf = unary("erf", {
  onnx: "Erf",
  allowed: ["float32"],
  compute: erfOf,
  gradient: (dy, x) => mul(dy, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
});
export const logicalNot = unary("logicalNot", { onnx: "Not", allowed: ["bool"], compute: (x) => 1 - x });

/** x · Φ(x) with the normal distribution's exact Φ: the erf form, not the tanh approximation. */
export const gelu = unary("gelu", {
  onnx: "Gelu",
  allowed: ["float32"],
  compute: (x) => 0.5 * x * (1 + erfOf(x / Math.SQRT2)),
  // Φ(x) + x·φ(x)
  gradient: (dy, x) => {
    const distribution = add(mul(erf(mul(x, Math.SQRT1_2)), 0.5), 0.5);
    const density = mul(exp(mul(mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return mul(dy, add(distribution, mul(x, density)));
  },
});

const whereOperator = defineOperator<None>({
  name: "where",
  cost: "cheap",
  infer: ([condition, a, b]) => {
    requireDType(condition!, ["bool"], "the condition");
    const dtype = sameDType([a!, b!]);
    return [{ dtype, shape: broadcastShapes(condition!.shape, broadcastShapes(a!.shape, b!.shape)) }];
  },
  gradient: ({ inputs: [condition, a, b], cotangents: [dy] }) => [
    undefined,
    sumTo(where(condition!, dy!, 0), a!.shape),
    sumTo(where(condition!, 0, dy!), b!.shape),
  ],
  onnx: ({ inputs, outputs, emit }) => void emit("Where", inputs, {}, { outputs }),
  evaluate: ([condition, a, b], { shapes, allocate }) => {
    const out = allocate(a!.dtype, shapes[0]!);
    const [cStrides, aStrides, bStrides] = [strides(condition!.shape), strides(a!.shape), strides(b!.shape)];
    forEachIndex(out.shape, (index, flat) => {
      const chosen = condition!.data[broadcastOffset(condition!, cStrides, index)] ? a! : b!;
      out.data[flat] = chosen.data[broadcastOffset(chosen, chosen === a ? aStrides : bStrides, index)]!;
    });
    return [out];
  },
});

/** a where the condition holds, else b. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return apply1(whereOperator, [condition, ...operands(a, b)], none);
}

const castOperator = defineOperator<{ readonly to: DType }>({
  name: "cast",
  cost: "cheap",
  infer: ([x], { to }) => {
    if (x!.dtype.includes("int4") || to.includes("int4")) mismatch("4-bit integers are not cast");
    return [{ dtype: to, shape: x!.shape }];
  },
  gradient: ({ inputs: [x], cotangents: [dy] }) => [isFloat(x!.dtype) ? cast(dy!, x!.dtype) : undefined],
  onnx: ({ inputs, outputs, attributes, emit }) =>
    void emit("Cast", inputs, { to: onnxDType(attributes.to) }, { outputs }),
  evaluate: ([x], { attributes: { to }, allocate }) => {
    const out = allocate(to, x!.shape);
    const convert = to === "bool" ? (v: number) => Number(v !== 0) : isFloat(to) ? (v: number) => v : Math.trunc;
    for (let i = 0; i < out.data.length; i++) out.data[i] = convert(x!.data[i]!);
    return [out];
  },
});

/** Another dtype; towards integers by truncation, towards bool by "not zero". */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : apply1(castOperator, [x], { to });
}
