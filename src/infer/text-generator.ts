/**
 * Texts in, texts out: a model with its vocabulary, and a decoding session that is made for what is asked of it. What a
 * command or a server generates with; `generate.ts` below it knows ids only.
 *
 * As in the original a prompt is `<s>` and the text's tokens, without what the vocabulary cannot spell (which is counted),
 * under the soft prompt of task 2 and in segment 2.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Checkpoint, findWeights, openCheckpoint } from "../checkpoint/index.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Grafts } from "../model/graft.ts";
import { names } from "../model/parameters.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { createAntTokenizer, createDetokenizer, readVocabulary, type Tokenizer } from "../tokenizer/index.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { type CpmAntSessionOptions, createCpmAntSession } from "./cpm-ant-session.ts";
import { createLookupDrafter, createModelDrafter, type Drafter, guessCost } from "./draft.ts";
import { type GenerationResult, type GenerationRun, streamGenerate } from "./generate.ts";
import type { TokenEvent } from "./generated-row.ts";
import { cacheBytesPerToken } from "./key-value-cache.ts";
import { type GenerateOptions, type GenerateOptionsInput, parseGenerateOptions } from "./options.ts";
import { openProgramCache, type ProgramCache, smallestCachedBytes } from "./program-cache.ts";
import type { CacheType } from "./programs.ts";
import { createPromptCache } from "./prompt-cache.ts";
import type { DecodingSession } from "./session.ts";
import type { ModelTensors } from "./weight-ports.ts";
import { loadWeights } from "./weights.ts";

export { cacheBytesPerToken };

/** Names under which a vocabulary is looked for beside the weights: ours, and that of the published models. */
export const vocabularyNames = ["vocab.txt", "ant.txt"] as const;

/** What generating needs of a model. The parameters stay as they are while a generator uses them. */
export interface TextModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** float32, by CPM-Live's names. */
  readonly parameters: ReadonlyMap<string, DeviceTensor>;
  /** Of a delta, whose tensors are among the parameters by name. */
  readonly grafts?: Grafts | undefined;
  /** Where its compiled programs are kept, if they are. */
  readonly cache?: ProgramCache | undefined;
}

/** A model from a file or folder. Whoever opened it disposes it, after its generators. */
export interface OpenedTextModel extends TextModel {
  readonly vocabularyPath: string;
  /** What was assumed because no config told it. */
  readonly assumptions: readonly string[];
  dispose(): void;
}

export interface OpenTextModelOptions {
  /** Default: the `config.json` beside the weights, else inferred from them. */
  readonly configPath?: string | undefined;
  /** Default: `vocab.txt` or `ant.txt` beside the weights. */
  readonly vocabularyPath?: string | undefined;
  /** Keeps compiled programs of large models below this folder. Default: nowhere. */
  readonly cacheFolder?: string | undefined;
  /** Keeps those of small models too. */
  readonly alwaysCache?: boolean | undefined;
}

/**
 * Opens a model and its vocabulary.
 *
 * @param path a model's folder or a single weights file
 * @throws ConfigError `CPM_INFER_VOCABULARY` where there is no vocabulary; DataError `CPM_INFER_VOCABULARY_SIZE` where it
 * has not a token for each row of the embedding; those of `openCheckpoint`, `readVocabulary` and `createAntTokenizer`
 */
export async function openTextModel(
  runtime: Runtime,
  path: string,
  options: OpenTextModelOptions = {},
): Promise<OpenedTextModel> {
  const { configPath } = options;
  // Cheap things first: a missing vocabulary is found before gigabytes are read.
  await using checkpoint: Checkpoint = await openCheckpoint(path, configPath === undefined ? {} : { configPath });
  const { config, assumptions } = checkpoint;
  const vocabularyPath = options.vocabularyPath ?? (await vocabularyBeside(path));
  const tokenizer = createAntTokenizer(await readVocabulary(vocabularyPath));
  if (tokenizer.vocabSize !== config.vocabSize) {
    throw new DataError("CPM_INFER_VOCABULARY_SIZE", "the vocabulary is not this model's: their sizes differ", {
      where: vocabularyPath,
      got: `${tokenizer.vocabSize} tokens`,
      expected: `${config.vocabSize}, the rows of the model's embedding`,
      hint: "Give the vocabulary that the model was trained with.",
    });
  }
  const weights = await loadWeights(runtime, checkpoint);
  const bytes = bytesOf(weights.tensors);
  const { cacheFolder } = options;
  const cache =
    cacheFolder !== undefined && (options.alwaysCache || bytes >= smallestCachedBytes)
      ? await openProgramCache(cacheFolder, checkpoint.files)
      : undefined;
  return {
    config,
    tokenizer,
    parameters: weights.tensors,
    cache,
    vocabularyPath,
    assumptions,
    dispose: () => weights.dispose(),
  };
}

/** The vocabulary beside a model's weights, if there is one. */
export async function findVocabulary(path: string): Promise<string | undefined> {
  const { folder } = await findWeights(path);
  return vocabularyNames.map((name) => join(folder, name)).find((candidate) => existsSync(candidate));
}

/** The same. Throws ConfigError `CPM_INFER_VOCABULARY` where there is none. */
export async function vocabularyBeside(path: string): Promise<string> {
  const found = await findVocabulary(path);
  if (found !== undefined) return found;
  const { folder } = await findWeights(path);
  throw new ConfigError("CPM_INFER_VOCABULARY", "there is no vocabulary beside the model", {
    where: folder,
    expected: vocabularyNames.join(" or "),
    hint: "Name the vocabulary that the model was trained with (cpm generate --vocab FILE), or copy it beside the weights as vocab.txt.",
  });
}

/** A prompt as the model sees it. */
export interface EncodedPrompt {
  readonly text: string;
  /** `<s>` first. */
  readonly ids: readonly number[];
  /** Pieces of the text that the vocabulary cannot spell and that were left out. */
  readonly unknownCount: number;
}

/** What a run gives: the texts, and the prompts that they continue. */
export interface TextResult extends GenerationResult {
  readonly prompts: readonly EncodedPrompt[];
}

export interface TextGeneratorOptions
  extends Pick<CpmAntSessionOptions, "promptTask" | "segment" | "weights" | "cacheType" | "placement"> {
  /**
   * Who guesses tokens that are then verified several at a time: a smaller model with the same vocabulary, which must live
   * as long as the generator, or "lookup" for what followed earlier in prompt and text. Not used with beam search.
   */
  readonly draft?: TextModel | "lookup" | undefined;
  /** Most guesses in one pass. Default 8. */
  readonly maxDraftTokens?: number | undefined;
  /** Bytes for the states of prompts that were read, in case the same ones come again. Default 64 MiB; 0 keeps none. */
  readonly promptCacheBytes?: number | undefined;
  /** More than this is not asked of memory for keys, values and attention scores. Default: no limit. */
  readonly memoryLimitBytes?: number | undefined;
  /**
   * What the process may keep in memory, all told: layers that do not fit stay on disk and are read when their turn comes.
   * Needs the model's cache of programs. Default: no limit.
   */
  readonly memoryBudgetBytes?: number | undefined;
}

export interface TextGenerator {
  readonly tokenizer: Tokenizer;
  /** Throws DataError `CPM_INFER_PROMPT` for a text of which nothing is left. */
  encode(text: string): EncodedPrompt;
  /**
   * Continues the texts as one batch; events and errors are those of `streamGenerate`, and ConfigError
   * `CPM_INFER_MEMORY` where the batch would not fit. One run at a time; another may follow, also after one that was
   * broken off. Gives the event loop a turn at every step, so that signals and output get through.
   */
  stream(
    texts: readonly string[],
    settings?: GenerateOptionsInput,
    run?: GenerationRun,
  ): AsyncGenerator<TokenEvent, TextResult, void>;
  dispose(): void;
}

/**
 * Makes a generator. Throws ConfigError `CPM_INFER_DRAFT` where the draft model has another vocabulary. Its session is
 * compiled at the first run, and again when a later one needs more room. */
export function createTextGenerator(
  runtime: Runtime,
  { config, tokenizer, parameters, grafts, cache }: TextModel,
  {
    memoryLimitBytes = Number.POSITIVE_INFINITY,
    memoryBudgetBytes,
    draft,
    maxDraftTokens,
    promptCacheBytes = 64 * 2 ** 20,
    ...sessionOptions
  }: TextGeneratorOptions = {},
): TextGenerator {
  let session: DecodingSession | undefined;
  let draftSession: DecodingSession | undefined;
  const promptCache = promptCacheBytes > 0 ? createPromptCache(promptCacheBytes) : undefined;
  if (typeof draft === "object") checkSameVocabulary(tokenizer, draft.tokenizer);
  const idTokenizer = {
    eosId: tokenizer.eosId,
    newlineId: tokenizer.newlineId,
    createDetokenizer: () => createDetokenizer(tokenizer),
    pieceOf: tokenizer.pieceOf,
  };

  function encode(text: string): EncodedPrompt {
    const { ids, unknownCount } = tokenizer.encode(text, { unknown: "drop" });
    if (ids.length > 0) return { text, ids: [tokenizer.bosId, ...ids], unknownCount };
    throw new DataError("CPM_INFER_PROMPT", "a prompt has nothing that the model can read", {
      got: text === "" ? "an empty text" : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text),
      expected: "at least one token of the vocabulary",
      hint: "Begin the text with a word or two.",
    });
  }

  async function drafterFor(capacityTokens: number): Promise<Drafter | undefined> {
    const cost = (draftBytes: number) => guessCost(config.vocabSize, bytesOf(parameters), draftBytes);
    if (typeof draft !== "object") return draft && createLookupDrafter(cost(0));
    if (draftSession === undefined || draftSession.capacityTokens < capacityTokens) {
      draftSession?.dispose();
      draftSession = undefined;
      const { config: draftConfig, parameters: draftParameters, cache: draftCache } = draft;
      const options = { ...sessionOptions, capacityTokens, cache: draftCache };
      draftSession = await createCpmAntSession(runtime, draftConfig, draftParameters, options);
    }
    return createModelDrafter(draftSession, cost(bytesOf(draft.parameters)));
  }

  async function sessionFor(capacityTokens: number, decodingBytes: number): Promise<DecodingSession> {
    if (session !== undefined && session.capacityTokens >= capacityTokens) return session;
    session?.dispose();
    session = undefined;
    session = await createCpmAntSession(runtime, config, parameters, {
      ...sessionOptions,
      capacityTokens,
      grafts,
      cache,
      ...(memoryBudgetBytes !== undefined && {
        layerLimitBytes: () => layerBudget(memoryBudgetBytes, decodingBytes, parameters),
      }),
    });
    return session;
  }

  return {
    tokenizer,
    encode,
    async *stream(texts, settings, run) {
      const options = parseGenerateOptions(settings ?? {});
      const prompts = texts.map(encode);
      const promptTokens = Math.max(0, ...prompts.map(({ ids }) => ids.length));
      const bytes = decodingBytes(config, options, prompts.length, promptTokens, sessionOptions.cacheType);
      if (bytes > memoryLimitBytes)
        throw tooLarge(bytes, memoryLimitBytes, config, options, prompts.length, sessionOptions.cacheType);
      const ids = prompts.map((prompt) => prompt.ids);
      const decoding = takingTurns(await sessionFor(promptTokens + options.maxTokens, bytes));
      const drafter = options.mode === "beam" ? undefined : await drafterFor(promptTokens + options.maxTokens);
      const running = { promptCache, ...(drafter && { drafter, maxDraftTokens }), ...run };
      return { ...(yield* streamGenerate(decoding, idTokenizer, ids, options, running)), prompts };
    },
    dispose() {
      session?.dispose();
      session = undefined;
      draftSession?.dispose();
      draftSession = undefined;
      promptCache?.clear();
    },
  };
}

/** Bytes of all tensors. */
export function bytesOf(parameters: ReadonlyMap<string, DeviceTensor>): number {
  return [...parameters.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Guesses are ids: they mean the same only if both models number the same tokens. Throws ConfigError `CPM_INFER_DRAFT`. */
export function checkSameVocabulary(tokenizer: Tokenizer, draft: Tokenizer): void {
  const sizes = draft.vocabSize === tokenizer.vocabSize;
  const other = sizes
    ? Array.from({ length: draft.vocabSize }, (_, id) => id).find((id) => draft.tokenOf(id) !== tokenizer.tokenOf(id))
    : undefined;
  if (sizes && other === undefined) return;
  throw new ConfigError("CPM_INFER_DRAFT", "the draft model has another vocabulary", {
    got: other === undefined ? `${draft.vocabSize} tokens` : `${JSON.stringify(draft.tokenOf(other))} as id ${other}`,
    expected: other === undefined ? `${tokenizer.vocabSize} tokens` : JSON.stringify(tokenizer.tokenOf(other)),
    hint: "Use a smaller model that was trained with the same vocabulary.",
  });
}

/** Small models decode without ever leaving the thread; this lets timers, signals and streams in between the steps. */
function takingTurns(session: DecodingSession): DecodingSession {
  return {
    vocabSize: session.vocabSize,
    capacityTokens: session.capacityTokens,
    get rows() {
      return session.rows;
    },
    prefill: (prompts, mixes) => session.prefill(prompts, mixes),
    async step(tokens) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      return session.step(tokens);
    },
    async extend(tokens, logits) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      return session.extend(tokens, logits);
    },
    truncate: (removed) => session.truncate(removed),
    stateBytes: (row) => session.stateBytes(row),
    save: (row) => session.save(row),
    load: (states) => session.load(states),
    reorder: (sources) => session.reorder(sources),
    dispose: () => session.dispose(),
  };
}

/** Values between a block's programs, compiling, and what the process will still need. */
const workspaceBytes = 128 * 2 ** 20;

/** What a budget leaves for layers: without what the process has, keys, values and scores, the head and a workspace. */
export function layerBudget(budgetBytes: number, decodingBytes: number, parameters: ModelTensors): number {
  const table = [...parameters].filter(([name]) => name.startsWith(names.token));
  const headBytes = table.reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
  return budgetBytes - process.memoryUsage.rss() - decodingBytes - headBytes - workspaceBytes;
}

/** The settings that decide how much memory a run takes. */
export type BatchSettings = Pick<GenerateOptions, "mode" | "samples" | "beamSize" | "maxTokens">;

/** Rows that decode side by side. */
function batchRows({ mode, samples, beamSize }: BatchSettings, prompts: number): number {
  return prompts * (mode === "beam" ? beamSize : samples);
}

/**
 * Bytes that a run takes beside weights and programs: the key/value cache (twice where rows can change places) and the
 * position bias and mask of the prompts' attention, [B, H + 2, T, T].
 */
export function decodingBytes(
  config: ModelConfig,
  options: BatchSettings,
  prompts: number,
  promptTokens: number,
  cacheType: CacheType = "float32",
): number {
  const rows = batchRows(options, prompts);
  const columns = config.promptLength + promptTokens;
  const sets = rows > 1 ? 2 : 1;
  const cache = sets * rows * (columns + options.maxTokens) * cacheBytesPerToken(config, cacheType);
  return cache + prompts * (config.heads + 2) * columns ** 2 * 4;
}

function tooLarge(
  bytes: number,
  limit: number,
  config: ModelConfig,
  options: GenerateOptions,
  prompts: number,
  cacheType: CacheType = "float32",
): ConfigError {
  const mebibytes = (value: number) => `${Math.round(value / 2 ** 20).toLocaleString("en")} MiB`;
  return new ConfigError("CPM_INFER_MEMORY", "the key/value cache of this batch does not fit into memory", {
    got: `${mebibytes(bytes)} for ${batchRows(options, prompts)} rows (${cacheBytesPerToken(config, cacheType)} bytes a token)`,
    expected: `at most ${mebibytes(limit)}`,
    hint: "Generate fewer tokens (maxTokens), fewer texts at once (prompts, samples, beamSize), or shorten the prompts.",
  });
}
