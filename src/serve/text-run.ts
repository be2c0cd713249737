/**
 * Running the prompts of one request, each with its samples, through a model's dispatcher: what completions and chats
 * have in common. Also what every answer says of its use.
 */
import { randomInt } from "node:crypto";
import type { ResponseFormat } from "../infer/constraint/response-format.ts";
import type { GeneratedText, TokenEvent } from "../infer/generated-row.ts";
import { type GenerateOptions, parseGenerateOptions } from "../infer/options.ts";
import type { LedgerAssumptions } from "../live/ledger-assumptions.ts";
import { ApiError } from "./api-errors.ts";
import type { CompletionRequest, Usage } from "./api-schemas.ts";
import type { Outcome } from "./dispatcher.ts";
import type { Exchange } from "./endpoint.ts";
import { requestCost } from "./request-cost.ts";
import { type ServedModel, tooLong } from "./served-model.ts";
import type { GenerateTask, Work } from "./worker-protocol.ts";

/** What the server allows and reckons with. */
export interface RunSettings {
  readonly deadlineMs: number;
  readonly assumptions: LedgerAssumptions;
  readonly onWork: (model: ServedModel, work: Work, cost: Usage["cpm"]) => void;
}

export interface TextRun {
  readonly prompts: readonly (readonly number[])[];
  readonly settings: GenerateOptions;
  readonly deadlineMs: number;
}

/** What completions, chats and blanks have in common. */
type GenerationFields = Partial<
  Pick<
    CompletionRequest,
    | "temperature"
    | "top_p"
    | "top_k"
    | "repetition_penalty"
    | "seed"
    | "n"
    | "logit_bias"
    | "stop"
    | "min_tokens"
    | "stop_token_ids"
    | "ignore_eos"
    | "presence_penalty"
    | "frequency_penalty"
    | "response_format"
  >
>;

/** Most seeds that are drawn; also whole in clients whose integers are 32 bits wide. */
const seedLimit = 2 ** 31;

/**
 * The settings of generation that a request asks for. Throws ApiError for what does not fit: `context_length_exceeded`,
 * `invalid_value`, `unsupported_parameter`.
 */
export function settingsOf(
  body: GenerationFields,
  model: ServedModel,
  prompts: readonly (readonly number[])[],
  {
    maxTokens,
    defaultTokens,
    topLogprobs,
    stop = [],
  }: {
    readonly maxTokens: number | null | undefined;
    readonly defaultTokens: number;
    readonly topLogprobs: number;
    /** Beside the request's own. */
    readonly stop?: readonly string[];
  },
): GenerateOptions {
  const longest = Math.max(...prompts.map((prompt) => prompt.length));
  const room = model.contextTokens - longest;
  if (room < (maxTokens ?? 1)) {
    const got = maxTokens == null ? `${longest} tokens` : `${longest} + ${maxTokens} tokens`;
    throw new ApiError("context_length_exceeded", { detail: tooLong(got, model.contextTokens) });
  }
  const samples = body.n ?? 1;
  if (samples > model.rows)
    throw new ApiError("invalid_value", { param: "n", detail: `n: at most ${model.rows} on this server.` });
  for (const [param, ids] of [
    ["logit_bias", Object.keys(body.logit_bias ?? {}).map(Number)],
    ["stop_token_ids", body.stop_token_ids ?? []],
  ] as const) {
    const outside = ids.find((id) => id >= model.config.vocabSize);
    if (outside !== undefined)
      throw new ApiError("invalid_value", { param, detail: `${param}: there is no token ${outside}.` });
  }
  const tokens = maxTokens ?? Math.min(defaultTokens, room);
  const minTokens = body.min_tokens ?? 0;
  if (minTokens > tokens)
    throw new ApiError("invalid_value", {
      param: "min_tokens",
      detail: `min_tokens: at most ${tokens}, as max_tokens.`,
    });
  const given = body.stop == null ? [] : typeof body.stop === "string" ? [body.stop] : body.stop;
  return parseGenerateOptions({
    mode: body.temperature === 0 ? "greedy" : "sample",
    maxTokens: tokens,
    minTokens: body.ignore_eos ? tokens : minTokens,
    stopIds: body.stop_token_ids ?? [],
    ...(body.presence_penalty != null && { presencePenalty: body.presence_penalty }),
    ...(body.frequency_penalty != null && { frequencyPenalty: body.frequency_penalty }),
    ...(body.temperature != null && { temperature: body.temperature }),
    ...(body.top_p != null && { topP: body.top_p }),
    ...(body.top_k != null && { topK: body.top_k }),
    ...(body.repetition_penalty != null && { repetitionPenalty: body.repetition_penalty }),
    samples,
    seed: body.seed ?? randomInt(seedLimit),
    stop: [...given, ...stop],
    ...(body.logit_bias != null && { logitBias: body.logit_bias }),
    topLogprobs,
    responseFormat: formatOf(body.response_format),
  });
}

/** A response format as generation knows it; OpenAI puts a schema one level deeper. */
function formatOf(format: GenerationFields["response_format"]): ResponseFormat {
  if (format == null) return { type: "text" };
  if (format.type !== "json_schema") return format;
  return { type: "json_schema", schema: format.json_schema.schema ?? {} };
}

/** Ids of a prompt, `<s>` first. Throws ApiError `invalid_value` for ids that there are not. */
export function promptIds(given: string | readonly number[], model: ServedModel, param: string): readonly number[] {
  const { bosId, vocabSize } = model.tokenizer;
  if (typeof given === "string") {
    const { ids } = model.encode(given, param);
    if (ids.length === 0) throw new ApiError("empty_prompt", { param });
    return [bosId, ...ids];
  }
  const outside = given.find((id) => id >= vocabSize);
  if (outside !== undefined)
    throw new ApiError("invalid_value", { param, detail: `${param}: there is no token ${outside}.` });
  return given[0] === bosId ? given : [bosId, ...given];
}

/** `"a"`, `["a", "b"]`, `[1, 2]` or `[[1], [2]]` as a list of texts or ids. */
export function promptList(
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[],
): readonly (string | readonly number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" ? [prompt as readonly number[]] : (prompt as readonly (string | number[])[]);
}

/**
 * Generates for all prompts; `onEvent` gets each event with the index of its choice, prompt · samples + sample. If one
 * fails the others are cancelled. Returns the texts by choice.
 */
export async function runTexts(
  model: ServedModel,
  { prompts, settings, deadlineMs }: TextRun,
  exchange: Exchange,
  onEvent?: (choice: number, event: TokenEvent) => void,
): Promise<{ readonly texts: readonly GeneratedText[]; readonly outcomes: readonly Outcome<GenerateTask>[] }> {
  const { dispatcher } = model;
  dispatcher.checkRoom(exchange.user, prompts.length);
  const stop = new AbortController();
  const leave = () => stop.abort(exchange.signal.reason);
  exchange.signal.addEventListener("abort", leave);
  try {
    const outcomes = await Promise.all(
      prompts.map((prompt, at) =>
        dispatcher.run<GenerateTask>({
          task: { kind: "generate", prompt, settings, mix: model.mix, owner: exchange.user },
          user: exchange.user,
          deadlineMs,
          signal: stop.signal,
          ...(onEvent && { onEvent: (event) => onEvent(at * settings.samples + event.sample, event) }),
        }),
      ),
    );
    return { texts: outcomes.flatMap(({ answer }) => answer.texts), outcomes };
  } catch (error) {
    stop.abort(error);
    throw error;
  } finally {
    exchange.signal.removeEventListener("abort", leave);
  }
}

/** The usage of finished tasks; counts it for the key, the log and the metrics. */
export function accountFor(
  model: ServedModel,
  outcomes: readonly Pick<Outcome, "work" | "queueMs">[],
  exchange: Exchange,
  settings: RunSettings,
): Usage {
  const sum = (of: (outcome: Pick<Outcome, "work">) => number) => outcomes.reduce((total, each) => total + of(each), 0);
  const work: Work = {
    promptTokens: sum((each) => each.work.promptTokens),
    cachedTokens: sum((each) => each.work.cachedTokens),
    generatedTokens: sum((each) => each.work.generatedTokens),
    computeMs: sum((each) => each.work.computeMs),
  };
  const queueMs = Number(Math.max(0, ...outcomes.map((each) => each.queueMs)).toFixed(3));
  const cpm = { queue_ms: queueMs, ...requestCost(work.computeMs, settings.assumptions, model.workers) };
  exchange.charge(work.promptTokens + work.generatedTokens);
  settings.onWork(model, work, cpm);
  Object.assign(exchange.log, {
    prompt_tokens: work.promptTokens,
    ...(work.cachedTokens > 0 && { cached_tokens: work.cachedTokens }),
    completion_tokens: work.generatedTokens,
    queue_ms: queueMs,
    compute_ms: cpm.compute_ms,
  });
  return {
    prompt_tokens: work.promptTokens,
    prompt_tokens_details: { cached_tokens: work.cachedTokens },
    completion_tokens: work.generatedTokens,
    total_tokens: work.promptTokens + work.generatedTokens,
    cpm,
  };
}

/** Milliseconds that a request has: what it asks for, at most what the server allows. */
export function deadlineOf(body: { readonly deadline_ms?: number | null | undefined }, settings: RunSettings): number {
  return Math.min(body.deadline_ms ?? settings.deadlineMs, settings.deadlineMs);
}
