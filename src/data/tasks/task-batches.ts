/**
 * A task's training rows as batches: what tuning reads. Rows are drawn in another order each pass, and several stand in one
 * row of a batch where they fit, each with its soft prompt and out of sight of the others.
 *
 * The order is a pure function of seed and pass, so a position is two numbers.
 */
import { z } from "zod";
import { createBatch, ignoredTarget } from "../../model/batch.ts";
import type { Tokenizer } from "../../tokenizer/index.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import { createRandom, type Seed } from "../../util/random.ts";
import type { BatchGeometry, BatchSource, HeldOutBatch, SampleOrigin, SourceBatch } from "../batch-source.ts";
import { rowColumns, type TaskExample, type TaskRow } from "./task-rows.ts";

export interface TaskBatchesInput {
  /** Of the source, in records and errors. */
  readonly name: string;
  readonly train: readonly TaskExample[];
  readonly dev: readonly TaskExample[];
  readonly tokenizer: Tokenizer;
  readonly promptLength: number;
  readonly seed: Seed;
  /** A row of a batch holds one training row, as the original's did, however short it is. */
  readonly onePerRow?: boolean | undefined;
  /** Passes over the training rows; none after that. Default: without end. */
  readonly epochs?: number | undefined;
}

interface PlacedRow {
  readonly id: string;
  /** Number of the example. */
  readonly document: number;
  readonly row: TaskRow;
}

const stateSchema = z.object({
  source: z.string(),
  rows: z.int(),
  epoch: z.int().min(0),
  position: z.int().min(0),
  batches: z.int().min(0),
  tokens: z.int().min(0),
});

function rowsOf(examples: readonly TaskExample[]): PlacedRow[] {
  return examples.flatMap(({ id, rows }, document) => rows.map((row) => ({ id, document, row })));
}

/**
 * @throws DataError CPM_TASK_EMPTY where there is nothing to train on; its batches throw ConfigError CPM_TASK_LENGTH where a
 * row is longer than a batch's
 */
export function createTaskBatches(input: TaskBatchesInput): BatchSource {
  const { name, tokenizer, promptLength: P, seed, onePerRow = false, epochs = Number.POSITIVE_INFINITY } = input;
  const train = rowsOf(input.train);
  const dev = rowsOf(input.dev);
  if (train.length === 0) {
    throw new DataError("CPM_TASK_EMPTY", "there is nothing to train on", {
      where: name,
      expected: "at least one row with a target",
      hint: "Look at what the samples become: cpm data view --task.",
    });
  }
  let epoch = 0;
  let position = 0;
  let batches = 0;
  let tokens = 0;
  let order: Int32Array | undefined;
  const orderNow = (): Int32Array => {
    order ??= createRandom(seed, `task ${name} pass ${epoch}`).shuffle(Int32Array.from(train.keys()));
    return order;
  };
  const advance = () => {
    if (++position < train.length) return;
    epoch++;
    position = 0;
    order = undefined;
  };
  /** Fills a batch from where the rows are, which `take` moves on; stops at the first row that fits nowhere. */
  const fill = (
    geometry: BatchGeometry,
    current: () => PlacedRow | undefined,
    take: () => void,
  ): Filled | undefined => {
    const filled = createFilled(geometry);
    for (let next = current(); next !== undefined; next = current()) {
      if (!filled.add(next)) break;
      take();
    }
    return filled.samples.length > 0 ? filled : undefined;
  };
  const createFilled = ({ rows, columns }: BatchGeometry): Filled => {
    const batch = createBatch(rows, columns, true);
    const samples: SampleOrigin[] = [];
    const used = new Int32Array(rows);
    const counts = new Int32Array(rows);
    let textTokens = 0;
    let targets = 0;
    return {
      batch,
      samples,
      get tokens() {
        return textTokens;
      },
      get targets() {
        return targets;
      },
      add({ id, document, row }) {
        const needs = rowColumns(row, P);
        if (needs > columns) throw tooLong(id, needs, columns);
        const bin = used.findIndex((length) => length === 0 || (!onePerRow && length + needs <= columns));
        if (bin < 0) return false;
        const start = used[bin]!;
        const at = bin * columns + start;
        const { ids, firstTarget, predicts, promptTask, segment } = row;
        for (let i = 0; i < P; i++) batch.input[at + i] = promptTask * P + i;
        batch.prompt!.fill(1, at, at + P);
        batch.input.set(ids, at + P);
        batch.segment.fill(segment, at + P, at + needs);
        batch.span.fill(counts[bin]!++, at, at + needs);
        batch.context.fill(1, at, at + P + firstTarget);
        for (let i = firstTarget; i < ids.length; i++) batch.target[at + P + i - 1] = ids[i]!;
        if (predicts !== undefined) batch.target[at + needs - 1] = predicts;
        used[bin] = start + needs;
        batch.length[bin] = used[bin]!;
        textTokens += ids.length;
        targets += ids.length - firstTarget + (predicts === undefined ? 0 : 1);
        samples.push({
          row: bin,
          start,
          length: needs,
          source: name,
          shard: name,
          document,
          origin: id,
          objective: "lm",
          epoch,
        });
        return true;
      },
    };
  };

  const take = (geometry: BatchGeometry): Filled | undefined =>
    fill(geometry, () => (epoch < epochs ? train[orderNow()[position]!] : undefined), advance);

  return {
    packed: true,
    get batches() {
      return batches;
    },
    get tokens() {
      return tokens;
    },
    get epoch() {
      return epoch;
    },
    async next(geometry): Promise<SourceBatch | undefined> {
      const filled = take(geometry);
      if (!filled) return undefined;
      batches++;
      tokens += filled.tokens;
      const { batch, samples, targets } = filled;
      return { batch, samples, tokens: filled.tokens, targets, changes: [] };
    },
    async skip(count, geometry) {
      for (let i = 0; i < count; i++) take(geometry);
    },
    *heldOut(geometry, most): Generator<HeldOutBatch> {
      const chosen = dev.slice(0, most);
      const tokensPerCharacter = tokensPerAnswerCharacter(chosen, tokenizer);
      let at = 0;
      while (at < chosen.length) {
        const filled = fill(
          geometry,
          () => chosen[at],
          () => at++,
        );
        if (!filled) return;
        yield { source: name, batch: filled.batch, tokensPerCharacter };
      }
    },
    state: () => ({ source: name, rows: train.length, epoch, position, batches, tokens }),
    async restore(state) {
      const parsed = stateSchema.safeParse(state);
      const fits = parsed.success && parsed.data.source === name && parsed.data.rows === train.length;
      if (!fits) {
        throw new DataError("CPM_DATA_STATE", "the saved position is of other data", {
          where: name,
          got: parsed.success ? `${parsed.data.rows} rows of ${parsed.data.source}` : "no position of a task",
          expected: `${train.length} rows of ${name}`,
          hint: "Go on with the files that the run began with.",
        });
      }
      ({ epoch, position, batches, tokens } = parsed.data);
      order = undefined;
    },
    dispose() {},
  };
}

interface Filled {
  readonly batch: SourceBatch["batch"];
  readonly samples: SampleOrigin[];
  readonly tokens: number;
  readonly targets: number;
  /** Whether there was room. */
  add(row: PlacedRow): boolean;
}

/** Of the answers alone: bits a character are of what the model has to say. */
function tokensPerAnswerCharacter(rows: readonly PlacedRow[], tokenizer: Tokenizer): number {
  let tokens = 0;
  let characters = 0;
  for (const { row } of rows) {
    const answer = [...row.ids.subarray(row.firstTarget), ...(row.predicts === undefined ? [] : [row.predicts])];
    tokens += answer.length;
    characters += [...tokenizer.decode(answer.filter((id) => id !== tokenizer.eosId && id !== ignoredTarget))].length;
  }
  return characters > 0 ? tokens / characters : 1;
}

function tooLong(id: string, needs: number, columns: number): ConfigError {
  return new ConfigError("CPM_TASK_LENGTH", "a row of the task is longer than the batch's rows", {
    where: id,
    got: `${needs} columns, the soft prompt included`,
    expected: `at most ${columns}`,
    hint: "Allow longer rows (length), or cut inputs (lengthTokens).",
  });
}
