/**
 * One request of a running batch: its texts, its draws and rules, what it has cost so far, and how it ends. What happens to
 * its rows is the engine's matter.
 */
import { ConfigError } from "../util/error.ts";
import type { DraftRules } from "./draft.ts";
import { checkIds, checkPrompts, editorOf, endIdsOf, endRules, randomOf } from "./generate.ts";
import { createGeneratedRow, type GeneratedRow, type GeneratedText, type TokenEvent } from "./generated-row.ts";
import type { GenerateOptions } from "./options.ts";
import type { GenerationTokenizer } from "./row-text.ts";
import { createSampler, type Sampler, type SamplerMemory } from "./sample.ts";
import type { DecodingSession } from "./session.ts";

export interface EngineRequest {
  /** Ids, `<s>` first. */
  readonly prompt: readonly number[];
  /** Greedy or sampling; `samples` rows are taken at once. */
  readonly settings: GenerateOptions;
  /** Where several deltas share the base: this text's weight of each. */
  readonly mix?: readonly number[] | undefined;
  /** Whose prompt it is: states are kept for, and found by, its owner alone. Absent: it is neither kept nor looked for. */
  readonly owner?: string | undefined;
  /** Called for every token as it is chosen; `row` is 0. */
  readonly onEvent?: ((event: TokenEvent) => void) | undefined;
  /** Texts under way end as "cancelled" and keep what they have. */
  readonly signal?: AbortSignal | undefined;
}

export interface EngineResult {
  /** By sample. */
  readonly texts: readonly GeneratedText[];
  readonly promptTokens: number;
  /** Of the prompt's tokens those that were not read again: all or none. */
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  /** This request's share of the session's time: of a step, one part for each row that is in it. */
  readonly computeMs: number;
}

export interface EngineJob {
  readonly request: EngineRequest;
  readonly texts: readonly GeneratedRow[];
  readonly uniforms: readonly (() => number)[];
  readonly sampler: Sampler;
  readonly isGreedy: boolean;
  readonly maxTokens: number;
  /** Of guesses at its texts. */
  readonly rules: DraftRules | undefined;
  /** Names its prompt's state among those that are kept. */
  readonly stateKey: string | undefined;
  readonly result: Promise<EngineResult>;
  cachedTokens: number;
  computeMs: number;
  /** Ends it: with an error, or with its texts, which are all finished. */
  settle(error?: unknown): void;
}

/** Checks a request; errors as `Engine.generate` says. `guessed`: a drafter may guess at its texts. */
export function createEngineJob(
  request: EngineRequest,
  session: DecodingSession,
  tokenizer: GenerationTokenizer,
  {
    capacity,
    memory,
    guessed,
  }: { readonly capacity: number; readonly memory: SamplerMemory; readonly guessed: boolean },
): EngineJob {
  const { prompt, settings, owner, mix = [] } = request;
  const { vocabSize: V } = session;
  checkIds(settings, tokenizer, V);
  checkPrompts([prompt], session);
  if (settings.mode === "beam" || settings.samples > capacity) {
    throw new ConfigError("CPM_INFER_OPTIONS", "a running batch cannot take these settings", {
      got: settings.mode === "beam" ? "beam search" : `${settings.samples} samples`,
      expected: `greedy decoding or sampling, at most ${capacity} samples`,
    });
  }
  const random = randomOf(settings.seed, prompt);
  const ends = endRules(settings, endIdsOf(settings, tokenizer), session.capacityTokens - prompt.length);
  const temperature = settings.mode === "greedy" ? 0 : settings.temperature;
  const editor = editorOf(settings, tokenizer, V);
  const samples = Array.from({ length: settings.samples }, (_, sample) => sample);
  const texts = samples.map((sample) => createGeneratedRow(0, sample, tokenizer, ends));
  const greedy = () => createSampler(V, { ...settings, temperature: 0 }, editor, 0, memory);
  const { promise: result, resolve, reject } = Promise.withResolvers<EngineResult>();
  return {
    request,
    texts,
    uniforms: samples.map((sample) => random.fork(sample).uniform),
    sampler: createSampler(V, { ...settings, temperature }, editor, settings.topLogprobs, memory),
    isGreedy: temperature === 0,
    maxTokens: ends.maxTokens,
    rules: guessed ? { sampler: greedy(), greedy: true, ends: ends.ends } : undefined,
    stateKey: owner === undefined ? undefined : `${owner}|${mix}|${prompt}`,
    result,
    cachedTokens: 0,
    computeMs: 0,
    settle(error) {
      if (error !== undefined) return reject(error);
      const results = texts.map((text) => text.result());
      const generatedTokens = results.reduce((sum, { ids }) => sum + ids.length, 0);
      const { cachedTokens, computeMs } = this;
      resolve({ texts: results, promptTokens: prompt.length, cachedTokens, generatedTokens, computeMs });
    },
  };
}
