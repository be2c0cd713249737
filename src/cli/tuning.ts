/**
 * A recorded tuning run for `cpm tune`: a recipe into a base, a delta, a source of samples and the trainer. The recipe is
 * kept in the run's folder, so going on needs the folder alone.
 */
import { existsSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import type { BatchSource } from "../data/index.ts";
import type { TaskExample } from "../data/tasks/index.ts";
import type { Delta, DeltaUse } from "../delta/index.ts";
import type { OpenedTextModel } from "../infer/index.ts";
import { machineAssumptions } from "../live/ledger-assumptions.ts";
import type { RunDescription } from "../live/run-folder.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Runtime } from "../runtime/index.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import type { Objective, PretrainResult } from "../train/index.ts";
import { ConfigError } from "../util/error.ts";
import { type CommandContext, note, print, say } from "./context.ts";
import { inspectMachine } from "./machine.ts";
import { tuneMessages as messages } from "./messages/tune.ts";
import { requireNewFolder, round } from "./model-output.ts";
import { formatInteger, formatNumber } from "./quantity.ts";
import { measurePower, withLogs, withRecipeAlerts } from "./run-companions.ts";
import { trainerSettings } from "./run-recipe.ts";
import { createRecorder } from "./run-recorder.ts";
import { readTuneRecipe, type TuneRecipe, withAbsolutePaths } from "./tune-recipe.ts";
import { shownShare } from "./tune-tree.ts";

/** The methods that a recipe asks for: its list, else those named by flags, else LoRA. */
export function deltaSpecs({ delta, method, places }: Pick<TuneRecipe, "delta" | "method" | "places">) {
  if (delta.length > 0) return delta.map((spec) => ({ ...spec, method: String(spec.method ?? "") }));
  const named = method.length > 0 ? method : ["lora"];
  return named.map((name) => ({ method: name, ...(places.length > 0 && { places }) }));
}

/** What a run came to. */
export interface TuneOutcome {
  readonly result: PretrainResult;
  readonly trained: number;
  readonly share: number;
  readonly ms: number;
  readonly peakBytes: number;
}

export async function startTuning(
  recipe: TuneRecipe,
  output: string | undefined,
  context: CommandContext,
): Promise<TuneOutcome> {
  if (recipe.run === undefined)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), { where: "run" });
  if (output !== undefined) requireNewFolder(output, context);
  return tune(recipe.run, withAbsolutePaths(recipe), { output, resume: false }, context);
}

export async function resumeTuning(folder: string, output: string | undefined, context: CommandContext): Promise<void> {
  if (output !== undefined) requireNewFolder(output, context);
  await tune(folder, await readTuneRecipe(folder), { output, resume: true }, context);
}

async function tune(
  folder: string,
  recipe: TuneRecipe,
  { output, resume }: { readonly output: string | undefined; readonly resume: boolean },
  context: CommandContext,
): Promise<TuneOutcome> {
  const [
    { parseSchedule, pretrain, tunedDelta },
    { attachDelta, baseHash, parameterReader, trainableTree },
    infer,
    runtimes,
    live,
    model,
  ] = await Promise.all([
    import("../train/index.ts"),
    import("../delta/index.ts"),
    import("../infer/index.ts"),
    import("../runtime/index.ts"),
    import("../live/run-folder.ts"),
    import("../model/index.ts"),
  ]);
  if (recipe.model === undefined)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needModel), { where: "model" });
  const schedule = parseSchedule(recipe.schedule);
  using runtime = runtimes.createNativeRuntime({
    spin: false,
    ...(recipe.threads === undefined ? {} : { threads: recipe.threads }),
  });
  const opened = await infer.openTextModel(runtime, recipe.model);
  try {
    const base: ModelConfig = { ...opened.config, dropout: recipe.dropout };
    const delta = attachDelta(base, deltaSpecs(recipe));
    const tree = trainableTree(delta);
    const read = parameterReader(runtime, base, opened.parameters);
    const baseSha256 = await baseHash(base, read);
    const task =
      recipe.objective === "preference"
        ? await readPairs(recipe, runtime, opened, delta, context)
        : await readTask(recipe, opened.tokenizer, delta, context);
    const createdMs = context.now();
    const machine = inspectMachine();
    const processor = { cpu: machine.cpuModel ?? machine.arch, cores: machine.usableProcessors };
    const product = await import("../train/product-rate.ts").then(({ multiplyMatrices }) => multiplyMatrices(runtime));
    const description: RunDescription = {
      format: 1,
      id: live.newRunId(createdMs),
      name: recipe.name ?? live.runName(folder),
      createdAt: new Date(createdMs).toISOString(),
      status: "running",
      recipe: JSON.parse(JSON.stringify({ ...recipe, resume: undefined })),
      model: { config: model.configToJson(opened.config), parameters: model.parameterCount(base) },
      data: { sources: [{ label: task.name, tokens: task.tokens, weight: 1 }] },
      target: { steps: recipe.steps, ...(recipe.for !== undefined && { ms: recipe.for }) },
      machine: { ...processor, memoryBytes: machine.memoryBytes, threads: runtime.info.threads },
      versions: { node: process.versions.node, onnxruntime: runtime.info.version },
      ledger: machineAssumptions(processor, recipe.ledger),
      productFlopsPerSecond: product.gflops * 1e9,
    };
    const record = resume
      ? await live.reopenRun(folder, context.now)
      : await live.createRun(folder, description, context.now);
    const logged = await withLogs(record, recipe, context);
    const writer = recipe.alerts.length === 0 ? logged : await withRecipeAlerts(logged, recipe.alerts, context);
    if (resume) await writer.update({ status: "running" });
    const shown = { trained: formatInteger(tree.trained), share: shownShare(tree.share) };
    const geometry = { rows: recipe.rows, columns: task.columns };
    note(
      context,
      say(context, messages.started, {
        run: folder,
        ...shown,
        rows: formatInteger(geometry.rows),
        length: formatInteger(geometry.columns),
      }),
    );
    const vocabularyText = await vocabularyOf(opened.vocabularyPath);
    const flopsPerSecond = writer.description.productFlopsPerSecond ?? product.gflops * 1e9;
    const attempt = resume ? await attemptsOf(folder) : 1;
    const { hooks, finish, position } = createRecorder(
      { writer, recipe, config: base, vocabularyText, runtime, attempt, flopsPerSecond },
      context,
    );
    const power = await measurePower(writer, recipe, writer.description.machine.cpu, context);
    const checkpoints = join(folder, live.checkpointsFolder);
    const trainee = await tunedDelta(runtime, {
      delta,
      base: opened.parameters,
      readBase: read,
      baseSha256,
      use: task.use,
      objective: task.objective,
      seed: recipe.seed,
      products: recipe.products,
    });
    const beganMs = context.now();
    try {
      const result = await pretrain(
        { runtime, config: base, trainee, source: task.source, vocabularyText, checkpoints, resume },
        { ...trainerSettings(recipe), geometry, ramp: [], schedule, retention: { ...recipe.retention, best: true } },
        hooks,
      );
      finish();
      const after = await baseHash(base, read);
      if (after !== baseSha256) throw new Error(`internal: the base changed from ${baseSha256} to ${after}`);
      writer.append({ type: "end", step: result.step, tokens: result.tokens, reason: result.reason }, true);
      await writer.update({ status: result.reason === "cancelled" ? "stopped" : "ended" });
      note(context, say(context, messages.baseKept, { hash: baseSha256.slice(0, 16) }));
      tellEnd(result, context);
      if (output !== undefined) await saveBest(checkpoints, output, result, context);
      if (context.json)
        print(context, JSON.stringify({ event: "end", run: folder, baseSha256, trained: tree.trained, ...result }));
      return {
        result,
        trained: tree.trained,
        share: tree.share,
        ms: context.now() - beganMs,
        peakBytes: process.resourceUsage().maxRSS * 1024,
      };
    } catch (error) {
      finish();
      const message = error instanceof Error ? error.message : String(error);
      writer.append({ type: "end", ...position(), reason: "failed", error: message.slice(0, 2000) }, true);
      await writer.update({ status: "failed" });
      throw error;
    } finally {
      power.stop();
      trainee.dispose();
      await writer.close();
    }
  } finally {
    opened.dispose();
  }
}

interface TuningTask {
  readonly name: string;
  readonly source: BatchSource;
  /** Of the training rows, in one pass. */
  readonly tokens: number;
  /** Of a batch's rows. */
  readonly columns: number;
  /** What the delta's folder says about using it. */
  readonly use: DeltaUse;
  readonly objective?: Objective;
}

/** Used where a recipe of preferences does not say otherwise. */
const pairLimits = { lengthTokens: 512, answerTokens: 256 };

/** Pairs as batches, with what the base thinks of them. */
async function readPairs(
  recipe: TuneRecipe,
  runtime: Runtime,
  { config, tokenizer, parameters }: OpenedTextModel,
  { grafts }: Delta,
  context: CommandContext,
): Promise<TuningTask> {
  const [{ createPreferenceBatches, expandPaths, readPreferences }, train] = await Promise.all([
    import("../data/index.ts"),
    import("../train/index.ts"),
  ]);
  if (recipe.train.length === 0)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needData), { where: "train" });
  const promptTask = 2;
  const segment = 2;
  const { lengthTokens = pairLimits.lengthTokens, answerTokens = pairLimits.answerTokens } = recipe;
  const layout = { promptTask, segment, lengthTokens, answerTokens };
  const pairs = async (files: readonly string[], limit: number | undefined) =>
    files.length === 0 ? [] : readPreferences(await expandPaths(files), tokenizer, layout, limit);
  const trainPairs = await pairs(recipe.train, recipe.limit);
  const source = createPreferenceBatches({
    train: trainPairs,
    dev: await pairs(recipe.dev, recipe.devLimit),
    promptLength: grafts.config.promptLength,
    seed: recipe.seed,
    epochs: recipe.epochs,
  });
  const lengths = source.pairs.flatMap(({ chosen, rejected }) => [chosen.ids.length, rejected.ids.length]);
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  const columns = recipe.length ?? Math.ceil((grafts.config.promptLength + longest) / 8) * 8;
  note(
    context,
    say(context, messages.readingPairs, {
      train: formatInteger(trainPairs.length),
      dev: formatInteger(source.pairs.length - trainPairs.length),
      longest: formatInteger(longest),
    }),
  );
  const reference = await train.createTrainingStep(runtime, config, { tensors: parameters }, undefined, {
    rows: recipe.rows,
    columns: Math.max(columns, config.promptLength + longest),
    recompute: "none",
  });
  try {
    const likelihoods = await train.referenceLikelihoods(reference, source.pairs, config.promptLength);
    return {
      name: "preferences",
      source,
      tokens: lengths.reduce((sum, length) => sum + length, 0),
      columns,
      use: { promptTask, segment },
      objective: train.preferenceObjective(source, likelihoods, { beta: recipe.beta }),
    };
  } finally {
    reference.dispose();
  }
}

/** The task's samples as batches, in the order and the length that the recipe asks for. */
async function readTask(
  recipe: TuneRecipe,
  tokenizer: Tokenizer,
  { grafts }: Delta,
  context: CommandContext,
): Promise<TuningTask> {
  const { tasks, createTaskBatches, encodeSample, expandPaths, readTaskSamples, trainingExamples } = await import(
    "../data/index.ts"
  );
  const { createRandom } = await import("../util/random.ts");
  if (recipe.task === undefined || recipe.train.length === 0)
    throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needData), { where: "task" });
  const task = tasks[recipe.task];
  const template = typeof recipe.template === "object" ? recipe.template : templateOf(task.templates, recipe.template);
  const limits = {
    lengthTokens: recipe.lengthTokens ?? task.lengthTokens,
    answerTokens: recipe.answerTokens ?? task.answerTokens,
  };
  let cut = 0;
  const read = async (files: readonly string[], limit: number | undefined): Promise<TaskExample[]> => {
    const examples: TaskExample[] = [];
    if (files.length === 0) return examples;
    const random = createRandom(recipe.seed, "task examples");
    for await (const sample of readTaskSamples(task, await expandPaths(files), { limit, signal: context.signal })) {
      const encoded = encodeSample(sample, template, tokenizer, limits);
      if (encoded.cut) cut++;
      examples.push(...trainingExamples(encoded, tokenizer, random));
    }
    return examples;
  };
  const train = await read(recipe.train, recipe.limit);
  const dev = await read(recipe.dev, recipe.devLimit);
  const { promptLength } = grafts.config;
  const rows = (examples: readonly TaskExample[]) => examples.flatMap((example) => example.rows);
  const longest = [...rows(train), ...rows(dev)].reduce(
    (most, { ids }) => Math.max(most, promptLength + ids.length),
    0,
  );
  const columns = recipe.length ?? Math.ceil(longest / 8) * 8;
  note(
    context,
    say(context, messages.reading, {
      task: task.name,
      train: formatInteger(rows(train).length),
      dev: formatInteger(rows(dev).length),
      longest: formatInteger(longest),
    }),
  );
  if (cut > 0) note(context, say(context, messages.cutSamples, { count: formatInteger(cut) }));
  const source = createTaskBatches({
    name: task.name,
    train,
    dev,
    tokenizer,
    promptLength,
    seed: recipe.seed,
    onePerRow: recipe.onePerRow,
    epochs: recipe.epochs,
  });
  return {
    name: task.name,
    source,
    tokens: rows(train).reduce((sum, { ids }) => sum + ids.length, 0),
    columns,
    use: {
      ...{ task: task.name, template, promptTask: template.promptTask, segment: template.segment },
      ...limits,
    },
  };
}

function templateOf<T>(templates: Readonly<Record<string, T>>, name: string | undefined): T {
  const names = Object.keys(templates);
  const found = templates[name ?? names[0]!];
  if (found !== undefined) return found;
  throw new ConfigError("CPM_TASK_TEMPLATE", "the task has no such template", {
    where: "template",
    got: name,
    expected: names.join(", "),
  });
}

async function vocabularyOf(path: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  return readFile(path, "utf8");
}

async function attemptsOf(folder: string): Promise<number> {
  const { readEvents } = await import("../live/run-folder.ts");
  let attempts = 1;
  for await (const { event } of readEvents(folder)) if (event.type === "start") attempts++;
  return attempts;
}

function tellEnd({ reason, step, first, best }: PretrainResult, context: CommandContext): void {
  const about = { reason, steps: formatInteger(step) };
  if (first === undefined || best === undefined) {
    note(context, say(context, messages.endedPlain, about));
    return;
  }
  const losses = { before: formatNumber(round(first.nats)), best: formatNumber(round(best.nats)) };
  note(context, say(context, messages.ended, { ...about, ...losses, step: formatInteger(best.step) }));
}

/** Files of a checkpoint that belong to the delta alone. */
const deltaParts = ["adapter_config.json", "adapter_model.safetensors", "delta.json"];

/** Copies the delta of the best checkpoint, or of the last, where nothing was held out. */
async function saveBest(
  checkpoints: string,
  output: string,
  { best, step }: PretrainResult,
  context: CommandContext,
): Promise<void> {
  const [{ listCheckpoints }, { writeFolderAtomic }] = await Promise.all([
    import("../train/index.ts"),
    import("../util/atomic-file.ts"),
  ]);
  const present = await listCheckpoints(checkpoints);
  const chosen = present.find((each) => each.step === best?.step) ?? present.find((each) => each.step === step)!;
  await writeFolderAtomic(output, async (aside) => {
    for (const name of deltaParts) {
      const file = join(chosen.path, name);
      if (existsSync(file)) await cp(file, join(aside, name));
    }
  });
  note(context, say(context, messages.saved, { path: output, step: formatInteger(chosen.step) }));
}
