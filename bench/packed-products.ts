/**
 * Products with packed weights: what bits, groups, rows and the way in which the weights are given cost.
 *
 *     node bench/packed-products.ts [--inputs 4096] [--outputs 4096] [--rows 1,32,512] [--threads 2] [--runs 9]
 *
 * For each format the weights are constants of the program (packed when it is compiled), inputs of it, or unpacked by an operator
 * in front of a plain product, and the other operand is rounded to 8 bits or not. Medians in milliseconds.
 */
import { parseArgs } from "node:util";
import {
  dequantize,
  dim,
  type Graph,
  matmul,
  quantizedMatmul,
  quantizedShapes,
  spec,
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
  },
});
const [N, K, runs] = [values.outputs, values.inputs, values.runs].map(Number) as [number, number, number];
const rows = values.rows.split(",").map(Number);
const runtime = createNativeRuntime({ threads: Number(values.threads) });

function filled(dtype: DType, shape: readonly number[]): DeviceTensor {
  const tensor = runtime.allocate(dtype, shape);
  const view = tensor.view() as Uint8Array | Float32Array;
  for (let i = 0; i < view.length; i++) view[i] = dtype === "uint8" ? (i * 40_503) >>> 3 : ((i * 7919) % 1000) / 1e5;
  return tensor;
}

/** Median milliseconds of a product by its number of rows. */
async function measure(graph: Graph, weights: Record<string, DeviceTensor>, isConstant: boolean): Promise<string> {
  using program = await runtime.compile(graph, isConstant ? { constants: weights } : {});
  const cells: string[] = [];
  for (const M of rows) {
    using x = filled("float32", [M, K]);
    using y = runtime.allocate("float32", [M, N]);
    const binding = program.bind({ x, ...(isConstant ? {} : weights) }, { y });
    binding.runSync();
    const times: number[] = [];
    for (let run = 0; run < runs; run++) {
      const began = performance.now();
      binding.runSync();
      times.push(performance.now() - began);
    }
    binding.dispose();
    cells.push(median(times).toFixed(1));
  }
  return cells.join(" | ");
}

console.log(machine(runtime.info));
console.log(`${N} × ${K} weights; ms for ${rows.join(", ")} rows`);
console.log(`| weights | given as | other operand | ${rows.join(" | ")} |`);
console.log(`|---|---|---|${rows.map(() => "---|").join("")}`);
const x = spec("float32", [dim("M"), K]);
{
  using w = filled("float32", [N, K]);
  const plain = trace("plain", ({ x, w }) => ({ y: matmul(x, w, { transposeB: true }) }), {
    x,
    w: spec("float32", [N, K]),
  });
  for (const isConstant of [true, false]) {
    const given = isConstant ? "constants" : "inputs";
    console.log(`| float32 | ${given} | float32 | ${await measure(plain, { w }, isConstant)} |`);
  }
}
for (const bits of [4, 8] as const) {
  for (const groupSize of [32, 128]) {
    const shapes = quantizedShapes(N, K, { bits, groupSize });
    using packed = filled("uint8", shapes.packed);
    using scales = filled("float32", shapes.scales);
    const specs = { x, packed: spec("uint8", shapes.packed), scales: spec("float32", shapes.scales) };
    const format = { bits, groupSize };
    const name = `int${bits}, groups of ${groupSize}`;
    for (const activations of ["int8", "float32"] as const) {
      const graph = trace("packed", ({ x, ...w }) => ({ y: quantizedMatmul(x, w, format, activations) }), specs);
      for (const isConstant of [true, false]) {
        const given = isConstant ? "constants" : "inputs";
        console.log(
          `| ${name} | ${given} | ${activations} | ${await measure(graph, { packed, scales }, isConstant)} |`,
        );
      }
    }
    const unpacked = trace(
      "unpacked",
      ({ x, ...w }) => ({ y: matmul(x, dequantize(w, format), { transposeB: true }) }),
      specs,
    );
    console.log(`| ${name} | unpacked inside | float32 | ${await measure(unpacked, { packed, scales }, false)} |`);
  }
}
runtime.dispose();
