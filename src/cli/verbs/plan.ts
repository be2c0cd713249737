/** `cpm plan`: what a training will take, before it runs. */
import { z } from "zod";
import { inBoth, type Text } from "../../live/bilingual.ts";
import { type Arithmetic, arithmetics, type Device, type DeviceName, deviceTable } from "../../live/device-table.ts";
import { type LedgerAssumptions, type LedgerChoices, ledgerChoicesSchema } from "../../live/ledger-assumptions.ts";
import type { PlannedRate, RunPlan } from "../../live/run-plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { MemoryParts, MemoryPlan } from "../../train/memory-plan.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { showInferencePlan } from "../inference-planning.ts";
import { ledgerFields } from "../ledger-fields.ts";
import { memoryLines } from "../memory-table.ts";
import { inferPlanMessages as inferMessages, planMessages as messages } from "../messages/plan.ts";
import { kvCacheField } from "../model-options.ts";
import {
  assumedUtilisation,
  completePlan,
  estimatedRate,
  type PlannedRecipe,
  planRecipe,
  verdictOf,
} from "../planning.ts";
import { bytesSchema, formatBytes, formatDuration, formatInteger, formatNumber, formatPercent } from "../quantity.ts";
import { pretrainFields } from "../run-recipe.ts";
import { renderFacts, renderTable } from "../table.ts";
import { trainingFields } from "../training.ts";
import { tuneFields } from "../tune-recipe.ts";
import { baseInPrecision, baseOnDisk, planTuning } from "../tuning-plan.ts";

/** A calibration that would take longer is not done. */
const longestCalibrationMs = 120_000;

const { resume: _resume, from: _from, run: _run, ...recipeFields } = pretrainFields;
const positive = z.number().positive();

const machineNames = ["this", ...(Object.keys(deviceTable) as DeviceName[])] as const;

const schema = z.object({
  infer: z.boolean().default(false).describe(inferMessages.infer.en).meta({ zh: inferMessages.infer.zh }),
  checkpoint: z
    .string()
    .optional()
    .describe(inferMessages.checkpoint.en)
    .meta({ zh: inferMessages.checkpoint.zh, placeholder: "PATH" }),
  texts: z.int().min(1).default(1).describe(inferMessages.texts.en).meta({ zh: inferMessages.texts.zh }),
  capacity: z.int().min(1).default(512).describe(inferMessages.capacity.en).meta({ zh: inferMessages.capacity.zh }),
  kvCache: kvCacheField,
  method: tuneFields.method.describe(messages.tuneMethod.en).meta({ zh: messages.tuneMethod.zh }),
  places: tuneFields.places,
  delta: tuneFields.delta,
  base: z
    .enum(["float32", "int8", "int4"])
    .default("float32")
    .describe(messages.tuneBase.en)
    .meta({ zh: messages.tuneBase.zh }),
  group: z
    .enum(["32", "64", "128", "channel"])
    .default("128")
    .describe(messages.tuneGroup.en)
    .meta({ zh: messages.tuneGroup.zh }),
  diskRate: bytesSchema().default(8e8).describe(inferMessages.diskRate.en).meta({ zh: inferMessages.diskRate.zh }),
  ...trainingFields,
  ...recipeFields,
  tokens: positive.optional().describe(messages.tokens.en).meta({ zh: messages.tokens.zh }),
  epochs: positive.optional().describe(messages.epochs.en).meta({ zh: messages.epochs.zh }),
  machine: z.enum(machineNames).default("this").describe(messages.machine.en).meta({ zh: messages.machine.zh }),
  arithmetic: z
    .enum(["fastest", ...arithmetics])
    .default("fastest")
    .describe(messages.arithmetic.en)
    .meta({ zh: messages.arithmetic.zh }),
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
  ...ledgerFields,
});
type Options = z.output<typeof schema>;

/** What a plan needs of a machine, with all that was given in its place. */
interface PlannedMachine {
  readonly memoryBytes: number;
  /** Of products; undefined: to be measured. */
  readonly flopsPerSecond: number | undefined;
  readonly arithmetic?: Arithmetic;
  readonly utilisation: number | undefined;
  readonly utilisationSource?: Text | undefined;
  readonly assumptions: LedgerAssumptions;
}

export default defineCommand({
  name: "plan",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "plan --infer --preset 10b --memory 6GB", ...inferMessages.example },
    {
      line: "plan --method lora --preset 10b --base int4 --rows 1 --length 512 --set recompute=block",
      ...messages.exampleTune,
    },
    { line: "plan -c recipes/pretrain-15m.yaml --data data/zh", ...messages.example },
    {
      line: "plan --preset 10b --rows 64 --length 1024 --tokens 2e11 --machine a100-40 --devices 32 --sharded --price a100-cn-2022 --set recompute=block",
      ...messages.exampleOriginal,
    },
  ],
  schema,
  async run(options, context) {
    const { preset } = await import("../../model/index.ts");
    const sizes = Object.fromEntries(Object.entries(options.model).filter(([, value]) => value !== undefined));
    const { sources, vocabSize } = await readSources(options);
    const base = { ...preset(options.preset), ...sizes, half: false, dropout: options.dropout };
    const config = { ...base, ...(vocabSize !== undefined && { vocabSize }) };
    if (options.infer) {
      await showInferencePlan(config, options, context);
      return;
    }
    if (options.method.length > 0 || options.delta.length > 0) {
      await showTuningPlan(config, options, context);
      return;
    }
    const packed = options.packing.kind !== "none";
    const machine = await machineOf(options, context);
    const memory = shardedPlan(await planRecipe(config, options, packed), options);
    const ofAll = sources.reduce((sum, { tokens }) => sum + tokens, 0);
    if (options.epochs !== undefined && ofAll === 0)
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.epochsNeedData), { where: "epochs" });
    const plan = completePlan({
      recipe: options,
      memory,
      availableBytes: machine.memoryBytes,
      sources,
      rate: await rateOf(options, machine, memory, config, context),
      assumptions: machine.assumptions,
      tokens: options.tokens ?? (options.epochs === undefined ? undefined : options.epochs * ofAll),
      efficiency: options.efficiency,
    });
    const remedies = plan.verdict === "fits" ? [] : await remediesOf(config, options, packed);
    if (context.json) printJson(context, { ...plan, remedies });
    else print(context, render(plan, remedies, machine, options, context));
  },
});

/** Memory and arithmetic of tuning a delta, on a base of a precision or one that is there. */
async function showTuningPlan(preset: ModelConfig, options: Options, context: CommandContext): Promise<void> {
  const [{ attachDelta, trainableTree }, { deltaSpecs }] = await Promise.all([
    import("../../delta/index.ts"),
    import("../tuning.ts"),
  ]);
  const group = options.group === "channel" ? options.group : Number(options.group);
  const found = options.checkpoint === undefined ? undefined : await baseOnDisk(options.checkpoint);
  const config = { ...(found?.config ?? preset), dropout: options.dropout };
  const base = found?.base ?? (await baseInPrecision(config, { precision: options.base, group }));
  const delta = attachDelta(config, deltaSpecs(options));
  const { rows, length: columns } = options;
  // Half of a row is answer: a recipe of cpm tune knows its task, and cpm tune --dry-run goes by that.
  const targets = Math.ceil((rows * (columns - delta.grafts.config.promptLength)) / 2);
  const memory = await planTuning(delta, base, options, { columns, targets, packed: true });
  const { trained, share } = trainableTree(delta);
  const availableBytes = (await machineOf(options, context)).memoryBytes;
  const verdict = verdictOf(memory.totalBytes, availableBytes);
  if (context.json) {
    printJson(context, { trained, share, memory, availableBytes, verdict });
    return;
  }
  const title = say(context, messages.tuneTitle, {
    trained: formatInteger(trained),
    share: formatPercent(share),
    rows: formatInteger(rows),
    columns: formatInteger(columns),
  });
  print(context, [title, ...memoryLines(memory, availableBytes, options.recompute, context)].join("\n"));
}

/** What a recipe's mixture, its file or the data sets alone have; none: not known. */
async function readSources({ mixture, mixtureFile, data }: Options) {
  const { readMixtureSources } = await import("../../data/mixture-plan.ts");
  const given = mixtureFile ?? mixture ?? { sources: data.map((folder) => ({ data: folder })) };
  if (typeof given !== "string" && given.sources.length === 0) return { sources: [], vocabSize: undefined };
  return readMixtureSources(given);
}

async function machineOf(options: Options, context: CommandContext): Promise<PlannedMachine> {
  const { deviceAssumptions, machineAssumptions } = await import("../../live/ledger-assumptions.ts");
  const count = options.devices;
  const chosen = choicesOf(options);
  const given = {
    ...(options.memory !== undefined && { memoryBytes: options.memory }),
    ...(options.utilisation !== undefined && { utilisation: options.utilisation, utilisationSource: undefined }),
    ...(options.gflops !== undefined && { flopsPerSecond: options.gflops * 1e9 }),
  };
  if (options.machine !== "this") {
    const device: Device = deviceTable[options.machine];
    const { fastestArithmetic } = await import("../../live/device-table.ts");
    const arithmetic = options.arithmetic === "fastest" ? fastestArithmetic(device) : options.arithmetic;
    const flopsPerSecond = device.peak[arithmetic];
    if (flopsPerSecond === undefined)
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.noArithmetic), {
        where: "arithmetic",
        got: arithmetic,
        expected: Object.keys(device.peak).join(", "),
      });
    const { memoryBytes, utilisation, utilisationSource } = device;
    const assumptions = deviceAssumptions(device, { count }, chosen);
    return { memoryBytes, flopsPerSecond, arithmetic, utilisation, utilisationSource, assumptions, ...given };
  }
  const { inspectMachine } = await import("../machine.ts");
  const { cpuModel, arch, usableProcessors, freeMemoryBytes } = inspectMachine();
  const own = machineAssumptions({ cpu: cpuModel ?? arch, cores: usableProcessors }, chosen);
  const assumptions = { ...own, devices: own.devices.map((device) => ({ ...device, count })) };
  return { memoryBytes: freeMemoryBytes, flopsPerSecond: undefined, utilisation: undefined, assumptions, ...given };
}

/** What the recipe's ledger says, and the options over it. */
function choicesOf(options: Options): LedgerChoices {
  const names = Object.keys(ledgerChoicesSchema.shape) as (keyof LedgerChoices)[];
  const given = names.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]]));
  return { ...options.ledger, ...Object.fromEntries(given) };
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
  machine: PlannedMachine,
  memory: MemoryPlan,
  config: ModelConfig,
  context: CommandContext,
): Promise<PlannedRate> {
  const { tokensPerSecond: given } = options;
  if (given !== undefined) return { tokensPerSecond: given, source: "given" };
  const { utilisation } = machine;
  if (machine.flopsPerSecond !== undefined) return estimatedRate(options, memory, machine.flopsPerSecond, utilisation);
  const { createNativeRuntime } = await import("../../runtime/index.ts");
  const { multiplyMatrices } = await import("../../train/product-rate.ts");
  using runtime = createNativeRuntime({
    spin: false,
    ...(options.threads !== undefined && { threads: options.threads }),
  });
  const product = (await multiplyMatrices(runtime)).gflops * 1e9;
  const { calibrationSteps: steps, rows, length: columns, recompute, accumulate } = options;
  const expectedMs = ((steps + 1) * 1000 * memory.flops.executed) / accumulate / (product * assumedUtilisation);
  const isFeasible = verdictOf(memory.totalBytes, machine.memoryBytes) === "fits" && expectedMs < longestCalibrationMs;
  if (steps === 0 || !isFeasible || utilisation !== undefined)
    return estimatedRate(options, memory, product, utilisation);
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

interface Remedy {
  readonly change: "recompute" | "rows";
  readonly rows: number;
  readonly bytes: number;
}

async function remediesOf(config: ModelConfig, options: Options, packed: boolean): Promise<Remedy[]> {
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

function render(
  plan: RunPlan,
  remedies: readonly Remedy[],
  machine: PlannedMachine,
  options: Options,
  context: CommandContext,
): string {
  const indent = (text: string) => text.replaceAll(/^(?=.)/gm, "  ");
  const sections: [string, string][] = [
    [say(context, messages.partsTitle), indent(renderMemory(plan, remedies, options, context))],
    ...(plan.sources.length > 0
      ? [[say(context, messages.dataTitle), indent(renderSources(plan, context))] satisfies [string, string]]
      : []),
    [say(context, messages.runTitle), renderFacts(factsOf(plan, machine, options, context), "  ")],
    [say(context, messages.assumptionsTitle), indent(assumptionLines(plan, machine, context).join("\n"))],
  ];
  return sections.map(([title, body]) => `${title}\n${body}`).join("\n\n");
}

function renderMemory(
  { memory, availableBytes }: RunPlan,
  remedies: readonly Remedy[],
  { recompute }: Options,
  context: CommandContext,
): string {
  const lines = memoryLines(memory, availableBytes, recompute, context);
  for (const { change, rows, bytes } of remedies) {
    lines.push(
      change === "recompute"
        ? say(context, messages.withBlock, { bytes: formatBytes(bytes) })
        : say(context, messages.withHalfRows, { rows: formatInteger(rows), bytes: formatBytes(bytes) }),
    );
  }
  return lines.join("\n");
}

function renderSources({ sources, tokens: all }: RunPlan, context: CommandContext): string {
  const end = "end" as const;
  return renderTable(
    [
      { title: say(context, messages.sourceColumn) },
      { title: say(context, messages.tokensColumn), align: end },
      { title: say(context, messages.readColumn), align: end },
      { title: say(context, messages.share), align: end },
      { title: say(context, messages.epochsRow), align: end },
    ],
    sources.map(({ label, tokens, read, epochs }) => [
      label,
      formatInteger(tokens),
      formatInteger(Math.round(read)),
      formatPercent(all > 0 ? read / all : 0),
      formatNumber(epochs),
    ]),
  );
}

function factsOf(
  plan: RunPlan,
  machine: PlannedMachine,
  options: Options,
  context: CommandContext,
): [string, string][] {
  const { run, assumptions } = plan;
  const [device] = assumptions.devices;
  const fact = (title: Parameters<typeof say>[1], value: string): [string, string] => [say(context, title), value];
  return [
    fact(messages.parameters, formatInteger(plan.memory.parameters)),
    fact(
      messages.tokensRow,
      say(context, messages.tokensValue, {
        tokens: formatInteger(Math.round(plan.tokens)),
        steps: formatInteger(plan.steps),
        step: formatInteger(plan.stepTokens),
      }),
    ),
    fact(messages.machineRow, options.devices === 1 ? device!.name : `${options.devices} × ${device!.name}`),
    fact(
      messages.rateRow,
      say(context, messages.rateValue, {
        rate: formatNumber(run.tokensPerSecond),
        source: rateSource(plan.rate, machine, options, context),
      }),
    ),
    fact(
      messages.hoursRow,
      say(context, messages.hoursValue, {
        time: formatDuration(run.hours * 3_600_000),
        deviceHours: formatNumber(run.deviceHours),
      }),
    ),
    ...(run.cost === undefined ? [] : [fact(messages.costRow, `${formatNumber(run.cost)} ${assumptions.currency}`)]),
    fact(messages.energyRow, `${formatNumber(run.energyKwh)} kWh`),
    ...(run.kgCo2e === undefined ? [] : [fact(messages.carbonRow, `${formatNumber(run.kgCo2e)} kg CO2e`)]),
    fact(
      messages.diskRow,
      say(context, messages.diskValue, {
        bytes: formatBytes(plan.checkpoints.bytes),
        kept: formatInteger(plan.checkpoints.kept),
      }),
    ),
  ];
}

function rateSource(
  { source, utilisation, productFlopsPerSecond }: PlannedRate,
  { arithmetic }: PlannedMachine,
  options: Options,
  context: CommandContext,
): string {
  if (source === "given") return say(context, messages.given);
  const mfu = formatPercent(utilisation!);
  if (source === "measured") return say(context, messages.measured, { steps: options.calibrationSteps, mfu });
  const gflops = formatNumber(productFlopsPerSecond! / 1e9);
  return say(context, messages.estimated, { gflops: arithmetic ? `${arithmetic} ${gflops}` : gflops, mfu });
}

/** Every figure that was not measured, with where it is from. */
function assumptionLines({ assumptions }: RunPlan, machine: PlannedMachine, context: CommandContext): string[] {
  const { devices, pue, pueSource, gridKgCo2ePerKwh, gridSource, currency, pricePerKwh, priceSource } = assumptions;
  const [device] = devices;
  const lines: string[] = [];
  const line = (figure: string, source: Text | undefined) => {
    const from = source === undefined ? "" : inBoth(source)[context.locale];
    lines.push(from === "" ? figure : context.locale === "zh" ? `${figure}（${from}）` : `${figure} (${from})`);
  };
  if (device?.watts !== undefined)
    line(say(context, messages.wattsLine, { watts: formatNumber(device.watts) }), device.wattsSource);
  if (machine.utilisationSource !== undefined)
    line(say(context, messages.mfuLine, { mfu: formatPercent(machine.utilisation!) }), machine.utilisationSource);
  line(`PUE ${pue}`, pueSource);
  if (gridKgCo2ePerKwh !== undefined) line(`${gridKgCo2ePerKwh} kg CO2e/kWh`, gridSource);
  if (device?.pricePerHour !== undefined) line(`${formatNumber(device.pricePerHour)} ${currency}/h`, priceSource);
  if (pricePerKwh !== undefined) line(`${formatNumber(pricePerKwh)} ${currency}/kWh`, priceSource);
  return lines;
}
