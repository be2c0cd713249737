/**
 * Preferences: a prompt with an answer that is preferred to another. Files are JSON Lines of `{prompt, chosen, rejected}`,
 * plain or compressed; batches hold each pair in two rows, the preferred first.
 */
import { z } from "zod";
import type { ModelBatch } from "../model/batch.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import { ConfigError, DataError } from "../util/error.ts";
import { createRandom, type Seed } from "../util/random.ts";
import type { BatchGeometry, BatchSource, SampleOrigin } from "./batch-source.ts";
import { rowColumns, type TaskRow, taskBatch } from "./tasks/task-rows.ts";
import { lineBatches } from "./text-lines.ts";

const maxLineBytes = 4 * 1024 * 1024;
const rowSchema = z.object({
  id: z.string().min(1).max(200).optional(),
  prompt: z.string().min(1).max(1_000_000),
  chosen: z.string().min(1).max(1_000_000),
  rejected: z.string().min(1).max(1_000_000),
});

export interface PreferencePair {
  readonly id: string;
  readonly chosen: TaskRow;
  readonly rejected: TaskRow;
}

export interface PreferenceLayout {
  readonly promptTask: number;
  readonly segment: number;
  /** Longest row without the soft prompt: a longer prompt loses its beginning, a longer answer its end. */
  readonly lengthTokens: number;
  readonly answerTokens: number;
}

/** @throws FileError; DataError CPM_TASK_ROW for a line that is no pair, CPM_TASK_TOKEN where nothing can be spelled */
export async function readPreferences(
  files: readonly string[],
  tokenizer: Tokenizer,
  layout: PreferenceLayout,
  limit = Number.POSITIVE_INFINITY,
): Promise<PreferencePair[]> {
  const pairs: PreferencePair[] = [];
  for (const file of files) {
    for await (const lines of lineBatches(file, maxLineBytes)) {
      if (lines instanceof Error) throw notPair(file, lines.message);
      for (const { bytes, number } of lines) {
        if (pairs.length >= limit) return pairs;
        if (bytes !== undefined && bytes.toString("utf8").trim() === "") continue;
        pairs.push(encodePair(parsed(bytes, `${file}:${number}`), `${file}:${number}`, tokenizer, layout));
      }
    }
  }
  return pairs;
}

function parsed(bytes: Uint8Array | undefined, where: string): z.output<typeof rowSchema> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw notPair(where, bytes === undefined ? "a line that is too long" : String(error));
  }
  const row = rowSchema.safeParse(value);
  if (row.success) return row.data;
  const [issue] = row.error.issues;
  throw notPair(where, `${issue?.path.join(".")}: ${issue?.message}`);
}

function encodePair(
  { id, prompt, chosen, rejected }: z.output<typeof rowSchema>,
  where: string,
  tokenizer: Tokenizer,
  { promptTask, segment, lengthTokens, answerTokens }: PreferenceLayout,
): PreferencePair {
  const spelled = (text: string) => {
    const { ids } = tokenizer.encode(text, { unknown: "drop" });
    if (ids.length > 0) return Array.from(ids);
    throw new DataError("CPM_TASK_TOKEN", "the vocabulary cannot spell a text of a sample as it must be", {
      where,
      got: JSON.stringify(text.slice(0, 40)),
      expected: "at least one token",
    });
  };
  const answers = [chosen, rejected].map((text) => [...spelled(text).slice(0, answerTokens), tokenizer.eosId]);
  const room = lengthTokens - 1 - Math.max(...answers.map((answer) => answer.length));
  if (room < 1) {
    throw new ConfigError("CPM_TASK_LENGTH", "a row has no room for input and answer", {
      where,
      got: `${lengthTokens} tokens`,
      expected: `more than ${lengthTokens - room}`,
    });
  }
  const input = [tokenizer.bosId, ...spelled(prompt).slice(-room)];
  const [preferred, other] = answers.map((answer): TaskRow => {
    return { ids: Int32Array.from([...input, ...answer]), firstTarget: input.length, promptTask, segment };
  });
  return { id: id ?? where, chosen: preferred!, rejected: other! };
}

function notPair(where: string, got: string): DataError {
  return new DataError("CPM_TASK_ROW", "a line is not a row of preferences", {
    where,
    got: got.slice(0, 200),
    expected: '{"prompt": …, "chosen": …, "rejected": …}',
  });
}

export interface PreferenceBatches extends BatchSource {
  /** Of each two rows of a batch, which pair they are: of training first, then of what is held out; −1 for padding. */
  pairsOf(batch: ModelBatch): readonly number[];
  readonly pairs: readonly PreferencePair[];
}

const stateSchema = z.object({
  pairs: z.int(),
  position: z.int().min(0),
  batches: z.int().min(0),
  tokens: z.int().min(0),
});

/** Pairs as batches of plain rows: half as many pairs as rows, in another order each pass, which runs into the next. */
export function createPreferenceBatches(input: {
  readonly train: readonly PreferencePair[];
  readonly dev: readonly PreferencePair[];
  readonly promptLength: number;
  readonly seed: Seed;
  readonly epochs?: number | undefined;
}): PreferenceBatches {
  const { train, dev, promptLength: P, seed, epochs = Number.POSITIVE_INFINITY } = input;
  const name = "preferences";
  if (train.length === 0) {
    throw new DataError("CPM_TASK_EMPTY", "there is nothing to train on", {
      where: name,
      expected: "at least one pair",
    });
  }
  const pairs = [...train, ...dev];
  const known = new WeakMap<ModelBatch, readonly number[]>();
  let position = 0;
  let batches = 0;
  let tokens = 0;
  let order: { readonly epoch: number; readonly of: Int32Array } | undefined;
  const pairAt = (at: number): number => {
    const epoch = Math.floor(at / train.length);
    if (order?.epoch !== epoch) {
      order = { epoch, of: createRandom(seed, `${name} pass ${epoch}`).shuffle(Int32Array.from(train.keys())) };
    }
    return order.of[at % train.length]!;
  };
  const batchOf = (chosen: readonly number[], { rows, columns }: BatchGeometry) => {
    if (rows % 2 !== 0) {
      throw new ConfigError("CPM_TASK_LENGTH", "pairs need an even number of rows", {
        got: String(rows),
        expected: "2, 4, 6 …",
      });
    }
    const filled = Array.from({ length: rows / 2 }, (_, i) => chosen[i] ?? chosen[0]!);
    const placed = filled.flatMap((pair) => [pairs[pair]!.chosen, pairs[pair]!.rejected]);
    const batch = taskBatch(placed, P, columns);
    known.set(
      batch,
      filled.map((pair, i) => (i < chosen.length ? pair : -1)),
    );
    return { batch, placed };
  };
  return {
    packed: false,
    pairs,
    pairsOf: (batch) => known.get(batch)!,
    get batches() {
      return batches;
    },
    get tokens() {
      return tokens;
    },
    get epoch() {
      return Math.floor(position / train.length);
    },
    async next(geometry) {
      const left = Math.min(geometry.rows / 2, epochs * train.length - position);
      if (left <= 0) return undefined;
      const chosen = Array.from({ length: Math.floor(left) }, (_, i) => pairAt(position + i));
      const epoch = Math.floor(position / train.length);
      const { batch, placed } = batchOf(chosen, geometry);
      position += chosen.length;
      batches++;
      const counted = placed.slice(0, 2 * chosen.length);
      const own = counted.reduce((sum, { ids }) => sum + ids.length, 0);
      tokens += own;
      const samples = counted.map((row, i): SampleOrigin => {
        const pair = chosen[i >> 1]!;
        const length = rowColumns(row, P);
        const origin = { source: name, shard: name, document: pair, origin: pairs[pair]!.id };
        return { row: i, start: 0, length, ...origin, objective: "lm", epoch };
      });
      const targets = counted.reduce((sum, { ids, firstTarget }) => sum + ids.length - firstTarget, 0);
      return { batch, tokens: own, targets, samples, changes: [] };
    },
    async skip(count, { rows }) {
      position += (count * rows) / 2;
    },
    *heldOut(geometry, most) {
      const all = Array.from({ length: Math.min(dev.length, most) }, (_, i) => train.length + i);
      const each = geometry.rows / 2;
      for (let at = 0; at < all.length; at += each) {
        yield { source: name, batch: batchOf(all.slice(at, at + each), geometry).batch, tokensPerCharacter: 1 };
      }
    },
    state: () => ({ pairs: train.length, position, batches, tokens }),
    async restore(state) {
      const found = stateSchema.safeParse(state);
      if (!found.success || found.data.pairs !== train.length) {
        throw new DataError("CPM_DATA_STATE", "the saved position is of other data", {
          where: name,
          expected: `${train.length} pairs`,
          hint: "Go on with the files that the run began with.",
        });
      }
      ({ position, batches, tokens } = found.data);
    },
    dispose() {},
  };
}
