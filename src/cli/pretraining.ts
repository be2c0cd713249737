/**
 * A recorded run for `cpm train`: options into a trainer, a data source and a run's folder. The recipe is kept in the run's
 * folder, so going on needs the folder alone.
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { machineAssumptions } from "../live/ledger-assumptions.ts";
import type { RunDescription } from "../live/run-folder.ts";
import type { ModelConfig } from "../model/config.ts";
import { checkMemory } from "../train/memory-plan.ts";
import { ConfigError } from "../util/error.ts";
import type { CommandContext } from "./context.ts";
import { note, print, say } from "./context.ts";
import { freeMemoryBytes, inspectMachine } from "./machine.ts";
import { planMessages } from "./messages/plan.ts";
import { pretrainMessages as messages } from "./messages/pretrain.ts";
import { trainMessages } from "./messages/train.ts";
import { requireNewFolder, round, tellEnd, writeModel } from "./model-output.ts";
import { completePlan, estimatedRate, planRecipe } from "./planning.ts";
import { formatBytes, formatInteger, formatNumber } from "./quantity.ts";
import { measurePower, measuresPower, withLogs, withRecipeAlerts } from "./run-companions.ts";
import { ownData } from "./run-paths.ts";
import { type Recipe, readKeptRecipe, trainerSettings, withPaths } from "./run-recipe.ts";
import { createRecorder } from "./run-recorder.ts";

/** Those of the command. `output`: the model's folder, written at the end; no part of the recipe. */
export type RunOptions = Omit<Recipe, "for"> & {
  readonly for?: number | undefined;
  readonly output?: string | undefined;
};

/** Starts a recorded run. */
export async function startRun({ output, ...options }: RunOptions, context: CommandContext): Promise<void> {
  const { run } = options;
  if (run === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needRun), { where: "run" });
  if (output !== undefined) requireNewFolder(output, context);
  const isKept = output !== undefined && options.keep === "best";
  const retention = { ...options.retention, best: options.retention.best || isKept };
  await train(run, { ...withPaths(options, (path) => resolve(path)), retention }, { output }, context);
}

/** Goes on with a run by the recipe in its folder, from its newest checkpoint or from that of a step. */
export async function resumeRun(
  folder: string,
  { output, from }: { readonly output?: string | undefined; readonly from?: number | undefined },
  context: CommandContext,
): Promise<void> {
  if (output !== undefined) requireNewFolder(output, context);
  const recipe = await readKeptRecipe(folder);
  if (from !== undefined) {
    const [{ checkpointOf }, { checkpointsFolder }] = await Promise.all([
      import("../train/index.ts"),
      import("../live/run-folder.ts"),
    ]);
    await checkpointOf(join(folder, checkpointsFolder), from);
  }
  await train(folder, recipe, { output, resume: from ?? true }, context);
}

async function train(
  folder: string,
  recipe: Recipe,
  { output, resume = false }: { readonly output?: string | undefined; readonly resume?: boolean | number },
  context: CommandContext,
): Promise<void> {
  const [
    { openMixture, readMixtureSources, unigramEntropy },
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
  const processor = { cpu: machine.cpuModel ?? machine.arch, cores: machine.usableProcessors };
  const ledger = await assumptionsOf(processor, recipe, context);
  const createdMs = context.now();
  const description: RunDescription = {
    format: 1,
    id: live.newRunId(createdMs),
    name: recipe.name ?? live.runName(folder),
    createdAt: new Date(createdMs).toISOString(),
    status: "running",
    recipe: JSON.parse(JSON.stringify(keptRecipe(folder, recipe))),
    model: { preset: recipe.preset, config: configToJson(config), parameters: parameterCount(config) },
    data: { sources: source.sources.map((each) => ({ ...each })) },
    target: { steps: recipe.steps, ...(recipe.for !== undefined && { ms: recipe.for }) },
    machine: { ...processor, memoryBytes: machine.memoryBytes, threads: runtime.info.threads },
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
  const record =
    resume === false
      ? await live.createRun(folder, description, context.now, [ownData])
      : await live.reopenRun(folder, context.now);
  const logged = await withLogs(record, recipe, context);
  const writer = recipe.alerts.length === 0 ? logged : await withRecipeAlerts(logged, recipe.alerts, context);
  const checkpoints = join(folder, live.checkpointsFolder);
  if (resume !== false) await writer.update({ status: "running" });
  const { attempt, reached } = resume === false ? { attempt: 1, reached: 0 } : await historyOf(folder);
  const undone = typeof resume === "number" ? await rollBack(checkpoints, resume, reached, context) : undefined;
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
  const geometry = { rows: recipe.rows, columns: recipe.length };
  const entropy = unigramEntropy(source.heldOut(geometry, recipe.evaluatePieces), config.vocabSize);
  tellEntropy(entropy, context);
  const flopsPerSecond = writer.description.productFlopsPerSecond ?? product.gflops * 1e9;
  const { hooks, finish, position } = createRecorder(
    { writer, recipe, config, vocabularyText, runtime, attempt, undone, flopsPerSecond },
    context,
  );
  const power = await measurePower(writer, recipe, writer.description.machine.cpu, context);
  try {
    const result = await pretrain(
      { runtime, config, source, vocabularyText, checkpoints, resume },
      { ...trainerSettings(recipe), geometry, ramp: recipe.ramp, schedule, retention: recipe.retention },
      hooks,
    );
    finish();
    power.stop();
    writer.append({ type: "end", step: result.step, tokens: result.tokens, reason: result.reason }, true);
    await writer.update({ status: result.reason === "cancelled" ? "stopped" : "ended" });
    tellEnd(result, entropy, context);
    if (result.reason === "cancelled") note(context, say(context, messages.goOn, { run: folder }));
    const { id, data } = writer.description;
    const about = { run: { id, folder: resolve(folder) }, recipe: writer.description.recipe, data, result };
    const weights =
      output === undefined ? undefined : await writeModel(output, checkpoints, recipe, result, about, context);
    const written = output !== undefined && { output, weights: { step: weights } };
    if (context.json) print(context, JSON.stringify({ event: "end", run: folder, ...written, ...result }));
  } catch (error) {
    finish();
    power.stop();
    const message = error instanceof Error ? error.message : String(error);
    writer.append({ type: "end", ...position(), reason: "failed", error: message.slice(0, 2000) }, true);
    await writer.update({ status: "failed" });
    throw error;
  } finally {
    await writer.close();
    source.dispose();
  }
}

/** As it is kept: what lies in the run's folder is named from there, so the folder can be moved. */
function keptRecipe(folder: string, { resume: _, from: __, ...recipe }: Recipe): unknown {
  return withPaths(recipe, (path) => {
    const inside = relative(resolve(folder), path);
    return inside.startsWith("..") || inside === path ? path : inside;
  });
}

async function assumptionsOf(
  processor: { readonly cpu: string; readonly cores: number },
  recipe: Recipe,
  context: CommandContext,
): Promise<NonNullable<RunDescription["ledger"]>> {
  const { power, ledger } = recipe;
  const choices = typeof power === "number" ? { watts: power, ...ledger } : ledger;
  const { raplIsReadable } = await import("../live/rapl.ts");
  const isMeasured = measuresPower(recipe) && raplIsReadable(context.env.CPM_POWERCAP);
  return machineAssumptions(processor, choices, isMeasured ? "rapl" : "stated");
}

function tellEntropy(
  entropy: { readonly natsPerToken: number; readonly bitsPerCharacter: number } | undefined,
  context: CommandContext,
): void {
  if (entropy === undefined) {
    note(context, say(context, trainMessages.noHeldOut));
    return;
  }
  note(
    context,
    say(context, trainMessages.entropy, {
      nats: formatNumber(round(entropy.natsPerToken)),
      bits: formatNumber(round(entropy.bitsPerCharacter)),
    }),
  );
}

/** The number of the attempt that begins now, and the last step that any attempt reached. */
async function historyOf(folder: string): Promise<{ attempt: number; reached: number }> {
  const { readEvents } = await import("../live/run-folder.ts");
  let attempt = 1;
  let reached = 0;
  for await (const { event } of readEvents(folder)) {
    if (event.type === "start") {
      attempt++;
      reached = event.step;
    } else if (event.type === "step") reached = event.step;
  }
  return { attempt, reached };
}

/**
 * Puts the checkpoints after a step aside, so that going on from the newest one never meets them again. Nothing is lost: they
 * are in checkpoints/undone/, and the record keeps its events.
 */
async function rollBack(
  checkpoints: string,
  step: number,
  reached: number,
  context: CommandContext,
): Promise<{ step: number; checkpoints?: string }> {
  const { listCheckpoints } = await import("../train/index.ts");
  const later = (await listCheckpoints(checkpoints)).filter((each) => each.step > step);
  const aside = join(checkpoints, "undone");
  if (later.length > 0) await mkdir(aside, { recursive: true });
  for (const { path } of later) {
    const target = join(aside, relative(checkpoints, path));
    await rm(target, { recursive: true, force: true }); // of an earlier time that this step was undone
    await rename(path, target);
  }
  note(
    context,
    say(context, messages.rolledBack, { step: formatInteger(step), reached: formatInteger(reached), path: aside }),
  );
  return { step: reached, ...(later.length > 0 && { checkpoints: "checkpoints/undone" }) };
}
