/**
 * Which family of names and scales a weights file uses, and where in it each CPM-Ant parameter is found.
 *
 * | layout | names | prompt table | scale |
 * |---|---|---|---|
 * | `cpm-live` | as `model/parameters.ts` | its own | as trained: 1/√fan_in and 1/√d are applied at run time |
 * | `cpm-ant-plus` | the same | last rows of `input_embedding` | as trained |
 * | `hf-cpmant` | the same under `cpmant.`, and `lm_head.weight` | last rows of `input_embedding` | already divided |
 *
 * The rest of the kit sees CPM-Live's names and scales only.
 */
import { layerMask, type ModelConfig } from "../model/config.ts";
import { blockParameters, names as modelNames, type Parameter } from "../model/parameters.ts";
import { CheckpointError } from "../util/error.ts";

export type Layout = "cpm-live" | "cpm-ant-plus" | "hf-cpmant";

export const layouts: readonly Layout[] = ["cpm-live", "cpm-ant-plus", "hf-cpmant"];

export interface DetectedLayout {
  readonly layout: Layout;
  /** What stands before the names, such as `cpmant.` or `module.`. */
  readonly prefix: string;
  /** What it was recognised by, in words. */
  readonly evidence: string;
}

/** Where a parameter's elements are. */
export interface ParameterSource {
  readonly name: string;
  /** Row range of a merged table; undefined for the whole tensor. */
  readonly rows: readonly [from: number, to: number] | undefined;
  /** Stored elements times this are CPM-Live's. */
  readonly scale: number;
}

/** Marks in a name by which a delta is known, and what it is called. */
const deltaMarks: readonly (readonly [RegExp, string])[] = [
  [/(^|\.)lora(_[AB])?(\.|$)|\.lora_[AB]/, "LoRA"],
  [/\.adapter\.|(^|\.)adapter_/, "adapter"],
  [/\.prefix\.|prefix_(tuning|encoder)|past_key_reparam/, "prefix tuning"],
  [/delta_bias|\.(project_[qkv]|attention_out|w_0|w_1|w_out)\.bias$/, "BitFit"],
  [/soft_prompt|prompt_encoder/, "prompt tuning"],
];

/** The kind of delta that a tensor's name belongs to, if any. */
export function deltaKind(name: string): string | undefined {
  return deltaMarks.find(([mark]) => mark.test(name))?.[1];
}

/**
 * Recognises a file's layout by its names.
 *
 * @param hfConfig whether a config of Hugging Face's form came with it: decides where names alone cannot
 * @throws CheckpointError `CPM_CHECKPOINT_DELTA` for a delta without its base, or not merged into it;
 * `CPM_CHECKPOINT_ARCHITECTURE` for CPM-Bee; `CPM_CHECKPOINT_LAYOUT` for anything else
 */
export function detectLayout(names: Iterable<string>, where: string, hfConfig = false): DetectedLayout {
  const all = new Set(names);
  refuseDeltas(all, where);
  const tables = [...all].filter((name) => name === modelNames.token || name.endsWith(`.${modelNames.token}`));
  if (tables.length !== 1) {
    throw new CheckpointError("CPM_CHECKPOINT_LAYOUT", "the file's names are not those of a CPM-Ant model", {
      where,
      got: all.size === 0 ? "no tensor" : [...all].slice(0, 4).join(", "),
      expected: `exactly one ${modelNames.token} (CPM-Live) or cpmant.${modelNames.token} (Hugging Face)`,
    });
  }
  const prefix = tables[0]!.slice(0, -modelNames.token.length);
  if (!all.has(prefix + modelNames.segment)) {
    throw new CheckpointError(
      "CPM_CHECKPOINT_ARCHITECTURE",
      "the model has no segment embedding, so it is no CPM-Ant",
      {
        where,
        hint: "CPM-Bee models are of another architecture.",
      },
    );
  }
  if (all.has(prefix + modelNames.prompt)) {
    return { layout: "cpm-live", prefix, evidence: `it has ${prefix}${modelNames.prompt}` };
  }
  const hfPrefix = prefix.endsWith("cpmant.");
  if (hfPrefix || all.has(`${prefix}lm_head.weight`) || hfConfig) {
    const mark = hfPrefix ? "names start with cpmant." : hfConfig ? "its config is Hugging Face's" : "it has lm_head";
    return { layout: "hf-cpmant", prefix, evidence: `${mark}, and the prompt table is merged` };
  }
  return { layout: "cpm-ant-plus", prefix, evidence: "the prompt table is merged, and nothing points to Hugging Face" };
}

function refuseDeltas(names: ReadonlySet<string>, where: string): void {
  const deltas = [...names].filter((name) => deltaKind(name) !== undefined);
  if (deltas.length === 0) return;
  const alone = deltas.length === names.size;
  throw new CheckpointError(
    "CPM_CHECKPOINT_DELTA",
    alone ? "the file is a delta, not a model" : "the model comes with a delta that is not merged into it",
    {
      where,
      got: `${deltas.length} tensors of ${deltaKind(deltas[0]!)}, such as ${deltas[0]!.slice(0, 120)}`,
      expected: "the weights of a whole model",
      hint: alone ? "Give its base model, and this file as the delta." : "Merge the delta, or save the base alone.",
    },
  );
}

/** Where a CPM-Live parameter lies in a file of this layout. */
export function parameterSource(parameter: Parameter, config: ModelConfig, detected: DetectedLayout): ParameterSource {
  const { layout, prefix } = detected;
  const name = prefix + parameter.name;
  if (layout === "cpm-live") return { name, rows: undefined, scale: 1 };
  const scale = layout === "hf-cpmant" ? runtimeDivisor(parameter, config) : 1;
  const merged = prefix + modelNames.token;
  const promptEnd = config.vocabSize + config.promptTypes * config.promptLength;
  if (parameter.name === modelNames.token) return { name: merged, rows: [0, config.vocabSize], scale };
  if (parameter.name === modelNames.prompt) return { name: merged, rows: [config.vocabSize, promptEnd], scale };
  return { name, rows: undefined, scale };
}

/** What CPM-Live divides by at run time and Hugging Face's weights are divided by already. */
export function runtimeDivisor(parameter: Parameter, config: ModelConfig): number {
  if (parameter.kind === "linear") return Math.sqrt(parameter.fanIn!);
  return parameter.kind === "embedding" ? Math.sqrt(config.dimModel) : 1;
}

/** The shape that the source of a parameter must have. */
export function sourceShape(parameter: Parameter, config: ModelConfig, source: ParameterSource): readonly number[] {
  if (source.rows === undefined) return parameter.shape;
  return [config.vocabSize + config.promptTypes * config.promptLength, config.dimModel];
}

/**
 * Names of a Hugging Face file that are known but carry no parameter of their own: the copy of the token table as a head,
 * and the zeros that stand for absent sub-layers (`hf.ts`).
 */
export function redundantNames(config: ModelConfig, detected: DetectedLayout): ReadonlySet<string> {
  const redundant = new Set<string>();
  if (detected.layout !== "hf-cpmant") return redundant;
  redundant.add(headName(detected));
  for (let layer = 0; layer < config.layers; layer++) {
    const [attentionAbsent, ffnAbsent] = layerMask(config, layer);
    const absent = blockParameters(config, layer, [!attentionAbsent, !ffnAbsent]);
    for (const { name } of absent) redundant.add(detected.prefix + name);
  }
  return redundant;
}

/** The output head's name, outside of the `cpmant.` prefix. */
export function headName({ prefix }: DetectedLayout): string {
  return `${prefix.endsWith("cpmant.") ? prefix.slice(0, -"cpmant.".length) : prefix}lm_head.weight`;
}
