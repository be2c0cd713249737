/** `cpm plan`: what a training will take, before it runs. */
import { z } from "zod";
import type { retentionSchema } from "../../train/checkpoint.ts";
import { type MemoryParts, type MemoryPlan, tightShare } from "../../train/memory-plan.ts";
import { type PlanDevice, planDevices, type RunPlan } from "../../train/run-plan.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { planMessages as messages } from "../messages/plan.ts";
import { type PlannedRecipe, planRecipe } from "../planning.ts";
import { pretrainFields } from "../pretraining.ts";
import { bytesSchema, formatBytes, formatDuration, formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { renderFacts, renderTable } from "../table.ts";
import { trainingFields } from "../training.ts";

/** Of a step on this machine without trying it: below what was measured with the trainer around it. */
const assumedUtilisation = 0.75;
/** A calibration that would take longer is not done. */
const longestCalibrationMs = 120_000;
/** A busy core with its share of memory and mainboard: a rule of thumb, 2026. */
const wattsPerCore = 10;
/** World's mean of 2023: Ember, Yearly Electricity Data. */
const worldGrid = 0.481;

const { resume: _resume, run: _run, data: _data, ...recipeFields } = pretrainFields;
const positive = z.number().positive();

const machineNames = ["this", ...(Object.keys(planDevices) as (keyof typeof planDevices)[])] as const;

const schema = z.object({
  ...trainingFields,
  ...recipeFields,
  data: z.array(z.string()).default([]).describe(messages.data.en).meta({ zh: messages.data.zh, placeholder: "DIR" }),
  tokens: positive.optional().describe(messages.tokens.en).meta({ zh: messages.tokens.zh }),
  epochs: positive.optional().describe(messages.epochs.en).meta({ zh: messages.epochs.zh }),
  machine: z.enum(machineNames).default("this").describe(messages.machine.en).meta({ zh: messages.machine.zh }),
  devices: z.int().min(1).max(1_000_000).default(1).describe(messages.devices.en).meta({ zh: messages.devices.zh }),
  efficiency: positive.max(1).default(1).describe(messages.efficiency.en).meta({ zh: messages.efficiency.zh }),
  sharded: z.boolean().default(false).describe(messages.sharded.en).meta({ zh: messages.sharded.zh }),
  memory: bytesSchema().optional().describe(messages.memory.en).meta({ zh: messages.memory.zh }),
  gflops: positive.optional().describe(messages.gflops.en).meta({ zh: messages.gflops.zh }),
  utilisation: positive.max(1).optional().describe(messages.utilisation.en).meta({ zh: messages.utilisation.zh }),
  tokensPerSecond: positive.optional().describe(messages.tokensPerSecond.en).meta({ zh: messages.tokensPerSecond.zh }),
  calibrationSteps: z
    .int()
    .min(0)
    .max(1000)
    .default(3)
    .describe(messages.calibrationSteps.en)
    .meta({ zh: messages.calibrationSteps.zh }),
  watts: z.number().min(0).optional().describe(messages.watts.en).meta({ zh: messages.watts.zh }),
  price: z.number().min(0).optional().describe(messages.price.en).meta({ zh: messages.price.zh }),
  currency: z.string().min(1).max(16).default("CNY").describe(messages.currency.en).meta({ zh: messages.currency.zh }),
  pue: z.number().min(1).max(10).default(1).describe(messages.pue.en).meta({ zh: messages.pue.zh }),
  grid: z.number().min(0).default(worldGrid).describe(messages.grid.en).meta({ zh: messages.grid.zh }),
});
type Options = z.output<typeof schema>;

/** What a plan says of a device, with all that was given in its place. */
interface Machine extends Omit<PlanDevice, "flopsPerSecond" | "utilisation"> {
  readonly flopsPerSecond: number | undefined;
  readonly utilisation: number | undefined;
}

interface Rate {
  /** Of one device. */
  readonly tokensPerSecond: number;
  readonly source: "measured" | "estimated" | "given";
  readonly productFlopsPerSecond: number | undefined;
  readonly utilisation: number | undefined;
}

export default defineCommand({
  name: "plan",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "plan -c recipes/pretrain-15m.yaml --data data/zh", ...messages.example },
    {
      line: "plan --preset 10b --rows 64 --length 1024 --tokens 2e11 --machine a100-40 --devices 32 --sharded --set recompute=block",
      ...messages.exampleOriginal,
    },
  ],
  schema,
  async run(options, context) {
    const { preset } = await import("../../model/index.ts");
    const sizes = Object.fromEntries(Object.entries(options.model).filter(([, value]) => value !== undefined));
    const data = await readData(options.data);
    const base = { ...preset(options.preset), ...sizes, half: false, dropout: options.dropout };
    const config = { ...base, ...(data.vocabSize !== undefined && { vocabSize: data.vocabSize }) };
    const packed = options.packing.kind !== "none";
    const machine = await machineOf(options);
    const availableBytes = machine.memoryBytes;
    const memory = shardedPlan(await planRecipe(config, options, packed), options);
    const stepTokens = options.rows * options.length * options.accumulate;
    const tokens =
      options.tokens ?? (options.epochs === undefined ? options.steps * stepTokens : options.epochs * data.tokens);
    const rate = await rateOf(options, machine, memory, config, context);
    const { planRun, checkpointDiskBytes } = await import("../../train/run-plan.ts");
    const run = planRun({
      tokens,
      tokensPerSecond: rate.tokensPerSecond,
      devices: options.devices,
      efficiency: options.efficiency,
      watts: machine.watts,
      pue: options.pue,
      gridKgCo2ePerKwh: options.grid,
      pricePerHour: machine.pricePerHour,
    });
    const kept = keptCheckpoints(options, tokens / stepTokens / options.devices);
    const diskBytes = checkpointDiskBytes(memory.parameters, kept, options.optimizer.ema !== undefined);
    const verdict = verdictOf(memory.totalBytes, availableBytes);
    const remedies = verdict === "fits" ? [] : await remediesOf(config, options, packed);
    const steps = Math.ceil(tokens / stepTokens / options.devices);
    const epochs = data.tokens > 0 ? tokens / data.tokens : undefined;
    const shown: Shown & { config: typeof config } = {
      config,
      memory,
      availableBytes,
      verdict,
      remedies,
      tokens,
      steps,
      epochs,
      rate,
      run,
      machine,
      kept,
      diskBytes,
    };
    if (context.json) {
      const { config: _, ...rest } = shown;
      printJson(context, { ...rest, remedies: remedies.map(({ change, bytes }) => ({ change, bytes })) });
    } else print(context, render(shown, options, context));
  },
});

function verdictOf(totalBytes: number, availableBytes: number): Shown["verdict"] {
  if (totalBytes > availableBytes) return "tooLarge";
  return totalBytes > tightShare * availableBytes ? "tight" : "fits";
}

/** Tokens of data sets and their vocabulary's size. */
async function readData(folders: readonly string[]): Promise<{ tokens: number; vocabSize: number | undefined }> {
  const { readDescription } = await import("../../data/dataset.ts");
  let tokens = 0;
  let vocabSize: number | undefined;
  for (const folder of folders) {
    const { shards, tokenizer } = await readDescription(folder);
    tokens += shards.reduce((sum, shard) => sum + shard.tokens, 0);
    vocabSize = tokenizer.vocabSize;
  }
  return { tokens, vocabSize };
}

async function machineOf(options: Options): Promise<Machine> {
  const given = {
    ...(options.memory !== undefined && { memoryBytes: options.memory }),
    ...(options.watts !== undefined && { watts: options.watts }),
    ...(options.gflops !== undefined && { flopsPerSecond: options.gflops * 1e9 }),
    ...(options.utilisation !== undefined && { utilisation: options.utilisation }),
    ...(options.price !== undefined && { pricePerHour: options.price, currency: options.currency }),
  };
  if (options.machine !== "this") return { ...planDevices[options.machine], ...given };
  const { inspectMachine } = await import("../machine.ts");
  const { cpuModel, arch, usableProcessors, freeMemoryBytes } = inspectMachine();
  return {
    name: cpuModel ?? arch,
    memoryBytes: freeMemoryBytes,
    flopsPerSecond: undefined,
    utilisation: undefined,
    watts: wattsPerCore * usableProcessors,
    source: `assumed: ${wattsPerCore} W a core (rule of thumb, 2026); grid: world's mean of 2023, Ember`,
    ...given,
  };
}

/** With the states of weights divided over the devices. */
function shardedPlan(plan: MemoryPlan, { sharded, devices }: Options): MemoryPlan {
  if (!sharded) return plan;
  const shared = (["weights", "gradients", "moments", "average", "snapshot"] as const).map(
    (part) => [part, Math.ceil(plan.bytes[part] / devices)] as const,
  );
  const bytes: MemoryParts = { ...plan.bytes, ...Object.fromEntries(shared) };
  const totalBytes = Object.values(bytes).reduce((sum, part) => sum + part, 0);
  return { ...plan, bytes, totalBytes, tensorBytes: plan.tensorBytes - (plan.totalBytes - totalBytes) };
}

async function rateOf(
  options: Options,
  machine: Machine,
  memory: MemoryPlan,
  config: import("../../model/config.ts").ModelConfig,
  context: CommandContext,
): Promise<Rate> {
  const { tokensPerSecond: given } = options;
  if (given !== undefined) {
    return { tokensPerSecond: given, source: "given", productFlopsPerSecond: undefined, utilisation: undefined };
  }
  const stepTokens = options.rows * options.length * options.accumulate;
  const { model, executed } = memory.flops;
  const estimate = (productFlopsPerSecond: number, utilisation: number): Rate => ({
    tokensPerSecond: (productFlopsPerSecond * utilisation * stepTokens) / model,
    source: "estimated",
    productFlopsPerSecond,
    utilisation,
  });
  const assumed = machine.utilisation ?? assumedUtilisation * Math.min(1, model / executed);
  if (machine.flopsPerSecond !== undefined) return estimate(machine.flopsPerSecond, assumed);
  const { createNativeRuntime } = await import("../../runtime/index.ts");
  const { multiplyMatrices } = await import("../../train/product-rate.ts");
  using runtime = createNativeRuntime({
    spin: false,
    ...(options.threads !== undefined && { threads: options.threads }),
  });
  const product = (await multiplyMatrices(runtime)).gflops * 1e9;
  const { calibrationSteps: steps, rows, length: columns, recompute, accumulate } = options;
  const expectedMs = ((steps + 1) * 1000 * executed) / accumulate / (product * assumedUtilisation);
  const isFeasible = verdictOf(memory.totalBytes, machine.memoryBytes) === "fits" && expectedMs < longestCalibrationMs;
  if (steps === 0 || !isFeasible || machine.utilisation !== undefined) return estimate(product, assumed);
  note(context, say(context, messages.calibrating, { steps }));
  const { calibrateStep } = await import("../../train/calibrate.ts");
  const targets = Math.ceil((rows * (columns - config.promptLength)) / 2);
  const { trainingFlops } = await import("../../model/flops.ts");
  const ms = await calibrateStep(runtime, config, { rows, columns, recompute, steps, targets }, () =>
    performance.now(),
  );
  return {
    tokensPerSecond: (1000 * rows * columns) / ms,
    source: "measured",
    productFlopsPerSecond: product,
    utilisation: (1000 * trainingFlops(config, { rows, columns, headPositions: targets })) / ms / product,
  };
}

/** How many checkpoints the rule leaves on the disk at the end. */
function keptCheckpoints({ retention, every }: Pick<Options, "retention" | "every">, steps: number): number {
  const rule: z.output<typeof retentionSchema> = retention;
  if (every.checkpoint === 0) return 1;
  const written = Math.max(1, Math.ceil(steps / every.checkpoint));
  const regular = rule.every > 0 ? Math.floor(steps / rule.every) : 0;
  return Math.min(written, rule.last + regular + Number(rule.best));
}

interface Remedy {
  readonly change: "recompute" | "rows";
  readonly rows: number;
  readonly bytes: number;
}

async function remediesOf(
  config: import("../../model/config.ts").ModelConfig,
  options: Options,
  packed: boolean,
): Promise<Remedy[]> {
  const withChange = async (change: Partial<PlannedRecipe>) =>
    shardedPlan(await planRecipe(config, { ...options, ...change }, packed), options).totalBytes;
  const remedies: Remedy[] = [];
  const { rows } = options;
  if (options.recompute === "none") {
    remedies.push({ change: "recompute", rows, bytes: await withChange({ recompute: "block" }) });
  }
  const half = Math.floor(rows / 2);
  if (half > 0) remedies.push({ change: "rows", rows: half, bytes: await withChange({ rows: half }) });
  return remedies;
}

interface Shown {
  readonly memory: MemoryPlan;
  readonly availableBytes: number;
  readonly verdict: "fits" | "tight" | "tooLarge";
  readonly remedies: readonly Remedy[];
  readonly tokens: number;
  readonly steps: number;
  readonly epochs: number | undefined;
  readonly rate: Rate;
  readonly run: RunPlan;
  readonly machine: Machine;
  readonly kept: number;
  readonly diskBytes: number;
}

function render(shown: Shown, options: Options, context: CommandContext): string {
  const { memory, availableBytes, verdict, remedies, run, machine } = shown;
  const label = (part: keyof MemoryParts): string => {
    if (part === "activations") return say(context, messages.activations, { policy: options.recompute });
    if (part === "workspace") return say(context, messages.workspace, { program: memory.largestProgram.name });
    return say(context, messages[part]);
  };
  const parts = (Object.entries(memory.bytes) as [keyof MemoryParts, number][]).filter(([, bytes]) => bytes > 0);
  const table = renderTable(
    [
      { title: say(context, messages.part) },
      { title: say(context, messages.bytes), align: "end" },
      { title: say(context, messages.share), align: "end" },
    ],
    [
      ...parts.map(([part, bytes]) => [label(part), formatBytes(bytes), formatPercent(bytes / memory.totalBytes)]),
      [say(context, messages.total), formatBytes(memory.totalBytes)],
    ],
  );
  const lines = [table, say(context, messages[verdict], { available: formatBytes(availableBytes) })];
  for (const { change, rows, bytes } of remedies) {
    lines.push(
      change === "recompute"
        ? say(context, messages.withBlock, { bytes: formatBytes(bytes) })
        : say(context, messages.withHalfRows, { rows: formatInteger(rows), bytes: formatBytes(bytes) }),
    );
  }
  const facts: [string, string][] = [
    [say(context, messages.parameters), formatInteger(memory.parameters)],
    [
      say(context, messages.tokensRow),
      say(context, messages.tokensValue, {
        tokens: formatInteger(Math.round(shown.tokens)),
        steps: formatInteger(shown.steps),
        step: formatInteger(options.rows * options.length * options.accumulate * options.devices),
      }),
    ],
    ...(shown.epochs === undefined
      ? []
      : [[say(context, messages.epochsRow), formatNumber(shown.epochs)] as [string, string]]),
    [say(context, messages.machineRow), options.devices === 1 ? machine.name : `${options.devices} × ${machine.name}`],
    [
      say(context, messages.rateRow),
      say(context, messages.rateValue, {
        rate: formatNumber(run.tokensPerSecond),
        source: rateSource(shown, options, context),
      }),
    ],
    [
      say(context, messages.hoursRow),
      say(context, messages.hoursValue, {
        time: formatDuration(run.hours * 3_600_000),
        deviceHours: formatNumber(run.deviceHours),
      }),
    ],
    ...(run.cost === undefined
      ? []
      : [[say(context, messages.costRow), `${formatNumber(run.cost)} ${machine.currency}`] as [string, string]]),
    [
      say(context, messages.energyRow),
      say(context, messages.energyValue, {
        kwh: formatNumber(run.kwh),
        watts: formatNumber(machine.watts),
        pue: formatNumber(options.pue),
      }),
    ],
    [
      say(context, messages.carbonRow),
      say(context, messages.carbonValue, { kg: formatNumber(run.kgCo2e), grid: formatNumber(options.grid) }),
    ],
    [
      say(context, messages.diskRow),
      say(context, messages.diskValue, { bytes: formatBytes(shown.diskBytes), kept: formatInteger(shown.kept) }),
    ],
    [say(context, messages.sourceRow), machine.source],
  ];
  const indent = (text: string) => text.replaceAll(/^(?=.)/gm, "  ");
  return [
    `${say(context, messages.partsTitle)}\n${indent(lines.join("\n"))}`,
    `${say(context, messages.runTitle)}\n${renderFacts(facts, "  ")}`,
  ].join("\n\n");
}

function rateSource({ rate }: Shown, options: Options, context: CommandContext): string {
  if (rate.source === "given") return say(context, messages.given);
  const mfu = formatPercent(rate.utilisation!);
  if (rate.source === "measured") return say(context, messages.measured, { steps: options.calibrationSteps, mfu });
  return say(context, messages.estimated, { gflops: formatNumber(rate.productFlopsPerSecond! / 1e9), mfu });
}
