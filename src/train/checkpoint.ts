/**
 * A training run's checkpoint: a folder with everything that going on exactly needs.
 *
 *     config.json, model.safetensors, vocab.txt    the model, as any command opens it; or of a delta
 *     adapter_*, delta.json, trained.safetensors   its files, as any command opens them, and its parameters
 *     optimizer.safetensors                        first and second moments: "m.NAME", "v.NAME", and "ema.NAME"
 *     state.json                                   counters, schedule, data position, guard
 *     manifest.json                                size and SHA-256 of each of these
 *
 * Tensors are whole and go by parameter name, so nothing depends on how many processes wrote them or on how memory was laid
 * out. The folder is written aside, synced and renamed: it is there completely or not at all, and what comes after a
 * crash is found out by the manifest.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  openCheckpoint,
  openSafetensors,
  type RawCheckpoint,
  saveCheckpoint,
  type WritableTensor,
  writeSafetensors,
} from "../checkpoint/index.ts";
import { attachDelta, finishDelta, writeDelta } from "../delta/index.ts";
import type { ModelConfig } from "../model/config.ts";
import { elementCount } from "../runtime/dtype.ts";
import { fileErrorOf, writeFileAtomic, writeFolderAtomic } from "../util/atomic-file.ts";
import { CheckpointError, ConfigError } from "../util/error.ts";
import type { ArenaLayout } from "./arena.ts";
import type { CheckpointDelta } from "./trainee.ts";

/** A delta's parameters as they are trained; its files for others may have a simpler form. */
const trainedFile = "trained.safetensors";
const optimizerFile = "optimizer.safetensors";
const stateFile = "state.json";
const vocabularyFile = "vocab.txt";
const manifestFile = "manifest.json";

/** What a checkpoint holds besides tensors. `data` and `guard` belong to whoever wrote them. */
export const trainStateSchema = z.object({
  format: z.literal(1),
  step: z.int().min(0),
  tokens: z.int().min(0),
  /** Updates of the optimizer: differs from `step` where updates were skipped. */
  updates: z.int().min(0),
  /** Time in training so far, pauses and earlier attempts included. */
  trainedMs: z.number().min(0),
  data: z.unknown(),
  guard: z.unknown(),
  /** Factor on the schedule's rate, after interventions. */
  rateFactor: z.number().positive(),
  lossScale: z.unknown(),
  best: z.object({ step: z.int(), nats: z.number(), bitsPerCharacter: z.number().optional() }).optional(),
  /** Validations in a row since the best. */
  sinceBest: z.int().min(0).default(0),
});
export type TrainState = z.output<typeof trainStateSchema>;

/** Flat arrays in a layout's order, as they were at one moment. */
export interface Snapshot {
  readonly parameters: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly ema?: Float32Array | undefined;
}

export interface CheckpointContent {
  readonly config: ModelConfig;
  /** The parameters are a delta's on a model of this config. */
  readonly delta?: CheckpointDelta | undefined;
  readonly layout: ArenaLayout;
  readonly snapshot: Snapshot;
  readonly state: TrainState;
  readonly vocabularyText: string;
}

const manifestSchema = z.record(z.string(), z.object({ bytes: z.int().min(0), sha256: z.string() }));

/** The folder's name of a step. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

/**
 * Writes a checkpoint into `folder`/step-XXXXXXXX.
 *
 * @returns its path and size
 * @throws FileError; nothing is left behind then, and earlier checkpoints are as they were
 */
export async function writeCheckpoint(
  folder: string,
  content: CheckpointContent,
): Promise<{ path: string; bytes: number }> {
  const { config, delta, layout, snapshot, state, vocabularyText } = content;
  const path = join(folder, checkpointName(state.step));
  let bytes = 0;
  // Of an attempt before, at the same step.
  await rm(path, { recursive: true, force: true }).catch((error) => {
    throw fileErrorOf(error, "write", path);
  });
  await writeFolderAtomic(path, async (aside) => {
    if (delta) {
      await writeSafetensors(join(aside, trainedFile), tensorsOf(layout, "", snapshot.parameters));
      await writeFinished(aside, config, delta, layout, snapshot.parameters);
    } else {
      await saveCheckpoint(aside, config, tensorsOf(layout, "", snapshot.parameters), {
        files: { [vocabularyFile]: vocabularyText },
      });
    }
    await writeSafetensors(join(aside, optimizerFile), [
      ...tensorsOf(layout, "m.", snapshot.first),
      ...tensorsOf(layout, "v.", snapshot.second),
      ...(snapshot.ema ? tensorsOf(layout, "ema.", snapshot.ema) : []),
    ]);
    await writeFileAtomic(join(aside, stateFile), JSON.stringify(state));
    const manifest: z.output<typeof manifestSchema> = {};
    for (const name of (await readdir(aside)).sort()) {
      manifest[name] = await fingerprint(join(aside, name));
      bytes += manifest[name].bytes;
    }
    await writeFileAtomic(join(aside, manifestFile), `${JSON.stringify(manifest, undefined, 1)}\n`);
  });
  return { path, bytes };
}

/** A delta's own files: what others open. */
async function writeFinished(
  folder: string,
  base: ModelConfig,
  { specs, baseSha256, use, frozen }: CheckpointDelta,
  layout: ArenaLayout,
  flat: Float32Array,
): Promise<void> {
  const values = new Map(frozen);
  for (const { name, shape } of layout.parameters) {
    const start = layout.offsets.get(name)!;
    values.set(name, flat.subarray(start, start + elementCount(shape)));
  }
  await writeDelta(folder, finishDelta({ delta: attachDelta(base, specs), values }), { baseSha256, use });
}

function tensorsOf(layout: ArenaLayout, prefix: string, flat: Float32Array): WritableTensor[] {
  return layout.parameters.map(({ name, shape }) => {
    const start = layout.offsets.get(name)!;
    const size = shape.reduce((product, axis) => product * axis, 1);
    return { name: `${prefix}${name}`, dtype: "float32", shape, read: () => flat.subarray(start, start + size) };
  });
}

async function fingerprint(path: string): Promise<{ bytes: number; sha256: string }> {
  const digest = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    digest.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: digest.digest("hex") };
}

/** Steps with a checkpoint's folder, ascending; whether they are sound shows when they are read. */
export async function listCheckpoints(folder: string): Promise<readonly { step: number; path: string }[]> {
  const names = await readdir(folder).catch(() => []);
  return names
    .flatMap((name) => {
      const match = /^step-(\d{8,12})$/.exec(name);
      return match ? [{ step: Number(match[1]), path: join(folder, name) }] : [];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * The checkpoint of a step.
 *
 * @throws ConfigError CPM_TRAIN_FROM where there is none
 */
export async function checkpointOf(folder: string, step: number): Promise<{ step: number; path: string }> {
  const present = await listCheckpoints(folder);
  const found = present.find((each) => each.step === step);
  if (found !== undefined) return found;
  throw new ConfigError("CPM_TRAIN_FROM", "The run has no checkpoint of this step", {
    where: folder,
    got: String(step),
    expected: present.length === 0 ? "none is there" : `one of ${present.map((each) => each.step).join(", ")}`,
    hint: "Which checkpoints stay is said by the recipe's retention.",
  });
}

/** Removes what a process that was killed left half written. Only whoever holds the run may call it. */
export async function removeHalfWritten(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    if (/^\.+step-\d+\.partial-/.test(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
}

/**
 * Reads a checkpoint's state and tensors, after comparing every file with the manifest.
 *
 * @throws CheckpointError CPM_TRAIN_CHECKPOINT where it is incomplete, damaged or of another model
 */
export async function readCheckpoint(
  path: string,
  layout: ArenaLayout,
): Promise<{ state: TrainState; snapshot: Snapshot }> {
  const bad = badCheckpoint(path);
  const { weightsFile } = await verifyFiles(path, bad);
  const state = await readJson(join(path, stateFile), trainStateSchema, bad);
  const parameters = new Float32Array(layout.elements);
  const first = new Float32Array(layout.elements);
  const second = new Float32Array(layout.elements);
  await fill(join(path, weightsFile), layout, [["", parameters]], bad);
  let ema: Float32Array | undefined;
  const found = await fill(
    join(path, optimizerFile),
    layout,
    [
      ["m.", first],
      ["v.", second],
    ],
    bad,
  );
  if (found.has(`ema.${layout.parameters[0]!.name}`)) {
    ema = new Float32Array(layout.elements);
    await fill(join(path, optimizerFile), layout, [["ema.", ema]], bad);
  }
  return { state, snapshot: { parameters, first, second, ema } };
}

type Bad = (what: string, where?: string, got?: string, cause?: unknown) => CheckpointError;

function badCheckpoint(path: string): Bad {
  return (what, where = path, got, cause) =>
    new CheckpointError("CPM_TRAIN_CHECKPOINT", `A checkpoint cannot be resumed from: ${what}`, {
      where,
      got,
      hint: "An earlier checkpoint of the run will do; remove this one.",
      cause,
    });
}

/** Compares every file with the manifest. The weights are a model's or a delta's. */
async function verifyFiles(path: string, bad: Bad): Promise<{ readonly weightsFile: string }> {
  const manifest = await readJson(join(path, manifestFile), manifestSchema, bad);
  for (const [name, expected] of Object.entries(manifest)) {
    if (!/^[\w.-]+$/.test(name)) throw bad("its manifest names a file outside", path, name);
    const file = join(path, name);
    const size = (await stat(file).catch(() => undefined))?.size;
    if (size !== expected.bytes)
      throw bad("a file has another size", file, `${size ?? "no file"}, ${expected.bytes} expected`);
    const found = await fingerprint(file);
    if (found.sha256 !== expected.sha256) throw bad("a file's checksum differs", file);
  }
  const weightsFile = trainedFile in manifest ? trainedFile : "model.safetensors";
  for (const name of [weightsFile, optimizerFile, stateFile]) {
    if (!(name in manifest)) throw bad("its manifest lacks a file", path, name);
  }
  return { weightsFile };
}

/**
 * Writes a checkpoint's model as a folder of its own, with other small files beside it; `average`: the averaged weights in
 * place of the last ones, where the checkpoint has them.
 *
 * @throws CheckpointError CPM_TRAIN_CHECKPOINT; FileError
 */
export async function exportCheckpoint(
  path: string,
  output: string,
  options: { readonly average?: boolean; readonly files?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const bad = badCheckpoint(path);
  await verifyFiles(path, bad);
  const opened = await openCheckpoint(path);
  const moments = options.average ? await openSafetensors(join(path, optimizerFile)) : undefined;
  try {
    const { config } = opened;
    const averaged = (name: string) => moments?.tensors.get(`ema.${name}`);
    const tensors = opened.names().map((name): WritableTensor => {
      const { shape } = opened.tensor(name);
      return { name, dtype: "float32", shape, read: () => (averaged(name) ?? opened.tensor(name)).read() };
    });
    const vocabulary = await readFile(join(path, vocabularyFile), "utf8");
    await saveCheckpoint(output, config, tensors, { files: { [vocabularyFile]: vocabulary, ...options.files } });
  } finally {
    await moments?.close();
    await opened.close();
  }
}

async function fill(
  file: string,
  layout: ArenaLayout,
  parts: readonly (readonly [prefix: string, flat: Float32Array])[],
  bad: (what: string, where?: string, got?: string) => CheckpointError,
): Promise<ReadonlySet<string>> {
  const opened = await openSafetensors(file);
  try {
    return await fillFrom(opened, file, layout, parts, bad);
  } finally {
    await opened.close();
  }
}

async function fillFrom(
  opened: RawCheckpoint,
  file: string,
  layout: ArenaLayout,
  parts: readonly (readonly [prefix: string, flat: Float32Array])[],
  bad: (what: string, where?: string, got?: string) => CheckpointError,
): Promise<ReadonlySet<string>> {
  const names = new Set(opened.tensors.keys());
  for (const [prefix, flat] of parts) {
    for (const { name, shape } of layout.parameters) {
      const tensor = opened.tensors.get(`${prefix}${name}`);
      if (tensor === undefined) throw bad("a tensor is missing", file, `${prefix}${name}`);
      if (tensor.dtype !== "float32" || tensor.shape.join() !== shape.join()) {
        throw bad(
          "a tensor is of another model",
          `${file}: ${prefix}${name}`,
          `[${tensor.shape.join(", ")}], [${shape.join(", ")}] expected`,
        );
      }
      flat.set((await tensor.read()) as Float32Array, layout.offsets.get(name)!);
    }
  }
  return names;
}

async function readJson<S extends z.ZodType>(
  path: string,
  schema: S,
  bad: (what: string, where: string, got?: string, cause?: unknown) => CheckpointError,
): Promise<z.output<S>> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw bad("a file is missing or damaged", path, String((cause as { code?: string }).code ?? "not JSON"), cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw bad("a file is not as it must be", path, parsed.error.issues[0]?.message);
}

/** Which checkpoints stay. The newest always does. */
export const retentionSchema = z.strictObject({
  /** The last so many. */
  last: z.int().min(1).default(3),
  /** Those of every so many steps; 0: none. */
  every: z.int().min(0).default(0),
  /** The one with the lowest validation loss. */
  best: z.boolean().default(true),
});
export type Retention = z.output<typeof retentionSchema>;

/** The steps that may go. */
export function expendable(steps: readonly number[], { last, every, best }: Retention, bestStep?: number): number[] {
  const ascending = [...steps].sort((a, b) => a - b);
  const recent = new Set(ascending.slice(-last));
  return ascending.filter(
    (step) => !(recent.has(step) || (every > 0 && step % every === 0) || (best && step === bestStep)),
  );
}
