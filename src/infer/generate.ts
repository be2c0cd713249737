/**
 * Generation: prompts in, texts out, over any `DecodingSession`. Prompts of unequal length run as one batch; a finished
 * row leaves it at once; several samples of a prompt share its prefill. Events stream as an async iterator.
 *
 * With a drafter (`draft.ts`) several tokens of a row are decided in one pass: see `speculative.ts`.
 *
 * As in the original, the first token may be neither an end token nor a newline, generated tokens alone are penalised,
 * and `<s>` before the prompt is the caller's. Draws come from (seed, prompt, sample) with one number a step, so a prompt
 * gives the same text in a batch as alone.
 */
import { ConfigError, DataError } from "../util/error.ts";
import { createRandom, type Random, type Seed } from "../util/random.ts";
import { type BeamSearch, createBeamSearch } from "./beam.ts";
import { constraintOf } from "./constraint/response-format.ts";
import type { Drafter, DraftRow } from "./draft.ts";
import { createDraftPace, type DraftPace } from "./draft-pace.ts";
import {
  createGeneratedRow,
  type EndRules,
  type GeneratedRow,
  type GeneratedText,
  type TokenEvent,
} from "./generated-row.ts";
import { createLogitEditor, type LogitEditor } from "./logits.ts";
import { type GenerateOptions, type GenerateOptionsInput, parseGenerateOptions } from "./options.ts";
import { createPromptCache, type PromptCache } from "./prompt-cache.ts";
import type { GenerationTokenizer } from "./row-text.ts";
import { createSampler } from "./sample.ts";
import type { DecodingSession } from "./session.ts";
import { verifyDraft } from "./speculative.ts";

export type Prompts = readonly (readonly number[])[];

/** What a run takes beside its settings. */
export interface GenerationRun {
  /** Looked at before and after every call of the session; texts under way end as "cancelled" and keep what they have. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds, for `timing`. */
  readonly clock?: (() => number) | undefined;
  /** A seed for each prompt, instead of the one in the settings for all. */
  readonly seeds?: readonly Seed[] | undefined;
  /**
   * Guesses tokens that are then verified several at a time. Greedy texts and, with a drafter that does not draw, sampled
   * ones are those of plain decoding; else they have the same distribution. Not with beam search.
   */
  readonly drafter?: Drafter | undefined;
  /** Where texts are looked for that were read before. */
  readonly promptCache?: PromptCache | undefined;
  /**
   * Of each prompt, how many first tokens are read as a prompt, which see each other in both directions; the others follow
   * as if they had been generated. For later turns of a conversation: see `prompt-cache.ts`. Default: all.
   */
  readonly contextTokens?: readonly number[] | undefined;
  /** Of each prompt, the weights of the deltas that are mixed into the session's model. Then nothing read before is reused. */
  readonly mixes?: readonly ArrayLike<number>[] | undefined;
  /** Most guesses a row in one pass. Default 8. */
  readonly maxDraftTokens?: number | undefined;
}

/** How guesses fared. */
export interface Speculation {
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
}

export interface GenerationTiming {
  readonly prefillMs: number;
  /** In the session: steps and reordering; of a drafter too. */
  readonly stepMs: number;
  /** Outside of it: choosing tokens and making text. Readers' time between events counts nowhere. */
  readonly chooseMs: number;
  /** Calls of `session.step` and `session.extend`. */
  readonly steps: number;
  /** (stepMs + chooseMs) / steps: what one token of each row takes. */
  readonly msPerStep: number;
}

export interface GenerationResult {
  /** By prompt, then by sample (beam search: from the best; fewer than asked for where it found fewer). */
  readonly texts: readonly GeneratedText[];
  readonly usage: { readonly promptTokens: number; readonly generatedTokens: number };
  /** Null without a clock. */
  readonly timing: GenerationTiming | null;
  /** Null without a drafter. */
  readonly speculation: Speculation | null;
}

/**
 * Generates and yields an event for every token as it is chosen (beam search: once the beam of a prompt is decided);
 * returns the whole. Breaking off leaves the session ready for the next prefill.
 *
 * Throws CPM_INFER_OPTIONS, CPM_INFER_PROMPT (empty, or an id outside of the vocabulary), CPM_INFER_CAPACITY (a prompt that
 * leaves no room), CPM_INFER_NAN, CPM_INFER_NO_TOKEN.
 */
export async function* streamGenerate(
  session: DecodingSession,
  tokenizer: GenerationTokenizer,
  prompts: Prompts,
  options: GenerateOptionsInput = {},
  run: GenerationRun = {},
): AsyncGenerator<TokenEvent, GenerationResult, void> {
  const settings = parseGenerateOptions(options);
  checkIds(settings, tokenizer, session.vocabSize);
  checkPrompts(prompts, session, run.seeds);
  if (run.drafter !== undefined && settings.mode === "beam") {
    throw new ConfigError("CPM_INFER_OPTIONS", "beam search takes no drafter", {
      got: "mode beam with a drafter",
      expected: "mode greedy or sample",
    });
  }
  const endIds = endIdsOf(settings, tokenizer);
  const editor = editorOf(settings, tokenizer, session.vocabSize);
  const { contextTokens, promptCache = createPromptCache(0) } = run;
  checkContext(prompts, contextTokens);
  const { mixes } = run;
  if (mixes !== undefined && mixes.length !== prompts.length) {
    throw new ConfigError("CPM_INFER_OPTIONS", "mixes and prompts differ in number", {
      got: `${mixes.length} mixes`,
      expected: `${prompts.length}, one for each prompt`,
    });
  }
  const meter = createMeter(session, run.clock, (given) => {
    if (mixes !== undefined) return session.prefill(given, mixes);
    if (contextTokens === undefined && run.promptCache === undefined) return session.prefill(given);
    return promptCache.prefill(
      session,
      given.map((ids, index) => ({ ids, contextTokens: contextTokens?.[index] })),
    );
  });
  const ends = prompts.map((prompt) => endRules(settings, endIds, session.capacityTokens - prompt.length));
  const decoding: Decoding = { tokenizer, prompts, settings, run, ends, editor, meter, vocabSize: session.vocabSize };
  const speculation = { draftedTokens: 0, acceptedTokens: 0 };
  const rows = yield* settings.mode === "beam"
    ? decodeBeams(decoding)
    : run.drafter === undefined
      ? decodeRows(decoding)
      : decodeSpeculatively(decoding, run.drafter, run.maxDraftTokens ?? 8, speculation);
  const texts = rows.map((row) => row.result());
  return {
    texts,
    usage: {
      promptTokens: prompts.reduce((sum, prompt) => sum + prompt.length, 0),
      generatedTokens: texts.reduce((sum, { ids }) => sum + ids.length, 0),
    },
    timing: run.clock === undefined ? null : meter.timing(),
    speculation: run.drafter === undefined ? null : speculation,
  };
}

/** `streamGenerate` to its end; `onToken` sees every event. */
export async function generate(
  session: DecodingSession,
  tokenizer: GenerationTokenizer,
  prompts: Prompts,
  options: GenerateOptionsInput = {},
  run: GenerationRun & { readonly onToken?: ((event: TokenEvent) => void) | undefined } = {},
): Promise<GenerationResult> {
  const events = streamGenerate(session, tokenizer, prompts, options, run);
  for (;;) {
    const next = await events.next();
    if (next.done === true) return next.value;
    run.onToken?.(next.value);
  }
}

/** Everything that the two ways of decoding share. */
interface Decoding {
  readonly tokenizer: GenerationTokenizer;
  readonly prompts: Prompts;
  readonly settings: GenerateOptions;
  readonly run: GenerationRun;
  /** Of each prompt: a shorter one has more room. */
  readonly ends: readonly EndRules[];
  readonly editor: LogitEditor;
  readonly meter: Meter;
  readonly vocabSize: number;
}

/** Greedy decoding and sampling. */
async function* decodeRows(decoding: Decoding): AsyncGenerator<TokenEvent, GeneratedRow[], void> {
  const { prompts, settings, run, ends, editor, meter, vocabSize } = decoding;
  const temperature = settings.mode === "greedy" ? 0 : settings.temperature;
  const sampler = createSampler(vocabSize, { ...settings, temperature }, editor, settings.topLogprobs);
  const rows: GeneratedRow[] = [];
  // `source` is where in the last logits the row's are: at first, samples of a prompt share its row.
  let live: { row: GeneratedRow; source: number; uniform: () => number }[] = [];
  for (const [prompt, promptIds] of prompts.entries()) {
    const random = randomOf(run.seeds?.[prompt] ?? settings.seed, promptIds);
    for (let sample = 0; sample < settings.samples; sample++) {
      const row = createGeneratedRow(prompt, sample, decoding.tokenizer, ends[prompt]!);
      rows.push(row);
      live.push({ row, source: prompt, uniform: random.fork(sample).uniform });
    }
  }

  let logits = run.signal?.aborted ? undefined : await meter.prefill(prompts);
  for (let step = 0; logits !== undefined && !run.signal?.aborted; step++) {
    const chosen = logits;
    const events = meter.choosing(() =>
      live.map(({ row, source, uniform }) =>
        row.accept(sampler.choose(rowOf(chosen, source, vocabSize), row.ids, uniform, { row: row.row, step })),
      ),
    );
    yield* events;
    live = live.filter(({ row }) => row.finish === null);
    if (live.length === 0 || run.signal?.aborted) break;
    const tokens = live.map(({ row }) => row.ids.at(-1)!);
    logits = await meter.step(
      live.map(({ source }) => source),
      tokens,
    );
    for (const [index, each] of live.entries()) each.source = index;
  }
  for (const { row } of live) if (row.finish === null) yield row.end("cancelled");
  return rows;
}

/** A row with guesses. */
interface SpeculativeRow extends DraftRow {
  readonly text: GeneratedRow;
  readonly pace: DraftPace;
  /** Decides over guesses; `uniform` draws them. */
  readonly decide: () => number;
}

/**
 * Greedy decoding and sampling with guesses: a pass feeds each row its last chosen token and the guesses after it, and
 * decides over all of them. The session holds all of a row's tokens but the last.
 */
async function* decodeSpeculatively(
  decoding: Decoding,
  drafter: Drafter,
  maxDraftTokens: number,
  speculation: { draftedTokens: number; acceptedTokens: number },
): AsyncGenerator<TokenEvent, GeneratedRow[], void> {
  const { prompts, settings, run, ends, editor, meter, vocabSize } = decoding;
  const temperature = settings.mode === "greedy" ? 0 : settings.temperature;
  const greedy = temperature === 0;
  const sampler = createSampler(vocabSize, { ...settings, temperature }, editor, settings.topLogprobs);
  const rows = prompts.flatMap((promptIds, prompt) => {
    const random = randomOf(run.seeds?.[prompt] ?? settings.seed, promptIds);
    return Array.from({ length: settings.samples }, (_, sample): SpeculativeRow => {
      const text = createGeneratedRow(prompt, sample, decoding.tokenizer, ends[prompt]!);
      const own = random.fork(sample);
      return {
        text,
        row: prompt,
        prompt: promptIds,
        generated: text.ids,
        decide: own.uniform,
        uniform: own.fork("draft").uniform,
        pace: createDraftPace(drafter.cost),
      };
    });
  });
  const texts = rows.map(({ text }) => text);
  if (run.signal?.aborted) {
    for (const text of texts) yield text.end("cancelled");
    return texts;
  }

  const first = await meter.prefill(prompts);
  yield* meter.choosing(() =>
    rows.map(({ text, row, decide }) =>
      text.accept(sampler.choose(rowOf(first, row, vocabSize), text.ids, decide, { row, step: 0 })),
    ),
  );
  let live = rows.filter(({ text }) => text.finish === null);
  // Where each of them is in the sessions, which have `there` rows.
  let sources = live.map(({ row }) => row);
  let there = prompts.length;
  if (live.length > 0 && !run.signal?.aborted) {
    await meter.drafting(() => drafter.begin(prompts, { sampler, greedy, ends: ends[0]!.ends }));
  }
  while (live.length > 0 && !run.signal?.aborted) {
    const current = live;
    const drafts = await meter.drafting(async () => {
      if (!inPlace(sources, there)) await drafter.reorder(Int32Array.from(sources));
      // The last token that may come needs no guess.
      const counts = current.map(({ text, row, pace }) =>
        pace.asks() ? Math.min(maxDraftTokens, ends[row]!.maxTokens - text.ids.length - 1) : 0,
      );
      return drafter.propose(
        current,
        counts,
        current.map(({ pace }) => pace),
      );
    });
    const fed = current.map(({ text }, index) => [text.ids.at(-1)!, ...drafts[index]!.tokens]);
    const logits = await meter.extend(sources, fed);
    const removed: number[] = [];
    const events = meter.choosing(() => {
      let start = 0;
      return current.flatMap(({ text, row, decide, pace }, index) => {
        const draft = drafts[index]!;
        const first = start;
        start += fed[index]!.length;
        const at = (guess: number) => rowOf(logits, first + guess, vocabSize);
        const { choices, accepted } = verifyDraft(sampler, at, text.ids, draft, decide, greedy, row);
        pace.observe(draft.confidences, accepted);
        removed.push(draft.tokens.length - accepted);
        speculation.draftedTokens += draft.tokens.length;
        speculation.acceptedTokens += accepted;
        const taken: TokenEvent[] = [];
        for (const choice of choices) if (text.finish === null) taken.push(text.accept(choice));
        return taken;
      });
    });
    meter.truncate(removed);
    yield* events;
    there = current.length;
    live = current.filter(({ text }) => text.finish === null);
    sources = live.map((row) => current.indexOf(row));
  }
  for (const { text } of live) if (text.finish === null) yield text.end("cancelled");
  return texts;
}

/** Beam search: the live beams of all prompts form the batch. */
async function* decodeBeams(decoding: Decoding): AsyncGenerator<TokenEvent, GeneratedRow[], void> {
  const { prompts, settings, run, ends, editor, meter, vocabSize } = decoding;
  const { beamSize: size, lengthPenalty } = settings;
  const rows: GeneratedRow[] = [];
  let live = ends.map((own, prompt) => ({
    search: createBeamSearch({ size, lengthPenalty, maxTokens: own.maxTokens, ends: own.ends }, editor),
    prompt,
  }));

  let logits = run.signal?.aborted ? undefined : await meter.prefill(prompts);
  for (let step = 0; logits !== undefined && !run.signal?.aborted; step++) {
    const sources: number[] = [];
    const tokens: number[] = [];
    const scored = logits;
    const done = meter.choosing(() => {
      let first = 0;
      return live.filter(({ search, prompt }) => {
        const width = search.width;
        const beamRows = Array.from({ length: width }, (_, beam) => rowOf(scored, first + beam, vocabSize));
        const next = search.advance(beamRows, { row: prompt, step });
        for (const source of next.sources) sources.push(first + source);
        tokens.push(...next.tokens);
        first += width;
        return next.done;
      });
    });
    for (const { search, prompt } of done) yield* replay(decoding, prompt, search, rows);
    live = live.filter((each) => !done.includes(each));
    if (live.length === 0 || run.signal?.aborted) break;
    logits = await meter.step(sources, tokens);
  }
  for (const { search, prompt } of live) yield* replay(decoding, prompt, search, rows);
  return rows.sort((a, b) => a.row - b.row || a.sample - b.sample);
}

/** The best hypotheses of a prompt as texts and events, added to `rows`; those that were cut off end as cancelled. */
function* replay({ tokenizer, settings, ends }: Decoding, prompt: number, search: BeamSearch, rows: GeneratedRow[]) {
  for (const [sample, hypothesis] of search.hypotheses().slice(0, settings.samples).entries()) {
    const row = createGeneratedRow(prompt, sample, tokenizer, ends[prompt]!, hypothesis.score);
    rows.push(row);
    for (const [index, id] of hypothesis.ids.entries()) {
      yield row.accept({ id, logprob: hypothesis.logprobs[index]!, top: [] });
      if (row.finish !== null) break;
    }
    if (row.finish === null) yield row.end(hypothesis.ended ? "stop" : "cancelled");
  }
}

function rowOf(logits: Float32Array, row: number, vocabSize: number): Float32Array {
  return logits.subarray(row * vocabSize, (row + 1) * vocabSize);
}

/** The session with a clock around it. */
interface Meter {
  prefill(prompts: Prompts): Promise<Float32Array>;
  /** Makes row i continue from `sources[i]`, where that is not so already, then feeds the tokens. */
  step(sources: readonly number[], tokens: readonly number[]): Promise<Float32Array>;
  /** The same with several tokens a row; resolves to the logits after each of them. */
  extend(sources: readonly number[], tokens: readonly (readonly number[])[]): Promise<Float32Array>;
  truncate(removed: readonly number[]): void;
  drafting<T>(draft: () => Promise<T>): Promise<T>;
  choosing<T>(choose: () => T): T;
  timing(): GenerationTiming;
}

/** Whether rows that continue from these are where they are. */
function inPlace(sources: readonly number[], rows: number): boolean {
  return sources.length === rows && sources.every((source, row) => source === row);
}

function createMeter(
  session: DecodingSession,
  clock: () => number = () => 0,
  read: (prompts: Prompts) => Promise<Float32Array>,
): Meter {
  let prefillMs = 0;
  let stepMs = 0;
  let chooseMs = 0;
  let steps = 0;
  const checked = (logits: Float32Array, rows: number, tokens = rows): Float32Array => {
    if (session.rows === rows && logits.length === tokens * session.vocabSize) return logits;
    throw new Error(
      `internal: the session has ${session.rows} rows and gave ${logits.length} logits for ${tokens} tokens of ${rows} rows`,
    );
  };
  const reorder = async (sources: readonly number[]) => {
    if (!inPlace(sources, session.rows)) await session.reorder(Int32Array.from(sources));
  };
  return {
    async prefill(prompts) {
      const startMs = clock();
      const logits = await read(prompts);
      prefillMs += clock() - startMs;
      return checked(logits, prompts.length);
    },
    async step(sources, tokens) {
      const startMs = clock();
      await reorder(sources);
      const logits = await session.step(Int32Array.from(tokens));
      stepMs += clock() - startMs;
      steps++;
      return checked(logits, tokens.length);
    },
    async extend(sources, tokens) {
      const startMs = clock();
      await reorder(sources);
      const logits = await session.extend(tokens);
      stepMs += clock() - startMs;
      steps++;
      return checked(
        logits,
        tokens.length,
        tokens.reduce((sum, own) => sum + own.length, 0),
      );
    },
    truncate(removed) {
      if (removed.some((count) => count > 0)) session.truncate(removed);
    },
    async drafting(draft) {
      const startMs = clock();
      const result = await draft();
      stepMs += clock() - startMs;
      return result;
    },
    choosing(choose) {
      const startMs = clock();
      const result = choose();
      chooseMs += clock() - startMs;
      return result;
    },
    timing: () => ({ prefillMs, stepMs, chooseMs, steps, msPerStep: steps === 0 ? 0 : (stepMs + chooseMs) / steps }),
  };
}

/** Where a prompt's draws come from: its tokens, not its place, so that they are the same in any batch. */
export function randomOf(seed: Seed, prompt: readonly number[]): Random {
  return createRandom(seed, "generate").fork(prompt.join(" "));
}

/** Tokens that end a text. */
export function endIdsOf(settings: GenerateOptions, { eosId }: GenerationTokenizer): ReadonlySet<number> {
  return new Set([eosId, ...settings.stopIds]);
}

/** What the settings change in a row of logits. The ids have been checked. */
export function editorOf(settings: GenerateOptions, tokenizer: GenerationTokenizer, vocabSize: number): LogitEditor {
  const endIds = endIdsOf(settings, tokenizer);
  return createLogitEditor(vocabSize, {
    repetitionPenalty: settings.repetitionPenalty,
    repetitionWindow: settings.repetitionWindow,
    presencePenalty: settings.presencePenalty,
    frequencyPenalty: settings.frequencyPenalty,
    bias: Object.entries(settings.logitBias).map(([id, added]) => [Number(id), added] as const),
    forbidden: settings.forbiddenIds,
    forbiddenFirst: settings.allowEmpty ? [] : firstForbidden(tokenizer, endIds),
    ends: [...endIds],
    minTokens: settings.minTokens,
    constraint: constraintOf(settings.responseFormat, tokenizer.pieceOf, vocabSize),
  });
}

/** `roomTokens`: what the session has left behind the prompt. */
export function endRules(settings: GenerateOptions, ends: ReadonlySet<number>, roomTokens: number): EndRules {
  return {
    ends,
    stops: settings.stop,
    maxTokens: Math.min(settings.maxTokens, roomTokens),
    maxTokensReason: roomTokens < settings.maxTokens ? "capacity" : "length",
  };
}

function checkContext(prompts: Prompts, contextTokens: readonly number[] | undefined): void {
  if (contextTokens === undefined) return;
  const wrong = prompts.findIndex((prompt, index) => {
    const count = contextTokens[index];
    return !(count !== undefined && Number.isInteger(count) && count >= 1 && count <= prompt.length);
  });
  if (wrong < 0 && contextTokens.length === prompts.length) return;
  throw new ConfigError("CPM_INFER_OPTIONS", "contextTokens do not fit the prompts", {
    where: wrong < 0 ? "contextTokens" : `prompt ${wrong}`,
    got: wrong < 0 ? `${contextTokens.length} numbers` : String(contextTokens[wrong]),
    expected: wrong < 0 ? `${prompts.length}, one for each prompt` : `1 to ${prompts[wrong]!.length}`,
  });
}

function firstForbidden({ newlineId }: GenerationTokenizer, ends: ReadonlySet<number>): number[] {
  return newlineId === undefined ? [...ends] : [...ends, newlineId];
}

/** Throws CPM_INFER_OPTIONS for ids in the settings that the vocabulary does not have. */
export function checkIds(
  settings: GenerateOptions,
  { eosId, newlineId }: GenerationTokenizer,
  vocabSize: number,
): void {
  const named: [string, number][] = [["the tokenizer's eosId", eosId]];
  if (newlineId !== undefined) named.push(["the tokenizer's newlineId", newlineId]);
  for (const id of settings.stopIds) named.push(["stopIds", id]);
  for (const id of settings.forbiddenIds) named.push(["forbiddenIds", id]);
  for (const id of Object.keys(settings.logitBias)) named.push(["logitBias", Number(id)]);
  for (const [where, id] of named) {
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new ConfigError("CPM_INFER_OPTIONS", "a token id lies outside of the vocabulary", {
      where,
      got: String(id),
      expected: `0 to ${vocabSize - 1}`,
    });
  }
}

/** Throws CPM_INFER_PROMPT, CPM_INFER_CAPACITY or, for too few seeds, CPM_INFER_OPTIONS. */
export function checkPrompts(
  prompts: Prompts,
  session: Pick<DecodingSession, "vocabSize" | "capacityTokens">,
  seeds?: readonly Seed[] | undefined,
): void {
  const { vocabSize, capacityTokens } = session;
  if (prompts.length === 0) throw new DataError("CPM_INFER_PROMPT", "there are no prompts");
  if (seeds !== undefined && seeds.length !== prompts.length) {
    throw new ConfigError("CPM_INFER_OPTIONS", "seeds and prompts differ in number", {
      got: `${seeds.length} seeds`,
      expected: `${prompts.length}, one for each prompt`,
    });
  }
  for (const [index, prompt] of prompts.entries()) {
    const where = `prompt ${index}`;
    if (prompt.length === 0) {
      throw new DataError("CPM_INFER_PROMPT", "a prompt is empty", {
        where,
        expected: "at least one token",
        hint: "begin with <s>, as the model was trained",
      });
    }
    for (const id of prompt) {
      if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
      throw new DataError("CPM_INFER_PROMPT", "a prompt has an id outside of the vocabulary", {
        where,
        got: String(id),
        expected: `0 to ${vocabSize - 1}`,
        hint: "use the vocabulary that the model was trained with",
      });
    }
    if (prompt.length >= capacityTokens) {
      throw new ConfigError("CPM_INFER_CAPACITY", "a prompt leaves no room to generate", {
        where,
        got: `${prompt.length} tokens`,
        expected: `fewer than ${capacityTokens}`,
        hint: "shorten the prompt or open the session with a larger capacity",
      });
    }
  }
}
