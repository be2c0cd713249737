/**
 * Decoding with a CPM-Ant model: a `DecodingSession` over the programs of `programs.ts` and a key/value cache.
 *
 * A prompt runs as a whole (its tokens see each other in both directions), then one token a row at a time, or several in
 * one pass (`token-step.ts`). Each layer has programs with its weights packed in, the fastest form; with
 * `weights: "shared"` programs serve all layers and no packed copy of the weights is made.
 */
import type { ModelConfig } from "../model/config.ts";
import type { LayerCache } from "../model/cpm-ant.ts";
import type { Grafts } from "../model/graft.ts";
import { names } from "../model/parameters.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { compileModel, type Placement } from "./compiled-model.ts";
import { cacheBytesPerToken, createKeyValueCache, type KeyValueCache } from "./key-value-cache.ts";
import { createPackedCache, type PackedCache } from "./packed-cache.ts";
import type { ProgramCache } from "./program-cache.ts";
import type { CacheType } from "./programs.ts";
import { beginRowPass, mixOf, type PassRow, type PassSettings, type RowPass } from "./row-pass.ts";
import { createDecodeBias } from "./score-bias.ts";
import type { ContinuousSession, Newcomers, RowState } from "./session.ts";
import { createTokenStep } from "./token-step.ts";
import type { ModelTensors } from "./weight-ports.ts";

export interface CpmAntSessionOptions {
  /** Longest text of a row, prompt text and generated tokens together, without the soft prompt. Default 512. */
  readonly capacityTokens?: number;
  /** Whose soft prompt stands in front. Default 2: language modelling, as the original generates. */
  readonly promptTask?: number;
  /** Segment of the text, given and generated. Default 2. */
  readonly segment?: number;
  /** Rows that memory is laid out for from the start; more are made room for when they come. Default 1. */
  readonly rowCapacity?: number;
  /** "packed" (default) or "shared": see above. */
  readonly weights?: "packed" | "shared";
  /** Tokens of all rows together that one pass of `extend` takes; more take several passes. Default 128. */
  readonly passTokens?: number;
  /**
   * What keys and values are stored in: "float32" (default), "float16" (half the memory, with attention's operands rounded
   * to 11 bits and keys and values beyond ±65504 lost) or "int8" (a quarter, rounded to 8 bits for each head and position).
   */
  readonly cacheType?: CacheType;
  /** Changes to the model's programs, whose tensors are among the parameters by name. */
  readonly grafts?: Grafts | undefined;
  /** Where compiled programs with packed weights are kept. Default: nowhere. */
  readonly cache?: ProgramCache | undefined;
  /** Layers whose programs run on another device than the runtime's. */
  readonly placement?: Placement | undefined;
  /**
   * Bytes that the layers' weights may take in memory, asked for when all programs are there; needs a cache. Default: no
   * limit.
   */
  readonly layerLimitBytes?: (() => number) | undefined;
}

/**
 * Compiles the programs. The parameters must outlive the session.
 *
 * Errors: CPM_INFER_TASK, CPM_INFER_SEGMENT, CPM_INFER_CAPACITY for options that cannot be. The session's calls throw
 * CPM_INFER_CAPACITY where a row would become longer than `capacityTokens`, and CPM_INFER_PROMPT for prompts without
 * tokens and for ids outside of the vocabulary; its rows stay as they were.
 */
export async function createCpmAntSession(
  runtime: Runtime,
  base: ModelConfig,
  parameters: ModelTensors,
  options: CpmAntSessionOptions = {},
): Promise<ContinuousSession> {
  const { capacityTokens = 512, promptTask = 2, segment = 2, weights = "packed", rowCapacity = 1 } = options;
  const { passTokens = 128, grafts, cacheType = "float32" } = options;
  const config = grafts?.config ?? base;
  checkOptions(config, { promptTask, segment, capacityTokens });
  const { promptLength: P, vocabSize: V } = config;
  /** Slots before each row's own, the same for all. */
  const X = grafts?.prefixSlots ?? 0;
  const slots = X + P + capacityTokens;
  const tableTensor = parameters.get(names.positionBias)!;
  const table = (await runtime.download(tableTensor)) as Float32Array;
  const decodeBias = createDecodeBias(config, table, slots, segment, X);
  const programs = await compileModel(runtime, config, parameters, {
    slots,
    weights,
    cacheType,
    grafts,
    cache: options.cache,
    placement: options.placement,
    layerLimitBytes: options.layerLimitBytes,
  });
  const tokenStep = createTokenStep(runtime, config, programs, decodeBias, { slots, segment, mixes: grafts?.mixes });

  let cache: KeyValueCache | PackedCache | undefined;
  /** Slots in use of each row, prefix and soft prompt included. */
  let lengths = new Int32Array(0);
  /** Of these, what the prompts take: it cannot be cut. */
  let promptLengths = new Int32Array(0);
  /** K: deltas that each row has weights for. */
  const K = grafts?.mixes ?? 0;
  /** Of each row, [K]. */
  let mixes: Float32Array[] = [];
  const mixed = (prompts: readonly unknown[], given: readonly ArrayLike<number>[] | undefined) =>
    prompts.map((_, row) => Float32Array.from(mixOf({ mix: given?.[row] }, K)));
  const releaseRows = () => {
    tokenStep.release();
    cache?.dispose();
    cache = undefined;
  };

  /** Makes room for this many rows; the rows that are there move in where they are still wanted. */
  function ensureRows(rows: number, keep: boolean): KeyValueCache | PackedCache {
    if (cache && cache.rowCapacity >= rows) return cache;
    rows = Math.max(rows, rowCapacity);
    const grown =
      cacheType === "int8"
        ? createPackedCache(config, rows, slots, Math.max(passTokens, rows))
        : createKeyValueCache(runtime, config, rows, slots, cacheType);
    if (keep && cache) {
      for (const [row, length] of lengths.entries()) grown.load(row, length, cache.save(row, length));
    }
    releaseRows();
    cache = grown;
    return grown;
  }

  const beginPass = (rows: readonly PassRow[], settings: Partial<PassSettings>) =>
    beginRowPass(runtime, config, programs, rows, { promptTask, segment, mixes: K, ...settings });
  /** Of each prompt's last token. */
  const lastLogits = (pass: RowPass, ends: Int32Array) =>
    pass.logits(ends.map((length, row) => row * pass.columns + length - X - 1));
  const lengthsOf = (prompts: readonly (readonly number[])[]) =>
    Int32Array.from(prompts, (prompt) => X + P + prompt.length);

  async function prefill(
    prompts: readonly (readonly number[])[],
    given?: readonly ArrayLike<number>[],
  ): Promise<Float32Array> {
    checkPrompts(prompts, V, capacityTokens);
    const current = ensureRows(prompts.length, false);
    const started = lengthsOf(prompts);
    lengths = started;
    promptLengths = started.slice();
    mixes = mixed(prompts, given);
    const onCache: PassSettings["onCache"] = (layer, layerCache) => {
      current.store(layer, layerCache, started);
      disposeCache(layerCache);
    };
    const pass = await beginPass(
      prompts.map((ids, row) => ({ ids, mix: mixes[row] })),
      { onCache },
    );
    try {
      await pass.advance();
      return await lastLogits(pass, started);
    } finally {
      pass.dispose();
    }
  }

  async function begin(
    prompts: readonly (readonly number[])[],
    given?: readonly ArrayLike<number>[],
  ): Promise<Newcomers> {
    checkPrompts(prompts, V, capacityTokens);
    const newMixes = mixed(prompts, given);
    const ends = lengthsOf(prompts);
    const held = new Map<number, LayerCache<DeviceTensor>>();
    const pass = await beginPass(
      prompts.map((ids, row) => ({ ids, mix: newMixes[row] })),
      { onCache: (layer, layerCache) => held.set(layer, layerCache) },
    );
    const dispose = () => {
      pass.dispose();
      for (const layerCache of held.values()) disposeCache(layerCache);
      held.clear();
    };
    return {
      get layersLeft() {
        return pass.layersLeft;
      },
      advance: (layers) => pass.advance(layers),
      async join() {
        try {
          const logits = await lastLogits(pass, ends);
          const first = lengths.length;
          const current = ensureRows(first + ends.length, true);
          for (const [layer, layerCache] of held) current.store(layer, layerCache, ends, first);
          lengths = Int32Array.of(...lengths, ...ends);
          promptLengths = Int32Array.of(...promptLengths, ...ends);
          mixes = [...mixes, ...newMixes];
          return logits;
        } finally {
          dispose();
        }
      },
      dispose,
    };
  }

  /** Fails where a row would not have room for `added(row)` tokens more. */
  function checkRoom(added: (row: number) => number): void {
    const full = lengths.findIndex((length, row) => length + added(row) > slots);
    if (full < 0) return;
    const more = added(full);
    const room = slots - lengths[full]!;
    throw new ConfigError(
      "CPM_INFER_CAPACITY",
      `a row has no room for ${more === 1 ? "another token" : "its tokens"}`,
      {
        where: `row ${full}`,
        got: room === 0 ? `${capacityTokens} tokens` : `${more} tokens, with room for ${room}`,
        hint: "end the row or open the session with a larger capacity",
      },
    );
  }

  const allMixes = () => Float32Array.from(mixes.flatMap((own) => [...own]));

  async function step(tokens: Int32Array): Promise<Float32Array> {
    const rows = tokens.length;
    if (rows !== lengths.length || rows === 0) throw new Error(`internal: ${rows} tokens for ${lengths.length} rows`);
    checkIds(tokens, V, "the step's tokens");
    checkRoom(() => 1);
    const logits = await tokenStep.run(
      ensureRows(rows, true),
      lengths,
      Array.from(tokens, (id) => [id]),
      "all",
      allMixes(),
    );
    for (let row = 0; row < rows; row++) lengths[row]!++;
    return logits;
  }

  async function extend(tokens: readonly ArrayLike<number>[], wanted: "all" | "last" = "all"): Promise<Float32Array> {
    const rows = lengths.length;
    const fed = tokens.reduce((sum, own) => sum + own.length, 0);
    if (tokens.length !== rows || fed === 0) {
      throw new Error(`internal: ${fed} tokens of ${tokens.length} rows for ${rows} rows`);
    }
    for (const [row, own] of tokens.entries()) checkIds(own, V, `the tokens of row ${row}`);
    checkRoom((row) => tokens[row]!.length);
    const current = ensureRows(rows, true);
    const width = Math.max(1, Math.floor(passTokens / rows));
    const longest = Math.max(...tokens.map((own) => own.length));
    const added = (row: number) => tokens[row]!.length;
    if (longest <= width) {
      const logits = await tokenStep.run(current, lengths, tokens, wanted, allMixes());
      lengths = lengths.map((length, row) => length + added(row));
      return logits;
    }
    // Where each row's logits begin in the result.
    const starts: number[] = [];
    let total = 0;
    for (const { length } of tokens) {
      starts.push(total);
      total += wanted === "all" ? length : Math.min(length, 1);
    }
    const result = new Float32Array(total * V);
    const reached = lengths.slice();
    for (let from = 0; from < longest; from += width) {
      const chunk = tokens.map((own) => Array.from(own).slice(from, from + width));
      const logits = await tokenStep.run(current, reached, chunk, wanted, allMixes());
      let at = 0;
      chunk.forEach((own, row) => {
        if (own.length === 0) return;
        const count = wanted === "all" ? own.length : Math.min(own.length, 1);
        // Of the last logits, those of a row's last chunk stay.
        result.set(logits.subarray(at * V, (at + count) * V), (starts[row]! + (wanted === "all" ? from : 0)) * V);
        at += count;
        reached[row]! += own.length;
      });
    }
    lengths = reached;
    return result;
  }

  const checkRow = (row: number) => {
    if (!(Number.isInteger(row) && row >= 0 && row < lengths.length))
      throw new Error(`internal: row ${row} of ${lengths.length}`);
  };

  const checkState = ({ length }: RowState) => {
    if (length > slots) throw new Error(`internal: a state of ${length} slots for a session of ${slots}`);
  };

  return {
    vocabSize: V,
    capacityTokens,
    get rows() {
      return lengths.length;
    },
    prefill,
    begin,
    resume(state, mix) {
      checkState(state);
      const row = lengths.length;
      ensureRows(row + 1, true).load(row, state.length, state.parts);
      lengths = Int32Array.of(...lengths, state.length);
      promptLengths = Int32Array.of(...promptLengths, state.promptLength);
      mixes = [...mixes, Float32Array.from(mixOf({ mix }, K))];
    },
    fork(row) {
      checkRow(row);
      const copy = lengths.length;
      ensureRows(copy + 1, true).copy(row, copy, lengths[row]!);
      lengths = Int32Array.of(...lengths, lengths[row]!);
      promptLengths = Int32Array.of(...promptLengths, promptLengths[row]!);
      mixes = [...mixes, mixes[row]!];
    },
    remove(row) {
      checkRow(row);
      const last = lengths.length - 1;
      if (row !== last) {
        cache!.copy(last, row, lengths[last]!);
        lengths[row] = lengths[last]!;
        promptLengths[row] = promptLengths[last]!;
        mixes[row] = mixes[last]!;
      }
      lengths = lengths.slice(0, last);
      promptLengths = promptLengths.slice(0, last);
      mixes = mixes.slice(0, last);
    },
    async pass(rows, settings = {}) {
      checkOptions(config, { promptTask, segment, capacityTokens, ...settings });
      checkPrompts(
        rows.map(({ ids }) => Array.from(ids)),
        V,
        capacityTokens,
      );
      return beginPass(rows, settings);
    },
    step,
    extend,
    truncate(removed) {
      const kept = lengths.map((length, row) => length - removed[row]!);
      if (removed.length !== lengths.length || kept.some((length, row) => !(length >= promptLengths[row]!))) {
        throw new Error(`internal: rows of ${lengths} slots (prompts ${promptLengths}) cannot lose ${removed}`);
      }
      lengths = kept;
    },
    stateBytes(row) {
      checkRow(row);
      return lengths[row]! * cacheBytesPerToken(config, cacheType);
    },
    save(row) {
      checkRow(row);
      const length = lengths[row]!;
      return { length, promptLength: promptLengths[row]!, parts: cache!.save(row, length) };
    },
    load(states) {
      const current = ensureRows(states.length, false);
      for (const [row, state] of states.entries()) {
        checkState(state);
        current.load(row, state.length, state.parts);
      }
      lengths = Int32Array.from(states, ({ length }) => length);
      promptLengths = Int32Array.from(states, ({ promptLength }) => promptLength);
      if (K > 0) throw new Error("internal: states of rows do not tell which deltas they are of");
    },
    reorder(sources) {
      if (!sources.every((source) => source >= 0 && source < lengths.length)) {
        throw new Error(`internal: rows ${sources} of ${lengths.length}`);
      }
      const current = ensureRows(sources.length, true);
      const moved = Int32Array.from(sources, (source) => lengths[source]!);
      current.reorder(sources, moved);
      lengths = moved;
      promptLengths = Int32Array.from(sources, (source) => promptLengths[source]!);
      mixes = Array.from(sources, (source) => mixes[source]!);
    },
    dispose() {
      releaseRows();
      programs.dispose();
    },
  };
}

function disposeCache({ keys, values }: LayerCache<DeviceTensor>): void {
  keys.dispose();
  values.dispose();
}

function checkOptions(
  config: ModelConfig,
  { promptTask, segment, capacityTokens }: { promptTask: number; segment: number; capacityTokens: number },
): void {
  if (!(Number.isInteger(capacityTokens) && capacityTokens >= 1)) {
    throw new ConfigError("CPM_INFER_CAPACITY", "a session needs room for a whole number of tokens", {
      got: String(capacityTokens),
      expected: "1 or more",
    });
  }
  if (!(Number.isInteger(promptTask) && promptTask >= 0 && promptTask < config.promptTypes)) {
    throw new ConfigError("CPM_INFER_TASK", "there is no such soft prompt", {
      got: String(promptTask),
      expected: `0 to ${config.promptTypes - 1}`,
    });
  }
  if (!(Number.isInteger(segment) && segment >= 1 && segment < config.segmentTypes)) {
    throw new ConfigError("CPM_INFER_SEGMENT", "text cannot be of this segment", {
      got: String(segment),
      expected: `1 to ${config.segmentTypes - 1}`,
    });
  }
}

function checkPrompts(prompts: readonly (readonly number[])[], vocabSize: number, capacityTokens: number): void {
  if (prompts.length === 0) throw new DataError("CPM_INFER_PROMPT", "there is no prompt");
  for (const [index, prompt] of prompts.entries()) {
    const where = `prompt ${index}`;
    if (prompt.length === 0) throw new DataError("CPM_INFER_PROMPT", "a prompt is empty", { where });
    if (prompt.length > capacityTokens) {
      throw new ConfigError("CPM_INFER_CAPACITY", "a prompt does not fit into the session", {
        where,
        got: `${prompt.length} tokens`,
        expected: `at most ${capacityTokens}`,
        hint: "shorten the prompt or open the session with a larger capacity",
      });
    }
    checkIds(prompt, vocabSize, where);
  }
}

/** The runtime would refuse ids from V on, but take negative ones for rows counted from the table's end. */
function checkIds(ids: ArrayLike<number>, vocabSize: number, where: string): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new DataError("CPM_INFER_PROMPT", "an id is outside of the vocabulary", {
      where,
      got: String(id),
      expected: `0 to ${vocabSize - 1}`,
    });
  }
}
