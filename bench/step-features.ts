/**
 * What each feature of the training step costs, beside the plain step in the same process.
 *
 *     node bench/step-features.ts [--preset 5m] [--rows 4] [--columns 256] [--rounds 8] [--threads 2] [--only dropout,…]
 *
 * Every round takes one update of each variant; printed are the medians of the ratios to the plain update of the same round,
 * and the tensors that a variant holds. `passes` are two half batches that are added up, beside the same two that are not.
 */
import { parseArgs } from "node:util";
import { countTargets, createBatch, type ModelBatch } from "../src/model/batch.ts";
import { parameterCount, parameterTable } from "../src/model/parameters.ts";
import { createNativeRuntime } from "../src/runtime/index.ts";
import { type AdamWOptions, adamWDefaults, createAdamW, type Moments } from "../src/train/adamw.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { groupOf } from "../src/train/optimizer-options.ts";
import { createTrainingStep, type TrainingStepOptions } from "../src/train/step.ts";
import { fillNormal } from "../src/util/random.ts";
import { machine, median } from "./report.ts";
import { benchBatch, benchConfig } from "./step-fixture.ts";

const { values } = parseArgs({
  options: {
    preset: { type: "string", default: "5m" },
    rows: { type: "string", default: "4" },
    columns: { type: "string", default: "256" },
    rounds: { type: "string", default: "8" },
    threads: { type: "string", default: "2" },
    only: { type: "string" },
  },
});
const [rows, columns] = [Number(values.rows), Number(values.columns)];
const runtime = createNativeRuntime({ threads: Number(values.threads), spin: false });
const config = benchConfig(values.preset);
const batch = benchBatch(config, rows, columns);

interface Variant {
  readonly step?: Partial<TrainingStepOptions>;
  readonly optimizer?: Partial<AdamWOptions>;
  /** Batches that the update is made of, and whether they are added up. */
  readonly parts?: { readonly count: number; readonly add: boolean };
}

const halves = { count: 2, add: true };
const variants: Record<string, Variant> = {
  plain: {},
  "dropout 0.1": { step: { dropout: { rate: 0.1, seed: 1 } } },
  "z-loss": { step: { zLoss: 1e-4 } },
  "recompute block": { step: { recompute: "block" } },
  "dropout 0.1, recompute block": { step: { dropout: { rate: 0.1, seed: 1 }, recompute: "block" } },
  float16: { step: { compute: "float16" } },
  "two passes, not added": { parts: { ...halves, add: false } },
  "two passes, added": { parts: halves },
  "averaged weights": { optimizer: { ema: { decay: 0.999, warmup: true, validate: true } } },
  "two groups": { optimizer: { groups: [{ match: "*layernorm*", weightDecay: 0, rateFactor: 1 }] } },
};

function part(from: number, to: number): ModelBatch {
  const made = createBatch(to - from, columns);
  for (const key of ["input", "segment", "context", "target", "span"] as const) {
    made[key].set(batch[key].subarray(from * columns, to * columns) as never);
  }
  made.length.set(batch.length.subarray(from, to));
  return made;
}

async function prepare({ step: options = {}, optimizer: settings = {}, parts = { count: 1, add: false } }: Variant) {
  const before = runtime.memory().tensorBytes;
  const table = parameterTable(config);
  const layout = arenaLayout(table, groupOf(settings.groups ?? [], table));
  const arena = () => createArena(runtime, layout);
  const [parameters, gradients] = [arena(), arena()];
  const moments: Moments = { first: arena(), second: arena(), ...(settings.ema && { ema: arena() }) };
  for (const { name, kind } of table) {
    const view = parameters.tensors.get(name)!.view() as Float32Array;
    if (kind === "norm") view.fill(1);
    else fillNormal(view, 1, name, 0, kind === "embedding" ? 0.02 : 1);
  }
  const geometry = { rows: rows / parts.count, columns };
  const step = await createTrainingStep(runtime, config, parameters, gradients, {
    ...geometry,
    recompute: "none",
    ...options,
  });
  const optimizer = await createAdamW(runtime, parameters, gradients, moments, { ...adamWDefaults, ...settings });
  const batches = Array.from({ length: parts.count }, (_, i) => part(i * geometry.rows, (i + 1) * geometry.rows));
  const scale = 1 / countTargets(batch);
  let draw = 0;
  const update = async () => {
    const began = performance.now();
    let loss = 0;
    for (const [i, each] of batches.entries()) {
      loss += await step.lossAndGradients(each, { scale, add: parts.add && i > 0, draw: draw++ });
    }
    const middle = performance.now();
    await optimizer.update(1e-5, await optimizer.gradientNorm());
    return { loss, stepMs: middle - began, updateMs: performance.now() - middle };
  };
  return { update, bytes: runtime.memory().tensorBytes - before };
}

const chosen = Object.entries(variants).filter(
  ([name]) => name === "plain" || !values.only || values.only.split(",").some((word) => name.startsWith(word)),
);
const prepared = new Map<string, Awaited<ReturnType<typeof prepare>>>();
for (const [name, variant] of chosen) prepared.set(name, await prepare(variant));
const found = new Map(chosen.map(([name]) => [name, { step: [], update: [], loss: 0 } as Measured]));
interface Measured {
  step: number[];
  update: number[];
  loss: number;
}
for (let round = -1; round < Number(values.rounds); round++) {
  for (const [name, { update }] of prepared) {
    const { loss, stepMs, updateMs } = await update();
    const measured = found.get(name)!;
    measured.loss = loss;
    if (round < 0) continue;
    measured.step.push(stepMs);
    measured.update.push(updateMs);
  }
}
console.log(machine(runtime.info));
console.log(`${values.preset}: ${(parameterCount(config) / 1e6).toFixed(1)} M parameters, ${rows} × ${columns} tokens`);
const plain = found.get("plain")!;
for (const [name, { step, update, loss }] of found) {
  const ratio = (mine: number[], theirs: number[]) => median(mine.map((ms, i) => ms / theirs[i]!)).toFixed(3);
  console.log(
    `${name.padEnd(30)} pass ${median(step).toFixed(0)} ms, ${ratio(step, plain.step)} ×; ` +
      `optimizer ${median(update).toFixed(1)} ms, ${ratio(update, plain.update)} ×; ` +
      `tensors ${(prepared.get(name)!.bytes / 2 ** 20).toFixed(1)} MiB; loss ${loss.toFixed(5)}`,
  );
}
runtime.dispose();
