/**
 * What the server and a worker process say to each other over their channel. A worker holds one model and runs one
 * engine; the server holds the queue. Everything here is plain JSON.
 */
import type { GeneratedText, TokenEvent } from "../infer/generated-row.ts";
import type { GenerateOptions } from "../infer/options.ts";
import type { TopLogprob } from "../infer/sample.ts";

/** How a worker opens its model; its first message. */
export interface OpenModel {
  readonly type: "open";
  readonly path: string;
  readonly vocabularyPath?: string | undefined;
  readonly configPath?: string | undefined;
  /** A delta's folder: its base is the model. */
  readonly deltaPath?: string | undefined;
  /** Keeps the compiled programs of large models, so that a worker that is started again is soon ready. */
  readonly cacheFolder?: string | undefined;
  readonly threads?: number | undefined;
  /** Longest text of a row, prompt and generated tokens together. */
  readonly contextTokens: number;
  /** Rows that decode side by side. */
  readonly rows: number;
  readonly prefillTokens: number;
}

/** Continue a prompt. */
export interface GenerateTask {
  readonly kind: "generate";
  readonly prompt: readonly number[];
  readonly settings: GenerateOptions;
}

/** ln p of each token from `from` on, given all before it. The first `from` tokens see each other both ways. */
export interface ScoreTask {
  readonly kind: "score";
  readonly ids: readonly number[];
  readonly from: number;
  readonly top: number;
}

/** A vector for each text. */
export interface EmbedTask {
  readonly kind: "embed";
  /** `<s>` first in each. */
  readonly texts: readonly (readonly number[])[];
  readonly pooling: "mean" | "last";
}

/** Fill blanks in a text: `texts` are the pieces between them. */
export interface FillTask {
  readonly kind: "fill";
  readonly texts: readonly (readonly number[])[];
  /** Tokens of each blank; several are tried. */
  readonly blankTokens: readonly number[];
  readonly settings: GenerateOptions;
}

export type Task = GenerateTask | ScoreTask | EmbedTask | FillTask;

export interface GenerateAnswer {
  readonly kind: "generate";
  readonly texts: readonly GeneratedText[];
}

export interface ScoreAnswer {
  readonly kind: "score";
  readonly logprobs: readonly number[];
  readonly top: readonly (readonly TopLogprob[])[];
}

export interface EmbedAnswer {
  readonly kind: "embed";
  readonly vectors: readonly (readonly number[])[];
}

export interface FilledText {
  /** Ids of each blank. */
  readonly blanks: readonly (readonly number[])[];
  /** Mean ln p of the filled tokens. */
  readonly score: number;
}

export interface FillAnswer {
  readonly kind: "fill";
  /** From the best. */
  readonly fills: readonly FilledText[];
}

export type Answer = GenerateAnswer | ScoreAnswer | EmbedAnswer | FillAnswer;
/** The answer to a task. */
export type AnswerOf<T extends Task> = Extract<Answer, { kind: T["kind"] }>;

export interface Work {
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** The request's share of the worker's time. */
  readonly computeMs: number;
}

export interface WorkerError {
  readonly code: string;
  readonly message: string;
}

export type ToWorker =
  | OpenModel
  | { readonly type: "run"; readonly job: number; readonly task: Task }
  | { readonly type: "cancel"; readonly job: number };

export type FromWorker =
  | { readonly type: "ready" }
  /** The model could not be opened. */
  | { readonly type: "unusable"; readonly error: WorkerError }
  /** Events of one step, in their order. */
  | { readonly type: "events"; readonly events: readonly (readonly [job: number, event: TokenEvent])[] }
  | { readonly type: "done"; readonly job: number; readonly answer: Answer; readonly work: Work }
  | { readonly type: "failed"; readonly job: number; readonly error: WorkerError }
  | { readonly type: "state"; readonly rows: number; readonly steps: number; readonly residentBytes: number };
