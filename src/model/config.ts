/**
 * A CPM-Ant model's sizes and constants: the type that code uses, the two JSON forms that files use (CPM-Live's and
 * Hugging Face's `cpmant`), and the checks between them.
 *
 * This file reads no file and knows no weights. Unlike the original's class, which swallows unknown keys and fills in
 * sizes of another model, an unknown key and a missing size are errors here.
 */
import { z } from "zod";
import { ConfigError } from "../util/error.ts";

/** `[attention, ffn]` of one layer; true where the sub-layer is absent and acts as the identity. */
export type LayerMask = readonly [attentionAbsent: boolean, ffnAbsent: boolean];

export interface ModelConfig {
  /** Rows of the token table. */
  readonly vocabSize: number;
  /** Width of the residual stream, d. */
  readonly dimModel: number;
  /** Width of the gated feed-forward layer. */
  readonly dimFf: number;
  readonly layers: number;
  readonly heads: number;
  /** Width of one head; `heads * dimHead` need not be `dimModel`. */
  readonly dimHead: number;
  /** Probability of dropping, for attention weights, FFN activations and both sub-layers' outputs. */
  readonly dropout: number;
  /** Distance buckets of the position bias inside one segment, both directions together; a multiple of 4. */
  readonly positionBuckets: number;
  /** Distances from here on share the last bucket. More than `positionBuckets / 4`. */
  readonly positionMaxDistance: number;
  /** Added to the mean square inside the root of the norms. */
  readonly eps: number;
  /** The weights are meant to be stored and run in float16. */
  readonly half: boolean;
  /** Soft-prompt tasks. */
  readonly promptTypes: number;
  /** Soft tokens of each task. */
  readonly promptLength: number;
  readonly segmentTypes: number;
  /** One entry per layer, or undefined where every sub-layer is present. */
  readonly maskModules: readonly LayerMask[] | undefined;
}

/** The keys of a CPM-Live `config.json`, in the order in which we write them, and our names for them. */
const fileKeys = {
  vocab_size: "vocabSize",
  dim_model: "dimModel",
  dim_ff: "dimFf",
  num_layers: "layers",
  num_heads: "heads",
  dim_head: "dimHead",
  dropout_p: "dropout",
  position_bias_num_buckets: "positionBuckets",
  position_bias_max_distance: "positionMaxDistance",
  eps: "eps",
  half: "half",
  prompt_types: "promptTypes",
  prompt_length: "promptLength",
  segment_types: "segmentTypes",
  mask_modules: "maskModules",
} as const satisfies Record<string, keyof ModelConfig>;

/** Hugging Face's names where they differ from CPM-Live's. */
const hfNames: Readonly<Record<string, string>> = {
  dim_model: "hidden_size",
  num_heads: "num_attention_heads",
  num_layers: "num_hidden_layers",
};

/** Keys that Hugging Face writes into a `cpmant` config and that change nothing about the model's arithmetic. */
const hfIgnored: ReadonlySet<string> = new Set([
  "_attn_implementation_autoset",
  "_commit_hash",
  "_from_model_config",
  "_name_or_path",
  "architectures",
  "bos_token_id",
  "chunk_size_feed_forward",
  "decoder_start_token_id",
  "do_sample",
  "early_stopping",
  "eos_token_id",
  "id2label",
  "init_std",
  "is_decoder",
  "is_encoder_decoder",
  "label2id",
  "length_penalty",
  "max_length",
  "max_new_tokens",
  "min_length",
  "num_beams",
  "output_attentions",
  "output_hidden_states",
  "pad_token_id",
  "repetition_penalty",
  "return_dict",
  "temperature",
  "tie_word_embeddings",
  "tokenizer_class",
  "top_k",
  "top_p",
  "transformers_version",
  "unk_token_id",
  "use_cache",
]);

/** Keys by which a config is known to be Hugging Face's. */
const hfMarks = ["model_type", "architectures", "hidden_size", "num_attention_heads", "num_hidden_layers"];

const size = (max: number) => z.int().min(1).max(max);

/** The ranges of a config's values. What must hold between them is in `checkConfig`. */
export const modelConfigSchema = z.strictObject({
  vocabSize: size(2 ** 24),
  dimModel: size(2 ** 20),
  dimFf: size(2 ** 20),
  layers: size(4096),
  heads: size(4096),
  dimHead: size(2 ** 16),
  dropout: z.number().min(0).lt(1),
  positionBuckets: z
    .int()
    .min(4)
    .max(2 ** 20)
    .multipleOf(4),
  positionMaxDistance: size(2 ** 24),
  eps: z.number().gt(0).lt(1),
  half: z.boolean(),
  promptTypes: size(2 ** 16),
  promptLength: size(2 ** 16),
  segmentTypes: size(2048),
  maskModules: z.array(z.tuple([z.boolean(), z.boolean()])).optional(),
});

const defaults: Readonly<Record<string, unknown>> = { dropout_p: 0, eps: 1e-6, half: false, mask_modules: null };

function fileKeyOf(field: string): string {
  return Object.entries(fileKeys).find(([, name]) => name === field)?.[0] ?? field;
}

/**
 * Checks a config's ranges and what must hold between its values; returns it unchanged.
 *
 * @throws ConfigError `CPM_CONFIG_VALUE` for a value out of range, `CPM_CONFIG_INCONSISTENT` for values that contradict
 * each other.
 */
export function checkConfig(config: ModelConfig, where = "model config"): ModelConfig {
  const checked = modelConfigSchema.safeParse(config);
  if (!checked.success) {
    const issue = checked.error.issues[0]!;
    const [field, ...rest] = issue.path.map(String);
    const key = field === undefined ? "the config" : [fileKeyOf(field), ...rest].join(".");
    let value: unknown = config;
    for (const step of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[step];
    throw new ConfigError("CPM_CONFIG_VALUE", `${key} has a value that no model can have`, {
      where,
      got: shorten(JSON.stringify(value)),
      expected: issue.message,
      hint: `Correct ${key}, or start from a preset's config.json.`,
    });
  }
  const inconsistent = (what: string, got: string, expected: string): ConfigError =>
    new ConfigError("CPM_CONFIG_INCONSISTENT", what, { where, got, expected });
  const { layers, maskModules, positionBuckets, positionMaxDistance, promptTypes, promptLength } = config;
  if (maskModules !== undefined && maskModules.length !== layers) {
    throw inconsistent("mask_modules has not one pair per layer", `${maskModules.length} pairs`, `${layers} pairs`);
  }
  if (positionMaxDistance <= positionBuckets / 4) {
    throw inconsistent(
      "position_bias_max_distance leaves no room for the logarithmic buckets",
      `${positionMaxDistance}`,
      `more than position_bias_num_buckets / 4 = ${positionBuckets / 4}`,
    );
  }
  if (config.heads * config.dimHead > 2 ** 20) {
    throw inconsistent("num_heads times dim_head is too wide", `${config.heads * config.dimHead}`, "at most 1048576");
  }
  if (promptTypes * promptLength > 2 ** 24) {
    throw inconsistent("the prompt table is too long", `${promptTypes * promptLength} rows`, "at most 16777216 rows");
  }
  return config;
}

/** Whether a parsed config.json is in Hugging Face's form. */
export function isHfConfig(json: Readonly<Record<string, unknown>>): boolean {
  return hfMarks.some((key) => Object.hasOwn(json, key));
}

/**
 * Reads a parsed `config.json`, in CPM-Live's or in Hugging Face's keys.
 *
 * `dropout_p` (0), `eps` (1e-6), `half` (false; from `torch_dtype` in Hugging Face's form) and `mask_modules` (nothing
 * absent) may be missing; every size must be there.
 *
 * @param where the file, for errors
 * @throws ConfigError `CPM_CONFIG_JSON`, `CPM_CONFIG_ARCHITECTURE`, `CPM_CONFIG_UNKNOWN_KEY`, `CPM_CONFIG_MISSING_KEY`,
 * and those of `checkConfig`
 */
export function parseConfig(json: unknown, where: string): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new ConfigError("CPM_CONFIG_JSON", "a model config must be a JSON object", {
      where,
      got: json === null ? "null" : Array.isArray(json) ? "an array" : `a ${typeof json}`,
      expected: "an object with vocab_size, dim_model, …",
    });
  }
  const given = new Map(Object.entries(json));
  const hf = isHfConfig(json as Record<string, unknown>);
  refuseOtherArchitectures(given, where);
  if (hf && !given.has("half")) {
    given.set("half", (given.get("torch_dtype") ?? given.get("dtype")) === "float16");
  }
  const nameOf = (key: string): string => (hf ? (hfNames[key] ?? key) : key);
  const known = Object.keys(fileKeys).map(nameOf);
  for (const key of given.keys()) {
    if (known.includes(key)) continue;
    if (hf && (hfIgnored.has(key) || ["model_type", "torch_dtype", "dtype"].includes(key))) continue;
    const near = nearest(key, known);
    throw new ConfigError("CPM_CONFIG_UNKNOWN_KEY", `unknown key ${JSON.stringify(shorten(key))} in a model config`, {
      where,
      expected: known.join(", "),
      hint: near === undefined ? "Remove the key: nothing reads it." : `Did you mean ${near}?`,
    });
  }
  const config: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fileKeys)) {
    const value = given.get(nameOf(key)) ?? defaults[key];
    if (value === undefined) {
      throw new ConfigError("CPM_CONFIG_MISSING_KEY", `${nameOf(key)} is missing from the model config`, {
        where,
        expected: `a value for ${nameOf(key)}`,
        hint: "Sizes have no defaults: take the value from the model's own description.",
      });
    }
    config[field] = value ?? undefined;
  }
  return checkConfig(config as unknown as ModelConfig, where);
}

/** The config as CPM-Live writes it. */
export function configToJson(config: ModelConfig): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fileKeys).map(([key, field]) => [key, config[field] ?? null]));
}

/**
 * The config as Hugging Face's `cpmant` writes it. `mask_modules` is kept: Transformers ignores it, so weights in that
 * layout must spell absent sub-layers out as zeros (`checkpoint/hf.ts` does).
 */
export function configToHfJson(config: ModelConfig): Record<string, unknown> {
  const { half, ...rest } = configToJson(config);
  const sizes = Object.entries(rest).map(([key, value]) => [hfNames[key] ?? key, value]);
  return {
    architectures: ["CpmAntForCausalLM"],
    model_type: "cpmant",
    ...Object.fromEntries(sizes),
    init_std: 1.0,
    use_cache: true,
    tie_word_embeddings: false,
    torch_dtype: half ? "float16" : "float32",
  };
}

/** The mask of one layer; nothing absent where the config has no masks. */
export function layerMask(config: ModelConfig, layer: number): LayerMask {
  return config.maskModules?.[layer] ?? [false, false];
}

function refuseOtherArchitectures(given: ReadonlyMap<string, unknown>, where: string): void {
  const type = given.get("model_type");
  const bee = given.has("position_bias_num_segment_buckets");
  if (!bee && (type === undefined || type === "cpmant")) return;
  throw new ConfigError("CPM_CONFIG_ARCHITECTURE", "this config describes another architecture", {
    where,
    got: bee ? "CPM-Bee (it has position_bias_num_segment_buckets)" : `model_type ${shorten(JSON.stringify(type))}`,
    expected: 'CPM-Ant, or model_type "cpmant"',
    hint: "Use a checkpoint of the CPM-Ant family.",
  });
}

/** The nearest known key within an edit distance of a third of its length, ignoring case and punctuation. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  if (key.length > 64) return undefined;
  const alias: Readonly<Record<string, string>> = {
    hidden_size: "dim_model",
    num_attention_heads: "num_heads",
    num_hidden_layers: "num_layers",
    dim_model: "hidden_size",
    num_heads: "num_attention_heads",
    num_layers: "num_hidden_layers",
    norm_eps: "eps",
    intermediate_size: "dim_ff",
    dropout: "dropout_p",
    layers: "num_layers",
    heads: "num_heads",
  };
  if (alias[key] !== undefined && known.includes(alias[key])) return alias[key];
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const distance = editDistance(plain(key), plain(candidate));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best !== undefined && bestDistance <= Math.max(2, best.length / 3) ? best : undefined;
}

/** Levenshtein's distance by the usual table, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

function shorten(text: string | undefined): string {
  if (text === undefined) return "nothing";
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
