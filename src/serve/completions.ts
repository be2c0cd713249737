/** `/v1/completions` and `/v1/chat/completions`: texts that a model continues, whole or as they appear. */
import type { FinishReason, GeneratedText, TokenEvent } from "../infer/generated-row.ts";
import { ApiError, errorBody } from "./api-errors.ts";
import {
  type ChatRequest,
  type CompletionChoice,
  type CompletionRequest,
  chatAnswer,
  chatChunk,
  chatRequest,
  completionAnswer,
  completionRequest,
} from "./api-schemas.ts";
import type { Outcome } from "./dispatcher.ts";
import { echoPrompts } from "./echoed-prompts.ts";
import { defineEndpoint, type Endpoint, type Exchange, type ModelDirectory, streamed } from "./endpoint.ts";
import { createEventWriter } from "./event-writer.ts";
import type { ServedModel } from "./served-model.ts";
import {
  accountFor,
  deadlineOf,
  promptIds,
  promptList,
  type RunSettings,
  runTexts,
  settingsOf,
  type TextRun,
} from "./text-run.ts";
import { chatLogprobs, completionLogprobs, joinChatLogprobs } from "./token-logprobs.ts";

export interface StreamHooks {
  /** Milliseconds of the first token after the request came, and between tokens of a text. */
  readonly onFirstToken: (model: ServedModel, ms: number) => void;
  readonly onNextToken: (model: ServedModel, ms: number) => void;
  readonly onSlowReader: () => void;
}

/** How a dialogue is written for a model that continues text. */
const speakers = { user: "用户：", assistant: "助手：" } as const;
/** A turn ends where the next one would begin. */
const turnEnds = [`\n${speakers.user}`, `\n${speakers.assistant}`];

/**
 * The transcript that a model continues: what the system says, then one line a turn, and the assistant's turn begun.
 *
 *     你是一位助手。
 *     用户：今天星期几？
 *     助手：
 */
export function chatTranscript(messages: ChatRequest["messages"]): string {
  const lines = messages.map(({ role, content }) => {
    const text = typeof content === "string" ? content : content.map((part) => part.text).join("");
    return role === "user" || role === "assistant" ? `${speakers[role]}${text}` : text;
  });
  return [...lines, speakers.assistant].join("\n");
}

function finishOf(reason: FinishReason | null): "stop" | "length" | null {
  return reason === null ? null : reason === "stop" ? "stop" : "length";
}

/** Chunks of a stream as one of the two APIs writes them. */
interface ChunkForm {
  /** Sent first for each choice; undefined: nothing. */
  opening(choice: number): unknown;
  chunk(choice: number, event: TokenEvent): unknown;
  closing(usage: unknown): unknown;
}

/** Runs a request and sends its chunks. A refusal before the first is thrown, a later one is an event. */
async function stream(
  model: ServedModel,
  run: TextRun,
  exchange: Exchange,
  settings: RunSettings & StreamHooks,
  form: ChunkForm,
  withUsage: boolean,
  /** Of what was done for the request before. */
  before: readonly Pick<Outcome, "work" | "queueMs">[] = [],
): Promise<typeof streamed> {
  const writer = createEventWriter(exchange.outgoing, {
    headers: exchange.headers,
    onSlow: () => {
      exchange.log.slow_reader = true;
      settings.onSlowReader();
    },
  });
  const watch = tokenWatch(model, exchange, settings);
  const opened = new Set<number>();
  try {
    const { outcomes } = await runTexts(model, run, exchange, (choice, event) => {
      watch(choice, event);
      if (!opened.has(choice)) {
        opened.add(choice);
        const opening = form.opening(choice);
        if (opening !== undefined) writer.send(opening);
      }
      if (event.text !== "" || event.finish !== null || event.id !== null) writer.send(form.chunk(choice, event));
    });
    const usage = accountFor(model, [...outcomes, ...before], exchange, settings);
    if (withUsage) writer.send(form.closing(usage));
    writer.end(true);
  } catch (error) {
    if (!writer.begun || exchange.signal.aborted) {
      writer.end(false);
      throw error;
    }
    const refusal = error instanceof ApiError ? error : new ApiError("internal_error");
    exchange.log.error = refusal.code;
    writer.send(errorBody(refusal, exchange.language));
    writer.end(false);
    if (!(error instanceof ApiError)) throw error;
  }
  return streamed;
}

function tokenWatch(model: ServedModel, exchange: Exchange, hooks: StreamHooks) {
  const startMs = performance.now();
  const lastMs = new Map<number, number>();
  return (choice: number, { id }: TokenEvent) => {
    if (id === null) return;
    const nowMs = performance.now();
    const last = lastMs.get(choice);
    if (last !== undefined) hooks.onNextToken(model, nowMs - last);
    else if (lastMs.size === 0) {
      hooks.onFirstToken(model, nowMs - startMs);
      exchange.log.first_token_ms = Math.round(nowMs - startMs);
    }
    lastMs.set(choice, nowMs);
  };
}

export function completionEndpoints(
  directory: ModelDirectory,
  settings: RunSettings & StreamHooks,
): readonly Endpoint[] {
  const completions = defineEndpoint({
    path: "/v1/completions",
    method: "post",
    name: "createCompletion",
    summary: "Continue texts.",
    scope: "generate",
    request: completionRequest,
    answer: completionAnswer,
    chunk: completionAnswer,
    async handle(body, exchange) {
      const model = directory.find(body.model);
      const given = promptList(body.prompt);
      const prompts = given.map((prompt) => promptIds(prompt, model, "prompt"));
      const topLogprobs = body.logprobs ?? 0;
      const shown = body.n ?? 1;
      checkCompletion(body, shown);
      const options = settingsOf({ ...body, n: body.best_of ?? shown }, model, prompts, {
        maxTokens: body.max_tokens === 0 ? 1 : body.max_tokens,
        defaultTokens: 100,
        topLogprobs,
      });
      const run = { prompts, settings: options, deadlineMs: deadlineOf(body, settings) };
      const head = {
        id: `cmpl-${exchange.id}`,
        object: "text_completion" as const,
        created: Math.floor(Date.now() / 1000),
        model: model.id,
      };
      const cpm = { seed: options.seed };
      Object.assign(exchange.log, { model: model.id, seed: options.seed });
      if (exchange.logTexts) exchange.log.prompt = body.prompt;
      const withLogprobs = body.logprobs != null;
      const logprobsOf = (tokens: Parameters<typeof completionLogprobs>[0], offset?: number) =>
        withLogprobs ? completionLogprobs(tokens, model.tokenizer, topLogprobs > 0, offset) : null;
      const echoSettings = { topLogprobs: withLogprobs ? topLogprobs : undefined, deadlineMs: run.deadlineMs };
      const echo = body.echo === true ? await echoPrompts(model, given, prompts, echoSettings, exchange) : undefined;
      if (body.stream === true) {
        const offsets: number[] = [];
        const chunkOf = (
          choice: number,
          text: string,
          tokens: Parameters<typeof completionLogprobs>[0],
          finish = "",
        ) => {
          const logprobs = logprobsOf(tokens, offsets[choice]);
          for (const token of logprobs?.tokens ?? []) offsets[choice] = (offsets[choice] ?? 0) + token.length;
          const choices = [{ index: choice, text, logprobs, finish_reason: finish === "" ? null : finish }];
          return { ...head, choices, ...(body.stream_options?.include_usage && { usage: null }) };
        };
        return await stream(
          model,
          run,
          exchange,
          settings,
          {
            opening(choice) {
              const prompt = echo?.echoed[Math.floor(choice / shown)];
              return prompt && chunkOf(choice, prompt.text, prompt.tokens);
            },
            chunk(choice, { id, text, logprob, top, finish }) {
              const tokens = id === null || logprob === null ? [] : [{ id, logprob, top }];
              return chunkOf(choice, text, tokens, finishOf(finish) ?? "");
            },
            closing: (usage) => ({ ...head, choices: [], usage, cpm }),
          },
          body.stream_options?.include_usage === true,
          echo && withoutPrompts(echo.outcomes),
        );
      }
      const watch = tokenWatch(model, exchange, settings);
      const generated = body.max_tokens === 0 ? undefined : await runTexts(model, run, exchange, watch);
      const texts = prompts.flatMap((_, prompt): readonly (GeneratedText | undefined)[] => {
        const own = generated?.texts.slice(prompt * options.samples, (prompt + 1) * options.samples);
        return own === undefined ? Array(shown).fill(undefined) : bestTexts(own, shown);
      });
      const choices = texts.map((text, index): CompletionChoice => {
        const prompt = echo?.echoed[Math.floor(index / shown)];
        return {
          index,
          text: (prompt?.text ?? "") + (text?.text ?? ""),
          logprobs: logprobsOf([...(prompt?.tokens ?? []), ...(text ? tokensOf(text) : [])]),
          finish_reason: text ? finishOf(text.finish) : "length",
        };
      });
      if (exchange.logTexts) exchange.log.texts = choices.map(({ text }) => text);
      const scoring = echo?.outcomes ?? [];
      const outcomes = generated ? [...generated.outcomes, ...withoutPrompts(scoring)] : scoring;
      return { ...head, choices, usage: accountFor(model, outcomes, exchange, settings), cpm };
    },
  });

  const chat = defineEndpoint({
    path: "/v1/chat/completions",
    method: "post",
    name: "createChatCompletion",
    summary: "Continue a dialogue, which is written out as a transcript.",
    scope: "generate",
    request: chatRequest,
    answer: chatAnswer,
    chunk: chatChunk,
    async handle(body, exchange) {
      const model = directory.find(body.model);
      const prompts = [promptIds(chatTranscript(body.messages), model, "messages")];
      if (body.top_logprobs != null && body.top_logprobs > 0 && body.logprobs !== true) {
        throw new ApiError("invalid_value", { param: "top_logprobs", detail: "top_logprobs: needs logprobs." });
      }
      const options = settingsOf(body, model, prompts, {
        maxTokens: body.max_completion_tokens ?? body.max_tokens,
        defaultTokens: Number.POSITIVE_INFINITY,
        topLogprobs: body.top_logprobs ?? 0,
        stop: turnEnds,
      });
      const run = { prompts, settings: options, deadlineMs: deadlineOf(body, settings) };
      const head = { id: `chatcmpl-${exchange.id}`, created: Math.floor(Date.now() / 1000), model: model.id };
      const cpm = { seed: options.seed };
      Object.assign(exchange.log, { model: model.id, seed: options.seed });
      if (exchange.logTexts) exchange.log.messages = body.messages;
      const withLogprobs = body.logprobs === true;
      if (body.stream === true) {
        const chunk = { ...head, object: "chat.completion.chunk" as const };
        const usageField = body.stream_options?.include_usage === true ? { usage: null } : {};
        const choice = (index: number, delta: object, event?: TokenEvent) => ({
          ...chunk,
          choices: [
            {
              index,
              delta,
              logprobs: withLogprobs && event ? chatLogprobs(event, model.tokenizer) : null,
              finish_reason: finishOf(event?.finish ?? null),
            },
          ],
          ...usageField,
        });
        return await stream(
          model,
          run,
          exchange,
          settings,
          {
            opening: (index) => choice(index, { role: "assistant", content: "" }),
            chunk: (index, event) => choice(index, event.text === "" ? {} : { content: event.text }, event),
            closing: (usage) => ({ ...chunk, choices: [], usage, cpm }),
          },
          body.stream_options?.include_usage === true,
        );
      }
      const { texts, outcomes } = await runTexts(model, run, exchange, tokenWatch(model, exchange, settings));
      const choices = texts.map((text, index) => ({
        index,
        message: { role: "assistant" as const, content: text.text, refusal: null },
        logprobs: withLogprobs
          ? joinChatLogprobs(
              tokensOf(text).map((token) =>
                chatLogprobs({ ...token, row: 0, sample: 0, text: "", finish: null }, model.tokenizer),
              ),
            )
          : null,
        finish_reason: finishOf(text.finish),
      }));
      if (exchange.logTexts) exchange.log.texts = texts.map(({ text }) => text);
      const usage = accountFor(model, outcomes, exchange, settings);
      return { ...head, object: "chat.completion" as const, choices, usage, cpm };
    },
  });
  return [completions, chat];
}

/** What the schema alone cannot say of a completion. */
function checkCompletion({ best_of, stream, echo, max_tokens }: CompletionRequest, shown: number): void {
  const refuse = (param: string, what: string) => {
    throw new ApiError("invalid_value", { param, detail: `${param}: ${what}.` });
  };
  if (best_of != null && best_of < shown) refuse("best_of", `at least ${shown}, as n`);
  if (best_of != null && best_of > shown && stream) refuse("best_of", "more than n cannot be streamed");
  if (max_tokens === 0 && !echo) refuse("max_tokens", "0 only with echo");
  if (max_tokens === 0 && stream) refuse("max_tokens", "0 cannot be streamed");
}

/** Of the texts of a prompt those with the highest mean log probability of a token, from the best; all in their order. */
function bestTexts(texts: readonly GeneratedText[], count: number): readonly GeneratedText[] {
  if (count === texts.length) return texts;
  const mean = ({ logprobs }: GeneratedText) => logprobs.reduce((sum, each) => sum + each, 0) / (logprobs.length || 1);
  return [...texts].sort((a, b) => mean(b) - mean(a) || a.sample - b.sample).slice(0, count);
}

/** The time of passes over prompts that are counted already, as those that texts were generated from. */
function withoutPrompts(outcomes: readonly Pick<Outcome, "work" | "queueMs">[]) {
  return outcomes.map(({ work, queueMs }) => ({ queueMs, work: { ...work, promptTokens: 0 } }));
}

function tokensOf({ ids, logprobs, top }: GeneratedText) {
  return ids.map((id, at) => ({ id, logprob: logprobs[at]!, top: top[at] ?? [] }));
}
