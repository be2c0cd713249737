/**
 * A worker process: opens one model, runs its engine and answers tasks over the channel to the server. Whatever native
 * code does to it, the server lives on. It ends with the channel; signals that a terminal sends to the whole group are
 * the server's to act on.
 */
import { baseHash, checkBase, openDelta } from "../delta/index.ts";
import { createCpmAntSession } from "../infer/cpm-ant-session.ts";
import { createEngine, type Engine } from "../infer/engine.ts";
import type { TokenEvent } from "../infer/generated-row.ts";
import { embedTexts, fillBlanks, scoreTokens } from "../infer/scoring.ts";
import { type OpenedTextModel, openTextModel } from "../infer/text-generator.ts";
import { hasPacked } from "../infer/weight-ports.ts";
import type { ModelConfig } from "../model/config.ts";
import { createNativeRuntime, type Runtime } from "../runtime/index.ts";
import { createDetokenizer } from "../tokenizer/index.ts";
import { CpmError } from "../util/error.ts";
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
  const { path, vocabularyPath, configPath, cacheFolder, threads, contextTokens, rows, prefillTokens } = message;
  // Threads that wait actively would take the cores from the server, which writes out what was just chosen.
  const runtime = createNativeRuntime({ ...(threads !== undefined && { threads }), spin: false });
  const model = await openTextModel(runtime, path, { vocabularyPath, configPath, cacheFolder });
  const { grafts, parameters, ...use } = await withDelta(runtime, model, message.deltaPath);
  const session = await createCpmAntSession(runtime, model.config, parameters, {
    capacityTokens: contextTokens,
    rowCapacity: rows,
    grafts,
    ...use,
    cache: grafts === undefined ? model.cache : undefined,
  });
  const { eosId, newlineId, bosId, pieceOf } = model.tokenizer;
  const tokenizer = { eosId, newlineId, bosId, pieceOf, createDetokenizer: () => createDetokenizer(model.tokenizer) };
  const engine = createEngine(session, tokenizer, { rows, prefillTokens, clock: () => performance.now() });
  opened = { config: grafts?.config ?? model.config, engine, tokenizer };
  setInterval(() => {
    send({ type: "state", rows: engine.rows, steps: engine.steps, residentBytes: process.memoryUsage.rss() });
  }, stateIntervalMs);
  send({ type: "ready" });
}

/** The base's programs with the delta's changes, and its numbers beside the base's. The base itself stays as it is. */
async function withDelta(runtime: Runtime, { config, parameters }: OpenedTextModel, path: string | undefined) {
  if (path === undefined) return { grafts: undefined, parameters };
  const opened = await openDelta(path, config);
  // The hash is of float32 numbers, which a packed base does not have any more.
  if (!hasPacked(parameters)) {
    const read = async (name: string) => (await runtime.download(parameters.get(name)!)) as Float32Array;
    checkBase(opened, await baseHash(config, read), path);
  }
  const own = opened.delta.parameters.map(({ name, shape }) => {
    const tensor = runtime.upload(opened.values.get(name)!, "float32", shape);
    return [name, tensor] as const;
  });
  // It generates under the soft prompt and in the segment that it was tuned with.
  const { promptTask = 2, segment = 2 } = opened.use ?? {};
  return { grafts: opened.delta.grafts, parameters: new Map([...parameters, ...own]), promptTask, segment };
}

async function answer(
  job: number,
  task: Task,
  signal: AbortSignal,
): Promise<{ readonly answer: Answer; readonly work: Work }> {
  const { config, engine, tokenizer } = opened!;
  switch (task.kind) {
    case "generate": {
      const { prompt, settings } = task;
      const onEvent = (event: TokenEvent) => tell(job, event);
      const { texts, ...work } = await engine.generate({ prompt, settings, signal, onEvent });
      return { answer: { kind: "generate", texts }, work };
    }
    case "score": {
      const { ids, from, top } = task;
      const { computeMs, ...scores } = await scoreTokens(engine, config, ids, from, { top, signal });
      const work = { promptTokens: ids.length, generatedTokens: 0, computeMs };
      return { answer: { kind: "score", ...scores }, work };
    }
    case "embed": {
      const { vectors, computeMs } = await embedTexts(engine, config, task.texts, task.pooling, signal);
      const promptTokens = task.texts.reduce((sum, ids) => sum + ids.length, 0);
      const work = { promptTokens, generatedTokens: 0, computeMs };
      return { answer: { kind: "embed", vectors: vectors.map((vector) => Array.from(vector)) }, work };
    }
    case "fill": {
      const { texts, blankTokens, settings } = task;
      const { fills, computeMs } = await fillBlanks(engine, config, tokenizer, texts, blankTokens, settings, signal);
      const generatedTokens = fills.reduce((sum, { blanks }) => sum + blanks.flat().length, 0);
      const work = { promptTokens: texts.flat().length + 2, generatedTokens, computeMs };
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
