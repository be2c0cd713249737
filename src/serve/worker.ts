/**
 * A worker process: opens one model, runs its engine and answers tasks over the channel to the server. Whatever native
 * code does to it, the server lives on. It ends with the channel; signals that a terminal sends to the whole group are
 * the server's to act on.
 */
import { openMixedModel, openTunedModel } from "../delta/index.ts";
import { createCpmAntSession } from "../infer/cpm-ant-session.ts";
import { createLookupDrafter, createModelDrafter, type Drafter, guessCost } from "../infer/draft.ts";
import { createEngine, type Engine } from "../infer/engine.ts";
import type { TokenEvent } from "../infer/generated-row.ts";
import { embedTexts, fillBlanks, scoreTokens } from "../infer/scoring.ts";
import {
  bytesOf,
  cacheBytesPerToken,
  checkSameVocabulary,
  findVocabulary,
  layerBudget,
  type OpenedTextModel,
  openTextModel,
} from "../infer/text-generator.ts";
import type { ModelConfig } from "../model/config.ts";
import { createNativeRuntime, type Runtime } from "../runtime/index.ts";
import { createDetokenizer } from "../tokenizer/index.ts";
import { CpmError, UnsupportedError } from "../util/error.ts";
import type { Answer, FromWorker, OpenModel, Task, ToWorker, Work, WorkerError } from "./worker-protocol.ts";

const stateIntervalMs = 1000;
/** Events of a message: the server writes the first rows' tokens out while the others' are being chosen. */
const eventsTogether = 4;

interface OpenWorker {
  /** With what a delta changes of it. */
  readonly config: ModelConfig;
  readonly engine: Engine;
  readonly tokenizer: Parameters<typeof fillBlanks>[2];
}

let opened: OpenWorker | undefined;
const stops = new Map<number, AbortController>();
let events: (readonly [number, TokenEvent])[] = [];

function send(message: FromWorker): void {
  // Once the server is gone there is no one to tell, nor that it could not be told.
  if (process.connected) process.send!(message, undefined, undefined, () => {});
}

/** The events of a step go as few messages, the last of them before the next step. */
function tell(job: number, event: TokenEvent): void {
  if (events.length === 0) queueMicrotask(flush);
  events.push([job, event]);
  if (events.length >= eventsTogether) flush();
}

function flush(): void {
  if (events.length === 0) return;
  send({ type: "events", events });
  events = [];
}

function workerError(error: unknown): WorkerError {
  if (error instanceof CpmError) return { code: error.code, message: error.message };
  return { code: "", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

async function open(message: OpenModel): Promise<void> {
  const { threads, contextTokens, rows, prefillTokens, promptCacheBytes, cacheType, memoryBytes } = message;
  // Threads that wait actively would take the cores from the server, which writes out what was just chosen.
  const runtime = createNativeRuntime({ ...(threads !== undefined && { threads }), spin: false });
  const model = await openServed(runtime, message);
  const drafter = await openDrafter(runtime, model, message);
  const { config, parameters, grafts, cache, promptTask, segment } = model;
  const columns = config.promptLength + contextTokens;
  const decodingBytes =
    rows * columns * cacheBytesPerToken(config, cacheType) + (config.heads + 2) * columns ** 2 * 4 + promptCacheBytes;
  const session = await createCpmAntSession(runtime, config, parameters, {
    capacityTokens: contextTokens,
    rowCapacity: rows,
    promptTask,
    segment,
    cacheType,
    grafts,
    cache,
    ...(memoryBytes !== undefined && {
      layerLimitBytes: () => layerBudget(memoryBytes, decodingBytes, parameters),
    }),
  });
  const { eosId, newlineId, bosId, pieceOf } = model.tokenizer;
  const tokenizer = { eosId, newlineId, bosId, pieceOf, createDetokenizer: () => createDetokenizer(model.tokenizer) };
  const clock = () => performance.now();
  const engine = createEngine(session, tokenizer, { rows, prefillTokens, promptCacheBytes, drafter, clock });
  opened = { config: grafts?.config ?? config, engine, tokenizer };
  setInterval(() => {
    const { rows: atWork, steps, counts } = engine;
    send({ type: "state", rows: atWork, steps, residentBytes: process.memoryUsage.rss(), counts });
  }, stateIntervalMs);
  send({ type: "ready" });
}

/** The model, with a delta, or with several that tasks weigh. */
async function openServed(runtime: Runtime, message: OpenModel) {
  const { path, vocabularyPath, configPath, cacheFolder, deltaPath, mixedPaths, memoryBytes } = message;
  // Layers that do not stay in memory are read from the cache.
  const alwaysCache = memoryBytes !== undefined;
  const opening = { vocabularyPath, configPath, cacheFolder, alwaysCache, trustPackedBase: true };
  const plain = { promptTask: 2, segment: 2 };
  if (mixedPaths !== undefined && mixedPaths.length > 0) {
    const mixed = await openMixedModel(runtime, path, mixedPaths, opening);
    mixed.deltas.forEach(({ use }, at) => {
      const { promptTask, segment } = { ...plain, ...use };
      if (promptTask === plain.promptTask && segment === plain.segment) return;
      throw new UnsupportedError("CPM_DELTA_MIX", "this delta cannot share a batch with others", {
        where: mixedPaths[at]!,
        got: `soft prompt ${promptTask}, segment ${segment}`,
        expected: `soft prompt ${plain.promptTask}, segment ${plain.segment}, as the base has`,
        hint: "Serve it without --mix.",
      });
    });
    return { ...mixed, ...plain };
  }
  if (deltaPath === undefined) return { ...(await openTextModel(runtime, path, opening)), ...plain };
  const tuned = await openTunedModel(runtime, path, deltaPath, opening);
  // It generates under the soft prompt and in the segment that it was tuned with.
  const { promptTask = plain.promptTask, segment = plain.segment } = tuned.delta.use ?? {};
  return { ...tuned, promptTask, segment };
}

async function openDrafter(
  runtime: Runtime,
  model: OpenedTextModel,
  { draft, contextTokens }: OpenModel,
): Promise<Drafter | undefined> {
  if (draft === undefined) return undefined;
  const { vocabSize } = model.config;
  const modelBytes = bytesOf(model.parameters);
  if (draft === "lookup") return createLookupDrafter(guessCost(vocabSize, modelBytes, 0));
  const vocabularyPath = (await findVocabulary(draft.path)) ?? model.vocabularyPath;
  const { config, parameters, tokenizer } = await openTextModel(runtime, draft.path, { vocabularyPath });
  checkSameVocabulary(model.tokenizer, tokenizer);
  const session = await createCpmAntSession(runtime, config, parameters, { capacityTokens: contextTokens });
  return createModelDrafter(session, guessCost(vocabSize, modelBytes, bytesOf(parameters)));
}

async function answer(
  job: number,
  task: Task,
  signal: AbortSignal,
): Promise<{ readonly answer: Answer; readonly work: Work }> {
  const { config, engine, tokenizer } = opened!;
  switch (task.kind) {
    case "generate": {
      const { prompt, settings, mix, owner } = task;
      const onEvent = (event: TokenEvent) => tell(job, event);
      const { texts, ...work } = await engine.generate({ prompt, settings, mix, owner, signal, onEvent });
      return { answer: { kind: "generate", texts }, work };
    }
    case "score": {
      const { ids, from, top, mix } = task;
      const { computeMs, ...scores } = await scoreTokens(engine, config, ids, from, { top, signal, mix });
      const work = { promptTokens: ids.length, cachedTokens: 0, generatedTokens: 0, computeMs };
      return { answer: { kind: "score", ...scores }, work };
    }
    case "embed": {
      const { texts, pooling, mix } = task;
      const { vectors, computeMs } = await embedTexts(engine, config, texts, pooling, { signal, mix });
      const promptTokens = texts.reduce((sum, ids) => sum + ids.length, 0);
      const work = { promptTokens, cachedTokens: 0, generatedTokens: 0, computeMs };
      return { answer: { kind: "embed", vectors: vectors.map((vector) => Array.from(vector)) }, work };
    }
    case "fill": {
      const { texts, blankTokens, settings, mix } = task;
      const choices = { signal, mix };
      const { fills, computeMs } = await fillBlanks(engine, config, tokenizer, texts, blankTokens, settings, choices);
      const generatedTokens = fills.reduce((sum, { blanks }) => sum + blanks.flat().length, 0);
      const work = { promptTokens: texts.flat().length + 2, cachedTokens: 0, generatedTokens, computeMs };
      return { answer: { kind: "fill", fills }, work };
    }
  }
}

async function run(job: number, task: Task): Promise<void> {
  const stop = new AbortController();
  stops.set(job, stop);
  try {
    const done = await answer(job, task, stop.signal);
    flush();
    send({ type: "done", job, ...done });
  } catch (error) {
    // A session that failed cannot be mended from inside: the server starts another process and asks again there.
    if (opened!.engine.failure !== undefined) {
      process.stderr.write(`${workerError(error).message}\n`);
      process.exit(1);
    }
    flush();
    send({ type: "failed", job, error: workerError(error) });
  } finally {
    stops.delete(job);
  }
}

process.on("message", (message: ToWorker) => {
  if (message.type === "run") void run(message.job, message.task);
  else if (message.type === "cancel") stops.get(message.job)?.abort();
  else {
    open(message).catch((error: unknown) => {
      send({ type: "unusable", error: workerError(error) });
    });
  }
});
process.on("disconnect", () => process.exit(0));
process.on("SIGINT", () => {}).on("SIGTERM", () => {});
