/**
 * The worker processes of one model: started, watched and started again. A process that ends takes down what it was
 * working on and nothing else; when it ends again and again, it is started less and less often.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { EngineCounts } from "../infer/engine.ts";
import type { TokenEvent } from "../infer/generated-row.ts";
import type { Answer, FromWorker, OpenModel, Task, ToWorker, Work, WorkerError } from "./worker-protocol.ts";

export interface PoolOptions {
  readonly open: OpenModel;
  readonly workers: number;
  /** The worker's module. */
  readonly entry?: string | undefined;
  /** Milliseconds until a process that ended is started again, first and at most; doubles in between. */
  readonly restartMs?: { readonly first: number; readonly most: number } | undefined;
  /** A worker that has rows and makes no step for this long is ended. */
  readonly hangMs?: number | undefined;
  readonly onLog: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Something may be run that could not before. */
  readonly onRoom: () => void;
}

/** One task at work in a process. */
export interface Assignment {
  readonly task: Task;
  readonly rows: number;
  onEvent(event: TokenEvent): void;
  onDone(answer: Answer, work: Work): void;
  onFailed(error: WorkerError): void;
  /** The process ended. */
  onLost(): void;
}

export interface WorkerState {
  readonly pid: number | undefined;
  readonly ready: boolean;
  readonly rows: number;
  readonly jobs: number;
  readonly residentBytes: number;
  /** Since this process was started. */
  readonly counts: EngineCounts;
}

export interface WorkerPool {
  /** Settles when every process has its model; rejects when one cannot open it at all. */
  readonly started: Promise<void>;
  readonly states: readonly WorkerState[];
  readonly restarts: number;
  /** Of the server's start on. */
  readonly steps: number;
  /**
   * Gives the assignment to the process with the most room; undefined where none has room. `alone`: only to one that
   * has nothing else, which then gets nothing else meanwhile. The returned function cancels.
   */
  assign(assignment: Assignment, alone: boolean): (() => void) | undefined;
  /** Ends the processes. */
  close(): Promise<void>;
}

interface Worker {
  process: ChildProcess | undefined;
  ready: boolean;
  exclusive: boolean;
  rows: number;
  readonly jobs: Map<number, Assignment>;
  readyMs: number;
  backoffMs: number;
  stepMs: number;
  steps: number;
  residentBytes: number;
  counts: EngineCounts;
  timer: NodeJS.Timeout | undefined;
}

const noCounts: EngineCounts = { cachedTokens: 0, promptCacheBytes: 0, draftedTokens: 0, acceptedTokens: 0 };
/** Passes need no rows; this many are given to a process at a time. */
const passesAtOnce = 4;
/** A process that lived this long is not one that cannot live. */
const healthyMs = 60_000;

/** The worker's module, in a checkout and in the package. */
function workerModule(): string {
  return fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url));
}

export function startWorkerPool(options: PoolOptions): WorkerPool {
  const { open, onLog, onRoom, entry = workerModule(), restartMs = { first: 500, most: 30_000 } } = options;
  const hangMs = options.hangMs ?? 120_000;
  let closing = false;
  let nextJob = 1;
  let restarts = 0;
  let steps = 0;
  const workers = Array.from(
    { length: options.workers },
    (): Worker => ({
      process: undefined,
      ready: false,
      exclusive: false,
      rows: 0,
      jobs: new Map(),
      readyMs: 0,
      backoffMs: restartMs.first,
      stepMs: 0,
      steps: 0,
      residentBytes: 0,
      counts: noCounts,
      timer: undefined,
    }),
  );

  const tell = (worker: Worker, message: ToWorker) => {
    // Where the channel is gone the exit is on its way.
    if (worker.process?.connected) worker.process.send(message, () => {});
  };

  /** `onFirst` hears how the first start went. */
  function start(worker: Worker, onFirst?: { ready(): void; failed(error: WorkerError): void }): void {
    const child = fork(entry, [], { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    worker.process = child;
    worker.steps = 0;
    let unusable: WorkerError | undefined;
    child.on("error", (error) => onLog("worker_error", { pid: child.pid, error: error.message }));
    child.on("message", (message: FromWorker) => {
      if (message.type === "ready") {
        worker.ready = true;
        worker.readyMs = worker.stepMs = performance.now();
        onLog("worker_ready", { pid: child.pid });
        onFirst?.ready();
        onRoom();
      } else if (message.type === "unusable") {
        unusable = message.error;
        child.disconnect();
      } else if (message.type === "events") {
        for (const [job, event] of message.events) worker.jobs.get(job)?.onEvent(event);
      } else if (message.type === "state") {
        if (message.steps !== worker.steps || message.rows === 0) worker.stepMs = performance.now();
        else if (performance.now() - worker.stepMs > hangMs) {
          onLog("worker_hangs", { pid: child.pid, rows: message.rows });
          child.kill("SIGKILL");
        }
        steps += message.steps - worker.steps;
        worker.steps = message.steps;
        worker.residentBytes = message.residentBytes;
        worker.counts = message.counts;
      } else {
        const assignment = worker.jobs.get(message.job);
        if (assignment === undefined) return;
        release(worker, message.job, assignment);
        if (message.type === "done") assignment.onDone(message.answer, message.work);
        else assignment.onFailed(message.error);
        onRoom();
      }
    });
    child.on("exit", (code, signal) => {
      const lived = worker.ready ? performance.now() - worker.readyMs : 0;
      worker.process = undefined;
      worker.ready = false;
      worker.residentBytes = 0;
      worker.counts = noCounts;
      const lost = [...worker.jobs];
      for (const [job, assignment] of lost) release(worker, job, assignment);
      if (!closing) {
        onLog("worker_ended", { pid: child.pid, code, signal, lost: lost.length, error: unusable?.message });
        if (unusable !== undefined && onFirst !== undefined) return onFirst.failed(unusable);
        if (lived > healthyMs) worker.backoffMs = restartMs.first;
        worker.timer = setTimeout(() => {
          restarts++;
          start(worker);
        }, worker.backoffMs);
        worker.backoffMs = Math.min(worker.backoffMs * 2, restartMs.most);
        onFirst?.failed({ code: "", message: `the worker process ended (${signal ?? code}) before it was ready` });
      }
      for (const [, assignment] of lost) assignment.onLost();
      onRoom();
    });
    tell(worker, open);
  }

  function release(worker: Worker, job: number, assignment: Assignment): void {
    worker.jobs.delete(job);
    worker.rows -= assignment.rows;
    worker.exclusive = false;
  }

  const started = Promise.all(
    workers.map((worker) => new Promise<void>((ready, failed) => start(worker, { ready, failed }))),
  ).then(() => {});
  // Whoever waits for it hears of it; if no one does, the log has told.
  started.catch(() => {});

  const passesOf = (worker: Worker) => [...worker.jobs.values()].filter(({ rows }) => rows === 0).length;

  return {
    started,
    get states() {
      return workers.map(({ process: child, ready, rows, jobs, residentBytes, counts }) => ({
        pid: child?.pid,
        ready,
        rows,
        jobs: jobs.size,
        residentBytes,
        counts,
      }));
    },
    get restarts() {
      return restarts;
    },
    get steps() {
      return steps;
    },
    assign(assignment, alone) {
      const fits = (worker: Worker) =>
        worker.ready &&
        !worker.exclusive &&
        (alone
          ? worker.jobs.size === 0
          : assignment.rows === 0
            ? passesOf(worker) < passesAtOnce
            : worker.rows + assignment.rows <= open.rows);
      const [worker] = workers.filter(fits).sort((a, b) => a.rows - b.rows || a.jobs.size - b.jobs.size);
      if (worker === undefined) return undefined;
      const job = nextJob++;
      worker.jobs.set(job, assignment);
      worker.rows += assignment.rows;
      worker.exclusive = alone;
      tell(worker, { type: "run", job, task: assignment.task });
      return () => tell(worker, { type: "cancel", job });
    },
    async close() {
      closing = true;
      await Promise.all(
        workers.map(async (worker) => {
          clearTimeout(worker.timer);
          const child = worker.process;
          if (child === undefined) return;
          const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
          if (child.connected) child.disconnect();
          const kill = setTimeout(() => child.kill("SIGKILL"), 5000);
          await ended;
          clearTimeout(kill);
        }),
      );
    },
  };
}
