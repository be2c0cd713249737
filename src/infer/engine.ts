/**
 * Continuous batching: requests join a running batch when there is room and leave it when they are done, at any step.
 *
 * One round of the engine reads some layers of the prompts that are on their way in (so that a long one holds up the
 * batch no longer than `prefillTokens` do) and then feeds one token of every row. Each text has its own settings, seed
 * and end, and draws from (seed, prompt, sample) as `generate` does: alone or in company it is the same text, unless
 * rounding in the last bits of two logits decides it.
 *
 * A prompt's tokens see each other in both directions, so a prompt cannot be read piece by piece: it is divided by layers.
 * A prompt that was read before joins at once where its state is still kept. While a text is alone, a drafter may guess
 * ahead (`lone-drafting.ts`).
 */
import { CancelledError, CpmError } from "../util/error.ts";
import { createRecentEntries } from "../util/recent-entries.ts";
import type { Drafter } from "./draft.ts";
import { createEngineJob, type EngineJob, type EngineRequest, type EngineResult } from "./engine-job.ts";
import type { GeneratedRow, TokenEvent } from "./generated-row.ts";
import { createLoneDrafting } from "./lone-drafting.ts";
import type { PassRow, PassSettings, RowPass } from "./row-pass.ts";
import type { GenerationTokenizer } from "./row-text.ts";
import { createSamplerMemory } from "./sample.ts";
import type { ContinuousSession, Newcomers, RowState } from "./session.ts";

export interface EngineOptions {
  /** Rows that decode side by side. */
  readonly rows: number;
  /** Prompt tokens that are read between two steps of the batch, in all layers. Default 256. */
  readonly prefillTokens?: number | undefined;
  /** Bytes for the states of prompts that were read, in case the same ones come again. Default 0: none is kept. */
  readonly promptCacheBytes?: number | undefined;
  /** Guesses ahead while one text is alone; the engine's own. Texts are the same with and without. */
  readonly drafter?: Drafter | undefined;
  /** Most guesses in one pass. Default 8. */
  readonly maxDraftTokens?: number | undefined;
  /** Milliseconds, for what each request took. */
  readonly clock: () => number;
}

/** Since the engine was made. */
export interface EngineCounts {
  /** Prompt tokens that were not read again. */
  readonly cachedTokens: number;
  readonly promptCacheBytes: number;
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
}

export interface Engine {
  /** Rows that decode now. */
  readonly rows: number;
  /** Requests that have not joined the batch. */
  readonly waiting: number;
  readonly steps: number;
  readonly counts: EngineCounts;
  /** What the session failed with; then the engine takes no more requests. */
  readonly failure: unknown;
  /**
   * Throws as `generate` does, and CPM_INFER_OPTIONS for beam search and for more samples than the engine has rows. A
   * request that fails leaves the others alone, unless the session itself failed.
   */
  generate(request: EngineRequest): Promise<EngineResult>;
  /** Runs a pass over rows between the steps of the batch; `read` takes from it what is wanted. */
  pass<T>(
    rows: readonly PassRow[],
    read: (pass: RowPass) => Promise<T>,
    options?: Partial<Pick<PassSettings, "promptTask" | "segment">> & { readonly signal?: AbortSignal | undefined },
  ): Promise<{ readonly value: T; readonly computeMs: number }>;
  /** Ends all requests as cancelled and takes no more; settles when nothing runs. The session is the caller's. */
  close(): Promise<void>;
}

/** What was read of a prompt. */
interface KnownPrompt {
  readonly state: RowState;
  /** After it, [V]. */
  readonly logits: Float32Array;
}

/** A row of the session, at the same index. */
interface LiveRow {
  readonly job: EngineJob;
  readonly text: GeneratedRow;
}

interface PassJob {
  readonly signal: AbortSignal | undefined;
  begin(): Promise<RowPass>;
  finish(pass: RowPass, computeMs: number): Promise<void>;
  fail(error: unknown): void;
}

/** What is being read between the steps. */
type Reading =
  | { readonly kind: "prompts"; readonly jobs: readonly EngineJob[]; readonly tokens: number; readonly on: Newcomers }
  | { readonly kind: "pass"; readonly job: PassJob; readonly tokens: number; readonly on: RowPass; ms: number };

/** What choosing a token may fail with. */
const choiceErrors: ReadonlySet<string> = new Set(["CPM_INFER_NAN", "CPM_INFER_NO_TOKEN"]);

function tell({ request }: EngineJob, event: TokenEvent): void {
  request.onEvent?.(event);
}

/** Makes an engine over a session that no one else uses. */
export function createEngine(
  session: ContinuousSession,
  tokenizer: GenerationTokenizer,
  { rows: capacity, prefillTokens = 256, promptCacheBytes = 0, drafter, maxDraftTokens = 8, clock }: EngineOptions,
): Engine {
  const { vocabSize: V } = session;
  const known = createRecentEntries<KnownPrompt>(promptCacheBytes);
  const drafting = drafter && createLoneDrafting(session, drafter, maxDraftTokens);
  let cachedTokens = 0;
  const memory = createSamplerMemory(V);
  const waiting: EngineJob[] = [];
  const passes: PassJob[] = [];
  let live: LiveRow[] = [];
  let reading: Reading | undefined;
  let running: Promise<void> | undefined;
  let closed = false;
  let steps = 0;
  let failure: unknown;

  /** The next token of a text. Its event goes out; a row that cannot go on fails its request alone. */
  function choose(job: EngineJob, text: GeneratedRow, logits: Float32Array): void {
    try {
      const uniform = job.uniforms[text.sample]!;
      const choice = job.sampler.choose(logits, text.ids, uniform, { row: 0, step: text.ids.length });
      tell(job, text.accept(choice));
    } catch (error) {
      failAlone(job, error);
    }
  }

  function failAlone(job: EngineJob, error: unknown): void {
    for (const each of job.texts) if (each.finish === null) each.end("cancelled");
    job.settle(error);
  }

  function endCancelled(job: EngineJob): void {
    for (const text of job.texts) if (text.finish === null) tell(job, text.end("cancelled"));
  }

  /** Takes rows out of the session whose text is finished, and settles requests of which none is left. */
  function removeFinished(): void {
    for (let at = live.length - 1; at >= 0; at--) {
      const { job, text } = live[at]!;
      if (text.finish === null) continue;
      session.remove(at);
      const last = live.pop()!;
      if (at < live.length) live[at] = last;
      if (job.texts.every(({ finish }) => finish !== null)) job.settle();
    }
  }

  function dropCancelled(): void {
    const stopped = (signal: AbortSignal | undefined) => closed || signal?.aborted === true;
    for (const job of waiting.filter(({ request }) => stopped(request.signal))) {
      waiting.splice(waiting.indexOf(job), 1);
      endCancelled(job);
      job.settle();
    }
    for (const job of passes.filter(({ signal }) => stopped(signal))) {
      passes.splice(passes.indexOf(job), 1);
      job.fail(new CancelledError("CPM_CANCELLED", "the request was cancelled"));
    }
    for (const { job } of live) if (stopped(job.request.signal)) endCancelled(job);
    removeFinished();
    if (reading?.kind === "pass" && stopped(reading.job.signal)) {
      reading.on.dispose();
      reading.job.fail(new CancelledError("CPM_CANCELLED", "the request was cancelled"));
      reading = undefined;
    }
    if (reading?.kind === "prompts" && reading.jobs.every(({ request }) => stopped(request.signal))) {
      reading.on.dispose();
      for (const job of reading.jobs) {
        endCancelled(job);
        job.settle();
      }
      reading = undefined;
    }
  }

  const isKnown = ({ stateKey }: EngineJob) => stateKey !== undefined && known.has(stateKey);

  /** Whoever is next and has a prompt that was read before joins without reading. */
  function resumeKnown(): void {
    for (let job = waiting[0]; job !== undefined && isKnown(job); job = waiting[0]) {
      if (job.texts.length > capacity - live.length) return;
      waiting.shift();
      const startMs = clock();
      const { state, logits } = known.get(job.stateKey!)!;
      const first = live.length;
      session.resume(state, job.request.mix);
      job.cachedTokens = job.request.prompt.length;
      cachedTokens += job.cachedTokens;
      admit([{ job, logits }], first);
      job.computeMs += clock() - startMs;
    }
  }

  /** The first requests for whose rows there is room, as many as make one portion of reading. */
  function takeWaiting(): EngineJob[] {
    const taken: EngineJob[] = [];
    let room = capacity - live.length;
    let longest = 0;
    while (waiting.length > 0) {
      const job = waiting[0]!;
      if (isKnown(job)) break;
      longest = Math.max(longest, job.request.prompt.length);
      const tokens = longest * (taken.length + 1);
      if (job.texts.length > room || (taken.length > 0 && tokens > prefillTokens)) break;
      room -= job.texts.length;
      taken.push(waiting.shift()!);
    }
    return taken;
  }

  async function beginReading(): Promise<void> {
    const startMs = clock();
    const job = passes[0];
    // Passes need no row and are short: one of them goes between two portions of prompts.
    if (job !== undefined) {
      passes.shift();
      try {
        const on = await job.begin();
        reading = { kind: "pass", job, on, tokens: on.columns, ms: clock() - startMs };
      } catch (error) {
        job.fail(error);
      }
      return;
    }
    const jobs = takeWaiting();
    if (jobs.length === 0) return;
    try {
      const on = await session.begin(
        jobs.map(({ request }) => request.prompt),
        jobs.map(({ request }) => request.mix ?? []),
      );
      const tokens = jobs.length * Math.max(...jobs.map(({ request }) => request.prompt.length));
      reading = { kind: "prompts", jobs, on, tokens };
      share(jobs, clock() - startMs);
    } catch (error) {
      for (const each of jobs) each.settle(error);
      throw error;
    }
  }

  function share(jobs: readonly EngineJob[], ms: number): void {
    const tokens = jobs.reduce((sum, { request }) => sum + request.prompt.length, 0);
    for (const job of jobs) job.computeMs += (ms * job.request.prompt.length) / tokens;
  }

  /** Reads on: all layers where no batch waits for it, else a portion. */
  async function readOn(): Promise<void> {
    if (reading === undefined) await beginReading();
    if (reading === undefined) return;
    const { on, tokens } = reading;
    const startMs = clock();
    const total = on.layersLeft;
    const portion = live.length === 0 ? total : Math.max(1, Math.floor((prefillTokens * layers(reading)) / tokens));
    try {
      await on.advance(portion);
      if (on.layersLeft > 0) {
        if (reading.kind === "prompts") share(reading.jobs, clock() - startMs);
        else reading.ms += clock() - startMs;
        return;
      }
      const done = reading;
      reading = undefined;
      if (done.kind === "pass") await done.job.finish(done.on, done.ms + clock() - startMs);
      else await join(done.jobs, done.on, startMs);
    } catch (error) {
      reading?.on.dispose();
      if (reading?.kind === "pass") reading.job.fail(error);
      if (reading?.kind === "prompts") for (const job of reading.jobs) job.settle(error);
      reading = undefined;
      throw error;
    }
  }

  /** All layers of what is read: those that are left at its beginning. */
  const layerCounts = new WeakMap<object, number>();
  function layers({ on }: Reading): number {
    const known = layerCounts.get(on) ?? on.layersLeft;
    layerCounts.set(on, known);
    return known;
  }

  /** New rows choose their first tokens; further samples of a prompt become rows of their own. */
  async function join(jobs: readonly EngineJob[], newcomers: Newcomers, startMs: number): Promise<void> {
    let logits: Float32Array;
    const first = live.length;
    try {
      logits = await newcomers.join();
    } catch (error) {
      for (const job of jobs) job.settle(error);
      throw error;
    }
    share(jobs, clock() - startMs);
    const rows = jobs.map((job, at) => ({ job, logits: logits.subarray(at * V, (at + 1) * V) }));
    rows.forEach(({ job, logits: own }, at) => {
      keepState(job, first + at, own);
    });
    admit(rows, first);
  }

  function keepState({ stateKey }: EngineJob, row: number, logits: Float32Array): void {
    const bytes = session.stateBytes(row) + logits.byteLength;
    if (stateKey === undefined || bytes > promptCacheBytes || known.has(stateKey)) return;
    known.add(stateKey, { state: session.save(row), logits: logits.slice() }, bytes);
  }

  /** The session's rows from `first` on, one for each job, choose their first tokens. */
  function admit(joining: readonly { readonly job: EngineJob; readonly logits: Float32Array }[], first: number): void {
    const rows: LiveRow[] = [];
    const copies: { from: number; row: LiveRow }[] = [];
    for (const [at, { job, logits }] of joining.entries()) {
      if (job.request.signal?.aborted) endCancelled(job);
      for (const text of job.texts) if (text.finish === null) choose(job, text, logits);
      const [leading = job.texts[0]!, ...others] = job.texts.filter(({ finish }) => finish === null);
      rows.push({ job, text: leading });
      for (const text of others) copies.push({ from: first + at, row: { job, text } });
    }
    live.push(...rows);
    for (const { from, row } of copies) {
      session.fork(from);
      live.push(row);
    }
    removeFinished();
  }

  async function step(): Promise<void> {
    if (live.length === 0) return;
    const [only] = live;
    if (drafting !== undefined && live.length === 1 && only!.job.rules !== undefined) return stepAlone(only!);
    const startMs = clock();
    const logits = await session.step(Int32Array.from(live, ({ text }) => text.ids.at(-1)!));
    steps++;
    for (const [at, { job, text }] of live.entries()) {
      if (text.finish === null) choose(job, text, logits.subarray(at * V, (at + 1) * V));
    }
    const each = (clock() - startMs) / live.length;
    for (const { job } of live) job.computeMs += each;
    removeFinished();
  }

  /** A pass over the only row, with guesses. */
  async function stepAlone({ job, text }: LiveRow): Promise<void> {
    const startMs = clock();
    const { sampler, isGreedy, maxTokens, rules } = job;
    const uniform = job.uniforms[text.sample]!;
    steps++;
    try {
      const row = { prompt: job.request.prompt, text, sampler, isGreedy, uniform, maxTokens, rules: rules! };
      for (const choice of await drafting!.step(row)) if (text.finish === null) tell(job, text.accept(choice));
    } catch (error) {
      // Of a row's numbers and rules: the request's own. Anything else is the session's.
      if (!(error instanceof CpmError && choiceErrors.has(error.code))) throw error;
      failAlone(job, error);
    }
    job.computeMs += clock() - startMs;
    removeFinished();
  }

  async function run(): Promise<void> {
    try {
      while (waiting.length + passes.length + live.length > 0 || reading !== undefined) {
        dropCancelled();
        resumeKnown();
        await readOn();
        await step();
        // Small models never leave the thread: messages, timers and signals get their turn here.
        await new Promise<void>((resolve) => {
          setImmediate(resolve);
        });
      }
    } catch (error) {
      // The session cannot be relied on any more: whatever it was doing has failed.
      closed = true;
      failure = error;
      for (const job of new Set([...live.map((row) => row.job), ...waiting.splice(0)])) job.settle(error);
      live = [];
      for (const job of passes.splice(0)) job.fail(error);
    } finally {
      running = undefined;
    }
  }

  function wake(): void {
    running ??= run();
  }

  const checkOpen = () => {
    if (closed) throw new CancelledError("CPM_CANCELLED", "the engine takes no more requests");
  };

  return {
    get rows() {
      return live.length;
    },
    get waiting() {
      return waiting.length + passes.length + (reading?.kind === "prompts" ? reading.jobs.length : 0);
    },
    get steps() {
      return steps;
    },
    get counts() {
      const { draftedTokens = 0, acceptedTokens = 0 } = drafting ?? {};
      return { cachedTokens, promptCacheBytes: known.bytes, draftedTokens, acceptedTokens };
    },
    get failure() {
      return failure;
    },
    async generate(request) {
      checkOpen();
      const job = createEngineJob(request, session, tokenizer, { capacity, memory, guessed: drafting !== undefined });
      waiting.push(job);
      wake();
      return await job.result;
    },
    async pass(rows, read, { signal, ...settings } = {}) {
      checkOpen();
      return await new Promise((resolve, reject) => {
        passes.push({
          signal,
          begin: () => session.pass(rows, settings),
          async finish(pass, computeMs) {
            const startMs = clock();
            try {
              const value = await read(pass);
              resolve({ value, computeMs: computeMs + clock() - startMs });
            } catch (error) {
              reject(error);
            } finally {
              pass.dispose();
            }
          },
          fail: reject,
        });
        wake();
      });
    },
    async close() {
      closed = true;
      await running;
    },
  };
}
