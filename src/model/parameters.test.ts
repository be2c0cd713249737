import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../util/error.ts";
import { layerMask } from "./config.ts";
import { memoryByPrecisionBytes, parameterCount, parameterElements, parameterTable } from "./parameters.ts";
import { preset, presetNames, presets } from "./presets.ts";

test("the presets' parameter counts are exact", () => {
  assert.deepEqual(Object.fromEntries(presetNames.map((name) => [name, parameterCount(preset(name))])), {
    "10b": 9_391_624_192,
    "7b": 6_640_050_176,
    "3b": 3_151_026_176,
    "1b": 1_149_865_984,
    "300m": 430_385_152,
    mini: 23_610_880,
    tiny: 2_369_856,
  });
});

test("the counts agree with what was published, within its rounding", () => {
  const published = { "7b": [6.64e9, 1e7], "3b": [3.15e9, 1e7], "1b": [1.15e9, 1e7], "300m": [0.43e9, 1e7] } as const;
  for (const [name, [count, rounding]] of Object.entries(published)) {
    assert.ok(Math.abs(parameterCount(preset(name)) - count) <= rounding / 2, name);
  }
});

test("pruned presets keep the published numbers of sub-layers, and 3b keeps all that 1b keeps", () => {
  const kept = (name: string, part: 0 | 1) => preset(name).maskModules!.filter((mask) => !mask[part]).length;
  for (const name of ["7b", "3b"]) assert.deepEqual([kept(name, 0), kept(name, 1)], [37, 32]);
  for (const name of ["1b", "300m"]) assert.deepEqual([kept(name, 0), kept(name, 1)], [25, 21]);
  for (let layer = 0; layer < 48; layer++) {
    for (const part of [0, 1] as const) {
      if (!layerMask(presets["1b"], layer)[part]) assert.equal(layerMask(presets["3b"], layer)[part], false);
    }
  }
});

test("names and shapes of the 10B", () => {
  const table = new Map(parameterTable(presets["10b"]).map((parameter) => [parameter.name, parameter]));
  assert.equal(table.size, 5 + 48 * 9);
  const shapes = {
    "input_embedding.weight": [30720, 4096],
    "prompt_embedding.weight": [1024, 4096],
    "segment_embedding.weight": [32, 4096],
    "position_bias.relative_attention_bias": [1536, 32],
    "encoder.layers.47.self_att.self_attention.project_k.weight": [4096, 4096],
    "encoder.layers.0.self_att.self_attention.attention_out.weight": [4096, 4096],
    "encoder.layers.3.self_att.layernorm_before_attention.weight": [4096],
    "encoder.layers.3.ffn.layernorm_before_ffn.weight": [4096],
    "encoder.layers.3.ffn.ffn.w_in.w_0.weight": [10240, 4096],
    "encoder.layers.3.ffn.ffn.w_in.w_1.weight": [10240, 4096],
    "encoder.layers.3.ffn.ffn.w_out.weight": [4096, 10240],
    "encoder.output_layernorm.weight": [4096],
  };
  for (const [name, shape] of Object.entries(shapes)) assert.deepEqual(table.get(name)?.shape, shape, name);
  assert.equal(table.get("encoder.layers.3.ffn.ffn.w_out.weight")?.fanIn, 10240);
});

test("an absent sub-layer has no parameters, and heads may be narrower than the residual stream", () => {
  const table = new Map(parameterTable(presets["300m"]).map((parameter) => [parameter.name, parameter]));
  assert.equal(table.has("encoder.layers.3.self_att.layernorm_before_attention.weight"), false);
  assert.equal(table.has("encoder.layers.3.ffn.ffn.w_out.weight"), false);
  assert.deepEqual(table.get("encoder.layers.0.self_att.self_attention.attention_out.weight")?.shape, [4096, 512]);
  assert.equal(table.get("encoder.layers.0.self_att.self_attention.attention_out.weight")?.fanIn, 512);
});

test("memory by precision follows the table", () => {
  const bytes = memoryByPrecisionBytes(presets["10b"]);
  assert.equal(bytes.float16, 18_783_248_384);
  assert.equal(bytes.float32, 2 * bytes.float16);
  let linear = 0;
  let scales = 0;
  for (const parameter of parameterTable(presets.tiny).filter(({ kind }) => kind === "linear")) {
    linear += parameterElements(parameter);
    scales += parameter.shape[0]!;
  }
  const rest = parameterCount(presets.tiny) - linear;
  assert.equal(memoryByPrecisionBytes(presets.tiny).int8, linear + 4 * scales + 2 * rest);
});

test("an unknown preset is refused with the list", () => {
  assert.throws(
    () => preset("toString"),
    (error) => error instanceof ConfigError && error.code === "CPM_CONFIG_PRESET" && /300m/.test(error.expected!),
  );
});
