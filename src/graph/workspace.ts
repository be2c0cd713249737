/**
 * How much memory a program's intermediate values take, without running it: what is alive when, and what an allocator
 * that never gives memory back makes of it.
 *
 * The allocator is that of the native runtime in outline (best fit with coalescing, Knuth 2.5, as in ONNX Runtime's
 * BFC arena): a program's first run asks for each value on its own, later runs for one block that holds all. The arena
 * is shared by all programs and only grows, so what it has become is the peak.
 */
import { byteLength } from "../runtime/dtype.ts";
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

export function tensorBytes({ dtype, shape }: Pick<Tensor, "dtype" | "shape">, sizes: DimValues): number {
  return byteLength(dtype, resolveShape(shape, sizes));
}

/** Buffers that a program makes besides its inputs and outputs, which its caller brings. */
export function intermediateBuffers(graph: Graph, sizes: DimValues): Interval[] {
  const outputs = new Set(graph.outputTensors.map(([, tensor]) => tensor));
  const lastUse = new Map<Tensor, number>();
  graph.nodes.forEach((node, at) => {
    for (const tensor of node.inputs) lastUse.set(tensor, at);
  });
  const open: { bytes: number; from: number; to: number }[] = [];
  const bufferOf = new Map<Tensor, (typeof open)[number] | undefined>();
  graph.nodes.forEach((node, at) => {
    const needs = scratch[node.operator.name];
    if (needs) open.push({ bytes: needs * tensorBytes(node.inputs[0]!, sizes), from: at, to: at });
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
      const buffer = { bytes, from: at, to: end };
      // A later view of it keeps it: its end moves then.
      open.push(buffer);
      bufferOf.set(tensor, buffer);
    }
  });
  return open.filter(({ bytes }) => bytes > 0);
}

type Buffer = { readonly bytes: number; to: number };

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

interface Chunk {
  readonly start: number;
  readonly end: number;
  free: boolean;
}

const arenaUnitBytes = 256;
/** A larger rest of a chunk is split off; of a smaller chunk than twice what is asked for, the rest stays with it. */
const largestRestBytes = 128 * 1024 * 1024;

/** An arena that grows by what is asked for and never shrinks. */
export function createArenaModel() {
  /** Regions lie apart: chunks of different ones never become one. */
  const regions: Chunk[][] = [];
  let bytes = 0;
  return {
    get bytes() {
      return bytes;
    },
    allocate(wanted: number): () => void {
      const size = Math.ceil(wanted / arenaUnitBytes) * arenaUnitBytes;
      let best: { region: Chunk[]; index: number } | undefined;
      let bestSize = Number.POSITIVE_INFINITY;
      for (const region of regions) {
        region.forEach((chunk, index) => {
          const has = chunk.end - chunk.start;
          if (!chunk.free || has < size || has >= bestSize) return;
          best = { region, index };
          bestSize = has;
        });
      }
      if (best === undefined) {
        const region = [{ start: bytes, end: bytes + size, free: true }];
        regions.push(region);
        bytes += size;
        best = { region, index: 0 };
        bestSize = size;
      }
      const { region, index } = best;
      const { start, end } = region[index]!;
      const splits = bestSize >= 2 * size || bestSize - size >= largestRestBytes;
      const taken: Chunk = { start, end: splits ? start + size : end, free: false };
      region.splice(index, 1, taken, ...(splits ? [{ start: start + size, end, free: true }] : []));
      return () => {
        taken.free = true;
        let first = region.indexOf(taken);
        let last = first;
        while (region[first - 1]?.free) first--;
        while (region[last + 1]?.free) last++;
        region.splice(first, last - first + 1, { start: region[first]!.start, end: region[last]!.end, free: true });
      };
    },
  };
}

/** What an arena has grown to after programs ran one after the other, twice. */
export function arenaBytes(programs: readonly (readonly Interval[])[]): number {
  const arena = createArenaModel();
  for (const intervals of programs) {
    const ends = new Map<Interval, () => void>();
    for (const { interval, bytes, grows } of changes(intervals)) {
      if (grows) ends.set(interval, arena.allocate(bytes));
      else ends.get(interval)!();
    }
  }
  for (const intervals of programs) {
    const peak = peakBytes(intervals);
    if (peak > 0) arena.allocate(peak)();
  }
  return arena.bytes;
}
