/**
 * The tensors that a training step's programs read of a batch, for one batch size and length, and writing a batch into them.
 *
 * Legend: B rows, T columns, P prompt columns, H heads.
 */
import { attentionBias, type ModelBatch } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import { positionBuckets } from "../model/position-buckets.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import type { Owner } from "../util/owner.ts";
import type { Geometry } from "./programs.ts";

export interface BatchTensors {
  /**
   * promptIds, tokenIds `[B, T]` and isPrompt `[B, T, 1]` where rows are packed, else prompt `[B, P]` and tokens `[B, T − P]`;
   * segment `[B, T]`, buckets and blocked `[B, T, T]`, seen `[B, T, 1]`; bias `[B, H, T, T]`, which a program fills; of the loss
   * scale, loss `[]` and positions, targets, losses `[B·T]`, of which the first are used.
   */
  readonly tensors: Readonly<Record<string, DeviceTensor>>;
  /** Does what is plain arithmetic on a batch beforehand, as while the programs run with another one. */
  prepare(batch: ModelBatch): void;
  write(batch: ModelBatch): void;
}

interface PairInputs {
  readonly buckets: Int32Array;
  readonly blocked: Float32Array;
}

/** Allocates them; the owner frees them. */
export function createBatchTensors(
  { own }: Owner,
  runtime: Runtime,
  config: ModelConfig,
  { rows, columns, packed = false }: Geometry,
): BatchTensors {
  const { promptLength } = config;
  const textColumns = columns - promptLength;
  const allocate = (dtype: "float32" | "int32", shape: readonly number[]) => own(runtime.allocate(dtype, shape));
  const ids: Record<string, DeviceTensor> = packed
    ? {
        promptIds: allocate("int32", [rows, columns]),
        tokenIds: allocate("int32", [rows, columns]),
        isPrompt: allocate("float32", [rows, columns, 1]),
      }
    : { prompt: allocate("int32", [rows, promptLength]), tokens: allocate("int32", [rows, textColumns]) };
  const tensors = {
    ...ids,
    segment: allocate("int32", [rows, columns]),
    buckets: allocate("int32", [rows, columns, columns]),
    blocked: allocate("float32", [rows, columns, columns]),
    seen: allocate("float32", [rows, columns, 1]),
    bias: allocate("float32", [rows, config.heads, columns, columns]),
    scale: allocate("float32", []),
    loss: allocate("float32", []),
    positions: allocate("int32", [rows * columns]),
    targets: allocate("int32", [rows * columns]),
    losses: allocate("float32", [rows * columns]),
  };

  function writePacked({ input, prompt: flags }: ModelBatch): void {
    const promptIds = new Int32Array(input.length);
    const tokenIds = new Int32Array(input.length);
    const isPrompt = new Float32Array(input.length);
    for (let i = 0; i < input.length; i++) {
      const isOne = flags ? flags[i] === 1 : i % columns < promptLength;
      if (isOne) promptIds[i] = input[i]!;
      else tokenIds[i] = input[i]!;
      isPrompt[i] = Number(isOne);
    }
    runtime.write(ids.promptIds!, promptIds);
    runtime.write(ids.tokenIds!, tokenIds);
    runtime.write(ids.isPrompt!, isPrompt);
  }

  function writePlain({ input, prompt: flags }: ModelBatch): void {
    if (flags !== undefined) throw new Error("internal: a packed batch for a step of plain rows");
    const prompt = new Int32Array(rows * promptLength);
    const tokens = new Int32Array(rows * textColumns);
    for (let row = 0; row < rows; row++) {
      const own = input.subarray(row * columns, (row + 1) * columns);
      prompt.set(own.subarray(0, promptLength), row * promptLength);
      tokens.set(own.subarray(promptLength), row * textColumns);
    }
    runtime.write(ids.prompt!, prompt);
    runtime.write(ids.tokens!, tokens);
  }

  const prepared = new WeakMap<ModelBatch, PairInputs>();
  const pairsOf = (batch: ModelBatch): PairInputs =>
    prepared.get(batch) ?? {
      buckets: positionBuckets(batch.segment, rows, columns, config),
      blocked: attentionBias(batch),
    };

  return {
    tensors,
    prepare(batch) {
      if (batch.rows === rows && batch.columns === columns) prepared.set(batch, pairsOf(batch));
    },
    write(batch) {
      if (batch.rows !== rows || batch.columns !== columns) {
        throw new Error(`internal: a batch of ${batch.rows} × ${batch.columns} for a step of ${rows} × ${columns}`);
      }
      if (packed) writePacked(batch);
      else writePlain(batch);
      const seen = new Float32Array(rows * columns);
      for (let i = 0; i < seen.length; i++) seen[i] = i % columns < batch.length[Math.floor(i / columns)]! ? 1 : 0;
      runtime.write(tensors.segment, batch.segment);
      const { buckets, blocked } = pairsOf(batch);
      runtime.write(tensors.buckets, buckets);
      runtime.write(tensors.blocked, blocked);
      prepared.delete(batch);
      runtime.write(tensors.seen, seen);
    },
  };
}
