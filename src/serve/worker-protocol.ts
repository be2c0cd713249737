/**
 * What the server and a worker process say to each other over their channel. A worker holds one model and runs one
 * engine; the server holds the queue. Everything here is plain JSON.
 */
import type { EngineCounts } from "../infer/engine.ts";
import type { GeneratedText, TokenEvent } from "../infer/generated-row.ts";
import type { GenerateOptions } from "../infer/options.ts";
import type { CacheType } from "../infer/programs.ts";
import type { TopLogprob } from "../infer/sample.ts";

/** How a worker opens its model; its first message. */
export interface OpenModel {
  readonly type: "open";
  readonly path: string;
  readonly vocabularyPath?: string | undefined;
  readonly configPath?: string | undefined;
  /** A delta's folder: its base is the model. */
  readonly deltaPath?: string | undefined;
  /** Folders of LoRA deltas that share the model and its batches: tasks weigh them. Not with `deltaPath`. */
  readonly mixedPaths?: readonly string[] | undefined;
  /** What guesses ahead while one text is alone: a smaller model, or what came before in the text. */
  readonly draft?: { readonly path: string } | "lookup" | undefined;
  /** Bytes for the states of prompts that were read. */
  readonly promptCacheBytes: number;
  /** What keys and values are stored in. */
  readonly cacheType: CacheType;
  /** What the process may keep in memory, all told. */
  readonly memoryBytes?: number | undefined;
  /** Keeps the compiled programs of large models, so that a worker that is started again is soon ready. */
  readonly cacheFolder?: string | undefined;
  readonly threads?: number | undefined;
  /** Longest text of a row, prompt and generated tokens together. */
  readonly contextTokens: number;
  /** Rows that decode side by side. */
  readonly rows: number;
  readonly prefillTokens: number;
}

/** What every task says of the model. */
interface OfModel {
  /** The weight of each delta of `mixedPaths`; absent: the base alone. */
  readonly mix?: readonly number[] | undefined;
}

/** Continue a prompt. */
export interface GenerateTask extends OfModel {
  /** Whose prompt it is: states of prompts are for their owner alone. */
  readonly owner: string;
  readonly kind: "generate";
  readonly prompt: readonly number[];
  readonly settings: GenerateOptions;
}

/** ln p of each token from `from` on, given all before it. The first `from` tokens see each other both ways. */
export interface ScoreTask extends OfModel {
  readonly kind: "score";
  readonly ids: readonly number[];
  readonly from: number;
  readonly top: number;
}

/** A vector for each text. */
export interface EmbedTask extends OfModel {
  readonly kind: "embed";
  /** `<s>` first in each. */
  readonly texts: readonly (readonly number[])[];
  readonly pooling: "mean" | "last";
}

/** Fill blanks in a text: `texts` are the pieces between them. */
export interface FillTask extends OfModel {
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
  /** Of these, not read again. */
  readonly cachedTokens: number;
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
  | {
      readonly type: "state";
      readonly rows: number;
      readonly steps: number;
      readonly residentBytes: number;
      readonly counts: EngineCounts;
    };
