/**
 * What a program takes, without running it: memory of its intermediate values, and arithmetic of its products.
 *
 * A value is alive from the node that makes it to the last that reads it. Views share memory with what they show, and
 * operators that work element by element write over an input that nobody reads any more, as runtimes do.
 */
import { byteLength, elementCount } from "../runtime/dtype.ts";
import { type DimValues, resolveShape } from "./dim.ts";
import type { Graph } from "./graph.ts";
import type { Node, Tensor } from "./tensor.ts";

/** A buffer within a program: made at one node, last read at another (both by place in the order of execution). */
export interface Interval {
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

/** Results of these are their first input's memory. */
const aliases = new Set(["reshape", "boundary", "stopGradient"]);
/** Written over an input of equal size that nobody reads any more. */
const inPlace = new Set(
  "add sub mul div maximum minimum neg abs exp log sqrt reciprocal tanh sigmoid erf where addAt addRows".split(" "),
);
/** What an operator needs for itself while it runs, in sizes of its first input. */
const scratch: Readonly<Record<string, number>> = { crossEntropy: 1 };

function tensorBytes({ dtype, shape }: Pick<Tensor, "dtype" | "shape">, sizes: DimValues): number {
  return byteLength(dtype, resolveShape(shape, sizes));
}

/** Buffers that a program makes besides its inputs and outputs, which its caller brings. */
export function intermediateBuffers(graph: Graph, sizes: DimValues): Interval[] {
  const outputs = new Set(graph.outputTensors.map(([, tensor]) => tensor));
  const lastUse = new Map<Tensor, number>();
  graph.nodes.forEach((node, at) => {
    for (const tensor of node.inputs) lastUse.set(tensor, at);
  });
  const open: Buffer[] = [];
  const bufferOf = new Map<Tensor, Buffer | undefined>();
  graph.nodes.forEach((node, at) => {
    const needs = scratch[node.operator.name];
    if (needs) open.push({ bytes: needs * tensorBytes(node.inputs[0]!, sizes), from: at, to: at });
    const unpacked = unpackedBytes(node, sizes);
    if (unpacked > 0) open.push({ bytes: unpacked, from: at, to: at });
    for (const tensor of node.outputs) {
      if (outputs.has(tensor) || node.operator.name === "input" || node.operator.name === "constant") continue;
      const end = Math.max(at, lastUse.get(tensor) ?? at);
      const bytes = tensorBytes(tensor, sizes);
      const shared = sharedBuffer(node, at, bytes, bufferOf);
      if (shared) {
        if (shared.buffer) shared.buffer.to = Math.max(shared.buffer.to, end);
        bufferOf.set(tensor, shared.buffer);
        continue;
      }
      // A later view of it keeps it: its end moves then.
      const buffer = { bytes, from: at, to: end };
      open.push(buffer);
      bufferOf.set(tensor, buffer);
    }
  });
  return open.filter(({ bytes }) => bytes > 0);
}

/**
 * What a packed weight becomes inside its product, which takes it in float32. The runtime's arena grows by several times that,
 * more so at 4 bits, where numbers are first spread to a byte each: fitted to what bench/memory.ts measures.
 */
function unpackedBytes({ operator, inputs, attributes }: Node, sizes: DimValues): number {
  if (operator.name !== "quantizedMatmul") return 0;
  const { bits } = attributes as { readonly bits: 4 | 8 };
  const elements = (tensorBytes(inputs[1]!, sizes) * 8) / bits;
  return (bits === 8 ? 2 : 3) * 4 * elements;
}

interface Buffer {
  readonly bytes: number;
  readonly from: number;
  to: number;
}

/** The buffer that a node's result lies in without being given one; `buffer` is absent where the caller brought it. */
function sharedBuffer(
  { operator, inputs }: Node,
  at: number,
  bytes: number,
  bufferOf: ReadonlyMap<Tensor, Buffer | undefined>,
): { buffer: Buffer | undefined } | undefined {
  if (aliases.has(operator.name)) return { buffer: bufferOf.get(inputs[0]!) };
  if (!inPlace.has(operator.name)) return undefined;
  for (const tensor of inputs) {
    const buffer = bufferOf.get(tensor);
    if (buffer && buffer.bytes === bytes && buffer.to <= at) return { buffer };
  }
  return undefined;
}

/** The most that is alive at once. */
export function peakBytes(intervals: readonly Interval[]): number {
  let now = 0;
  let peak = 0;
  for (const { bytes, grows } of changes(intervals)) {
    now += grows ? bytes : -bytes;
    peak = Math.max(peak, now);
  }
  return peak;
}

/** Beginnings and ends in order; at one place all begins before anything ends. */
function changes(intervals: readonly Interval[]) {
  return intervals
    .flatMap((interval) => [
      { interval, bytes: interval.bytes, at: interval.from, grows: true },
      { interval, bytes: interval.bytes, at: interval.to, grows: false },
    ])
    .sort((a, b) => a.at - b.at || Number(b.grows) - Number(a.grows));
}

/**
 * Floating-point operations of a program's matrix products, a product and its sum being two; those with vectors, which
 * are sums under another name, included.
 */
export function productFlops(graph: Graph, sizes: DimValues): number {
  let flops = 0;
  for (const { operator, inputs, outputs, attributes } of graph.nodes) {
    if (operator.name !== "matmul" && operator.name !== "softmaxMix") continue;
    const inner = inputs[0]!.shape.at(operator.name === "matmul" && attributes.transposeA ? -2 : -1)!;
    flops += 2 * elementCount(resolveShape([...outputs[0]!.shape, inner], sizes));
  }
  return flops;
}
