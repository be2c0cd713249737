/**
 * Products with packed weights: what bits, groups, rows and the way in which the weights are given cost.
 *
 *     node bench/packed-products.ts [--inputs 4096] [--outputs 4096] [--rows 1,32,512] [--threads 2] [--runs 9]
 *                                 [--matrices 1]
 *
 * For each format the weights are constants of the program (packed when it is compiled), inputs of it, or unpacked by an operator
 * in front of a plain product, and the other operand is rounded to 8 bits or not; "one scale an output" are products of whole
 * numbers. Medians in milliseconds over `--matrices` weights in turn: with enough of them no cache holds them.
 */
import { parseArgs } from "node:util";
import {
  dequantize,
  dim,
  type Graph,
  matmul,
  quantizedMatmul,
  quantizedShapes,
  type SignedWeight,
  signedMatmul,
  spec,
  type Tensor,
  trace,
} from "../src/graph/index.ts";
import type { DType } from "../src/runtime/dtype.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { machine, median } from "./report.ts";

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "4096" },
    outputs: { type: "string", default: "4096" },
    rows: { type: "string", default: "1,32,512" },
    threads: { type: "string", default: "2" },
    runs: { type: "string", default: "9" },
    matrices: { type: "string", default: "1" },
  },
});
const [N, K, runs] = [values.outputs, values.inputs, values.runs].map(Number) as [number, number, number];
const rows = values.rows.split(",").map(Number);
const runtime = createNativeRuntime({ threads: Number(values.threads) });

function filled(dtype: DType, shape: readonly number[]): DeviceTensor {
  const tensor = runtime.allocate(dtype, shape);
  const view = tensor.view() as Uint8Array | Int8Array | Float32Array;
  for (let i = 0; i < view.length; i++) view[i] = dtype === "float32" ? ((i * 7919) % 1000) / 1e5 : (i * 40_503) >>> 3;
  return tensor;
}

type Weights = Record<string, DeviceTensor>;

/** Median milliseconds of a product by its number of rows; `make` gives another matrix each time. */
async function measure(graph: Graph, make: () => Weights, isConstant: boolean): Promise<string> {
  const matrices = Array.from({ length: Number(values.matrices) }, make);
  const shared = isConstant ? undefined : await runtime.compile(graph);
  const programs = await Promise.all(matrices.map((constants) => shared ?? runtime.compile(graph, { constants })));
  const cells: string[] = [];
  for (const M of rows) {
    using x = filled("float32", [M, K]);
    using y = runtime.allocate("float32", [M, N]);
    const bindings = programs.map((program, i) => program.bind({ x, ...(shared && matrices[i]) }, { y }));
    for (const binding of bindings) binding.runSync();
    const times: number[] = [];
    for (let run = 0; run < runs; run++) {
      const began = performance.now();
      for (const binding of bindings) binding.runSync();
      times.push((performance.now() - began) / bindings.length);
    }
    for (const binding of bindings) binding.dispose();
    cells.push(median(times).toFixed(2));
  }
  for (const program of shared ? [shared] : programs) program.dispose();
  for (const tensor of matrices.flatMap((weights) => Object.values(weights))) tensor.dispose();
  return cells.join(" | ");
}

console.log(machine(runtime.info));
console.log(`${N} × ${K} weights; ms for ${rows.join(", ")} rows`);
console.log(`| weights | given as | other operand | ${rows.join(" | ")} |`);
console.log(`|---|---|---|${rows.map(() => "---|").join("")}`);
const x = spec("float32", [dim("M"), K]);
{
  const make = () => ({ w: filled("float32", [N, K]) });
  const plain = trace("plain", ({ x, w }) => ({ y: matmul(x, w, { transposeB: true }) }), {
    x,
    w: spec("float32", [N, K]),
  });
  for (const isConstant of [true, false]) {
    const given = isConstant ? "constants" : "inputs";
    console.log(`| float32 | ${given} | float32 | ${await measure(plain, make, isConstant)} |`);
  }
}
for (const bits of [4, 8] as const) {
  for (const groupSize of [32, 128]) {
    const shapes = quantizedShapes(N, K, { bits, groupSize });
    const make = () => ({ packed: filled("uint8", shapes.packed), scales: filled("float32", shapes.scales) });
    const specs = { x, packed: spec("uint8", shapes.packed), scales: spec("float32", shapes.scales) };
    const format = { bits, groupSize };
    const name = `int${bits}, groups of ${groupSize}`;
    for (const activations of ["int8", "float32"] as const) {
      const graph = trace("packed", ({ x, ...w }) => ({ y: quantizedMatmul(x, w, format, activations) }), specs);
      for (const isConstant of [true, false]) {
        const given = isConstant ? "constants" : "inputs";
        console.log(`| ${name} | ${given} | ${activations} | ${await measure(graph, make, isConstant)} |`);
      }
    }
    const unpacked = trace(
      "unpacked",
      ({ x, ...w }) => ({ y: matmul(x, dequantize(w, format), { transposeB: true }) }),
      specs,
    );
    console.log(`| ${name} | unpacked inside | float32 | ${await measure(unpacked, make, false)} |`);
  }
}
{
  const make = () => ({ signed: filled("int8", [N, K]), channel: filled("float32", [N]) });
  const graph = trace(
    "whole",
    ({ x, ...weight }: { readonly x: Tensor } & SignedWeight) => ({ y: signedMatmul(x, weight) }),
    { x, signed: spec("int8", [N, K]), channel: spec("float32", [N]) },
  );
  for (const isConstant of [true, false]) {
    const given = isConstant ? "constants" : "inputs";
    console.log(`| int8, one scale an output | ${given} | int8 | ${await measure(graph, make, isConstant)} |`);
  }
}
runtime.dispose();
