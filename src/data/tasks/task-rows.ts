/**
 * What tuning learns of a task: rows with targets, and batches of them.
 *
 *     generate, letter   prompt <s> input │ answer </s>     targets: answer and </s>
 *     likelihood         prompt <s> input │ answer </s>     of the right option alone (ranking: of each relevant one)
 *     yes                prompt <s> input with the option   a row for each option; its last position predicts
 *                                                           the template's `answer` (right) or `wrong`
 *
 * All of the input is context. Behind an answer that was cut there is no `</s>`. The original's loss for `yes` is not over the vocabulary but over the rows: the cross entropy
 * of the logits of `answer` at the rows' last positions against `right`.
 */
import { createBatch, type ModelBatch } from "../../model/batch.ts";
import type { Tokenizer } from "../../tokenizer/index.ts";
import { DataError } from "../../util/error.ts";
import type { Random } from "../../util/random.ts";
import type { SampleOrigin, SourceBatch } from "../batch-source.ts";
import type { EncodedPrompt, EncodedSample } from "./encode-sample.ts";

export interface TaskRow {
  /** `<s>` first. */
  readonly ids: Int32Array;
  /** The first that is a target; `ids.length` where none is. */
  readonly firstTarget: number;
  /** What the last position has to predict although no token of the row says so. */
  readonly predicts?: number | undefined;
  readonly promptTask: number;
  readonly segment: number;
}

/** What is learnt together: one row, or a row for each option. */
export interface TaskExample {
  /** The sample's. */
  readonly id: string;
  readonly rows: readonly TaskRow[];
  /** Of `yes`: which row is right. Rows of ranking are one that is relevant and one that is not. */
  readonly right?: number | undefined;
}

/**
 * The examples that a sample gives: one, or for ranking one for each relevant option (`yes`: beside a drawn one that is not
 * relevant; none where all options are alike).
 */
export function trainingExamples(encoded: EncodedSample, tokenizer: Tokenizer, random: Random): readonly TaskExample[] {
  const { sample, template, prompts } = encoded;
  const { id } = sample;
  const layout = { promptTask: template.promptTask, segment: template.segment };
  const shown = (prompt: EncodedPrompt, option: number): TaskExample => {
    const answer = prompt.answers.find((each) => each.option === option)!;
    const ids = Int32Array.of(...prompt.ids, ...answer.ids, ...(answer.whole ? [tokenizer.eosId] : []));
    return { id, rows: [{ ids, firstTarget: prompt.ids.length, ...layout }] };
  };
  const promptOf = (option: number) => prompts[prompts.length === 1 ? 0 : option]!;
  if (sample.kind === "generation") return [shown(prompts[0]!, 0)];
  if (template.method !== "yes") {
    const right = sample.kind === "choice" ? [sample.answer] : relevantOptions(sample.relevance);
    return right.map((option) => shown(promptOf(option), option));
  }
  const wrongId = wrongToken(encoded, tokenizer);
  const asked = (option: number, isRight: boolean): TaskRow => {
    const { ids, answers } = promptOf(option);
    return { ids, firstTarget: ids.length, predicts: isRight ? answers[0]!.ids[0]! : wrongId, ...layout };
  };
  if (sample.kind === "choice") {
    const rows = sample.options.map((_, option) => asked(option, option === sample.answer));
    return [{ id, rows, right: sample.answer }];
  }
  const others = sample.relevance.flatMap((grade, option) => (grade === 0 ? [option] : []));
  if (others.length === 0) return [];
  return relevantOptions(sample.relevance).map((option) => {
    const other = others[random.integer(others.length)]!;
    const right = random.integer(2);
    const rows = [asked(other, false)];
    rows.splice(right, 0, asked(option, true));
    return { id, rows, right };
  });
}

function relevantOptions(relevance: readonly number[]): readonly number[] {
  return relevance.flatMap((grade, option) => (grade > 0 ? [option] : []));
}

function wrongToken({ template, sample }: EncodedSample, tokenizer: Tokenizer): number {
  const { ids } = tokenizer.encode(template.wrong, { unknown: "drop" });
  if (ids.length === 1) return ids[0]!;
  throw new DataError("CPM_TASK_TOKEN", "the vocabulary cannot spell a text of a sample as it must be", {
    where: sample.id,
    got: JSON.stringify(template.wrong),
    expected: "one token",
    hint: "Give the vocabulary that the model was trained with, or another template.",
  });
}

/** Columns that a row takes, the soft prompt included. */
export function rowColumns(row: TaskRow, promptLength: number): number {
  return promptLength + row.ids.length;
}

/**
 * Rows as a batch, one a row, in order: prompt ids promptTask·promptLength + i, then the row's ids in its segment. Behind
 * them is padding.
 *
 * @param columns at least as many as the longest row takes; by default as many
 */
export function taskBatch(rows: readonly TaskRow[], promptLength: number, columns?: number): ModelBatch {
  const needed = Math.max(...rows.map((row) => rowColumns(row, promptLength)));
  const width = columns ?? needed;
  if (rows.length === 0 || needed > width) throw new Error(`internal: rows of ${needed} columns in ${width}`);
  const batch = createBatch(rows.length, width);
  for (const [index, { ids, firstTarget, predicts, promptTask, segment }] of rows.entries()) {
    const at = index * width;
    const text = at + promptLength;
    for (let i = 0; i < promptLength; i++) {
      batch.input[at + i] = promptTask * promptLength + i;
      batch.context[at + i] = 1;
    }
    batch.input.set(ids, text);
    batch.segment.fill(segment, text, text + ids.length);
    batch.context.fill(1, text, text + firstTarget);
    for (let i = firstTarget; i < ids.length; i++) batch.target[text + i - 1] = ids[i]!;
    if (predicts !== undefined) batch.target[text + ids.length - 1] = predicts;
    batch.length[index] = promptLength + ids.length;
  }
  return batch;
}

/** A batch with where each row is from, as `viewBatch` draws it. */
export function taskSourceBatch(examples: readonly TaskExample[], source: string, promptLength: number): SourceBatch {
  const placed = examples.flatMap(({ id, rows }, document) => rows.map((row) => ({ id, row, document })));
  const batch = taskBatch(
    placed.map(({ row }) => row),
    promptLength,
  );
  const samples = placed.map(
    ({ id, row, document }, index): SampleOrigin => ({
      row: index,
      start: 0,
      length: rowColumns(row, promptLength),
      source,
      shard: source,
      document,
      origin: id,
      objective: "lm",
      epoch: 0,
    }),
  );
  let tokens = 0;
  let targets = 0;
  for (const { row } of placed) {
    tokens += row.ids.length;
    targets += row.ids.length - row.firstTarget + (row.predicts === undefined ? 0 : 1);
  }
  return { batch, tokens, targets, samples, changes: [] };
}
