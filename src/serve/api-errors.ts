/**
 * Every refusal of the API: its stable code, HTTP status, OpenAI's type, and its sentence in both languages. Codes that
 * OpenAI has are OpenAI's, so that clients which know them need no change.
 */

export interface ApiErrorEntry {
  readonly status: 400 | 401 | 403 | 404 | 405 | 408 | 413 | 415 | 429 | 500 | 501 | 503 | 504;
  readonly type:
    | "invalid_request_error"
    | "authentication_error"
    | "permission_error"
    | "rate_limit_error"
    | "server_error";
  readonly zh: string;
  readonly en: string;
}

export const apiErrors = {
  invalid_json: { status: 400, type: "invalid_request_error", zh: "请求体不是 JSON。", en: "The body is not JSON." },
  invalid_value: {
    status: 400,
    type: "invalid_request_error",
    zh: "请求中有一项的值有误。",
    en: "A value of the request is not as it must be.",
  },
  unsupported_parameter: {
    status: 400,
    type: "invalid_request_error",
    zh: "这个服务不支持请求中的一项。",
    en: "A parameter of the request is not supported by this server.",
  },
  context_length_exceeded: {
    status: 400,
    type: "invalid_request_error",
    zh: "输入与要生成的词元合起来超过模型的上下文。",
    en: "The prompt and the tokens to generate do not fit into the model's context.",
  },
  empty_prompt: {
    status: 400,
    type: "invalid_request_error",
    zh: "输入中没有模型读得懂的内容。",
    en: "The prompt holds nothing that the model can read.",
  },
  invalid_api_key: {
    status: 401,
    type: "authentication_error",
    zh: "缺少 API 密钥，或密钥无效、已撤销。",
    en: "The API key is missing, unknown or revoked.",
  },
  insufficient_scope: {
    status: 403,
    type: "permission_error",
    zh: "这个 API 密钥无权做此事。",
    en: "The API key does not allow this.",
  },
  model_not_found: {
    status: 404,
    type: "invalid_request_error",
    zh: "没有这个模型。",
    en: "There is no such model.",
  },
  not_found: { status: 404, type: "invalid_request_error", zh: "没有这个地址。", en: "There is no such path." },
  method_not_allowed: {
    status: 405,
    type: "invalid_request_error",
    zh: "这个地址不接受此方法。",
    en: "The path does not take this method.",
  },
  request_timeout: {
    status: 408,
    type: "invalid_request_error",
    zh: "请求体没有及时到达。",
    en: "The body did not arrive in time.",
  },
  request_too_large: {
    status: 413,
    type: "invalid_request_error",
    zh: "请求体过大。",
    en: "The body is too large.",
  },
  unsupported_encoding: {
    status: 415,
    type: "invalid_request_error",
    zh: "请求体的压缩方式不受支持，可用 gzip、deflate、br、zstd 或不压缩。",
    en: "The body's encoding is not supported: use gzip, deflate, br, zstd or none.",
  },
  rate_limit_exceeded: {
    status: 429,
    type: "rate_limit_error",
    zh: "这个 API 密钥的速率已达上限，请稍后再试。",
    en: "The API key's rate limit is reached; try again later.",
  },
  queue_full: {
    status: 429,
    type: "rate_limit_error",
    zh: "等待的请求过多，请稍后再试。",
    en: "Too many requests are waiting; try again later.",
  },
  model_failure: {
    status: 500,
    type: "server_error",
    zh: "模型未能完成这个请求。",
    en: "The model could not do what was asked.",
  },
  internal_error: { status: 500, type: "server_error", zh: "服务内部出错。", en: "The server failed." },
  worker_lost: {
    status: 503,
    type: "server_error",
    zh: "运行模型的进程中途退出，重试也未能完成。",
    en: "The process that ran the model ended while it worked on this, also when it was tried again.",
  },
  shutting_down: {
    status: 503,
    type: "server_error",
    zh: "服务正在停止。",
    en: "The server is shutting down.",
  },
  deadline_exceeded: {
    status: 504,
    type: "server_error",
    zh: "请求没有在期限内完成。",
    en: "The request was not done within its deadline.",
  },
} as const satisfies Readonly<Record<string, ApiErrorEntry>>;

export type ApiErrorCode = keyof typeof apiErrors;

export interface ApiErrorDetails {
  /** The parameter at fault, as `messages.0.content`. */
  readonly param?: string | undefined;
  /** What was wrong with it, in addition to the sentence. */
  readonly detail?: string | undefined;
  readonly retryAfterSeconds?: number | undefined;
}

/** A refusal on its way to the client. */
export class ApiError extends Error {
  readonly code: ApiErrorCode;
  readonly details: ApiErrorDetails;
  constructor(code: ApiErrorCode, details: ApiErrorDetails = {}) {
    super(`${code}: ${apiErrors[code].en}${details.detail === undefined ? "" : ` ${details.detail}`}`);
    this.name = "ApiError";
    this.code = code;
    this.details = details;
  }
  get status(): ApiErrorEntry["status"] {
    return apiErrors[this.code].status;
  }
}

export type ApiLanguage = "zh" | "en";

/** The language of the sentences: what the client prefers, English unless it is Chinese. */
export function languageOf(acceptLanguage: string | undefined): ApiLanguage {
  return /^\s*zh\b/i.test(acceptLanguage ?? "") ? "zh" : "en";
}

/** The body of a refusal, in OpenAI's shape. */
export function errorBody(error: ApiError, language: ApiLanguage) {
  const { [language]: sentence, type } = apiErrors[error.code];
  const { param, detail } = error.details;
  const gap = language === "zh" ? "" : " ";
  const message = detail === undefined ? sentence : `${sentence}${gap}${detail}`;
  return { error: { message, type, param: param ?? null, code: error.code } };
}
