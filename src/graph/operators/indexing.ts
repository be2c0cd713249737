/** Operators that pick and place elements by index: embeddings, targets and their gradients. */
import { elementCount } from "../../runtime/dtype.ts";
import { type Dim, formatShape, type Shape, sameShape, sizeOf } from "../dim.ts";
import {
  broadcastShapes,
  defineOperator,
  type EmitContext,
  mismatch,
  type NdArray,
  requireDType,
  sameDType,
} from "../operator.ts";
import { apply1, type Tensor, type TensorSpec } from "../tensor.ts";

type None = Record<string, never>;

function checkIndex(index: number, length: number, operator: string): number {
  if (index >= 0 && index < length) return index;
  throw new RangeError(`${operator}: index ${index} is outside 0 to ${length - 1}`);
}

interface Distinct {
  /** No index occurs twice. */
  readonly distinct: boolean;
}

const gatherOperator = defineOperator<Distinct>({
  name: "gather",
  infer: ([table, indices]) => {
    requireDType(indices!, ["int32", "int64"], "the indices");
    if (table!.shape.length === 0) mismatch("a scalar has no rows");
    return [{ dtype: table!.dtype, shape: [...indices!.shape, ...table!.shape.slice(1)] }];
  },
  gradient: ({ inputs: [table, indices], cotangents: [dy], attributes }) => [
    scatterAddRows(table!.shape[0]!, indices!, dy!, attributes),
    undefined,
  ],
  onnx: ({ inputs, outputs, emit }) => void emit("Gather", inputs, { axis: 0 }, { outputs }),
  evaluate: ([table, indices], { shapes, allocate }) => {
    const out = allocate(table!.dtype, shapes[0]!);
    const width = elementCount(table!.shape.slice(1));
    indices!.data.forEach((value, i) => {
      const row = checkIndex(value, table!.shape[0]!, "gather");
      for (let k = 0; k < width; k++) out.data[i * width + k] = table!.data[row * width + k]!;
    });
    return [out];
  },
});

/**
 * Rows of a table: table `[V, …R]`, indices `[…I]` (int32) give `[…I, …R]`. Say `distinct` where no index can occur
 * twice: its gradient is faster then.
 */
export function gather(table: Tensor, indices: Tensor, { distinct = false }: Partial<Distinct> = {}): Tensor {
  return apply1(gatherOperator, [table, indices], { distinct });
}

/**
 * Adds rows to a table.
 *
 * ScatterND adds whole rows, but from several threads at once, so that sums of one row get lost: only where no row has
 * two, or there is one thread. ScatterElements is serial in itself, and some four times slower.
 */
function emitRowSums(
  { outputs, outputTypes, oneThread, attributes, emit, sizes, ints, temporary }: EmitContext<Distinct>,
  table: string,
  [indices, updates]: readonly string[],
  [indexType]: readonly TensorSpec[],
): void {
  const step = (type: string, from: string[], settings = {}) => emit(type, from, settings, { outputs: [temporary()] });
  if (oneThread || attributes.distinct) {
    const wide = step("Cast", [indices!], { to: 7 });
    const last = step("Unsqueeze", [wide, ints([indexType!.shape.length])]);
    emit("ScatterND", [table, last, updates!], { reduction: "add" }, { outputs });
    return;
  }
  const row = outputTypes[0]!.shape.slice(1);
  const count = sizeOf(indexType!.shape);
  const flat = step("Reshape", [updates!, sizes([count, ...row])], { allowzero: 1 });
  const column = step("Reshape", [indices!, sizes([count, ...row.map(() => 1)])], { allowzero: 1 });
  const everywhere = row.length > 0 ? step("Expand", [column, sizes([count, ...row])]) : column;
  emit("ScatterElements", [table, everywhere, flat], { axis: 0, reduction: "add" }, { outputs });
}

const scatterAddRowsOperator = defineOperator<Distinct & { readonly rows: Dim }>({
  name: "scatterAddRows",
  infer: ([indices, updates], { rows }) => {
    requireDType(indices!, ["int32"], "the indices");
    const rank = indices!.shape.length;
    if (!sameShape(updates!.shape.slice(0, rank), indices!.shape)) {
      mismatch(
        "there is not one update for each index",
        `updates of shape ${formatShape(indices!.shape)} and more axes`,
      );
    }
    return [{ dtype: updates!.dtype, shape: [rows, ...updates!.shape.slice(rank)] }];
  },
  gradient: ({ inputs: [indices], cotangents: [dy], attributes }) => [undefined, gather(dy!, indices!, attributes)],
  onnx: (context) => {
    const { outputTypes, emit, scalar, sizes, temporary, inputs, inputTypes } = context;
    const zero = scalar(outputTypes[0]!.dtype, 0);
    const zeros = emit("Expand", [zero, sizes(outputTypes[0]!.shape)], {}, { outputs: [temporary()] });
    emitRowSums(context, zeros, inputs, inputTypes);
  },
  evaluate: ([indices, updates], { shapes, allocate }) => {
    const out = allocate(updates!.dtype, shapes[0]!);
    const width = elementCount(shapes[0]!.slice(1));
    indices!.data.forEach((value, i) => {
      const row = checkIndex(value, shapes[0]![0]!, "scatterAddRows");
      for (let k = 0; k < width; k++) out.data[row * width + k]! += updates!.data[i * width + k]!;
    });
    return [out];
  },
});

/**
 * A table of zeros with each update added to its row: indices `[…I]`, updates `[…I, …R]` give `[rows, …R]`. Say
 * `distinct` where no index can occur twice.
 */
export function scatterAddRows(
  rows: Dim,
  indices: Tensor,
  updates: Tensor,
  { distinct = false }: Partial<Distinct> = {},
): Tensor {
  return apply1(scatterAddRowsOperator, [indices, updates], { rows, distinct });
}

const addRowsOperator = defineOperator<Distinct>({
  name: "addRows",
  infer: (inputs) => {
    const [table, indices, updates] = inputs as [Tensor, Tensor, Tensor];
    requireDType(indices, ["int32"], "the indices");
    if (!sameShape([...indices.shape, ...table.shape.slice(1)], updates.shape)) {
      mismatch("there is not one row for each index", formatShape([...indices.shape, ...table.shape.slice(1)]));
    }
    return [{ dtype: sameDType([table, updates]), shape: table.shape }];
  },
  gradient: ({ inputs: [, indices], cotangents: [dy], attributes }) => [
    dy,
    undefined,
    gather(dy!, indices!, attributes),
  ],
  onnx: (context) => emitRowSums(context, context.inputs[0]!, context.inputs.slice(1), context.inputTypes.slice(1)),
  evaluate: ([table, indices, updates], { allocate }) => {
    const out = allocate(table!.dtype, table!.shape);
    out.data.set(table!.data);
    const width = elementCount(table!.shape.slice(1));
    indices!.data.forEach((value, i) => {
      const row = checkIndex(value, table!.shape[0]!, "addRows");
      for (let k = 0; k < width; k++) out.data[row * width + k]! += updates!.data[i * width + k]!;
    });
    return [out];
  },
});

/** The table `[V, …R]` with each update added to its row: indices `[…I]`, updates `[…I, …R]`. Can run in place. */
export function addRows(
  table: Tensor,
  indices: Tensor,
  updates: Tensor,
  { distinct = false }: Partial<Distinct> = {},
): Tensor {
  return apply1(addRowsOperator, [table, indices, updates], { distinct });
}

function sameButLast(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.length > 0 && sameShape(a.slice(0, -1), b.slice(0, -1));
}

/** Walks the elements of `indices`: its flat position, and that of the element of `along` (last axis) it points to. */
function forEachPick(
  indices: NdArray,
  length: number,
  name: string,
  visit: (flat: number, target: number) => void,
): void {
  const picks = indices.shape.at(-1)!;
  indices.data.forEach((value, flat) => {
    visit(flat, Math.floor(flat / picks) * length + checkIndex(value, length, name));
  });
}

const gatherElementsOperator = defineOperator<None>({
  name: "gatherElements",
  infer: ([x, indices]) => {
    requireDType(indices!, ["int32", "int64"], "the indices");
    if (!sameButLast(x!.shape, indices!.shape)) mismatch("the shapes differ on an axis other than the last");
    return [{ dtype: x!.dtype, shape: indices!.shape }];
  },
  gradient: ({ inputs: [x, indices], cotangents: [dy] }) => [
    scatterAddElements(x!.shape.at(-1)!, indices!, dy!),
    undefined,
  ],
  onnx: ({ inputs, outputs, emit }) => void emit("GatherElements", inputs, { axis: -1 }, { outputs }),
  evaluate: ([x, indices], { shapes, allocate }) => {
    const out = allocate(x!.dtype, shapes[0]!);
    forEachPick(indices!, x!.shape.at(-1)!, "gatherElements", (flat, at) => {
      out.data[flat] = x!.data[at]!;
    });
    return [out];
  },
});

/** Elements of the last axis: x `[…, N]`, indices `[…, P]` give `[…, P]`. */
export function gatherElements(x: Tensor, indices: Tensor): Tensor {
  return apply1(gatherElementsOperator, [x, indices], {});
}

const scatterAddElementsOperator = defineOperator<{ readonly length: Dim }>({
  name: "scatterAddElements",
  infer: ([indices, updates], { length }) => {
    requireDType(indices!, ["int32"], "the indices");
    if (!sameShape(indices!.shape, updates!.shape)) mismatch("there is not one update for each index");
    return [{ dtype: updates!.dtype, shape: [...indices!.shape.slice(0, -1), length] }];
  },
  gradient: ({ inputs: [indices], cotangents: [dy] }) => [undefined, gatherElements(dy!, indices!)],
  onnx: ({ inputs, outputs, outputTypes, emit, sizes, scalar, temporary }) => {
    const zeros = emit(
      "Expand",
      [scalar(outputTypes[0]!.dtype, 0), sizes(outputTypes[0]!.shape)],
      {},
      { outputs: [temporary()] },
    );
    emit("ScatterElements", [zeros, inputs[0]!, inputs[1]!], { axis: -1, reduction: "add" }, { outputs });
  },
  evaluate: ([indices, updates], { shapes, allocate }) => {
    const out = allocate(updates!.dtype, shapes[0]!);
    forEachPick(indices!, shapes[0]!.at(-1)!, "scatterAddElements", (flat, at) => {
      out.data[at]! += updates!.data[flat]!;
    });
    return [out];
  },
});

/** Zeros `[…, length]` with each update added at its index of the last axis: indices and updates `[…, P]`. */
export function scatterAddElements(length: Dim, indices: Tensor, updates: Tensor): Tensor {
  return apply1(scatterAddElementsOperator, [indices, updates], { length });
}

const addAtOperator = defineOperator<None>({
  name: "addAt",
  infer: (inputs) => {
    const [x, indices, updates] = inputs as [Tensor, Tensor, Tensor];
    requireDType(indices, ["int32"], "the indices");
    if (!sameButLast(x.shape, indices.shape)) mismatch("the shapes differ on an axis other than the last");
    if (!sameShape(indices.shape, updates.shape)) mismatch("there is not one update for each index");
    return [{ dtype: sameDType([x, updates]), shape: broadcastShapes(x.shape, x.shape) }];
  },
  gradient: ({ inputs: [, indices], cotangents: [dy] }) => [dy, undefined, gatherElements(dy!, indices!)],
  onnx: ({ inputs, outputs, emit }) =>
    void emit("ScatterElements", inputs, { axis: -1, reduction: "add" }, { outputs }),
  evaluate: ([x, indices, updates], { allocate }) => {
    const out = allocate(x!.dtype, x!.shape);
    out.data.set(x!.data);
    forEachPick(indices!, x!.shape.at(-1)!, "addAt", (flat, at) => {
      out.data[at]! += updates!.data[flat]!;
    });
    return [out];
  },
});

/** x `[…, N]` with each update added at its index of the last axis: indices and updates `[…, P]`. */
export function addAt(x: Tensor, indices: Tensor, updates: Tensor): Tensor {
  return apply1(addAtOperator, [x, indices, updates], {});
}
