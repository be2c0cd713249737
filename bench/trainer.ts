/**
 * What the trainer itself costs: a recorded run (data, guard, events, checkpoints) beside the bare step of the same model in
 * the same process, in turns, and both beside a plain product.
 *
 *     node bench/trainer.ts [--data DATASET] [--shape 25m] [--rows 4] [--columns 256] [--steps 40] [--threads 2]
 *
 * Without --data a data set is made of the text that comes along; its vocabulary is small, so the head is too. Checkpoints
 * are written every 20 steps, statistics of the parameters taken every 10. Medians, and means with all that is rare in them.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openMixture } from "../src/data/index.ts";
import { matmul, spec, trace } from "../src/graph/index.ts";
import { createRun } from "../src/live/run-folder.ts";
import { countTargets } from "../src/model/batch.ts";
import { trainingFlops } from "../src/model/flops.ts";
import { createNativeRuntime, type DeviceTensor } from "../src/runtime/index.ts";
import { retentionSchema } from "../src/train/checkpoint.ts";
import { guardSchema } from "../src/train/guard.ts";
import { lossScaleSchema } from "../src/train/loss-scale.ts";
import { optimizerSchema } from "../src/train/optimizer-options.ts";
import { pretrain } from "../src/train/pretrain.ts";
import { fillNormal } from "../src/util/random.ts";
import { smallDataset } from "../test/support/small-run.ts";
import { syntheticDescription } from "../test/support/synthetic-run.ts";
import { machine, median } from "./report.ts";
import { benchBatch, benchConfig, benchStep } from "./step-fixture.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    shape: { type: "string", default: "25m" },
    rows: { type: "string", default: "4" },
    columns: { type: "string", default: "256" },
    steps: { type: "string", default: "40" },
    threads: { type: "string", default: "2" },
  },
});
const [rows, columns, steps] = [values.rows, values.columns, values.steps].map(Number) as [number, number, number];
const folder = mkdtempSync(join(tmpdir(), "cpm-trainer-"));
const runtime = createNativeRuntime({ threads: Number(values.threads), spin: false });
try {
  const data = values.data ?? (await smallDataset(folder));
  const shape = benchConfig(values.shape);
  const source = await openMixture({ sources: [{ data }] }, {
    seed: 1,
    promptLength: shape.promptLength,
    fillShare: 0.5,
    heldOutShare: 0.05,
    packing: { kind: "bestFit" },
  } as Parameters<typeof openMixture>[1]);
  const config = { ...shape, vocabSize: source.vocabSize };
  const batch = benchBatch(config, rows, columns);
  const bare = await benchStep(runtime, config, batch);
  const bareFlops = trainingFlops(config, { rows, columns, headPositions: countTargets(batch) });

  const size = 1024;
  const square = spec("float32", [size, size]);
  const product = await runtime.compile(
    trace("product", ({ a, b }) => ({ y: matmul(a, b) }), { a: square, b: square }),
  );
  const [a, b, y] = [0, 1, 2].map(() => runtime.allocate("float32", [size, size])) as [
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
  ];
  // As bench/train-step.ts has it: a product of zeros takes less power, and runs faster on some processors.
  for (const tensor of [a, b]) fillNormal(tensor.view() as Float32Array, 2, "product");
  const binding = product.bind({ a, b }, { y });

  const writer = await createRun(join(folder, "run"), syntheticDescription({ id: "bench", steps }), Date.now);
  const now = () => performance.now();
  const rounds: { trainer: number; trainerFlops: number; bare: number; product: number }[] = [];
  let trainerFlops = 0;
  let began = 0;
  await pretrain(
    {
      runtime,
      config,
      source,
      vocabularyText: await source.vocabularyText(),
      checkpoints: join(folder, "run", "checkpoints"),
      resume: false,
    },
    {
      geometry: { rows, columns },
      accumulate: 1,
      ramp: [],
      recompute: "none",
      schedule: { kind: "constant", peak: 1e-4, warmup: 0 },
      optimizer: optimizerSchema.parse({}),
      guard: guardSchema.parse({}),
      seed: 1,
      steps,
      maxMs: Number.POSITIVE_INFINITY,
      zLoss: 0,
      compute: "float32",
      lossScale: lossScaleSchema.parse({}),
      every: { validation: 0, samples: 1, parameters: 10, checkpoint: 20 },
      validationPieces: 1,
      retention: retentionSchema.parse({}),
    },
    {
      now,
      onStep: ({ flops, geometry, sources, ...report }) => {
        trainerFlops = flops;
        writer.append({ type: "step", ...report, rows: geometry.rows, columns: geometry.columns, sources });
      },
      onParameters: (step, parameters) =>
        writer.append({
          type: "parameters",
          step,
          parameters: parameters.map((each) => ({ ...each, shape: [...each.shape] })),
        }),
      onCheckpoint: ({ step, tokens, path, bytes, ms }) =>
        writer.append({ type: "checkpoint", step, tokens, path, bytes, ms }, true),
      // Comes after every step, outside of what the next one is measured by.
      onSamples: async (step) => {
        const trainer = now() - began;
        let start = now();
        await bare.update();
        const bareMs = now() - start;
        binding.runSync();
        start = now();
        for (let i = 0; i < 5; i++) binding.runSync();
        const productMs = (now() - start) / 5;
        if (step > 3) rounds.push({ trainer, trainerFlops, bare: bareMs, product: productMs });
        began = now();
      },
    },
  );
  await writer.close();
  source.dispose();
  const productRate = (round: { product: number }) => (2 * size ** 3) / round.product;
  const mfu = median(rounds.map((round) => round.trainerFlops / round.trainer / productRate(round)));
  const bareMfu = median(rounds.map((round) => bareFlops / round.bare / productRate(round)));
  const ratio = median(rounds.map((round) => round.trainerFlops / round.trainer / (bareFlops / round.bare)));
  const sum = (pick: (round: (typeof rounds)[number]) => number) =>
    rounds.reduce((total, round) => total + pick(round), 0);
  const mean =
    sum((round) => round.trainerFlops) /
    sum((round) => round.trainer) /
    ((bareFlops * rounds.length) / sum((round) => round.bare));
  console.log(machine(runtime.info));
  console.log(`${values.shape}, ${rows} × ${columns} tokens, ${rounds.length} rounds`);
  console.log(`trainer: MFU ${mfu.toFixed(3)} of a plain product (bar 0.78); bare step ${bareMfu.toFixed(3)}`);
  console.log(
    `trainer beside the bare step: ${ratio.toFixed(3)} (median of rounds, bar 0.97), ${mean.toFixed(3)} with checkpoints and statistics in the mean`,
  );
} finally {
  runtime.dispose();
  rmSync(folder, { recursive: true });
}
