import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../util/error.ts";
import { checkConfig, configToHfJson, configToJson, isHfConfig, parseConfig } from "./config.ts";
import { preset, presets } from "./presets.ts";

const good = configToJson(presets.tiny);

/** The error of a call, whose code must be this one. */
function errorOf(code: string, call: () => unknown): ConfigError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`no ${code}`);
}

const withKey = (key: string, value: unknown) => ({ ...good, [key]: value });
const without = (key: string) => Object.fromEntries(Object.entries(good).filter(([name]) => name !== key));

test("every preset goes through both JSON forms and back", () => {
  for (const config of Object.values(presets)) {
    const live = JSON.parse(JSON.stringify(configToJson(config)));
    assert.equal(isHfConfig(live), false);
    assert.deepEqual(parseConfig(live, "live"), config);
    const hf = JSON.parse(JSON.stringify(configToHfJson(config)));
    assert.equal(isHfConfig(hf), true);
    assert.deepEqual(parseConfig(hf, "hf"), config);
  }
});

test("unknown keys are refused with the nearest known one", () => {
  assert.match(errorOf("CPM_CONFIG_UNKNOWN_KEY", () => parseConfig(withKey("vocabsize", 3), "f")).hint!, /vocab_size/);
  assert.match(errorOf("CPM_CONFIG_UNKNOWN_KEY", () => parseConfig(withKey("dim_heads", 3), "f")).hint!, /dim_head/);
  assert.match(errorOf("CPM_CONFIG_UNKNOWN_KEY", () => parseConfig(withKey("colour", 3), "f")).hint!, /Remove/);
  const hf = { ...configToHfJson(presets.tiny), num_layers: 4 };
  assert.match(errorOf("CPM_CONFIG_UNKNOWN_KEY", () => parseConfig(hf, "f")).hint!, /num_hidden_layers/);
});

test("sizes have no defaults, constants have", () => {
  const optional = ["dropout_p", "eps", "half", "mask_modules"];
  for (const key of Object.keys(good)) {
    if (optional.includes(key)) parseConfig(without(key), "f");
    else assert.match(errorOf("CPM_CONFIG_MISSING_KEY", () => parseConfig(without(key), "f")).what, new RegExp(key));
  }
  assert.equal(parseConfig(without("eps"), "f").eps, 1e-6);
});

test("values out of range are named by their file key", () => {
  const wrong: [string, unknown][] = [
    ["vocab_size", 0],
    ["vocab_size", "3072"],
    ["dim_model", 1.5],
    ["num_layers", -1],
    ["num_layers", Number.NaN],
    ["dropout_p", 1],
    ["eps", 0],
    ["half", 1],
    ["position_bias_num_buckets", 30],
    ["segment_types", 1e9],
    ["mask_modules", [[true]]],
    ["mask_modules", "none"],
  ];
  for (const [key, value] of wrong) {
    const error = errorOf("CPM_CONFIG_VALUE", () => parseConfig(withKey(key, value), "some/config.json"));
    assert.ok(error.what.startsWith(key), error.what);
    assert.equal(error.where, "some/config.json");
  }
});

test("values that contradict each other are refused", () => {
  errorOf("CPM_CONFIG_INCONSISTENT", () => parseConfig(withKey("mask_modules", [[true, false]]), "f"));
  errorOf("CPM_CONFIG_INCONSISTENT", () => parseConfig(withKey("position_bias_max_distance", 32), "f"));
  errorOf("CPM_CONFIG_INCONSISTENT", () => checkConfig({ ...presets.tiny, heads: 4096, dimHead: 4096 }));
  errorOf("CPM_CONFIG_INCONSISTENT", () => checkConfig({ ...presets.tiny, promptTypes: 65536, promptLength: 65536 }));
});

test("other architectures and other JSON are refused by name", () => {
  errorOf("CPM_CONFIG_JSON", () => parseConfig(null, "f"));
  errorOf("CPM_CONFIG_JSON", () => parseConfig([], "f"));
  errorOf("CPM_CONFIG_JSON", () => parseConfig("{}", "f"));
  assert.match(errorOf("CPM_CONFIG_ARCHITECTURE", () => parseConfig({ model_type: "llama" }, "f")).got!, /llama/);
  const bee = withKey("position_bias_num_segment_buckets", 256);
  assert.match(errorOf("CPM_CONFIG_ARCHITECTURE", () => parseConfig(bee, "f")).got!, /CPM-Bee/);
});

test("the config that Hugging Face published for the 10B is read", () => {
  const published = {
    _from_model_config: true,
    _name_or_path: "cpm-ant-10b",
    architectures: ["CPMAntForCausalLM"],
    bos_token_id: 6,
    dim_ff: 10240,
    dim_head: 128,
    hidden_size: 4096,
    dropout_p: 0.0,
    eos_token_id: 7,
    eps: 1e-6,
    is_decoder: true,
    mask_modules: null,
    max_new_tokens: 50,
    model_type: "cpmant",
    num_beams: 3,
    num_attention_heads: 32,
    num_hidden_layers: 48,
    pad_token_id: 0,
    position_bias_max_distance: 2048,
    position_bias_num_buckets: 512,
    prompt_length: 32,
    prompt_types: 32,
    repetition_penalty: 1.2,
    segment_types: 32,
    tokenizer_class: "CPMAntTokenizer",
    torch_dtype: "float32",
    transformers_version: "4.26.0.dev0",
    use_cache: true,
    vocab_size: 30720,
  };
  assert.deepEqual(parseConfig(published, "config.json"), { ...preset("10b"), half: false });
});
