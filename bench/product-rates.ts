/**
 * The three products of a linear layer's training step beside PyTorch's: what a step can be at best.
 *
 *     node bench/product-rates.ts [--shapes 512x512x512,…] [--threads 2] [--rounds 5] [--python python3]
 *
 * Shapes are rows × outputs × inputs. Forward is x·Wᵀ, dX is dY·W, dW is dYᵀ·X, all operands inputs of the program, as weights
 * that change at each step are. Both sides take turns; medians of rounds in GFLOP/s. Operands are in the caches, so a step's own
 * products are somewhat slower.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { matmul, spec, trace } from "../src/graph/index.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { fillNormal } from "../src/util/random.ts";
import { machine, median } from "./report.ts";
import { startSide } from "./worker-side.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "512x512x512,512x1408x512,512x512x1408,512x768x768,512x2048x768,512x768x2048" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    python: { type: "string", default: "python3" },
  },
});
const forms = ["forward", "dx", "dw"] as const;
type Form = (typeof forms)[number];
const runs = 9;
const runtime = createNativeRuntime({ threads: Number(values.threads) });

function normal(name: string, shape: readonly [number, number]): DeviceTensor {
  const data = new Float32Array(shape[0] * shape[1]);
  fillNormal(data, 1, name);
  return runtime.upload(data, "float32", shape);
}

/** Median milliseconds of a product here. */
async function measure(form: Form, [M, N, K]: readonly [number, number, number]): Promise<number> {
  const [x, w, dy] = [[M, K] as const, [N, K] as const, [M, N] as const];
  const [a, b, options] = {
    forward: [x, w, { transposeB: true }] as const,
    dx: [dy, w, {}] as const,
    dw: [dy, x, { transposeA: true }] as const,
  }[form];
  const graph = trace(form, ({ a, b }) => ({ y: matmul(a, b, options) }), {
    a: spec("float32", a),
    b: spec("float32", b),
  });
  using program = await runtime.compile(graph);
  using left = normal("a", a);
  using right = normal("b", b);
  using y = runtime.allocate("float32", graph.outputs[0]!.shape as number[]);
  const binding = program.bind({ a: left, b: right }, { y });
  binding.runSync();
  const times = Array.from({ length: runs }, () => {
    const began = performance.now();
    binding.runSync();
    return performance.now() - began;
  });
  binding.dispose();
  return median(times);
}

const peer = await startSide("PyTorch", values.python, [
  fileURLToPath(new URL("./peers/product_rates.py", import.meta.url)),
  "--threads",
  values.threads,
]);
console.log(`${machine(runtime.info)}; PyTorch ${peer.hello.torch}`);
console.log("| rows × outputs × inputs | forward, here and PyTorch | dX | dW |\n|---|---|---|---|");
for (const text of values.shapes.split(",")) {
  const shape = text.split("x").map(Number) as [number, number, number];
  const flops = 2 * shape[0] * shape[1] * shape[2];
  const cells: string[] = [];
  for (const form of forms) {
    const [own, theirs]: [number[], number[]] = [[], []];
    for (let round = 0; round < Number(values.rounds); round++) {
      own.push(await measure(form, shape));
      theirs.push((await peer.ask(`${form} ${shape.join(" ")}`)).ms);
    }
    const rate = (ms: number[]) => (flops / median(ms) / 1e6).toFixed(0);
    cells.push(`${rate(own)}, ${rate(theirs)}`);
  }
  console.log(`| ${shape.join(" × ")} | ${cells.join(" | ")} |`);
}
peer.end();
runtime.dispose();
