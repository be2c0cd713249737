/**
 * Configs by name: the sizes that CPM-Ant was released in, and two small ones of our own.
 *
 * | preset | attention / FFN layers | heads × width | FFN | d | parameters |
 * |---|---|---|---|---|---|
 * | `10b` | 48 / 48 | 32 × 128 | 10240 | 4096 | 9,391,624,192 |
 * | `7b` | 37 / 32 | 32 × 128 | 10240 | 4096 | 6,640,050,176 |
 * | `3b` | 37 / 32 | 20 × 128 | 3735 | 4096 | 3,151,026,176 |
 * | `1b` | 25 / 21 | 16 × 128 | 700 | 4096 | 1,149,865,984 |
 * | `300m` | 25 / 21 | 4 × 128 | 350 | 4096 | 430,385,152 |
 * | `mini` | 6 / 6 | 4 × 128 | 1408 | 512 | 23,610,880 |
 * | `tiny` | 4 / 4 | 6 × 32 | 512 | 192 | 2,369,856 |
 *
 * The 1B's layer masks are the published ones and the 300M's are the same. For 7B and 3B only the numbers of layers
 * were published. The 1B was cut further from the 3B, so the 3B must have kept every sub-layer that the 1B kept; of those
 * that the 1B lacks, ours restores 12 attentions and 11 FFNs, evenly spread over the depth. It is a stand-in for measuring and
 * for training anew: to read released 7B or 3B weights, let the config be inferred from the file.
 */
import { ConfigError } from "../util/error.ts";
import type { LayerMask, ModelConfig } from "./config.ts";

/** A = attention kept, F = FFN kept, - = removed; layers 0 to 47. */
const masks1b =
  "AF A- A- -- A- AF A- AF A- AF -- AF A- -- -- -- AF -F AF -- AF -- -F A- AF -- -- AF -F A- A- AF -- A- -- -- AF -F -- AF AF -- A- -- -F -F -- -F"
    .split(" ")
    .map((pair): LayerMask => [pair[0] === "-", pair[1] === "-"]);

/** Puts `count` of the absent sub-layers back, as evenly as their order allows. */
function restore(absent: readonly boolean[], count: number): boolean[] {
  const total = absent.filter(Boolean).length;
  let seen = 0;
  return absent.map((isAbsent) => {
    if (!isAbsent) return false;
    seen += 1;
    return Math.floor((seen * count) / total) === Math.floor(((seen - 1) * count) / total);
  });
}

const attention37 = restore(
  masks1b.map(([attention]) => attention),
  37 - 25,
);
const ffn32 = restore(
  masks1b.map(([, ffn]) => ffn),
  32 - 21,
);
const masks3b = attention37.map((absent, layer): LayerMask => [absent, ffn32[layer]!]);

const config10b: ModelConfig = {
  vocabSize: 30720,
  dimModel: 4096,
  dimFf: 10240,
  layers: 48,
  heads: 32,
  dimHead: 128,
  dropout: 0,
  positionBuckets: 512,
  positionMaxDistance: 2048,
  eps: 1e-6,
  half: true,
  promptTypes: 32,
  promptLength: 32,
  segmentTypes: 32,
  maskModules: undefined,
};

export const presets = {
  "10b": config10b,
  "7b": { ...config10b, maskModules: masks3b },
  "3b": { ...config10b, heads: 20, dimFf: 3735, maskModules: masks3b },
  "1b": { ...config10b, heads: 16, dimFf: 700, maskModules: masks1b },
  "300m": { ...config10b, heads: 4, dimFf: 350, maskModules: masks1b },
  /** For a laptop: sizes are multiples of 64, so that every product fills its tiles; heads are as wide as CPM-Ant's. */
  mini: {
    vocabSize: 8192,
    dimModel: 512,
    dimFf: 1408,
    layers: 6,
    heads: 4,
    dimHead: 128,
    dropout: 0,
    positionBuckets: 512,
    positionMaxDistance: 2048,
    eps: 1e-6,
    half: false,
    promptTypes: 8,
    promptLength: 32,
    segmentTypes: 16,
    maskModules: undefined,
  },
  /** For three minutes on two cores: a short prompt, so that little of a short row is spent on it. */
  tiny: {
    vocabSize: 3072,
    dimModel: 192,
    dimFf: 512,
    layers: 4,
    heads: 6,
    dimHead: 32,
    dropout: 0,
    positionBuckets: 128,
    positionMaxDistance: 512,
    eps: 1e-6,
    half: false,
    promptTypes: 4,
    promptLength: 8,
    segmentTypes: 8,
    maskModules: undefined,
  },
} as const satisfies Record<string, ModelConfig>;

export type PresetName = keyof typeof presets;

export const presetNames = Object.keys(presets) as readonly PresetName[];

/**
 * A preset by name.
 *
 * @throws ConfigError `CPM_CONFIG_PRESET` for a name that is none
 */
export function preset(name: string): ModelConfig {
  if (Object.hasOwn(presets, name)) return presets[name as PresetName];
  throw new ConfigError("CPM_CONFIG_PRESET", `there is no preset ${JSON.stringify(name.slice(0, 40))}`, {
    expected: presetNames.join(", "),
  });
}
