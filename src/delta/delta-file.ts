/**
 * A delta on disk: a folder of the shape that PEFT uses.
 *
 *     adapter_config.json           PEFT's, where PEFT has the method; else the type `CPM-LIVE`, which PEFT refuses
 *     adapter_model.safetensors     PEFT's names and scales, or our own
 *     delta.json                    methods with all options, the base's SHA-256 and sizes
 *
 * PEFT reads the first two; the third is ours and may be missing. A delta belongs to one base: with another one it is an
 * error, not a bad result.
 */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openRaw, type RawCheckpoint, toFloat32, writeSafetensors } from "../checkpoint/index.ts";
import { requireDType } from "../checkpoint/raw.ts";
import { readStrictJson } from "../checkpoint/shards.ts";
import type { ModelConfig } from "../model/config.ts";
import { elementCount } from "../runtime/dtype.ts";
import { fileErrorOf, writeFileAtomic, writeFolderAtomic } from "../util/atomic-file.ts";
import { CheckpointError } from "../util/error.ts";
import { attachDelta } from "./attach.ts";
import { type DeltaWithValues, finishDelta } from "./finish.ts";
import type { DeltaSpec } from "./methods/index.ts";
import { fromOriginal, isOriginalDelta } from "./original-delta.ts";
import { fromPeft, type ReadDelta, type ReadTensor, toPeft } from "./peft.ts";

export const deltaFiles = {
  config: "adapter_config.json",
  tensors: "adapter_model.safetensors",
  own: "delta.json",
} as const;

const ownType = "CPM-LIVE";
const jsonLimitBytes = 4 * 2 ** 20;
/** Methods of one delta. */
const mostParts = 64;

const specSchema = z.looseObject({
  method: z.string().max(64),
  places: z.array(z.string().max(300)).max(100_000).optional(),
  exclude: z.array(z.string().max(300)).max(1000).optional(),
});

const ownSchema = z.object({
  format: z.literal(1),
  methods: z.array(specSchema).min(1).max(mostParts),
  /** Names and scales of the tensors. */
  layout: z.enum(["peft", "own"]),
  base: z.object({
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    dimModel: z.int(),
    layers: z.int(),
    vocabSize: z.int(),
  }),
  /** What it was tuned for: soft prompt, segment, template and lengths. Whoever uses it begins with these. */
  use: z
    .object({
      promptTask: z.int().min(0).optional(),
      segment: z.int().min(1).optional(),
      task: z.string().max(64).optional(),
      template: z.unknown().optional(),
      lengthTokens: z.int().min(1).optional(),
      answerTokens: z.int().min(1).optional(),
    })
    .optional(),
});
type OwnJson = z.output<typeof ownSchema>;
export type DeltaUse = NonNullable<OwnJson["use"]>;

export interface SaveDeltaOptions {
  /** `baseHash` of the model that it was trained on. */
  readonly baseSha256: string;
  readonly use?: DeltaUse | undefined;
  /** More small files, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Writes a delta's folder, which must not exist, in its finished form. @throws FileError */
export async function saveDelta(folder: string, trained: DeltaWithValues, options: SaveDeltaOptions): Promise<void> {
  await writeFolderAtomic(folder, (aside) => writeDelta(aside, finishDelta(trained), options));
}

/** Writes the files into a folder that is there. */
export async function writeDelta(
  folder: string,
  finished: DeltaWithValues,
  { baseSha256, use, files = {} }: SaveDeltaOptions,
): Promise<void> {
  const { delta, values } = finished;
  const peft = toPeft(finished);
  const specs = delta.parts.map(({ spec, options }): DeltaSpec => ({ ...spec, ...options }));
  const tensors =
    peft?.tensors ??
    delta.parameters.map(({ name, shape }) => ({
      name,
      dtype: "float32" as const,
      shape,
      read: () => values.get(name)!,
    }));
  const { dimModel, layers, vocabSize } = delta.base;
  const own: OwnJson = {
    format: 1,
    methods: specs.map((spec) => ({
      ...spec,
      places: spec.places && [...spec.places],
      exclude: spec.exclude && [...spec.exclude],
    })),
    layout: peft ? "peft" : "own",
    base: { sha256: baseSha256, dimModel, layers, vocabSize },
    ...(use && { use }),
  };
  const config = peft?.config ?? { peft_type: ownType, methods: specs.map(({ method }) => method) };
  await writeSafetensors(join(folder, deltaFiles.tensors), tensors, { format: "pt", base_sha256: baseSha256 });
  for (const [name, text] of Object.entries(files)) await writeFileAtomic(join(folder, name), text);
  await writeFileAtomic(join(folder, deltaFiles.own), `${JSON.stringify(own, undefined, 2)}\n`);
  await writeFileAtomic(join(folder, deltaFiles.config), `${JSON.stringify(config, undefined, 2)}\n`);
}

export interface OpenedDelta extends DeltaWithValues {
  /** Of the base that it was trained on, where the file tells. */
  readonly baseSha256: string | undefined;
  readonly use: DeltaUse | undefined;
  readonly source: "cpm" | "peft" | "original";
}

/**
 * Reads a delta for a base: a folder of ours or PEFT's, or a state dict of the original (`alpha` is its scale, default the
 * published 16).
 *
 * @throws CheckpointError CPM_DELTA_FILE for a folder that holds none or tensors that do not fit, CPM_DELTA_PEFT,
 * CPM_DELTA_BASE where sizes tell already that it is another base's; those of opening weights; ConfigError of its options
 */
export async function openDelta(
  path: string,
  base: ModelConfig,
  { alpha }: { readonly alpha?: number | undefined } = {},
): Promise<OpenedDelta> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    (error: unknown) => {
      throw fileErrorOf(error, "read", path);
    },
  );
  if (!isFolder) {
    const tensors = await readTensors(path);
    if (!isOriginalDelta(tensors.keys())) throw notDelta(path, [...tensors.keys()].slice(0, 3).join(", "));
    return assembled(fromOriginal(tensors, base, path, alpha), base, path, { source: "original" });
  }
  const file = [deltaFiles.tensors, "adapter_model.bin"].map((name) => join(path, name)).find(existsSync);
  if (file === undefined) throw notDelta(path, "no adapter_model.safetensors");
  const ownPath = join(path, deltaFiles.own);
  const own = existsSync(ownPath) ? await readOwn(ownPath) : undefined;
  if (own) checkSizes(own.base, base, ownPath);
  const tensors = await readTensors(file);
  if (own?.layout === "own") {
    const values = new Map([...tensors].map(([name, tensor]) => [name, tensor.values]));
    return assembled({ specs: own.methods, values }, base, path, { source: "cpm", own });
  }
  const read = fromPeft(await readStrictJson(join(path, deltaFiles.config), jsonLimitBytes), tensors, base, path);
  return assembled(read, base, path, own ? { source: "cpm", own } : { source: "peft" });
}

async function assembled(
  { specs, values }: ReadDelta,
  base: ModelConfig,
  where: string,
  { source, own }: { readonly source: OpenedDelta["source"]; readonly own?: OwnJson },
): Promise<OpenedDelta> {
  const delta = attachDelta(base, specs);
  for (const { name, shape } of delta.parameters) {
    const count = values.get(name)?.length;
    if (count === elementCount(shape)) continue;
    throw new CheckpointError("CPM_DELTA_FILE", "a delta's file does not hold what its methods need", {
      where: `${where}: ${name}`,
      got: count === undefined ? "no such tensor" : `${count} numbers`,
      expected: `[${shape.join(", ")}]`,
    });
  }
  return { delta, values, source, baseSha256: own?.base.sha256, use: own?.use };
}

/**
 * Fails unless a delta is this base's. A delta that does not tell (PEFT's, the original's) is taken.
 *
 * @throws CheckpointError CPM_DELTA_BASE
 */
export function checkBase({ baseSha256 }: Pick<OpenedDelta, "baseSha256">, actualSha256: string, where: string): void {
  if (baseSha256 === undefined || baseSha256 === actualSha256) return;
  throw otherBase(where, `a base of SHA-256 ${actualSha256.slice(0, 16)}…`, `${baseSha256.slice(0, 16)}…`);
}

function checkSizes(of: OwnJson["base"], { dimModel, layers, vocabSize }: ModelConfig, where: string): void {
  const same = of.dimModel === dimModel && of.layers === layers && of.vocabSize === vocabSize;
  if (same) return;
  const shown = (sizes: Pick<OwnJson["base"], "dimModel" | "layers" | "vocabSize">) =>
    `${sizes.layers} layers of ${sizes.dimModel}, vocabulary ${sizes.vocabSize}`;
  throw otherBase(where, shown({ dimModel, layers, vocabSize }), shown(of));
}

function otherBase(where: string, got: string, expected: string): CheckpointError {
  return new CheckpointError("CPM_DELTA_BASE", "the delta was trained on another base", {
    where,
    got,
    expected,
    hint: "Give the base that it was trained on; weights that were converted or merged since are another base.",
  });
}

async function readOwn(path: string): Promise<OwnJson> {
  const parsed = ownSchema.safeParse(await readStrictJson(path, jsonLimitBytes));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CheckpointError("CPM_DELTA_FILE", "a delta's file does not hold what its methods need", {
    where: `${path}: ${issue?.path.join(".")}`,
    got: issue?.message,
  });
}

async function readTensors(path: string): Promise<Map<string, ReadTensor>> {
  const raw: RawCheckpoint = await openRaw(path);
  try {
    const tensors = new Map<string, ReadTensor>();
    for (const [name, tensor] of raw.tensors) {
      const dtype = requireDType(tensor, path);
      tensors.set(name, { shape: tensor.shape, values: toFloat32(await tensor.read(), dtype, `${path}: ${name}`) });
    }
    return tensors;
  } finally {
    await raw.close();
  }
}

function notDelta(path: string, got: string): CheckpointError {
  return new CheckpointError("CPM_DELTA_FILE", "there is no delta here", {
    where: path,
    got,
    expected: `a folder with ${deltaFiles.tensors}, or a state dict with lora_A and lora_B`,
  });
}
