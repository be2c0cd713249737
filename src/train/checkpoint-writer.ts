/**
 * Checkpoints beside training: what is written is copied at one moment, the rest happens in a thread of its own
 * (`checkpoint-worker.ts`). One at a time; a second one waits for the first. Old ones go by the rule.
 */
import { rm } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import type { ModelConfig } from "../model/config.ts";
import { FileError } from "../util/error.ts";
import type { Moments } from "./adamw.ts";
import type { Arena } from "./arena.ts";
import { expendable, listCheckpoints, type Retention, type Snapshot, type TrainState } from "./checkpoint.ts";
import type { SentError, WriteAnswer, WriteRequest } from "./checkpoint-worker.ts";
import type { CheckpointDelta } from "./trainee.ts";

export interface CheckpointReport {
  readonly step: number;
  readonly tokens: number;
  readonly path: string;
  readonly bytes: number;
  /** Of writing it. */
  readonly ms: number;
  /** Training waited for so long: for the checkpoint before, and for the copy. */
  readonly pauseMs: number;
  readonly best: boolean;
  readonly removed: readonly string[];
}

export interface CheckpointWriterInput {
  readonly folder: string;
  readonly retention: Retention;
  readonly config: ModelConfig;
  /** The parameters are a delta's. */
  readonly delta?: CheckpointDelta | undefined;
  readonly vocabularyText: string;
  readonly parameters: Arena;
  readonly moments: Moments;
  now(): number;
  onCheckpoint?(report: CheckpointReport): void;
  /** The write that began last has failed; it is thrown at the next one, or by `settled`. */
  onTrouble?(error: unknown): void;
}

export interface CheckpointWriter {
  /** Copies weights and moments, and goes on writing when this has settled. */
  write(state: TrainState): Promise<void>;
  /** Waits for the write under way. Throws what the last one failed with, once. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export function createCheckpointWriter(input: CheckpointWriterInput): CheckpointWriter {
  const { folder, retention, config, delta, vocabularyText, parameters, moments, now } = input;
  let pending: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;
  let thread: WriterThread | undefined;
  let copy: Snapshot | undefined;

  const settled = async () => {
    await pending;
    const failed = failure;
    failure = undefined;
    if (failed !== undefined) throw failed.error;
  };

  /** Into memory that stays: asking for as much anew each time costs more than copying. */
  const takeSnapshot = (): Snapshot => {
    const shared = () => new Float32Array(new SharedArrayBuffer(parameters.layout.elements * 4));
    copy ??= { parameters: shared(), first: shared(), second: shared(), ...(moments.ema && { ema: shared() }) };
    copy.parameters.set(parameters.flat.view() as Float32Array);
    copy.first.set(moments.first.flat.view() as Float32Array);
    copy.second.set(moments.second.flat.view() as Float32Array);
    if (moments.ema) copy.ema?.set(moments.ema.flat.view() as Float32Array);
    return copy;
  };

  const removeOld = async (best: number | undefined): Promise<string[]> => {
    const present = await listCheckpoints(folder);
    const steps = present.map(({ step }) => step);
    const old = new Set(expendable(steps, retention, best));
    const removed = present.filter(({ step }) => old.has(step)).map(({ path }) => path);
    for (const path of removed) await rm(path, { recursive: true, force: true });
    return removed;
  };

  return {
    settled,
    async write(given) {
      const askedMs = now();
      await settled();
      const state = structuredClone(given);
      const { offsets, elements } = parameters.layout;
      // A delta's parameters have functions, which cannot cross threads.
      const named = parameters.layout.parameters.map(({ name, shape }) => ({ name, shape }));
      const layout = { parameters: named, offsets, elements, groups: [] };
      const content = { config, delta, layout, snapshot: takeSnapshot(), state, vocabularyText };
      const startMs = now();
      thread ??= startWriterThread();
      pending = thread.write({ folder, content }).then(
        async ({ path, bytes }) => {
          const removed = await removeOld(state.best?.step);
          input.onCheckpoint?.({
            step: state.step,
            tokens: state.tokens,
            path,
            bytes,
            ms: now() - startMs,
            pauseMs: startMs - askedMs,
            best: state.best?.step === state.step,
            removed,
          });
        },
        (error: unknown) => {
          failure = { error };
          input.onTrouble?.(error);
        },
      );
    },
    async close() {
      await pending;
      await thread?.end();
    },
  };
}

interface WriterThread {
  write(request: WriteRequest): Promise<{ path: string; bytes: number }>;
  end(): Promise<void>;
}

function startWriterThread(): WriterThread {
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const worker = new Worker(new URL(`./checkpoint-worker${extension}`, import.meta.url), {
    workerData: { checkpointWorker: true },
  });
  let waiting: { resolve(written: { path: string; bytes: number }): void; reject(error: unknown): void } | undefined;
  let dead: Error | undefined;
  const fail = (error: Error) => {
    dead = error;
    waiting?.reject(error);
    waiting = undefined;
  };
  worker.on("message", (answer: WriteAnswer) => {
    if ("error" in answer) waiting?.reject(received(answer.error));
    else waiting?.resolve(answer);
    waiting = undefined;
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`internal: the thread that writes checkpoints ended with ${code}`)));
  return {
    write: (request) =>
      new Promise((resolve, reject) => {
        if (dead !== undefined) {
          reject(dead);
          return;
        }
        waiting = { resolve, reject };
        worker.postMessage(request);
      }),
    async end() {
      waiting = undefined;
      await worker.terminate();
    },
  };
}

function received({ message, ours }: SentError): Error {
  if (ours === undefined) return new Error(message);
  const { code, what, where, got, expected, hint } = ours;
  return new FileError(code, what, { where, got, expected, hint });
}
