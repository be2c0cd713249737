/**
 * A model as the server knows it: its name, its tokenizer, how long a text may be, and the dispatcher before its
 * workers. Weights are in the workers; here only the vocabulary and the configuration are held.
 */
import { basename, resolve } from "node:path";
import { openCheckpoint } from "../checkpoint/index.ts";
import { vocabularyBeside } from "../infer/text-generator.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterCount } from "../model/parameters.ts";
import { createAntTokenizer, readVocabulary, type Tokenizer } from "../tokenizer/index.ts";
import { ConfigError } from "../util/error.ts";
import { ApiError } from "./api-errors.ts";
import { type Dispatcher, startDispatcher } from "./dispatcher.ts";
import type { OpenModel } from "./worker-protocol.ts";

export interface ServedModelOptions {
  /** `NAME=PATH`, or a path whose last folder is the name. */
  readonly model: string;
  readonly vocabularyPath?: string | undefined;
  readonly configPath?: string | undefined;
  /** A delta on the model, `NAME=FOLDER` or a folder; the id is then `model:NAME`. */
  readonly delta?: string | undefined;
  /** LoRA deltas, named likewise, that share the model's processes and batches. Not with `delta`. */
  readonly mixed?: readonly string[] | undefined;
  /** What guesses ahead while one text is alone. */
  readonly draft?: OpenModel["draft"];
  /** Bytes that each process keeps of prompts that were read. */
  readonly promptCacheBytes: number;
  /** What keys and values are stored in. */
  readonly cacheType: OpenModel["cacheType"];
  /** What each process may keep in memory, all told. */
  readonly memoryBytes?: number | undefined;
  /** For compiled programs of large models. */
  readonly cacheFolder?: string | undefined;
  readonly threads?: number | undefined;
  readonly workers: number;
  readonly rows: number;
  readonly contextTokens: number;
  readonly prefillTokens: number;
  readonly maxWaiting: number;
  readonly maxWaitingPerUser: number;
  readonly now: () => number;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

export interface ServedModel {
  readonly id: string;
  /** What metrics call it: all mixtures of deltas have one label. */
  readonly label: string;
  /** Names of deltas that requests may weigh. */
  readonly deltas: readonly string[];
  /** The weight of each of `deltas`; undefined: the base alone. */
  readonly mix: readonly number[] | undefined;
  /** The id of the model that it is a delta on. */
  readonly base: string | undefined;
  readonly config: ModelConfig;
  readonly parameters: number;
  readonly tokenizer: Tokenizer;
  readonly contextTokens: number;
  readonly rows: number;
  readonly workers: number;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly dispatcher: Dispatcher;
  /** Throws ApiError `context_length_exceeded` for more text than could ever fit. */
  encode(text: string, param: string): { readonly ids: readonly number[]; readonly unknown: number };
}

/** No token of a vocabulary is longer than this on average in any text that is meant to be read. */
const charactersPerToken = 16;

/** `NAME=PATH` taken apart. */
export function modelName(given: string): { readonly id: string; readonly path: string } {
  const named = /^([\w.-]{1,100})=(.+)$/s.exec(given);
  if (named) return { id: named[1]!, path: named[2]! };
  const id = basename(resolve(given)).replace(/\.safetensors$/, "");
  return { id: id.replaceAll(/[^\w.-]+/g, "-"), path: given };
}

/** Reads what the server needs of a model and starts its workers; `dispatcher.pool.started` tells when they are ready. */
export async function serveModel(options: ServedModelOptions): Promise<ServedModel> {
  const { contextTokens, rows, workers, log, now } = options;
  const { id: base, path } = modelName(options.model);
  const delta = options.delta === undefined ? undefined : modelName(options.delta);
  const mixed = options.mixed?.map(modelName);
  const id = delta === undefined ? base : `${base}:${delta.id}`;
  const { configPath } = options;
  await using checkpoint = await openCheckpoint(path, configPath === undefined ? {} : { configPath });
  const { config } = checkpoint;
  const vocabularyPath = options.vocabularyPath ?? (await vocabularyBeside(path));
  const tokenizer = createAntTokenizer(await readVocabulary(vocabularyPath));
  const dispatcher = startDispatcher({
    open: {
      type: "open",
      path,
      vocabularyPath,
      configPath,
      deltaPath: delta?.path,
      cacheFolder: options.cacheFolder,
      threads: options.threads,
      contextTokens,
      rows,
      prefillTokens: options.prefillTokens,
      mixedPaths: mixed?.map((each) => each.path),
      draft: options.draft,
      promptCacheBytes: options.promptCacheBytes,
      cacheType: options.cacheType,
      memoryBytes: options.memoryBytes,
    },
    workers,
    maxWaiting: options.maxWaiting,
    maxWaitingPerUser: options.maxWaitingPerUser,
    clock: () => performance.now(),
    onLog: (event, fields) => log(event, { model: id, ...fields }),
  });
  try {
    await dispatcher.pool.started;
  } catch (error) {
    await dispatcher.pool.close();
    const { code, message } = error as { code: string; message: string };
    throw new ConfigError("CPM_SERVE_MODEL", "a worker could not open the model", {
      where: delta?.path ?? [path, ...(mixed ?? []).map((each) => each.path)].join(", "),
      got: message,
      hint: code === "" ? undefined : "Mend what the worker says, and start again.",
    });
  }
  return {
    id,
    label: id,
    deltas: mixed?.map((each) => each.id) ?? [],
    mix: undefined,
    base: delta === undefined ? undefined : base,
    config,
    parameters: parameterCount(config),
    tokenizer,
    contextTokens,
    rows,
    workers,
    created: Math.floor(now() / 1000),
    dispatcher,
    encode(text, param) {
      // Cutting text into words takes its time: what could not fit is not looked at.
      if (text.length > contextTokens * charactersPerToken) {
        throw new ApiError("context_length_exceeded", {
          param,
          detail: tooLong(`${text.length} characters`, contextTokens),
        });
      }
      const { ids, unknownCount } = tokenizer.encode(text, { unknown: "drop" });
      if (ids.length >= contextTokens) {
        throw new ApiError("context_length_exceeded", {
          param,
          detail: tooLong(`${ids.length} tokens`, contextTokens),
        });
      }
      return { ids: Array.from(ids), unknown: unknownCount };
    },
  };
}

/** What `context_length_exceeded` says. */
export function tooLong(got: string, contextTokens: number): string {
  return `Got ${got}; the context is ${contextTokens} tokens.`;
}
