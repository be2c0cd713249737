/**
 * What a row of text is trained for: CPM-Ant's two objectives, drawn when the row is read.
 *
 * A row is `prompt <s> piece </s>`. Some of its text tokens become *targets*: they lose their context flag, and the
 * position before each of them predicts it. *fill* picks random places of the text, so the model completes what is
 * missing with the rest in sight on both sides; *lm* takes the end of the text, so it continues. Both predict the next
 * token and differ only in what is picked.
 */
import { ignoredTarget, type ModelBatch } from "../model/batch.ts";
import type { Random } from "../util/random.ts";
import type { TokenCorpus } from "./token-corpus.ts";

export type Objective = "fill" | "lm";

/** The soft prompt and the segment of each objective, as the original numbers them. */
export const objectiveLayout: Readonly<Record<Objective, { readonly promptTask: number; readonly segment: number }>> = {
  fill: { promptTask: 1, segment: 1 },
  lm: { promptTask: 2, segment: 2 },
};

/** Prompt types, and segment types, that a model needs to be trained on both objectives. */
export const objectiveTypes = 3;

/**
 * Draws the targets of a text of `length` tokens (`<s>` and `</s>` included, at least 2): m uniform from 1 to
 * length − 1, then
 *
 * - fill: m different positions among 1 to length − 1, every choice equally likely;
 * - lm: the last m positions.
 *
 * Position 0, `<s>`, is never a target.
 *
 * @returns isTarget, `length` flags
 */
export function drawTargets(objective: Objective, length: number, random: Random): Uint8Array {
  if (length < 2) throw new Error(`internal: targets of a text of ${length} tokens`);
  const isTarget = new Uint8Array(length);
  const count = 1 + random.integer(length - 1);
  if (objective === "lm") return isTarget.fill(1, length - count);
  // The first `count` places of a shuffle (Fisher-Yates, stopped early).
  const positions = new Int32Array(length - 1);
  for (let i = 0; i < positions.length; i++) positions[i] = i + 1;
  for (let i = 0; i < count; i++) {
    const other = i + random.integer(positions.length - i);
    const chosen = positions[other]!;
    positions[other] = positions[i]!;
    isTarget[chosen] = 1;
  }
  return isTarget;
}

/** Every token after `<s>` is a target: plain left-to-right modelling, for scoring a text whole. */
export function allTargets(length: number): Uint8Array {
  return new Uint8Array(length).fill(1, 1);
}

/**
 * Writes a sample of text from column `start` of a row of a packed batch: its prompt, `<s>` ids `</s>`, all in span `span`.
 * `compat` writes as the original's packer did: the prompts of all samples but the first are looked up in the token table
 * (prompt task·promptLength + i as token ids), which trained them with wrong prompts.
 *
 * @param isTarget flags of the text, ids.length + 2
 * @returns the column after it
 */
export function writePackedSample(
  batch: ModelBatch,
  row: number,
  start: number,
  sample: {
    readonly ids: ArrayLike<number>;
    readonly span: number;
    readonly objective: Objective;
    readonly isTarget: Uint8Array;
  },
  vocabulary: { readonly bosId: number; readonly eosId: number; readonly promptLength: number },
  compat = false,
): number {
  const { ids, span, objective, isTarget } = sample;
  const { promptTask, segment } = objectiveLayout[objective];
  const { promptLength, bosId, eosId } = vocabulary;
  const length = ids.length + 2;
  const end = start + promptLength + length;
  if (end > batch.columns || isTarget.length !== length) {
    throw new Error(`internal: a text of ${length} tokens at column ${start} of ${batch.columns}`);
  }
  const at = row * batch.columns + start;
  for (let i = 0; i < promptLength; i++) {
    batch.input[at + i] = promptTask * promptLength + i;
    batch.context[at + i] = 1;
    batch.span[at + i] = span;
    if (batch.prompt && !(compat && start > 0)) batch.prompt[at + i] = 1;
  }
  const text = at + promptLength;
  for (let i = 0; i < length; i++) {
    const id = i === 0 ? bosId : i === length - 1 ? eosId : ids[i - 1]!;
    batch.input[text + i] = id;
    batch.segment[text + i] = segment;
    batch.span[text + i] = span;
    const target = isTarget[i] === 1;
    batch.context[text + i] = target ? 0 : 1;
    if (i > 0) batch.target[text + i - 1] = target ? id : ignoredTarget;
  }
  batch.length[row] = end;
  return end;
}

/**
 * Writes piece `piece` of the corpus as row `row`: prompt ids promptTask·promptLength + i (context, segment 0), then
 * `<s>` piece `</s>` in the objective's segment, context where not a target, target at i the id of i + 1 where that is a
 * target. The row must be blank (`createBatch`); columns behind stay padding.
 *
 * @param isTarget flags of the text, piece length + 2
 * @param part of the piece, where not all of it is meant
 */
export function writeSample(
  batch: ModelBatch,
  row: number,
  corpus: TokenCorpus,
  piece: number,
  objective: Objective,
  isTarget: Uint8Array,
  part?: { readonly from: number; readonly to: number },
): void {
  const from = corpus.offsets[piece]! + (part?.from ?? 0);
  const to = part ? corpus.offsets[piece]! + part.to : corpus.offsets[piece + 1]!;
  const content = { ids: corpus.ids.subarray(from, to), span: 0, objective, isTarget };
  writePackedSample(batch, row, 0, content, corpus);
}
