/** What is frozen costs nothing: no gradient of it, none below the lowest delta, and nothing stored down there. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { attachDelta } from "../src/delta/attach.ts";
import type { DeltaSpec } from "../src/delta/methods/index.ts";
import { trainableTree } from "../src/delta/trainable-tree.ts";
import { createPlanningRuntime } from "../src/graph/index.ts";
import type { ModelConfig } from "../src/model/config.ts";
import { parameterTable } from "../src/model/parameters.ts";
import { preset } from "../src/model/presets.ts";
import { arenaLayout, createArena } from "../src/train/arena.ts";
import { createTrainingStep } from "../src/train/step.ts";

const config: ModelConfig = { ...preset("tiny"), layers: 6, vocabSize: 200 };
const geometry = { rows: 2, columns: config.promptLength + 16 };

/** What a training step with a delta would compile and allocate. */
async function planned(specs: readonly DeltaSpec[]) {
  const runtime = createPlanningRuntime();
  const { grafts, parameters } = attachDelta(config, specs);
  const base = createArena(runtime, arenaLayout(parameterTable(config)));
  const [values, gradients] = [
    createArena(runtime, arenaLayout(parameters)),
    createArena(runtime, arenaLayout(parameters)),
  ];
  const tensors = new Map([...base.tensors, ...values.tensors]);
  const before = runtime.allocations.length;
  await createTrainingStep(runtime, config, { tensors }, gradients, { ...geometry, recompute: "none", grafts });
  const streamBytes = geometry.rows * geometry.columns * config.dimModel * 4;
  const streams = runtime.allocations.slice(before).filter(({ bytes, ports }) => {
    return bytes === streamBytes && [...ports].some((name) => name === "h" || name === "next" || name.endsWith(".h"));
  });
  const residualBytes = runtime.allocations
    .slice(before)
    .filter(({ ports }) => [...ports].some((name) => name.startsWith("residual.")))
    .reduce((sum, { bytes }) => sum + bytes, 0);
  const outputs = runtime.programs.flatMap(({ graph }) => graph.outputs.map(({ name }) => name));
  const crossed = runtime.programs.filter(({ graph }) => graph.name.endsWith(".backward"));
  const bindings = crossed.reduce((sum, program) => sum + program.bindings, 0);
  return { streams: streams.length, residualBytes, outputs, bindings };
}

suite("frozen parts", () => {
  test("no gradient of a base parameter is an output of any program", async () => {
    const { outputs } = await planned([{ method: "lora" }]);
    assert.deepEqual(
      outputs.filter((name) => name.startsWith("grad.params") || name === "grad.table" || name === "grad.bias"),
      [],
    );
    assert.ok(outputs.some((name) => name.startsWith("grad.delta.")));
  });

  test("gradients end at the lowest delta, and what lies below keeps nothing", async () => {
    const whole = await planned([{ method: "lora" }]);
    const top = await planned([{ method: "lora", places: ["layers.4-5.attn.q"] }]);
    assert.equal(whole.bindings, 6);
    assert.equal(top.bindings, 2);
    assert.ok(top.streams < whole.streams, `${top.streams} of ${whole.streams}`);
    assert.ok(top.residualBytes < whole.residualBytes * 0.45, `${top.residualBytes} of ${whole.residualBytes}`);
    const head = await planned([{ method: "bitfit", places: ["output_norm"] }]);
    assert.deepEqual([head.bindings, head.residualBytes], [0, 0]);
  });

  test("a frozen layer stores less than a trained one", async () => {
    const lora = await planned([{ method: "lora" }]);
    const full = await planned([{ method: "fine-tuning" }]);
    assert.ok(lora.residualBytes < full.residualBytes, `${lora.residualBytes} of ${full.residualBytes}`);
  });

  test("the published recipe on the 10B model trains 6,291,456 numbers: 0.067 %", () => {
    const delta = attachDelta(preset("10b"), [
      { method: "lora", rank: 8, alpha: 16, places: ["project_q", "project_v"] },
    ]);
    const tree = trainableTree(delta);
    assert.equal(tree.trained, 6_291_456);
    assert.equal((100 * tree.share).toFixed(3), "0.067");
  });
});
