/** What a model says of texts without continuing them: vectors, blanks, scores, tokens, and which models there are. */
import { ApiError } from "./api-errors.ts";
import {
  detokenizeAnswer,
  detokenizeRequest,
  embeddingAnswer,
  embeddingRequest,
  fillAnswer,
  fillRequest,
  type ModelEntry,
  modelAnswer,
  modelList,
  scoreAnswer,
  scoreRequest,
  tokenizeAnswer,
  tokenizeRequest,
} from "./api-schemas.ts";
import { defineEndpoint, type Endpoint, type Exchange, type ModelDirectory } from "./endpoint.ts";
import { type ServedModel, tooLong } from "./served-model.ts";
import { accountFor, deadlineOf, promptIds, promptList, type RunSettings, settingsOf } from "./text-run.ts";
import { tokenEntry } from "./token-logprobs.ts";
import type { Task } from "./worker-protocol.ts";

const defaultMarker = "____";
const defaultBlankTokens = [1, 2, 3, 4];
/** Tokens, blanks included, of all candidates for the blanks of a text: what one request may make a worker read at once. */
const fillPassTokens = 16_384;

export function readingEndpoints(directory: ModelDirectory, settings: RunSettings): readonly Endpoint[] {
  const runTask = async <T extends Task>(
    model: ServedModel,
    task: T,
    body: { readonly deadline_ms?: number | null | undefined },
    exchange: Exchange,
  ) => {
    exchange.log.model = model.id;
    const { user, signal } = exchange;
    const outcome = await model.dispatcher.run<T>({
      task: { ...task, mix: model.mix },
      user,
      signal,
      deadlineMs: deadlineOf(body, settings),
    });
    return { answer: outcome.answer, usage: accountFor(model, [outcome], exchange, settings) };
  };

  const embeddings = defineEndpoint({
    path: "/v1/embeddings",
    method: "post",
    name: "createEmbedding",
    summary: "Vectors of texts, of length 1.",
    scope: "embed",
    request: embeddingRequest,
    answer: embeddingAnswer,
    async handle(body, exchange) {
      const model = directory.find(body.model);
      const texts = promptList(body.input).map((input) => promptIds(input, model, "input"));
      for (const { length } of texts) checkLength(length, model, "input");
      const task = { kind: "embed" as const, texts, pooling: body.pooling ?? ("mean" as const) };
      const { answer, usage } = await runTask(model, task, body, exchange);
      const data = answer.vectors.map((vector, index) => ({
        object: "embedding" as const,
        index,
        embedding: body.encoding_format === "base64" ? base64(vector) : vector,
      }));
      return { object: "list" as const, model: model.id, data, usage };
    },
  });

  const fill = defineEndpoint({
    path: "/v1/fill",
    method: "post",
    name: "createFill",
    summary: "Fill the blanks of a text, as CPM-Ant was trained to.",
    scope: "generate",
    request: fillRequest,
    answer: fillAnswer,
    async handle(body, exchange) {
      const model = directory.find(body.model);
      if (model.config.promptTypes < 2 || model.config.segmentTypes < 2)
        throw new ApiError("unsupported_parameter", { param: "model", detail: "The model has no prompt for blanks." });
      const parts = body.text.split(body.marker ?? defaultMarker);
      if (parts.length === 1)
        throw new ApiError("invalid_value", {
          param: "text",
          detail: `text: no ${body.marker ?? defaultMarker} in it.`,
        });
      model.encode(body.text, "text");
      const texts = parts.map((part) => model.encode(part, "text").ids);
      const blankTokens = [...new Set([body.blank_tokens ?? defaultBlankTokens].flat())];
      const widest = texts.flat().length + 2 + (parts.length - 1) * Math.max(...blankTokens);
      checkLength(widest, model, "text");
      const wanted = body.n ?? 1;
      const temperature = body.temperature ?? 0;
      const samples = temperature === 0 ? 1 : wanted;
      if (widest * blankTokens.length * samples > fillPassTokens) {
        throw new ApiError("context_length_exceeded", {
          param: "text",
          detail: `All candidates together have at most ${fillPassTokens} tokens.`,
        });
      }
      const options = settingsOf({ ...body, n: 1, temperature }, model, [[0]], {
        maxTokens: null,
        defaultTokens: 1,
        topLogprobs: 0,
      });
      const task = { kind: "fill" as const, texts, blankTokens, settings: { ...options, samples } };
      const { answer, usage } = await runTask(model, task, body, exchange);
      Object.assign(exchange.log, { seed: options.seed, ...(exchange.logTexts && { prompt: body.text }) });
      const seen = new Set<string>();
      const choices = answer.fills
        .map(({ blanks, score }) => ({ blanks: blanks.map((ids) => model.tokenizer.decode(ids)), score }))
        .filter(({ blanks }) => !seen.has(blanks.join("\0")) && seen.add(blanks.join("\0")))
        .slice(0, wanted)
        .map(({ blanks, score }, index) => ({
          index,
          text: parts.map((part, at) => (at === 0 ? part : blanks[at - 1] + part)).join(""),
          blanks,
          score,
        }));
      return {
        id: `fill-${exchange.id}`,
        object: "fill" as const,
        created: Math.floor(Date.now() / 1000),
        model: model.id,
        choices,
        usage,
        cpm: { seed: options.seed },
      };
    },
  });

  const score = defineEndpoint({
    path: "/score",
    method: "post",
    name: "scoreText",
    summary: "Log probabilities of the tokens of a text.",
    scope: "score",
    request: scoreRequest,
    answer: scoreAnswer,
    async handle(body, exchange) {
      const model = directory.find(body.model);
      const context = body.context == null ? [] : model.encode(body.context, "context").ids;
      const text = model.encode(body.text, "text").ids;
      if (text.length === 0) throw new ApiError("empty_prompt", { param: "text" });
      const ids = [model.tokenizer.bosId, ...context, ...text];
      checkLength(ids.length, model, "text");
      const task = { kind: "score" as const, ids, from: 1 + context.length, top: body.top_logprobs ?? 0 };
      const { answer, usage } = await runTask(model, task, body, exchange);
      if (exchange.logTexts) exchange.log.prompt = body.text;
      const logprob = answer.logprobs.reduce((sum, value) => sum + value, 0);
      return {
        model: model.id,
        tokens: answer.logprobs.map((value, at) => ({
          id: text[at]!,
          ...tokenEntry({ id: text[at]!, logprob: value }, model.tokenizer),
          top_logprobs: answer.top[at]!.map((entry) => tokenEntry(entry, model.tokenizer)),
        })),
        logprob,
        perplexity: Math.exp(-logprob / text.length),
        bits_per_character: -logprob / Math.LN2 / [...body.text].length,
        usage,
      };
    },
  });

  const tokenize = defineEndpoint({
    path: "/tokenize",
    method: "post",
    name: "tokenize",
    summary: "Text to token ids, without `<s>`.",
    request: tokenizeRequest,
    answer: tokenizeAnswer,
    async handle(body) {
      const model = directory.find(body.model);
      const { ids, unknown } = model.encode(body.text, "text");
      return {
        model: model.id,
        tokens: ids,
        pieces: ids.map((id) => model.tokenizer.tokenOf(id)),
        count: ids.length,
        unknown,
      };
    },
  });

  const detokenize = defineEndpoint({
    path: "/detokenize",
    method: "post",
    name: "detokenize",
    summary: "Token ids to text.",
    request: detokenizeRequest,
    answer: detokenizeAnswer,
    async handle(body) {
      const model = directory.find(body.model);
      const outside = body.tokens.find((id) => id >= model.tokenizer.vocabSize);
      if (outside !== undefined)
        throw new ApiError("invalid_value", { param: "tokens", detail: `tokens: there is no token ${outside}.` });
      return { model: model.id, text: model.tokenizer.decode(body.tokens) };
    },
  });

  const models = defineEndpoint({
    path: "/v1/models",
    method: "get",
    name: "listModels",
    summary: "The models that are served.",
    answer: modelList,
    handle: async () => ({ object: "list" as const, data: directory.models.map(modelEntry) }),
  });

  const model = defineEndpoint({
    path: "/v1/models/:model",
    method: "get",
    name: "retrieveModel",
    summary: "One model.",
    answer: modelAnswer,
    handle: async (_, { parameters }) => modelEntry(directory.find(parameters.model)),
  });

  return [embeddings, fill, models, model, tokenize, detokenize, score];
}

function modelEntry({ id, base, created, parameters, contextTokens, config }: ServedModel): ModelEntry {
  return {
    id,
    object: "model",
    created,
    owned_by: "cpm",
    cpm: {
      base: base ?? null,
      parameters,
      context_tokens: contextTokens,
      vocab_size: config.vocabSize,
      embedding_width: config.dimModel,
    },
  };
}

function checkLength(tokens: number, model: ServedModel, param: string): void {
  if (tokens <= model.contextTokens) return;
  throw new ApiError("context_length_exceeded", { param, detail: tooLong(`${tokens} tokens`, model.contextTokens) });
}

function base64(vector: readonly number[]): string {
  const buffer = Buffer.alloc(vector.length * 4);
  vector.forEach((value, at) => {
    buffer.writeFloatLE(value, at * 4);
  });
  return buffer.toString("base64");
}
