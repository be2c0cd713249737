/**
 * PEFT's files for Hugging Face's `cpmant`: which deltas PEFT has a form for, and the way there and back.
 *
 * | method | PEFT's type | tensors |
 * |---|---|---|
 * | LoRA, DoRA | `LORA` | `….lora_A.weight` `[r, I]`, `….lora_B.weight` `[O, r]`, `….lora_magnitude_vector` `[O]` |
 * | IA³ | `IA3` | `….ia3_l` `[O, 1]`, `[1, I]` of `w_out` |
 * | prefix | `PREFIX_TUNING` | `prompt_embeddings` `[S, L·2·H·E]`, keys before values in each layer |
 * | soft prompt | `PROMPT_TUNING` | `prompt_embeddings` `[N, D]` |
 *
 * Hugging Face's weights are divided by √I already, and the branch is not divided here either: factors are equal in both.
 * Rows of a soft prompt are divided by √D there. PEFT reads and writes the last two forms, but cannot run them on
 * `cpmant`: that model takes no embeddings as inputs, and counts past keys as tokens of the row.
 */
import { z } from "zod";
import type { WritableTensor } from "../checkpoint/index.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { CheckpointError } from "../util/error.ts";
import type { DeltaPart } from "./attach.ts";
import type { DeltaWithValues } from "./finish.ts";
import { ia3ScalesInput } from "./methods/ia3.ts";
import { type DeltaSpec, methodOf } from "./methods/index.ts";
import { type Place, placesOf } from "./places.ts";

const modulePrefix = "base_model.model.cpmant.";

export interface PeftFiles {
  /** `adapter_config.json` */
  readonly config: Readonly<Record<string, unknown>>;
  /** `adapter_model.safetensors` */
  readonly tensors: readonly WritableTensor[];
}

function float(name: string, shape: readonly number[], values: Float32Array): WritableTensor {
  return { name, dtype: "float32", shape, read: () => values };
}

function lastPart({ module }: Place): string {
  return module.slice(module.lastIndexOf(".") + 1);
}

/** A finished delta as PEFT writes it; undefined for methods, or several at once, that PEFT has no form for. */
export function toPeft({ delta, values }: DeltaWithValues): PeftFiles | undefined {
  const [part, ...others] = delta.parts;
  if (part === undefined || others.length > 0) return undefined;
  const write = writers[part.method.name];
  if (write === undefined) return undefined;
  const { config, tensors } = write(part, delta.base, (name) => values.get(name)!);
  const common = { base_model_name_or_path: null, inference_mode: true, revision: null, task_type: "CAUSAL_LM" };
  return { config: { ...common, ...config }, tensors };
}

type Writer = (part: DeltaPart, base: ModelConfig, value: (name: string) => Float32Array) => PeftFiles;

/** Suffixes where they name exactly the places that are meant, whole names where not. */
function targetsOf(part: DeltaPart, base: ModelConfig): string[] {
  const chosen = new Set(part.places.map(({ place }) => place.module));
  const suffixes = [...new Set(part.places.map(({ place }) => lastPart(place)))];
  const named = placesOf(base).filter((place) => place.kind === "linear" && suffixes.includes(lastPart(place)));
  return named.length === chosen.size ? suffixes : [...chosen].map((module) => `cpmant.${module}`);
}

const writers: Readonly<Record<string, Writer>> = {
  lora(part, base, value) {
    const { rank, alpha, rankStabilized, dora } = part.options as Record<string, never>;
    return {
      config: {
        peft_type: "LORA",
        r: rank,
        lora_alpha: alpha,
        lora_dropout: 0,
        bias: "none",
        fan_in_fan_out: false,
        init_lora_weights: true,
        target_modules: targetsOf(part, base),
        use_rslora: rankStabilized,
        use_dora: dora,
      },
      tensors: part.places.flatMap(({ parameters }) =>
        parameters.map(({ local, name, shape }) => {
          const ending = local === "lora_magnitude_vector" ? "" : ".weight";
          return float(`${modulePrefix}${name}${ending}`, shape, value(name));
        }),
      ),
    };
  },
  ia3(part, base, value) {
    const feedForward = part.places.filter(({ place }) => ia3ScalesInput(place));
    return {
      config: {
        peft_type: "IA3",
        fan_in_fan_out: false,
        init_ia3_weights: true,
        target_modules: targetsOf(part, base),
        feedforward_modules: feedForward.length > 0 ? ["w_out"] : [],
      },
      tensors: part.places.map(({ place, parameters: [l] }) => {
        const shape = ia3ScalesInput(place) ? [1, l!.shape[0]!] : [l!.shape[0]!, 1];
        return float(`${modulePrefix}${l!.name}`, shape, value(l!.name));
      }),
    };
  },
  prefix(part, base, value) {
    const { tokens: S } = part.options as { readonly tokens: number };
    const HE = base.heads * base.dimHead;
    const width = base.layers * 2 * HE;
    const rows = new Float32Array(S * width);
    for (const { place, parameters } of part.places) {
      parameters.forEach(({ name }, half) => {
        const from = value(name);
        for (let s = 0; s < S; s++) {
          rows.set(from.subarray(s * HE, (s + 1) * HE), s * width + (place.layer! * 2 + half) * HE);
        }
      });
    }
    return {
      config: { ...promptConfig("PREFIX_TUNING", base, S), encoder_hidden_size: HE, prefix_projection: false },
      tensors: [float("prompt_embeddings", [S, width], rows)],
    };
  },
  "soft-prompt"(part, base, value) {
    const { tokens: N } = part.options as { readonly tokens: number };
    const divided = value("soft_prompt").map((x) => x / Math.sqrt(base.dimModel));
    return {
      config: { ...promptConfig("PROMPT_TUNING", base, N), prompt_tuning_init: "RANDOM" },
      tensors: [float("prompt_embeddings", [N, base.dimModel], divided)],
    };
  },
};

function promptConfig(type: string, { layers, heads, dimModel }: ModelConfig, tokens: number) {
  return {
    peft_type: type,
    num_virtual_tokens: tokens,
    num_transformer_submodules: 1,
    num_layers: layers,
    num_attention_heads: heads,
    token_dim: dimModel,
  };
}

/** A tensor that was read from a file. */
export interface ReadTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface ReadDelta {
  readonly specs: readonly DeltaSpec[];
  /** By parameter name. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

const numbers = z.record(z.string().max(512), z.number().positive()).nullish();
const peftSchema = z.object({
  peft_type: z.enum(["LORA", "IA3", "PREFIX_TUNING", "PROMPT_TUNING"]),
  r: z.int().min(1).max(4096).optional(),
  lora_alpha: z.number().positive().optional(),
  use_rslora: z.boolean().nullish(),
  use_dora: z.boolean().nullish(),
  fan_in_fan_out: z.boolean().nullish(),
  alpha_pattern: numbers,
  rank_pattern: numbers,
  bias: z.string().max(20).nullish(),
  modules_to_save: z.array(z.string()).nullish(),
});
type PeftConfig = z.output<typeof peftSchema>;

/**
 * What PEFT wrote, as a delta of ours.
 *
 * @throws CheckpointError CPM_DELTA_PEFT for a type or an option that has no form here, tensors that do not fit
 */
export function fromPeft(
  config: unknown,
  tensors: ReadonlyMap<string, ReadTensor>,
  base: ModelConfig,
  where: string,
): ReadDelta {
  const parsed = peftSchema.safeParse(config);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw notRead(where, `${issue?.path.join(".")}: ${issue?.message}`, "LORA, IA3, PREFIX_TUNING or PROMPT_TUNING");
  }
  const { data } = parsed;
  if (data.bias && data.bias !== "none") throw notRead(where, `bias ${data.bias}`, "bias none");
  if (data.modules_to_save?.length) throw notRead(where, "modules_to_save", "factors alone");
  if (data.peft_type === "LORA") return fromLora(data, tensors, base, where);
  if (data.peft_type === "IA3") return fromIa3(tensors, base, where);
  const rows = tensors.get("prompt_embeddings");
  if (rows === undefined || rows.shape.length !== 2)
    throw notRead(where, [...tensors.keys()].slice(0, 3).join(", "), "prompt_embeddings");
  return data.peft_type === "PREFIX_TUNING" ? fromPrefix(rows, base, where) : fromPrompt(rows, base, where);
}

/** A module's name without what PEFT and Hugging Face put in front. */
function moduleOf(name: string): string {
  return name.replace(/^base_model\.model\./, "").replace(/^cpmant\./, "");
}

/** The modules of tensors by their ending, each a linear place of the model. */
function byModule(
  tensors: ReadonlyMap<string, ReadTensor>,
  ending: RegExp,
  base: ModelConfig,
  where: string,
): Map<Place, Map<string, ReadTensor>> {
  const places = new Map(placesOf(base).flatMap((place) => (place.kind === "linear" ? [[place.module, place]] : [])));
  const found = new Map<Place, Map<string, ReadTensor>>();
  for (const [name, tensor] of tensors) {
    const match = ending.exec(name);
    const place = match && places.get(moduleOf(name.slice(0, match.index)));
    if (!match || !place) throw notRead(where, name, "factors of the linear layers of this model");
    const own = found.get(place) ?? new Map<string, ReadTensor>();
    own.set(match[1]!, tensor);
    found.set(place, own);
  }
  if (found.size === 0) throw notRead(where, "no tensor", "factors of linear layers");
  return found;
}

/** PEFT's patterns are ends of module names, or regular expressions; the former alone are taken. */
function patternOf(patterns: PeftConfig["alpha_pattern"], module: string): number | undefined {
  return Object.entries(patterns ?? {}).find(([key]) => {
    const plain = key.replace(/^\^/, "").replace(/^cpmant\./, "");
    return module === plain || module.endsWith(`.${plain}`);
  })?.[1];
}

function fromLora(
  config: PeftConfig,
  tensors: ReadonlyMap<string, ReadTensor>,
  base: ModelConfig,
  where: string,
): ReadDelta {
  const modules = byModule(tensors, /\.(lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?$/, base, where);
  return loraOf(modules, where, {
    dora: config.use_dora ?? false,
    rankStabilized: config.use_rslora ?? false,
    alphaOf: (module) => patternOf(config.alpha_pattern, module) ?? config.lora_alpha ?? 8,
  });
}

export interface LoraSettings {
  readonly dora: boolean;
  readonly rankStabilized: boolean;
  alphaOf(module: string): number;
}

/** Factors by place as specs, one for each rank and alpha that there are. */
export function loraOf(
  modules: ReadonlyMap<Place, ReadonlyMap<string, ReadTensor>>,
  where: string,
  { dora, rankStabilized, alphaOf }: LoraSettings,
): ReadDelta {
  const groups = new Map<string, { rank: number; alpha: number; places: string[] }>();
  const values = new Map<string, Float32Array>();
  for (const [place, parts] of modules) {
    const [O, I] = place.shape as [number, number];
    const rank = parts.get("lora_A")?.shape[0] ?? 0;
    const expected = { lora_A: [rank, I], lora_B: [O, rank], ...(dora && { lora_magnitude_vector: [O] }) };
    for (const [local, shape] of Object.entries(expected)) {
      const tensor = parts.get(local);
      if (tensor === undefined || String(tensor.shape) !== String(shape)) {
        throw notRead(where, `${place.module}.${local} [${tensor?.shape ?? "absent"}]`, `[${shape}]`);
      }
      values.set(`${place.module}.${local}`, tensor.values);
    }
    const alpha = alphaOf(place.module);
    const group = groups.get(`${rank} ${alpha}`) ?? { rank, alpha, places: [] };
    group.places.push(place.module);
    groups.set(`${rank} ${alpha}`, group);
  }
  const specs = [...groups.values()].map((group): DeltaSpec => ({ method: "lora", ...group, dora, rankStabilized }));
  return { specs, values };
}

function fromIa3(tensors: ReadonlyMap<string, ReadTensor>, base: ModelConfig, where: string): ReadDelta {
  const values = new Map<string, Float32Array>();
  const places: string[] = [];
  for (const [place, parts] of byModule(tensors, /\.(ia3_l)(?:\.default)?$/, base, where)) {
    const { values: l, shape } = parts.get("ia3_l")!;
    const [O, I] = place.shape as [number, number];
    const expected = ia3ScalesInput(place) ? [1, I] : [O, 1];
    if (String(shape) !== String(expected)) throw notRead(where, `${place.module}.ia3_l [${shape}]`, `[${expected}]`);
    values.set(`${place.module}.ia3_l`, l);
    places.push(place.module);
  }
  return { specs: [{ method: "ia3", places }], values };
}

function fromPrefix({ shape, values: rows }: ReadTensor, base: ModelConfig, where: string): ReadDelta {
  const [S, width] = shape as [number, number];
  const HE = base.heads * base.dimHead;
  if (width !== base.layers * 2 * HE || S < 1) {
    throw notRead(where, `prompt_embeddings [${shape}]`, `[tokens, ${base.layers * 2 * HE}]`);
  }
  const values = new Map<string, Float32Array>();
  for (const { module, layer, path } of placesOf(base)) {
    if (path !== "attention" || layer === undefined || layerMask(base, layer)[0]) continue;
    ["prefix_keys", "prefix_values"].forEach((local, half) => {
      const own = new Float32Array(S * HE);
      for (let s = 0; s < S; s++) {
        const start = s * width + (layer * 2 + half) * HE;
        own.set(rows.subarray(start, start + HE), s * HE);
      }
      values.set(`${module}.${local}`, own);
    });
  }
  return { specs: [{ method: "prefix", tokens: S, reparameterize: false }], values };
}

function fromPrompt({ shape, values: rows }: ReadTensor, { dimModel: D }: ModelConfig, where: string): ReadDelta {
  if (shape[1] !== D || shape[0]! < 1) throw notRead(where, `prompt_embeddings [${shape}]`, `[tokens, ${D}]`);
  const values = new Map([["soft_prompt", rows.map((x) => x * Math.sqrt(D))]]);
  return { specs: [{ method: methodOf("soft-prompt").name, tokens: shape[0]! }], values };
}

export function notRead(where: string, got: string, expected: string): CheckpointError {
  return new CheckpointError("CPM_DELTA_PEFT", "this PEFT adapter has no form here", {
    where,
    got: got.slice(0, 200),
    expected,
    hint: "LoRA, DoRA, IA³, prefix and prompt tuning of HF's cpmant can be read.",
  });
}
