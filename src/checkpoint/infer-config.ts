/**
 * A config from the names and shapes of a model's tensors, for weights that come without one.
 *
 * Sizes follow from shapes; which sub-layers are absent follows from which names are missing. What no shape tells (the
 * longest distance, eps, how prompt rows are divided among tasks) is assumed as in the published models, and said.
 */
import { checkConfig, type LayerMask, type ModelConfig } from "../model/config.ts";
import { attentionNames, ffnNames, names } from "../model/parameters.ts";
import { CheckpointError } from "../util/error.ts";
import { type DetectedLayout, headName } from "./layout.ts";
import type { RawCheckpoint, RawTensor } from "./raw.ts";

export interface InferredConfig {
  readonly config: ModelConfig;
  /** Values that the weights do not tell, as sentences. */
  readonly assumptions: readonly string[];
}

/** Of the published models. */
const usual = { promptLength: 32, promptRows: 1024, positionMaxDistance: 2048, eps: 1e-6, dimHead: 128 } as const;

/**
 * @throws CheckpointError `CPM_CHECKPOINT_INFER` where the shapes fit no CPM-Ant model
 */
export function inferConfig(raw: RawCheckpoint, detected: DetectedLayout): InferredConfig {
  const where = raw.files.join(", ");
  const fail = (what: string, got?: string): CheckpointError =>
    new CheckpointError("CPM_CHECKPOINT_INFER", `the config cannot be inferred: ${what}`, {
      where,
      got,
      hint: "Give the model's config.json.",
    });
  const find = (name: string): RawTensor | undefined => raw.tensors.get(detected.prefix + name);
  const matrix = (name: string): readonly [number, number] => {
    const tensor = find(name);
    if (tensor === undefined) throw fail(`${name} is missing`);
    if (tensor.shape.length !== 2) throw fail(`${name} is no matrix`, `[${tensor.shape}]`);
    return tensor.shape as readonly number[] as readonly [number, number];
  };
  const assumptions: string[] = [];

  const [tableRows, dimModel] = matrix(names.token);
  const [segmentTypes] = matrix(names.segment);
  const [biasRows, heads] = matrix(names.positionBias);
  const positionBuckets = biasRows - segmentTypes ** 2;
  if (positionBuckets < 4) throw fail("the bias table has fewer rows than pairs of segments", `${biasRows} rows`);

  const { layers, masks } = inferMasks(raw, detected, fail);
  const firstAttention = masks.findIndex(([attentionAbsent]) => !attentionAbsent);
  const firstFfn = masks.findIndex(([, ffnAbsent]) => !ffnAbsent);
  const dimHead = firstAttention < 0 ? usual.dimHead : matrix(attentionNames(firstAttention).q)[0] / heads;
  if (!Number.isInteger(dimHead)) throw fail("project_q's rows are no multiple of the bias table's heads");
  if (firstAttention < 0) assumptions.push(`dim_head = ${dimHead}: no layer has attention to tell it`);
  const dimFf = firstFfn < 0 ? dimModel : matrix(ffnNames(firstFfn).gate)[0];
  if (firstFfn < 0) assumptions.push(`dim_ff = ${dimFf}: no layer has an FFN to tell it`);

  const promptRows = inferPromptRows(raw, detected, tableRows, assumptions);
  const vocabSize = detected.layout === "cpm-live" ? tableRows : tableRows - promptRows;
  if (promptRows < 1 || vocabSize < 1)
    throw fail("the tables have no room for tokens and prompts", `${tableRows} rows`);
  const promptLength = promptRows % usual.promptLength === 0 ? usual.promptLength : promptRows;
  const promptTypes = promptRows / promptLength;
  const positionMaxDistance = Math.max(usual.positionMaxDistance, positionBuckets);
  assumptions.push(
    `prompt_length = ${promptLength}, prompt_types = ${promptTypes}: only their product, ${promptRows}, shows in the weights`,
    `position_bias_max_distance = ${positionMaxDistance}, eps = ${usual.eps}: as in the published models`,
  );
  const config: ModelConfig = {
    vocabSize,
    dimModel,
    dimFf,
    layers,
    heads,
    dimHead,
    dropout: 0,
    positionBuckets,
    positionMaxDistance,
    eps: usual.eps,
    half: find(names.token)?.dtype === "float16",
    promptTypes,
    promptLength,
    segmentTypes,
    maskModules: masks.some((mask) => mask.includes(true)) ? masks : undefined,
  };
  return { config: checkConfig(config, where), assumptions };
}

/** Which sub-layers are there, from the norms that each must have; layers count up to the last one with a name. */
function inferMasks(
  raw: RawCheckpoint,
  { prefix }: DetectedLayout,
  fail: (what: string, got?: string) => CheckpointError,
): { layers: number; masks: LayerMask[] } {
  const start = `${prefix}encoder.layers.`;
  let layers = 0;
  for (const name of raw.tensors.keys()) {
    if (!name.startsWith(start)) continue;
    const index = /^(\d{1,4})\./.exec(name.slice(start.length))?.[1];
    if (index === undefined) throw fail("a layer has no number", name);
    layers = Math.max(layers, Number(index) + 1);
  }
  if (layers === 0) throw fail("there are no encoder.layers");
  const has = (name: string) => raw.tensors.has(prefix + name);
  const masks = Array.from({ length: layers }, (_, layer): LayerMask => {
    return [!has(attentionNames(layer).norm), !has(ffnNames(layer).norm)];
  });
  return { layers, masks };
}

function inferPromptRows(
  raw: RawCheckpoint,
  detected: DetectedLayout,
  tableRows: number,
  assumptions: string[],
): number {
  if (detected.layout === "cpm-live") return raw.tensors.get(detected.prefix + names.prompt)!.shape[0] ?? 0;
  const headRows = raw.tensors.get(headName(detected))?.shape[0];
  if (headRows !== undefined && headRows < tableRows) return tableRows - headRows;
  assumptions.push(`the last ${usual.promptRows} rows of the token table are the prompts, as in the published models`);
  return usual.promptRows;
}
