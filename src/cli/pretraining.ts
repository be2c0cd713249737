/**
 * A recorded run for `cpm train`: options into a trainer, a data source and a run's folder, and what happens into events.
 * The recipe is kept in the run's folder, so going on needs the folder alone.
 */
import { mkdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { z } from "zod";
import { mixtureSchema } from "../data/mixture-file.ts";
import { packingSchema } from "../data/packing.ts";
import { alertSchema } from "../live/alerts.ts";
import { ledgerChoicesSchema, machineAssumptions } from "../live/ledger-assumptions.ts";
import type { RunDescription, RunWriter } from "../live/run-folder.ts";
import type { ModelConfig } from "../model/config.ts";
import { retentionSchema } from "../train/checkpoint.ts";
import { guardSchema } from "../train/guard.ts";
import { checkMemory } from "../train/memory-plan.ts";
import type { Intervention, PretrainHooks } from "../train/pretrain.ts";
import { rampSchema } from "../train/ramp.ts";
import { ConfigError } from "../util/error.ts";
import type { CommandContext } from "./context.ts";
import { note, print, say } from "./context.ts";
import { freeMemoryBytes, inspectMachine } from "./machine.ts";
import { planMessages } from "./messages/plan.ts";
import { pretrainMessages as messages } from "./messages/pretrain.ts";
import { completePlan, estimatedRate, planRecipe } from "./planning.ts";
import { startProgress } from "./progress.ts";
import { formatBytes, formatDuration, formatInteger, formatNumber } from "./quantity.ts";
import { createSmoothing, trainingFields } from "./training.ts";

/** Continued during training where the recipe has no beginnings. */
const defaultPrompts = ["春天", "从前有", "今天"];

const size = z.int().min(1).optional();

/** What a recorded run takes beside the fields of every training; recipes only, but for where data and run are. */
export const pretrainFields = {
  data: z.array(z.string()).default([]).describe(messages.data.en).meta({ zh: messages.data.zh, placeholder: "DIR" }),
  run: z.string().min(1).optional().describe(messages.run.en).meta({ zh: messages.run.zh, placeholder: "DIR" }),
  resume: z
    .string()
    .min(1)
    .optional()
    .describe(messages.resume.en)
    .meta({ zh: messages.resume.zh, placeholder: "DIR" }),
  name: z.string().max(512).optional().describe(messages.name.en).meta({ zh: messages.name.zh, flag: false }),
  mixture: mixtureSchema.optional().describe(messages.mixture.en).meta({ zh: messages.mixture.zh }),
  model: z
    .strictObject({
      layers: size,
      dimModel: size,
      dimFf: size,
      heads: size,
      dimHead: size,
      promptLength: size,
      promptTypes: size,
      segmentTypes: size,
      positionBuckets: size,
      positionMaxDistance: size,
    })
    .prefault({})
    .describe(messages.model.en)
    .meta({ zh: messages.model.zh }),
  mixtureFile: z
    .string()
    .min(1)
    .optional()
    .describe(messages.mixtureFile.en)
    .meta({ zh: messages.mixtureFile.zh, placeholder: "FILE" }),
  packing: packingSchema
    .default({ kind: "bestFit", compat: false })
    .describe(messages.packing.en)
    .meta({ zh: messages.packing.zh }),
  wholeShare: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe(messages.wholeShare.en)
    .meta({ zh: messages.wholeShare.zh, flag: false }),
  ramp: rampSchema.describe(messages.ramp.en).meta({ zh: messages.ramp.zh, flag: false }),
  every: z
    .strictObject({
      validation: z.int().min(0).default(500),
      samples: z.int().min(0).default(1000),
      parameters: z.int().min(0).default(500),
      checkpoint: z.int().min(0).default(500),
    })
    .prefault({})
    .describe(messages.every.en)
    .meta({ zh: messages.every.zh }),
  retention: retentionSchema.prefault({}).describe(messages.retention.en).meta({ zh: messages.retention.zh }),
  guard: guardSchema.prefault({}).describe(messages.guard.en).meta({ zh: messages.guard.zh }),
  samplePrompts: z
    .array(z.string())
    .default([])
    .describe(messages.samplePrompts.en)
    .meta({ zh: messages.samplePrompts.zh, flag: false }),
  sampleTokens: z
    .int()
    .min(1)
    .max(1024)
    .default(48)
    .describe(messages.sampleTokens.en)
    .meta({ zh: messages.sampleTokens.zh, flag: false }),
  log: z
    .strictObject({ recorder: z.string().max(200).default("cpm-live"), dayEnds: z.string().default("16:00+08:00") })
    .prefault({})
    .describe(messages.log.en)
    .meta({ zh: messages.log.zh }),
  alerts: z
    .array(alertSchema)
    .max(16)
    .default([])
    .describe(messages.alerts.en)
    .meta({ zh: messages.alerts.zh, flag: false }),
  ledger: ledgerChoicesSchema.optional().describe(messages.ledger.en).meta({ zh: messages.ledger.zh }),
} as const;

const recipeSchema = z.object({ ...trainingFields, for: z.number().optional(), ...pretrainFields });
type Recipe = z.output<typeof recipeSchema>;

/** Starts a recorded run. `options` are those of the command. */
export async function startRun(
  options: Omit<Recipe, "for"> & { for?: number | undefined },
  context: CommandContext,
): Promise<void> {
  const { run } = options;
  if (run === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), { where: "run" });
  const recipe: Recipe = {
    ...options,
    data: options.data.map((path) => resolve(path)),
    ...(options.mixtureFile !== undefined && { mixtureFile: resolve(options.mixtureFile) }),
    ...(options.mixture && {
      mixture: { sources: options.mixture.sources.map((source) => ({ ...source, data: resolve(source.data) })) },
    }),
  };
  await train(run, recipe, false, context);
}

/** Goes on with a run by the recipe in its folder. */
export async function resumeRun(folder: string, context: CommandContext): Promise<void> {
  const { readRun } = await import("../live/run-folder.ts");
  const recipe = recipeSchema.safeParse(readRun(folder).recipe);
  if (!recipe.success) {
    const [issue] = recipe.error.issues;
    throw new ConfigError("CPM_RUN_RECIPE", "The recipe in the run's folder is not as it must be", {
      where: `${folder}: recipe.${issue?.path.join(".")}`,
      got: issue?.message,
    });
  }
  await train(folder, recipe.data, true, context);
}

async function train(folder: string, recipe: Recipe, resume: boolean, context: CommandContext): Promise<void> {
  const [
    { openMixture, readMixtureSources },
    { parseSchedule, pretrain },
    { preset, parameterCount, configToJson },
    { createNativeRuntime },
    live,
  ] = await Promise.all([
    import("../data/index.ts"),
    import("../train/index.ts"),
    import("../model/index.ts"),
    import("../runtime/index.ts"),
    import("../live/run-folder.ts"),
  ]);
  const schedule = parseSchedule(recipe.schedule);
  const base = preset(recipe.preset);
  const sizes = Object.fromEntries(Object.entries(recipe.model).filter(([, value]) => value !== undefined));
  const partial: ModelConfig = { ...base, ...sizes, half: false, dropout: recipe.dropout };
  const mixture = recipe.mixtureFile ?? recipe.mixture ?? { sources: recipe.data.map((data) => ({ data })) };
  if (typeof mixture !== "string" && mixture.sources.length === 0)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), { where: "data" });
  const source = await openMixture(mixture, {
    seed: recipe.seed,
    promptLength: partial.promptLength,
    fillShare: recipe.fillShare,
    heldOutShare: recipe.heldOutShare,
    wholeShare: recipe.wholeShare,
    packing: recipe.packing,
  });
  const config: ModelConfig = { ...partial, vocabSize: source.vocabSize };
  const vocabularyText = await source.vocabularyText();
  using runtime = createNativeRuntime({
    spin: false,
    ...(recipe.threads === undefined ? {} : { threads: recipe.threads }),
  });
  const plan = await planRecipe(config, recipe, source.packed);
  const availableBytes = freeMemoryBytes();
  if (checkMemory(plan, availableBytes) === "tight") {
    const shown = { total: formatBytes(plan.totalBytes), available: formatBytes(availableBytes) };
    note(context, say(context, planMessages.warnTight, shown));
  }
  const { multiplyMatrices } = await import("../train/product-rate.ts");
  const product = await multiplyMatrices(runtime);
  const machine = inspectMachine();
  const ledger = machineAssumptions(
    { cpu: machine.cpuModel ?? machine.arch, cores: machine.usableProcessors },
    recipe.ledger,
  );
  const createdMs = context.now();
  const description: RunDescription = {
    format: 1,
    id: live.newRunId(createdMs),
    name: recipe.name ?? live.runName(folder),
    createdAt: new Date(createdMs).toISOString(),
    status: "running",
    recipe: JSON.parse(JSON.stringify(recipe)),
    model: { preset: recipe.preset, config: configToJson(config), parameters: parameterCount(config) },
    data: { sources: source.sources.map((each) => ({ ...each })) },
    target: { steps: recipe.steps, ...(recipe.for !== undefined && { ms: recipe.for }) },
    machine: {
      cpu: machine.cpuModel ?? machine.arch,
      cores: machine.usableProcessors,
      memoryBytes: machine.memoryBytes,
      threads: runtime.info.threads,
    },
    versions: { node: process.versions.node, onnxruntime: runtime.info.version },
    ledger,
    plan: {
      ...completePlan({
        recipe,
        memory: plan,
        availableBytes,
        sources: (await readMixtureSources(source.mixture)).sources,
        rate: estimatedRate(recipe, plan, product.gflops * 1e9),
        assumptions: ledger,
      }),
    },
    productFlopsPerSecond: product.gflops * 1e9,
  };
  const record = resume
    ? await live.reopenRun(folder, context.now)
    : await live.createRun(folder, description, context.now);
  const logged = await logging(record, recipe, context);
  const writer = recipe.alerts.length === 0 ? logged : await alerting(logged, recipe.alerts, context);
  if (resume) await writer.update({ status: "running" });
  const attempt = resume ? await attemptsOf(folder) : 1;
  note(
    context,
    say(context, messages.started, {
      run: folder,
      parameters: formatInteger(description.model.parameters),
      tokens: formatInteger(source.sources.reduce((sum, { tokens }) => sum + tokens, 0)),
      rows: formatInteger(recipe.rows),
      length: formatInteger(recipe.length),
    }),
  );
  const flopsPerSecond = writer.description.productFlopsPerSecond ?? product.gflops * 1e9;
  const { hooks, finish, position } = recorder(
    { writer, recipe, config, vocabularyText, runtime, attempt, flopsPerSecond },
    context,
  );
  try {
    const result = await pretrain(
      { runtime, config, source, vocabularyText, checkpoints: join(folder, live.checkpointsFolder), resume },
      {
        geometry: { rows: recipe.rows, columns: recipe.length },
        ramp: recipe.ramp,
        recompute: recipe.recompute,
        schedule,
        optimizer: recipe.optimizer,
        accumulate: recipe.accumulate,
        zLoss: recipe.zLoss,
        compute: recipe.compute,
        lossScale: recipe.lossScale,
        guard: recipe.guard,
        seed: recipe.seed,
        steps: recipe.steps,
        maxMs: recipe.for ?? Number.POSITIVE_INFINITY,
        every: recipe.every,
        validationPieces: recipe.evaluatePieces,
        retention: recipe.retention,
      },
      hooks,
    );
    finish();
    writer.append({ type: "end", step: result.step, tokens: result.tokens, reason: result.reason }, true);
    await writer.update({ status: result.reason === "cancelled" ? "stopped" : "ended" });
    note(
      context,
      say(context, messages.ended, {
        reason: result.reason,
        step: formatInteger(result.step),
        tokens: formatInteger(result.tokens),
      }),
    );
    if (context.json) print(context, JSON.stringify({ event: "end", run: folder, ...result }));
  } catch (error) {
    finish();
    const message = error instanceof Error ? error.message : String(error);
    writer.append({ type: "end", ...position(), reason: "failed", error: message.slice(0, 2000) }, true);
    await writer.update({ status: "failed" });
    throw error;
  } finally {
    await writer.close();
    source.dispose();
  }
}

/** The record's writer with daily logs beside it. */
async function logging(record: RunWriter, { log, steps }: Recipe, context: CommandContext): Promise<RunWriter> {
  const [{ createDailyLog, withDailyLogs }, { parseDayRule }, { readEvents }] = await Promise.all([
    import("../live/daily-log.ts"),
    import("../live/day.ts"),
    import("../live/run-folder.ts"),
  ]);
  const rule = parseDayRule(log.dayEnds);
  const daily = createDailyLog({ rule, targetSteps: steps });
  for await (const { event } of readEvents(record.folder)) daily.add(event);
  const heading = { name: record.description.name, recorder: log.recorder, rule };
  return withDailyLogs(record, daily, heading, {
    now: context.now,
    onFailure: (error) =>
      note(
        context,
        say(context, messages.logFailed, { reason: error instanceof Error ? error.message : String(error) }),
      ),
  });
}

/** The record's writer with alerts beside it. */
async function alerting(record: RunWriter, alerts: Recipe["alerts"], context: CommandContext): Promise<RunWriter> {
  const { createAlerter, resolveHeaders, withAlerts } = await import("../live/alerts.ts");
  const { id, name } = record.description;
  const alerter = createAlerter({
    run: { id, name },
    alerts: resolveHeaders(alerts, context.env),
    now: context.now,
    onFailure: (reason) => note(context, say(context, messages.alertFailed, { reason })),
  });
  return withAlerts(record, alerter, context.now);
}

/** How often the run was started, this time included. */
async function attemptsOf(folder: string): Promise<number> {
  const { readEvents } = await import("../live/run-folder.ts");
  let attempts = 1;
  for await (const { event } of readEvents(folder)) if (event.type === "start") attempts++;
  return attempts;
}

interface Recording {
  readonly writer: RunWriter;
  readonly recipe: Recipe;
  readonly config: ModelConfig;
  readonly vocabularyText: string;
  readonly runtime: import("../runtime/runtime.ts").Runtime;
  readonly attempt: number;
  readonly flopsPerSecond: number;
}

/** Hooks that write events and show progress. */
function recorder(
  { writer, recipe, config, vocabularyText, runtime, attempt, flopsPerSecond }: Recording,
  context: CommandContext,
): { hooks: PretrainHooks; finish(): void; position(): { step: number; tokens: number } } {
  const progress = startProgress(context);
  const smoothed = createSmoothing();
  let position = { step: 0, tokens: 0 };
  /** Where this attempt began, and its time in training. */
  let begun = 0;
  let attemptMs = 0;
  const inRun = (path: string) => relative(resolve(writer.folder), resolve(path));
  const hooks: PretrainHooks = {
    now: context.now,
    signal: context.signal,
    onStart: ({ step, tokens, resumedFrom }) => {
      begun = step;
      writer.append(
        { type: "start", step, tokens, attempt, ...(resumedFrom && { resumedFrom: inRun(resumedFrom) }) },
        true,
      );
      if (resumedFrom)
        progress.note(say(context, messages.resumed, { step: formatInteger(step), path: inRun(resumedFrom) }));
    },
    onStep: ({ geometry, flops, ...report }) => {
      position = { step: report.step, tokens: report.tokens };
      const mfu = (1000 * flops) / Math.max(1e-9, report.ms) / flopsPerSecond;
      const { rows, columns } = geometry;
      const memoryBytes = process.memoryUsage.rss();
      // What is no number is told by the intervention; JSON has no word for it.
      const { gradientNorm, sources, ...rest } = report;
      const norm = Number.isFinite(gradientNorm) && { gradientNorm };
      const ofSources = { sources: { ...sources } };
      if (Number.isFinite(report.loss)) {
        writer.append({ type: "step", ...rest, ...norm, rows, columns, mfu, memoryBytes, ...ofSources });
      }
      attemptMs += report.ms;
      const byTime = recipe.for === undefined ? 0 : attemptMs / recipe.for;
      progress.update({
        done: Math.max(report.step / recipe.steps, byTime),
        begun: begun / recipe.steps,
        step: report.step,
        steps: recipe.steps,
        loss: smoothed(report.loss),
        tokensPerSecond: report.tokensPerSecond,
        extra: [
          `lr ${report.learningRate.toExponential(1)}`,
          `|g| ${report.gradientNorm.toPrecision(2)}`,
          `MFU ${(100 * mfu).toFixed(0)}%`,
          formatBytes(memoryBytes),
        ],
      });
      if (context.json) print(context, JSON.stringify({ event: "step", ...report, mfu }));
    },
    onData: (step, change) => writer.append({ type: "data", step, ...change }),
    onValidation: (validation) => {
      writer.append({ type: "validation", ...validation });
      progress.note(
        say(context, messages.validation, {
          step: formatInteger(validation.step),
          nats: formatNumber(validation.nats),
          bits: formatNumber(validation.bitsPerCharacter),
        }),
      );
      if (context.json) print(context, JSON.stringify({ event: "validation", ...validation }));
    },
    onSamples: async (step, parameters) => {
      const { createTextGenerator } = await import("../infer/index.ts");
      const { createAntTokenizer, parseVocabulary } = await import("../tokenizer/index.ts");
      const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabularyText)));
      const model = { config, tokenizer, parameters: parameters.tensors };
      const generator = createTextGenerator(runtime, model, { weights: "shared" });
      try {
        const samples: { prompt: string; text: string }[] = [];
        const options = { maxTokens: recipe.sampleTokens, seed: recipe.seed };
        const prompts = recipe.samplePrompts.length > 0 ? recipe.samplePrompts : defaultPrompts;
        for (const prompt of prompts) {
          const events = generator.stream([prompt], options);
          let next = await events.next();
          while (next.done !== true) next = await events.next();
          samples.push({ prompt, text: next.value.texts[0]!.text });
        }
        writer.append({ type: "sample", step, samples });
        if (context.json) print(context, JSON.stringify({ event: "sample", step, samples }));
      } finally {
        generator.dispose();
      }
    },
    onParameters: (step, parameters) => {
      writer.append({
        type: "parameters",
        step,
        parameters: parameters.map((each) => ({ ...each, shape: [...each.shape] })),
      });
    },
    onCheckpoint: ({ pauseMs: _, ...report }) => {
      const { path, removed, ...rest } = report;
      writer.append({ type: "checkpoint", ...rest, path: inRun(path), removed: removed.map(inRun) }, true);
      progress.note(
        say(context, messages.checkpoint, {
          step: formatInteger(report.step),
          bytes: formatBytes(report.bytes),
          time: formatDuration(report.ms),
        }),
      );
    },
    onCheckpointTrouble: (error, path) => {
      const reason = error instanceof Error ? error.message : String(error);
      writer.append({ type: "intervention", step: position.step, action: "warn", reason: reason.slice(0, 2000) }, true);
      progress.note(say(context, messages.trouble, { path: `${path}\n${reason}` }));
    },
    onIntervention: async (intervention) => {
      const dump = await dumpSamples(writer.folder, intervention, vocabularyText);
      const { step, action, reason, details } = intervention;
      writer.append({ type: "intervention", step, action, reason, dump: inRun(dump), details: { ...details } }, true);
      progress.note(say(context, messages.intervention, { step: formatInteger(step), action, reason }));
      if (context.json) print(context, JSON.stringify({ event: "intervention", step, action, reason, details }));
    },
  };
  return { hooks, finish: () => progress.finish(), position: () => position };
}

/** Writes aside what was trained on when something went wrong: origins, ids and text of every sample. */
async function dumpSamples(
  folder: string,
  { step, action, reason, batches }: Intervention,
  vocabularyText: string,
): Promise<string> {
  const { createAntTokenizer, parseVocabulary } = await import("../tokenizer/index.ts");
  const { writeFileAtomic } = await import("../util/atomic-file.ts");
  const tokenizer = createAntTokenizer(parseVocabulary(new TextEncoder().encode(vocabularyText)));
  const samples = batches.flatMap(({ batch: { input, columns, prompt }, samples }) =>
    samples.map((sample) => {
      const from = sample.row * columns + sample.start;
      const ids = [...input.subarray(from, from + sample.length)].filter((_, i) => !prompt || prompt[from + i] === 0);
      return { ...sample, ids, text: tokenizer.decode(ids) };
    }),
  );
  await mkdir(join(folder, "samples"), { recursive: true });
  const path = join(folder, "samples", `step-${String(step).padStart(8, "0")}-${action}.json`);
  await writeFileAtomic(path, `${JSON.stringify({ step, action, reason, samples }, undefined, 1)}\n`);
  return path;
}
