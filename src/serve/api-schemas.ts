/**
 * Requests and answers of the API. The checks, the types and the OpenAPI document come from these schemas. Names are
 * OpenAI's where OpenAI has them; ours beside them are described as such. A null stands for an absent value, as OpenAI's
 * clients send it; a key that is not here is refused.
 */
import { z } from "zod";
import { scopes } from "./api-keys.ts";

export const maxPrompts = 64;
export const maxSamples = 64;
export const maxTopLogprobs = 20;

/** May be absent or null. */
const optional = <T extends z.ZodType>(schema: T, description: string) => schema.nullish().describe(description);
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const tokenIds = z.array(tokenId).min(1).max(100_000);
const text = z.string();

const model = optional(z.string().max(200), "Name of the model, `model` or `model:delta`; by default the first one.");
const unused = "Accepted for compatibility; not used.";
const user = optional(z.string().max(200), unused);
/** What clients send along, and what changes no text. */
const accepted = {
  user,
  metadata: optional(z.record(z.string().max(64), z.string().max(512)), unused),
  service_tier: optional(z.enum(["auto", "default"]), unused),
  safety_identifier: optional(z.string().max(200), unused),
  prompt_cache_key: optional(z.string().max(200), "Accepted for compatibility: prompts are found by their tokens."),
  store: z.literal(false).nullish().describe("Only false: nothing is stored."),
};
const penalty = z.number().min(-2).max(2);
const deadline_ms = optional(
  z.int().min(1).max(3_600_000),
  "Ours: milliseconds after which the request is given up with 504, at most what the server allows.",
);

/** Parameters that OpenAI has and that only have an effect here at their neutral value. */
export const neutralParameters: ReadonlySet<string> = new Set(["suffix", "dimensions", "store"]);

/** What to do instead of what is refused. */
export const parameterHints: Readonly<Record<string, string>> = {
  tools: "The model calls no functions; response_format with a JSON Schema makes it fill in their arguments.",
  tool_choice: "The model calls no functions.",
  functions: "The model calls no functions; response_format with a JSON Schema makes it fill in their arguments.",
  use_beam_search: "best_of chooses among drawn texts.",
  suffix: "/v1/fill completes what is missing inside a text.",
  dimensions: "Vectors are as wide as the model.",
};

const responseFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().max(64),
      description: z.string().max(10_000).nullish(),
      strict: z.boolean().nullish(),
      schema: z.record(z.string(), z.unknown()).nullish(),
    }),
  }),
  z.strictObject({ type: z.literal("regex"), regex: z.string().min(1).max(10_000) }),
  z.strictObject({ type: z.literal("grammar"), grammar: z.string().min(1).max(100_000) }),
]);

const sampling = {
  temperature: optional(z.number().min(0).max(2), "0 takes the most probable token. Default 0.9."),
  top_p: optional(z.number().gt(0).max(1), "Nucleus. Default 0.9."),
  top_k: optional(z.int().min(0).max(100_000), "Ours: only the k most probable tokens; 0 means all. Default 0."),
  repetition_penalty: optional(z.number().min(1).max(10), "Ours: penalty on generated tokens. Default 1: none."),
  seed: optional(
    z.int().min(0).max(Number.MAX_SAFE_INTEGER),
    "The same seed, prompt and settings give the same text. Default: another one each time, told in `cpm.seed`.",
  ),
  n: optional(z.int().min(1).max(maxSamples), "Texts for each prompt, at most the server's rows. Default 1."),
  logit_bias: optional(
    z
      .record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100))
      .refine((map) => Object.keys(map).length <= 1024, "at most 1,024 tokens"),
    "Token id to a number added to its logit.",
  ),
};

const generation = {
  model,
  ...sampling,
  stop: optional(
    z.union([z.string().min(1).max(200), z.array(z.string().min(1).max(200)).max(16)]),
    "A text ends before any of these strings.",
  ),
  min_tokens: optional(z.int().min(0).max(1_000_000), "Ours: no end before this many tokens. Default 0."),
  stream: optional(z.boolean(), "Send the text as it is generated, as server-sent events."),
  stream_options: optional(
    z.strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() }),
    "`include_usage`: a last chunk with the usage.",
  ),
  response_format: optional(responseFormat, "What form the text must have. Ours: `regex` and `grammar`."),
  stop_token_ids: optional(z.array(tokenId).max(64), "As vLLM has it: token ids that end a text as `</s>` does."),
  ignore_eos: optional(z.boolean(), "As vLLM has it: no end before `max_tokens`, unless by `stop`."),
  presence_penalty: optional(penalty, "Subtracted from the logits of tokens already generated. Default 0."),
  frequency_penalty: optional(penalty, "The same times how often the token was generated. Default 0."),
  deadline_ms,
  ...accepted,
};

const maxTokens = z.int().min(1).max(1_000_000);

export const completionRequest = z.strictObject({
  prompt: z
    .union([text, z.array(text).min(1).max(maxPrompts), tokenIds, z.array(tokenIds).min(1).max(maxPrompts)])
    .describe("A text, several, or token ids (`<s>` is put in front where it is missing)."),
  max_tokens: optional(z.int().min(0).max(1_000_000), "Default 100, or what fits. 0, only with `echo`: no text."),
  logprobs: optional(
    z.int().min(0).max(maxTopLogprobs),
    "Log probabilities of the tokens, and of this many most probable ones at each place.",
  ),
  echo: optional(
    z.boolean(),
    "The prompt in front of each text; with `logprobs`, its tokens' too, as /score has them.",
  ),
  best_of: optional(
    z.int().min(1).max(maxSamples),
    "Texts that are generated for each prompt, of which the `n` with the highest mean log probability are given. Default n.",
  ),
  suffix: z.literal("").nullish().describe("Not supported: /v1/fill completes what is missing inside a text."),
  ...generation,
});
export type CompletionRequest = z.output<typeof completionRequest>;

const contentPart = z.strictObject({ type: z.literal("text"), text });

export const chatRequest = z.strictObject({
  messages: z
    .array(
      z.strictObject({
        role: z.enum(["system", "developer", "user", "assistant"]),
        content: z.union([text, z.array(contentPart).min(1).max(64)]),
        name: z.string().max(64).nullish(),
      }),
    )
    .min(1)
    .max(1000),
  max_tokens: optional(maxTokens, "Default: what fits."),
  max_completion_tokens: optional(maxTokens, "The same as max_tokens."),
  logprobs: optional(z.boolean(), "Log probabilities of the tokens."),
  top_logprobs: optional(z.int().min(0).max(maxTopLogprobs), "And of this many most probable ones at each place."),
  ...generation,
});
export type ChatRequest = z.output<typeof chatRequest>;

export const embeddingRequest = z.strictObject({
  model,
  input: z.union([text, z.array(text).min(1).max(maxPrompts), tokenIds, z.array(tokenIds).min(1).max(maxPrompts)]),
  encoding_format: optional(z.enum(["float", "base64"]), "base64: float32, little endian. Default float."),
  pooling: optional(
    z.enum(["mean", "last"]),
    "Ours: mean of the normalised outputs of all tokens after `<s>`, or that of the last token. Default mean.",
  ),
  dimensions: z.literal(0).nullish().describe("Not supported: vectors are as wide as the model."),
  deadline_ms,
  user,
});
export type EmbeddingRequest = z.output<typeof embeddingRequest>;

export const fillRequest = z.strictObject({
  model,
  text: text.describe("The text, with a marker for each blank."),
  marker: optional(z.string().min(1).max(32), "What stands for a blank. Default `____`."),
  blank_tokens: optional(
    z.union([z.int().min(1).max(64), z.array(z.int().min(1).max(64)).min(1).max(8)]),
    "Tokens of a blank; of several numbers each is tried. Default 1, 2, 3 and 4.",
  ),
  ...sampling,
  temperature: optional(z.number().min(0).max(2), "Default 0: the most probable tokens."),
  n: optional(z.int().min(1).max(16), "How many different answers at most, from the best. Default 1."),
  deadline_ms,
  user,
});
export type FillRequest = z.output<typeof fillRequest>;

export const tokenizeRequest = z.strictObject({ model, text });
export const detokenizeRequest = z.strictObject({ model, tokens: z.array(tokenId).max(100_000) });
export const scoreRequest = z.strictObject({
  model,
  text: text.describe("The text whose tokens are scored, each given all before it."),
  context: optional(text, "What stands before the text and is not scored; its tokens see each other both ways."),
  top_logprobs: optional(z.int().min(0).max(maxTopLogprobs), "The most probable tokens at each place. Default 0."),
  deadline_ms,
  user,
});
export type ScoreRequest = z.output<typeof scoreRequest>;

const costFields = {
  compute_ms: z.number().describe("Share of the model's time, milliseconds."),
  energy_wh: z.number().nullable().describe("Watt-hours, by the stated power of the machine."),
  co2e_g: z.number().nullable().describe("Grams of CO2e."),
  cost: z.number().nullable(),
  currency: z.string(),
};

export const usage = z.object({
  prompt_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int().describe("Of these, not read again.") }),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  cpm: z.object({ queue_ms: z.number().describe("Waited for a place, milliseconds."), ...costFields }),
});
export type Usage = z.output<typeof usage>;

const finishReason = z.enum(["stop", "length"]).nullable();
const head = { id: z.string(), created: z.int(), model: z.string() };
const seedField = z.object({ seed: z.int() }).describe("Ours: the seed that was used.");

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())).nullable(),
  text_offset: z.array(z.int()),
});
const completionChoice = z.object({
  index: z.int(),
  text,
  logprobs: completionLogprobs.nullable(),
  finish_reason: finishReason,
});
export type CompletionChoice = z.output<typeof completionChoice>;

export const completionAnswer = z.object({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(completionChoice),
  usage: usage.nullish(),
  cpm: seedField.optional(),
});

const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int()).nullable(),
});
const chatLogprobs = z.object({
  content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
  refusal: z.null(),
});
export type ChatLogprobs = z.output<typeof chatLogprobs>;

export const chatAnswer = z.object({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({ role: z.literal("assistant"), content: text, refusal: z.null() }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage,
  cpm: seedField,
});

export const chatChunk = z.object({
  ...head,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({ role: z.literal("assistant").optional(), content: text.optional() }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage: usage.nullish(),
  cpm: seedField.optional(),
});

export const embeddingAnswer = z.object({
  object: z.literal("list"),
  model: z.string(),
  data: z.array(
    z.object({
      object: z.literal("embedding"),
      index: z.int(),
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  usage,
});

export const fillAnswer = z.object({
  ...head,
  object: z.literal("fill"),
  choices: z.array(
    z.object({
      index: z.int(),
      text: text.describe("The whole text with its blanks filled."),
      blanks: z.array(text),
      score: z.number().describe("Mean log probability of the filled tokens."),
    }),
  ),
  usage,
  cpm: seedField,
});

export const tokenizeAnswer = z.object({
  model: z.string(),
  tokens: z.array(z.int()),
  pieces: z.array(z.string()),
  count: z.int(),
  unknown: z.int().describe("Pieces of the text that the vocabulary cannot spell; they are left out."),
});
export const detokenizeAnswer = z.object({ model: z.string(), text });
export const scoreAnswer = z.object({
  model: z.string(),
  tokens: z.array(tokenLogprob.extend({ id: z.int(), top_logprobs: z.array(tokenLogprob) })),
  logprob: z.number().describe("Sum of the tokens' natural log probabilities."),
  perplexity: z.number().describe("exp of minus the mean log probability of a token."),
  bits_per_character: z.number(),
  usage,
});

const modelEntry = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  cpm: z.object({
    base: z.string().nullable().describe("Of a delta: the model that it is on."),
    parameters: z.int(),
    context_tokens: z.int().describe("Prompt and generated tokens together."),
    vocab_size: z.int(),
    embedding_width: z.int(),
  }),
});
export type ModelEntry = z.output<typeof modelEntry>;
export const modelList = z.object({ object: z.literal("list"), data: z.array(modelEntry) });
export const modelAnswer = modelEntry;

export const errorAnswer = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().describe("Stable; see the table of codes."),
  }),
});

export const scopeSchema = z.enum(scopes);
