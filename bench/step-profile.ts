/**
 * Where a training step spends its time: ONNX Runtime's own profile, summed over operators and shapes.
 *
 *     node bench/step-profile.ts [--shape 25m] [--rows 1] [--columns 512] [--threads 2] [--steps 6] [--top 40]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { machine } from "./report.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const { values } = parseArgs({
  options: {
    shape: { type: "string", default: "25m" },
    rows: { type: "string", default: "1" },
    columns: { type: "string", default: "512" },
    threads: { type: "string", default: "2" },
    steps: { type: "string", default: "6" },
    top: { type: "string", default: "40" },
  },
});
interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args: {
    readonly op_name?: string;
    readonly input_type_shape?: readonly Record<string, readonly number[]>[];
  };
}

const folder = mkdtempSync(join(tmpdir(), "cpm-profile-"));
try {
  const config = benchConfig(values.shape);
  const runtime = createNativeRuntime({ threads: Number(values.threads), spin: false });
  const compile = runtime.compile.bind(runtime);
  let count = 0;
  runtime.compile = (source, options) =>
    compile(source, { ...options, profilePath: join(folder, `${count++}-${source.name}`) });
  const { update } = await benchStep(runtime, config, benchBatch(config, Number(values.rows), Number(values.columns)));
  const steps = Number(values.steps);
  let total = 0;
  for (let i = 0; i < steps; i++) {
    const began = performance.now();
    await update();
    if (i > 0) total += performance.now() - began;
  }
  console.log(machine(runtime.info));
  runtime.dispose();
  report(steps, total / (steps - 1));
} finally {
  rmSync(folder, { recursive: true });
}

function report(steps: number, stepMs: number): void {
  const rows = new Map<string, { us: number; runs: number }>();
  const programs = new Map<string, number>();
  for (const file of readdirSync(folder)) {
    const program = file.replace(/^\d+-|\.json$/g, "");
    for (const event of JSON.parse(readFileSync(join(folder, file), "utf8")) as TraceEvent[]) {
      if (event.cat !== "Node" || !event.name.endsWith("_kernel_time")) continue;
      const shapes = (event.args.input_type_shape ?? []).map((input) => `[${Object.values(input)[0]?.join(",")}]`);
      const key = `${program.padEnd(18)} ${(event.args.op_name ?? "?").padEnd(24)} ${shapes.join(" ")}`;
      const row = rows.get(key) ?? { us: 0, runs: 0 };
      rows.set(key, { us: row.us + event.dur, runs: row.runs + 1 });
      programs.set(program, (programs.get(program) ?? 0) + event.dur);
    }
  }
  console.log(`a step takes ${stepMs.toFixed(0)} ms; milliseconds a step by program:`);
  for (const [name, us] of [...programs].sort((a, b) => b[1] - a[1])) {
    console.log(`  ${name.padEnd(24)} ${(us / 1000 / steps).toFixed(1)}`);
  }
  console.log("by operator and shapes of its inputs (runs a step):");
  for (const [key, { us, runs }] of [...rows].sort((a, b) => b[1].us - a[1].us).slice(0, Number(values.top))) {
    console.log(`  ${(us / 1000 / steps).toFixed(2).padStart(8)} (${(runs / steps).toFixed(0).padStart(3)})  ${key}`);
  }
}
