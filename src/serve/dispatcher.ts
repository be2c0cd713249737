/**
 * The waiting room of one model: requests wait in a fair and bounded queue, go to a worker as soon as one has room, and
 * come back exactly once: with an answer, or with a typed refusal.
 *
 * A request whose worker ended is tried again from its beginning; since its draws come from its seed, what was already
 * sent to the client is left out the second time. Twice it goes along with others, the third time alone: so a request
 * that itself brings workers down is found out, and is the only one that is given up.
 */
import type { TokenEvent } from "../infer/generated-row.ts";
import { ApiError } from "./api-errors.ts";
import { createFairQueue } from "./fair-queue.ts";
import { type PoolOptions, startWorkerPool, type WorkerPool } from "./worker-pool.ts";
import type { AnswerOf, Task, Work, WorkerError } from "./worker-protocol.ts";

export interface DispatcherOptions extends Omit<PoolOptions, "onRoom"> {
  /** Requests that may wait, all together and of one user. */
  readonly maxWaiting: number;
  readonly maxWaitingPerUser: number;
  /** Milliseconds of any fixed beginning. */
  readonly clock: () => number;
}

export interface Request<T extends Task = Task> {
  readonly task: T;
  /** Whose turn it takes. */
  readonly user: string;
  /** Milliseconds from now on. */
  readonly deadlineMs: number;
  /** The client has left. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: TokenEvent) => void) | undefined;
}

export interface Outcome<T extends Task = Task> {
  readonly answer: AnswerOf<T>;
  readonly work: Work;
  /** From being asked for to being given to a worker, the last time. */
  readonly queueMs: number;
}

export interface Dispatcher {
  readonly pool: WorkerPool;
  readonly waiting: number;
  /** Waiting or at work. */
  readonly open: number;
  /** Throws ApiError `queue_full` unless this many more requests of a user may wait. */
  checkRoom(user: string, requests: number): void;
  /** Rejects with an ApiError; `client_gone` is an AbortError of the signal. */
  run<T extends Task>(request: Request<T>): Promise<Outcome<T>>;
  /** Refuses new requests, lets the others finish for so long, cancels the rest and ends the workers. */
  drain(graceMs: number): Promise<void>;
}

interface Job {
  readonly request: Request;
  readonly rows: number;
  readonly cost: number;
  readonly askedMs: number;
  startedMs: number;
  attempts: number;
  /** Ids that were handed on, of each sample; null for an end without a token. */
  readonly sent: (number | null)[][];
  cancel: (() => void) | undefined;
  finished: boolean;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

/** What is wrong with a form that a text was to have. */
const formatErrors: ReadonlySet<string> = new Set(["CPM_INFER_GRAMMAR", "CPM_INFER_SCHEMA", "CPM_INFER_UNSPELLABLE"]);
const attemptsTogether = 2;
const attemptsInAll = 3;

/** Tokens that a task will make a worker read and write, about. */
function costOf(task: Task): number {
  switch (task.kind) {
    case "generate":
      return task.prompt.length + task.settings.samples * task.settings.maxTokens;
    case "score":
      return task.ids.length;
    case "embed":
      return task.texts.reduce((sum, ids) => sum + ids.length, 0);
    case "fill": {
      const blanks = Math.max(0, task.texts.length - 1);
      const passes = blanks * Math.max(...task.blankTokens);
      return passes * task.blankTokens.length * task.settings.samples * (task.texts.flat().length + passes);
    }
  }
}

export function startDispatcher(options: DispatcherOptions): Dispatcher {
  const { maxWaiting, maxWaitingPerUser, clock, onLog } = options;
  const queue = createFairQueue<Job>();
  /** Lost with their worker, to be tried again before anyone else. */
  const again: Job[] = [];
  const jobs = new Set<Job>();
  let draining = false;
  /** Tokens of cost that are done in a second, over the last requests: for Retry-After. */
  let costPerSecond = 0;
  const pool = startWorkerPool({ ...options, onRoom: pump });

  function finish(job: Job, act: () => void): void {
    if (job.finished) return;
    job.finished = true;
    jobs.delete(job);
    act();
  }

  function fail(job: Job, error: unknown): void {
    finish(job, () => {
      queue.remove(job);
      const at = again.indexOf(job);
      if (at >= 0) again.splice(at, 1);
      job.cancel?.();
      job.reject(error);
    });
  }

  /** Hands events on, without those that the client has from an earlier attempt. */
  function createReplay(job: Job): (event: TokenEvent) => void {
    const seen: number[] = job.sent.map(() => 0);
    return (event) => {
      if (job.finished) return;
      const sent = job.sent[event.sample]!;
      const at = seen[event.sample]!++;
      if (at >= sent.length) {
        sent.push(event.id);
        job.request.onEvent?.(event);
      } else if (sent[at] !== event.id) {
        // Another last bit chose another token: what the client has cannot be continued.
        fail(job, new ApiError("worker_lost"));
      }
    };
  }

  function errorOf({ code, message }: WorkerError): ApiError {
    if (code === "CPM_INFER_CAPACITY") return new ApiError("context_length_exceeded");
    if (code === "CPM_INFER_PROMPT") return new ApiError("empty_prompt");
    if (formatErrors.has(code)) {
      const detail = message.replaceAll(/\s*\n\s*/g, "; ");
      return new ApiError("invalid_value", { param: "response_format", detail: `response_format: ${detail}.` });
    }
    if (code === "CPM_INFER_OPTIONS") return new ApiError("invalid_value", { detail: message });
    if (code === "CPM_INFER_NO_TOKEN") return new ApiError("invalid_value", { detail: "No token is left to choose." });
    onLog("request_failed", { code, message });
    return new ApiError("model_failure");
  }

  function assign(job: Job): boolean {
    const alone = job.attempts >= attemptsTogether;
    const cancel = pool.assign(
      {
        task: job.request.task,
        rows: job.rows,
        onEvent: createReplay(job),
        onDone(answer, work) {
          queue.settle(job.request.user, work.promptTokens + work.generatedTokens - job.cost);
          const ms = clock() - job.askedMs;
          if (ms > 0) costPerSecond = 0.9 * costPerSecond + (0.1 * job.cost * 1000) / ms;
          const queueMs = job.startedMs - job.askedMs;
          finish(job, () => job.resolve({ answer: answer as never, work, queueMs }));
        },
        onFailed: (error) => fail(job, errorOf(error)),
        onLost() {
          job.cancel = undefined;
          if (job.finished) return;
          if (job.attempts >= attemptsInAll) fail(job, new ApiError("worker_lost"));
          else again.push(job);
        },
      },
      alone,
    );
    if (cancel === undefined) return false;
    job.cancel = cancel;
    job.attempts++;
    job.startedMs = clock();
    return true;
  }

  /** Gives out what can be given out. The first in the queue is waited for, however large: else it would never come. */
  function pump(): void {
    while (again.length > 0) {
      if (!assign(again[0]!)) return;
      again.shift();
    }
    for (let job = queue.peek(); job !== undefined; job = queue.peek()) {
      if (!assign(job)) return;
      queue.shift();
    }
  }

  function retryAfterSeconds(): number {
    let cost = 0;
    for (const job of queue.items()) cost += job.cost;
    const seconds = costPerSecond > 0 ? cost / costPerSecond / Math.max(1, jobs.size - queue.size) : 1;
    return Math.min(60, Math.max(1, Math.ceil(seconds)));
  }

  function checkRoom(user: string, requests: number): void {
    if (draining) throw new ApiError("shutting_down", { retryAfterSeconds: 5 });
    if (queue.size + requests > maxWaiting || queue.sizeOf(user) + requests > maxWaitingPerUser) {
      throw new ApiError("queue_full", { retryAfterSeconds: retryAfterSeconds() });
    }
  }

  return {
    pool,
    get waiting() {
      return queue.size + again.length;
    },
    get open() {
      return jobs.size;
    },
    checkRoom,
    async run<T extends Task>(request: Request<T>): Promise<Outcome<T>> {
      checkRoom(request.user, 1);
      const { task, signal } = request;
      signal?.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers<Outcome<T>>();
      const samples = task.kind === "generate" ? task.settings.samples : 0;
      const job: Job = {
        request,
        rows: samples,
        cost: costOf(task),
        askedMs: clock(),
        startedMs: 0,
        attempts: 0,
        sent: Array.from({ length: samples }, () => []),
        cancel: undefined,
        finished: false,
        // The worker answers a task with an answer of its kind.
        resolve: (outcome) => resolve(outcome as unknown as Outcome<T>),
        reject,
      };
      const deadline = setTimeout(() => fail(job, new ApiError("deadline_exceeded")), request.deadlineMs);
      const onAbort = () => fail(job, signal!.reason);
      signal?.addEventListener("abort", onAbort);
      jobs.add(job);
      queue.push(request.user, job.cost, job);
      pump();
      try {
        return await promise;
      } finally {
        clearTimeout(deadline);
        signal?.removeEventListener("abort", onAbort);
      }
    },
    async drain(graceMs) {
      draining = true;
      const until = clock() + graceMs;
      while (jobs.size > 0 && clock() < until) await new Promise((resolve) => setTimeout(resolve, 20));
      for (const job of [...jobs]) fail(job, new ApiError("shutting_down", { retryAfterSeconds: 5 }));
      await pool.close();
    },
  };
}
