/**
 * One row for each operator and each way it can be shaped: odd sizes, broadcasting, empty and length-1 axes.
 *
 * The conformance suite runs every row on every runtime, and checks the gradient of every row that has one.
 */
import {
  abs,
  add,
  addAt,
  addRows,
  argMax,
  boundary,
  broadcastTo,
  cachedAttention,
  cast,
  concat,
  constant,
  cos,
  crossEntropy,
  dequantize,
  dim,
  div,
  equal,
  erf,
  exp,
  floor,
  gather,
  gatherElements,
  gatherQuantized,
  gelu,
  greater,
  greaterEqual,
  iota,
  keepMask,
  keepWhere,
  less,
  lessEqual,
  log,
  logicalAnd,
  logicalNot,
  logicalOr,
  logSoftmax,
  logSumExp,
  matmul,
  maximum,
  minimum,
  mul,
  narrow,
  neg,
  pad,
  pow,
  quantizedMatmul,
  quantizedShapes,
  reciprocal,
  reduceMax,
  reduceMean,
  reduceSum,
  reduceSumSquare,
  reshape,
  rmsNorm,
  scatterAddElements,
  scatterAddRows,
  sigmoid,
  sign,
  signedFrom,
  signedMatmul,
  signedMatmulBack,
  sin,
  size,
  slice,
  softmax,
  softmaxMix,
  sqrt,
  stopGradient,
  sub,
  type Tensor,
  tanh,
  transpose,
  where,
  widen,
} from "../../src/graph/index.ts";
import type { DType } from "../../src/runtime/dtype.ts";

/** An argument: its concrete shape, its dtype, and where its values lie (uniform; integers include `from`, not `to`). */
export interface CaseInput {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  readonly from?: number;
  readonly to?: number;
  /** Exact values instead of random ones. */
  readonly values?: readonly number[];
  /** Axes that are symbolic in the traced program. */
  readonly symbols?: Readonly<Record<number, string>>;
}

export interface OperatorCase {
  readonly operator: string;
  readonly name: string;
  readonly inputs: readonly CaseInput[];
  readonly fn: (...inputs: Tensor[]) => Tensor;
  /** False where the function is not differentiable, or piecewise constant. */
  readonly gradient?: false;
}

const f = (...shape: number[]): CaseInput => ({ shape });
const between = (from: number, to: number, ...shape: number[]): CaseInput => ({ shape, from, to });
const index = (to: number, ...shape: number[]): CaseInput => ({ shape, dtype: "int32", from: 0, to });
const int = (...shape: number[]): CaseInput => ({ shape, dtype: "int32", from: -5, to: 6 });
const bool = (...shape: number[]): CaseInput => ({ shape, dtype: "bool", from: 0, to: 2 });

function broadcasts(
  operator: string,
  fn: (a: Tensor, b: Tensor) => Tensor,
  range: readonly [number, number],
  gradient?: false,
): OperatorCase[] {
  const of = (...shape: number[]) => between(range[0], range[1], ...shape);
  const row = (name: string, a: CaseInput, b: CaseInput): OperatorCase => ({
    operator,
    name,
    inputs: [a, b],
    fn,
    ...(gradient === false && { gradient }),
  });
  return [
    row("equal shapes", of(3, 5), of(3, 5)),
    row("scalar", of(2, 3), of()),
    row("row", of(3, 4, 5), of(5)),
    row("column", of(4, 1), of(1, 7)),
    row("length 1", of(1), of(1, 1)),
    row("empty", of(0, 3), of(3)),
  ];
}

function shapes(operator: string, fn: (x: Tensor) => Tensor, range: readonly [number, number], gradient?: false) {
  return [[7], [3, 5, 2], [1, 1], [], [0, 4]].map(
    (shape): OperatorCase => ({
      operator,
      name: `[${shape}]`,
      inputs: [between(range[0], range[1], ...shape)],
      fn,
      ...(gradient === false && { gradient }),
    }),
  );
}

function reductions(operator: string, fn: (x: Tensor, axes?: number[], keep?: boolean) => Tensor): OperatorCase[] {
  const row = (name: string, x: CaseInput, axes?: number[], keep?: boolean): OperatorCase => ({
    operator,
    name,
    inputs: [x],
    fn: (t) => fn(t, axes, keep),
  });
  return [
    row("all", f(3, 4)),
    row("last", f(3, 5), [-1]),
    row("first, kept", f(3, 5), [0], true),
    row("outer two", f(2, 3, 7), [0, 1]),
    row("length-1 axis", f(3, 1), [1]),
    row("no axes", f(2, 3), []),
  ];
}

const B = { 0: "B" };

/** Symbolic programs: shapes that are only known when they run. */
const symbolic: OperatorCase[] = [
  {
    operator: "reshape",
    name: "symbolic flatten",
    inputs: [{ shape: [3, 4, 5], symbols: { 0: "B", 1: "T" } }],
    fn: (x) => reshape(x, [-1, 5]),
  },
  {
    operator: "reshape",
    name: "symbolic split",
    inputs: [{ shape: [3, 4, 6], symbols: { 0: "B", 1: "T" } }],
    fn: (x) => transpose(reshape(x, [x.shape[0]!, x.shape[1]!, 2, 3]), [0, 2, 1, 3]),
  },
  {
    operator: "broadcastTo",
    name: "symbolic",
    inputs: [f(1, 4), { shape: [3, 4], symbols: B }],
    fn: (x, y) => mul(broadcastTo(x, y.shape), y),
  },
  { operator: "reduceMean", name: "symbolic", inputs: [{ shape: [5, 3], symbols: B }], fn: (x) => reduceMean(x) },
  { operator: "size", name: "symbolic", inputs: [{ shape: [5, 3], symbols: B }], fn: (x) => mul(x, size(x.shape[0]!)) },
  {
    operator: "iota",
    name: "symbolic",
    inputs: [{ shape: [5], symbols: B }],
    fn: (x) => mul(x, cast(iota(x.shape[0]!), "float32")),
  },
  {
    operator: "slice",
    name: "symbolic end",
    inputs: [{ shape: [5, 3], symbols: B }],
    fn: (x) => slice(x, 0, 2, dim("B")),
  },
  {
    operator: "scatterAddRows",
    name: "symbolic rows",
    inputs: [{ ...index(4, 6) }, { shape: [6, 3] }, { shape: [4, 3], symbols: B }],
    fn: (i, u, t) => mul(scatterAddRows(dim("B"), i, u), t),
  },
  {
    operator: "matmul",
    name: "symbolic batch",
    inputs: [{ shape: [2, 3, 4], symbols: { 0: "B", 1: "T" } }, f(5, 4)],
    fn: (a, b) => matmul(a, b, { transposeB: true, alpha: 0.5 }),
  },
];

export const operatorCases: readonly OperatorCase[] = [
  ...broadcasts("add", add, [-2, 2]),
  ...broadcasts("sub", sub, [-2, 2]),
  ...broadcasts("mul", mul, [-2, 2]),
  ...broadcasts("div", div, [0.5, 2]),
  ...broadcasts("pow", pow, [0.5, 2]),
  ...broadcasts("maximum", maximum, [-2, 2]),
  ...broadcasts("minimum", minimum, [-2, 2]),
  ...broadcasts("less", (a, b) => cast(less(a, b), "float32"), [-2, 2], false),
  ...broadcasts("lessEqual", (a, b) => cast(lessEqual(a, b), "float32"), [-2, 2], false),
  ...broadcasts("greater", (a, b) => cast(greater(a, b), "float32"), [-2, 2], false),
  ...broadcasts("greaterEqual", (a, b) => cast(greaterEqual(a, b), "float32"), [-2, 2], false),
  {
    operator: "equal",
    name: "int32",
    inputs: [int(4, 5), int(5)],
    fn: (a, b) => cast(equal(a, b), "float32"),
    gradient: false,
  },
  { operator: "add", name: "int32", inputs: [int(4, 5), int(5)], fn: add, gradient: false },
  { operator: "logicalAnd", name: "bool", inputs: [bool(3, 4), bool(4)], fn: logicalAnd, gradient: false },
  { operator: "logicalOr", name: "bool", inputs: [bool(3, 4), bool(3, 1)], fn: logicalOr, gradient: false },
  { operator: "logicalNot", name: "bool", inputs: [bool(3, 4)], fn: logicalNot, gradient: false },
  ...shapes("neg", neg, [-2, 2]),
  ...shapes("abs", abs, [0.1, 2]),
  ...shapes("sign", sign, [-2, 2], false),
  ...shapes("floor", floor, [-3, 3], false),
  ...shapes("exp", exp, [-2, 2]),
  ...shapes("log", log, [0.5, 3]),
  ...shapes("sqrt", sqrt, [0.5, 3]),
  ...shapes("reciprocal", reciprocal, [0.5, 3]),
  ...shapes("sin", sin, [-3, 3]),
  ...shapes("cos", cos, [-3, 3]),
  ...shapes("tanh", tanh, [-2, 2]),
  ...shapes("sigmoid", sigmoid, [-3, 3]),
  ...shapes("erf", erf, [-2.5, 2.5]),
  ...shapes("gelu", gelu, [-4, 4]),
  ...shapes("cast", (x) => cast(cast(x, "int32"), "float32"), [-9, 9], false),
  ...shapes("stopGradient", (x) => mul(x, stopGradient(constant([2], "float32"))), [-1, 1]),
  ...shapes("boundary", (x) => mul(boundary(mul(x, 2)), x), [-1, 1]),
  { operator: "where", name: "broadcast", inputs: [bool(3, 1), f(3, 4), f(4)], fn: where },
  { operator: "where", name: "number", inputs: [bool(2, 3), f(2, 3)], fn: (c, x) => where(c, x, -1) },
  ...reductions("reduceSum", reduceSum),
  ...reductions("reduceMean", reduceMean),
  ...reductions("reduceSumSquare", reduceSumSquare),
  ...reductions("reduceMax", reduceMax),
  { operator: "reduceSum", name: "empty", inputs: [f(0, 3)], fn: (x) => reduceSum(x, 0) },
  { operator: "argMax", name: "rows", inputs: [f(5, 7)], fn: argMax, gradient: false },
  {
    operator: "constant",
    name: "added",
    inputs: [f(2, 2)],
    fn: (x) => add(x, constant([1, 2, 3, 4], "float32", [2, 2])),
  },
  { operator: "reshape", name: "to matrix", inputs: [f(2, 3, 4)], fn: (x) => reshape(x, [6, 4]) },
  { operator: "reshape", name: "empty", inputs: [f(0, 3)], fn: (x) => reshape(x, [3, 0]) },
  { operator: "reshape", name: "to scalar", inputs: [f(1, 1)], fn: (x) => reshape(x, []) },
  { operator: "transpose", name: "matrix", inputs: [f(3, 5)], fn: (x) => transpose(x, [1, 0]) },
  { operator: "transpose", name: "heads", inputs: [f(2, 3, 4, 5)], fn: (x) => transpose(x, [0, 2, 1, 3]) },
  { operator: "transpose", name: "cycle, length 1", inputs: [f(1, 3, 2)], fn: (x) => transpose(x, [2, 0, 1]) },
  { operator: "broadcastTo", name: "new axis", inputs: [f(3)], fn: (x) => broadcastTo(x, [4, 3]) },
  { operator: "broadcastTo", name: "length 1", inputs: [f(2, 1, 3)], fn: (x) => broadcastTo(x, [2, 5, 3]) },
  { operator: "concat", name: "first axis", inputs: [f(2, 3), f(1, 3), f(4, 3)], fn: (...x) => concat(x, 0) },
  { operator: "concat", name: "last axis, empty", inputs: [f(2, 3), f(2, 0)], fn: (...x) => concat(x, -1) },
  { operator: "slice", name: "middle", inputs: [f(5, 7)], fn: (x) => slice(x, 1, 2, 6) },
  { operator: "slice", name: "nothing", inputs: [f(5, 7)], fn: (x) => slice(x, 0, 3, 3) },
  { operator: "pad", name: "both sides", inputs: [f(2, 3)], fn: (x) => pad(x, 1, 2, 1) },
  { operator: "matmul", name: "matrices", inputs: [f(3, 5), f(5, 7)], fn: (a, b) => matmul(a, b) },
  { operator: "matmul", name: "A'", inputs: [f(5, 3), f(5, 7)], fn: (a, b) => matmul(a, b, { transposeA: true }) },
  {
    operator: "matmul",
    name: "B', scaled",
    inputs: [f(3, 5), f(7, 5)],
    fn: (a, b) => matmul(a, b, { transposeB: true, alpha: 0.3 }),
  },
  {
    operator: "matmul",
    name: "A' B'",
    inputs: [f(5, 3), f(7, 5)],
    fn: (a, b) => matmul(a, b, { transposeA: true, transposeB: true }),
  },
  { operator: "matmul", name: "scaled", inputs: [f(3, 5), f(5, 7)], fn: (a, b) => matmul(a, b, { alpha: -0.7 }) },
  {
    operator: "matmul",
    name: "A', scaled",
    inputs: [f(5, 3), f(5, 7)],
    fn: (a, b) => matmul(a, b, { transposeA: true, alpha: 0.3 }),
  },
  {
    operator: "matmul",
    name: "A' B', scaled, batched",
    inputs: [f(2, 5, 3), f(2, 7, 5)],
    fn: (a, b) => matmul(a, b, { transposeA: true, transposeB: true, alpha: 1.5 }),
  },
  { operator: "matmul", name: "vector", inputs: [f(1, 5), f(5, 1)], fn: (a, b) => matmul(a, b) },
  { operator: "matmul", name: "batched", inputs: [f(2, 3, 4, 5), f(2, 3, 5, 2)], fn: (a, b) => matmul(a, b) },
  {
    operator: "matmul",
    name: "batched B'",
    inputs: [f(2, 3, 4, 5), f(2, 3, 6, 5)],
    fn: (a, b) => matmul(a, b, { transposeB: true, alpha: 2 }),
  },
  {
    operator: "matmul",
    name: "batched A'",
    inputs: [f(2, 5, 4), f(2, 5, 3)],
    fn: (a, b) => matmul(a, b, { transposeA: true }),
  },
  {
    operator: "matmul",
    name: "shared matrix",
    inputs: [f(2, 3, 5), f(7, 5)],
    fn: (a, b) => matmul(a, b, { transposeB: true }),
  },
  { operator: "matmul", name: "broadcast batch", inputs: [f(2, 1, 3, 5), f(4, 5, 2)], fn: (a, b) => matmul(a, b) },
  { operator: "matmul", name: "no rows", inputs: [f(0, 5), f(5, 2)], fn: (a, b) => matmul(a, b) },
  { operator: "gather", name: "repeated rows", inputs: [f(4, 3), index(4, 2, 5)], fn: (t, i) => gather(t, i) },
  { operator: "gather", name: "vector table", inputs: [f(4), index(4, 6)], fn: (t, i) => gather(t, i) },
  { operator: "gather", name: "no indices", inputs: [f(4, 3), index(4, 0)], fn: (t, i) => gather(t, i) },
  {
    operator: "scatterAddRows",
    name: "repeated rows",
    inputs: [index(3, 7), f(7, 2)],
    fn: (i, u) => scatterAddRows(4, i, u),
  },
  {
    operator: "scatterAddRows",
    name: "matrix of indices",
    inputs: [index(3, 2, 3), f(2, 3, 2)],
    fn: (i, u) => scatterAddRows(4, i, u),
  },
  {
    operator: "addRows",
    name: "repeated rows",
    inputs: [f(4, 2), index(3, 7), f(7, 2)],
    fn: (t, i, u) => addRows(t, i, u),
  },
  { operator: "gatherElements", name: "repeated", inputs: [f(3, 5), index(5, 3, 2)], fn: gatherElements },
  {
    operator: "scatterAddElements",
    name: "repeated",
    inputs: [index(3, 4, 6), f(4, 6)],
    fn: (i, u) => scatterAddElements(3, i, u),
  },
  { operator: "addAt", name: "repeated", inputs: [f(4, 3), index(3, 4, 5), f(4, 5)], fn: addAt },
  { operator: "softmax", name: "rows", inputs: [f(3, 5)], fn: softmax },
  { operator: "softmax", name: "length 1", inputs: [f(3, 1)], fn: softmax },
  {
    operator: "softmax",
    name: "masked",
    inputs: [f(2, 4)],
    fn: (x) => softmax(add(x, constant([0, -1e9, 0, -1e9], "float32"))),
  },
  { operator: "softmax", name: "4 axes", inputs: [f(2, 2, 3, 4)], fn: softmax },
  { operator: "softmaxMix", name: "heads", inputs: [f(2, 3, 4, 5), f(2, 3, 5, 2)], fn: softmaxMix },
  { operator: "softmaxMix", name: "one query, one key", inputs: [f(1, 1), f(1, 3)], fn: softmaxMix },
  {
    operator: "gather",
    name: "distinct rows",
    inputs: [f(4, 3), { shape: [3], dtype: "int32", values: [2, 0, 3] }],
    fn: (t, i) => gather(t, i, { distinct: true }),
  },
  { operator: "logSumExp", name: "rows", inputs: [between(-5, 5, 3, 6)], fn: logSumExp },
  { operator: "logSumExp", name: "far from zero", inputs: [between(300, 305, 2, 2, 3)], fn: logSumExp },
  { operator: "logSumExp", name: "length 1", inputs: [f(3, 1)], fn: logSumExp },
  {
    operator: "keepMask",
    name: "words that overflow",
    inputs: [
      { shape: [3], dtype: "int32", values: [-2147483648, 2147483647, -1640531527] },
      { shape: [3], dtype: "int32", values: [0, 2147483647, -5] },
      { shape: [5], dtype: "int32", values: [1, -1, 2147483647, 362437, -2147483648] },
    ],
    fn: (a, b, c) => cast(keepMask(a, b, c, 0.3), "float32"),
    gradient: false,
  },
  {
    operator: "keepMask",
    name: "rate 0 keeps all",
    inputs: [int(2), int(2), { shape: [1], dtype: "int32", values: [-2147483648] }],
    fn: (a, b, c) => cast(keepMask(a, b, c, 0), "float32"),
    gradient: false,
  },
  { operator: "keepFactors", name: "matrix", inputs: [bool(3, 4), f(3, 4)], fn: (mask, x) => keepWhere(mask, x, 1.25) },
  {
    operator: "narrow",
    name: "rounding, overflow, small numbers",
    inputs: [{ shape: [7], values: [0.1, -65504, 65519, 1e-7, 3e-8, -0.33333, 2049] }],
    fn: (x) => widen(narrow(x)),
    gradient: false,
  },
  { operator: "widen", name: "matrix", inputs: [f(2, 3)], fn: (x) => widen(narrow(x)), gradient: false },
  { operator: "logSoftmax", name: "rows", inputs: [between(-5, 5, 3, 6)], fn: logSoftmax },
  {
    operator: "crossEntropy",
    name: "some ignored",
    inputs: [f(4, 5), { shape: [4], dtype: "int32", values: [2, -100, 4, 0] }],
    fn: crossEntropy,
  },
  {
    operator: "crossEntropy",
    name: "all ignored",
    inputs: [f(2, 3), { shape: [2], dtype: "int32", values: [-100, -100] }],
    fn: crossEntropy,
  },
  { operator: "rmsNorm", name: "rows", inputs: [f(3, 8), f(8)], fn: (x, w) => rmsNorm(x, w, 1e-6) },
  { operator: "rmsNorm", name: "3 axes, large eps", inputs: [f(2, 3, 5), f(5)], fn: (x, w) => rmsNorm(x, w, 0.1) },
  ...["mixed", "keys", "values", "mixed of one row", "keys of one row"].map((name): OperatorCase => {
    const [result] = name.split(" ");
    const [B, Q] = name.endsWith("row") ? [1, 3] : [2, 1];
    return {
      operator: "cachedAttention",
      name,
      inputs: [
        ...[0, 1, 2].map(() => f(B, Q, 24)),
        f(B, 3, 5, 8),
        f(B, 3, 5, 8),
        { shape: [B], dtype: "int32", values: B === 1 || result !== "mixed" ? Array(B).fill(4) : [2, 4] },
        f(B, 3, Q, 5),
      ],
      fn: (q, k, v, keys, values, last, bias) => {
        const all = cachedAttention(
          { q: q!, k: k!, v: v!, keys: keys!, values: values!, last: last!, bias: bias! },
          { heads: 3, scale: 0.5 },
        );
        return all[result as keyof typeof all];
      },
      gradient: false,
    };
  }),
  ...quantized(),
  ...roundedProducts(),
  ...symbolic,
];

function shapesOf(bits: 4 | 8, groupSize: number) {
  return quantizedShapes(6, 48, { bits, groupSize });
}

/** Packed weights of 6 rows and 48 inputs in groups of 16: three groups, so that the zeros of 4 bits end in half a byte. */
function quantized(): OperatorCase[] {
  const inGroups = ([4, 8] as const).flatMap((bits) =>
    [false, true].map((hasZeros) => ({ bits, hasZeros, groupSize: 16, shapes: shapesOf(bits, 16) })),
  );
  const wholeRows = { bits: 8 as const, hasZeros: false, groupSize: 48, shapes: shapesOf(8, 48) };
  const rows = [...inGroups, wholeRows];
  return rows.flatMap(({ bits, groupSize, hasZeros, shapes }): OperatorCase[] => {
    const bytes = (shape: readonly number[]) => ({ shape, dtype: "uint8" as const, from: 0, to: 256 });
    const weight = [
      bytes(shapes.packed),
      { shape: shapes.scales, from: 0.001, to: 0.1 },
      ...(hasZeros ? [bytes(shapes.zeros)] : []),
    ];
    const parts = ([packed, scales, zeros]: readonly Tensor[]) => ({ packed: packed!, scales: scales!, zeros });
    const name = `${bits} bits${hasZeros ? " with zeros" : ""}, groups of ${groupSize}`;
    const format = { bits, groupSize };
    return [
      {
        operator: "quantizedMatmul",
        name,
        inputs: [f(2, 3, 48), ...weight],
        fn: (x, ...w) => quantizedMatmul(x!, parts(w), format, "float32"),
        gradient: false,
      },
      { operator: "dequantize", name, inputs: weight, fn: (...w) => dequantize(parts(w), format), gradient: false },
      {
        operator: "gatherQuantized",
        name,
        inputs: [index(4, 6), ...weight],
        fn: (i, ...w) => gatherQuantized(parts(w), i!, format),
        gradient: false,
      },
    ];
  });
}

/**
 * Operands rounded by row: one row of zeros, one whose largest number is negative. Rounded once more they are the same, so the
 * first operator shows in a product with the identity. Weights are small: some processors add pairs of products in 16 bits.
 */
function roundedProducts(): OperatorCase[] {
  const inner = 16;
  const rows = [
    Array.from({ length: inner }, (_, i) => Math.sin(1 + i * 1.7)),
    Array<number>(inner).fill(0),
    Array.from({ length: inner }, (_, i) => (i === 3 ? -9.5 : 0.37 * i)),
  ].flat();
  const x = { shape: [3, inner], values: rows };
  const whole = (...shape: number[]) => ({ shape, dtype: "int8" as const, from: -31, to: 32 });
  const channel = { shape: [5], from: 0.001, to: 0.1 };
  const identity = { ...whole(inner, inner), values: identityOf(inner) };
  return [
    {
      operator: "roundRows",
      name: "seen through the identity",
      inputs: [x, identity],
      fn: (x, signed) => signedMatmulBack(x!, { signed: signed!, channel: signed! }),
      gradient: false,
    },
    {
      operator: "roundedProduct",
      name: "rows by columns",
      inputs: [x, whole(5, inner), channel],
      fn: (x, signed, channel) => signedMatmul(x!, { signed: signed!, channel: channel! }, 0.25),
      gradient: false,
    },
    {
      operator: "signedBytes",
      name: "packed, unpacked inside",
      inputs: [x, { shape: [5, 1, inner], dtype: "uint8", from: 97, to: 160 }, { ...channel, shape: [5, 1] }],
      fn: (x, packed, scales) => signedMatmul(x!, signedFrom(packed!, scales!)),
      gradient: false,
    },
    {
      operator: "roundedProduct",
      name: "back, in a batch of two",
      inputs: [f(2, 3, 5), whole(5, inner), channel],
      fn: (y, signed, channel) => {
        return signedMatmulBack(mul(y!, channel!), { signed: signed!, channel: channel! }, 0.25);
      },
      gradient: false,
    },
  ];
}

function identityOf(size: number): number[] {
  return Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));
}
