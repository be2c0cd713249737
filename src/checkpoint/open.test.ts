import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { assertClose } from "../../test/support/close.ts";
import { sharedPath, skipWithoutShared } from "../../test/support/shared.ts";
import { floatTensor, torchFile } from "../../test/support/torch-writer.ts";
import { configToHfJson, configToJson, type ModelConfig } from "../model/config.ts";
import { names, parameterTable } from "../model/parameters.ts";
import { elementCount } from "../runtime/dtype.ts";
import { CpmError } from "../util/error.ts";
import { deltaKind, detectLayout } from "./layout.ts";
import { type Checkpoint, openCheckpoint, readConfigFile } from "./open.ts";
import { openSafetensors } from "./safetensors.ts";
import { type WritableTensor, writeSafetensors } from "./safetensors-writer.ts";
import { type SaveOptions, saveCheckpoint } from "./save.ts";

const golden = { skip: skipWithoutShared("golden") };

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "cpm-open-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Heads times their width differ from d; layer 0 has no attention, layer 1 nothing, layer 2 no FFN. */
const small: ModelConfig = {
  vocabSize: 40,
  dimModel: 6,
  dimFf: 10,
  layers: 4,
  heads: 2,
  dimHead: 5,
  dropout: 0,
  positionBuckets: 8,
  positionMaxDistance: 2048,
  eps: 1e-6,
  half: false,
  promptTypes: 2,
  promptLength: 32,
  segmentTypes: 3,
  maskModules: [
    [true, false],
    [true, true],
    [false, true],
    [false, false],
  ],
};

function weightsOf(config: ModelConfig): WritableTensor[] {
  return parameterTable(config).map(({ name, shape }, i) => {
    const data = Float32Array.from({ length: elementCount(shape) }, (_, j) => Math.sin(i * 100 + j) * 0.7);
    return { name, dtype: "float32", shape, read: () => data };
  });
}

async function all(checkpoint: Checkpoint): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Float32Array>();
  for (const name of checkpoint.names()) found.set(name, await checkpoint.tensor(name).readFloat32());
  return found;
}

/** Every parameter within a relative error of `tolerance`; 0 asks for equal numbers. */
async function assertSame(checkpoint: Checkpoint, expected: Map<string, Float32Array>, tolerance: number) {
  const found = await all(checkpoint);
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
  for (const [name, data] of expected) {
    if (tolerance === 0) assert.deepEqual(found.get(name), data, name);
    else assertClose(found.get(name)!, data, tolerance, name);
  }
}

async function refused(call: Promise<unknown>, code: string): Promise<CpmError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof CpmError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`not refused with ${code}`);
}

for (const model of ["full", "pruned"]) {
  test(`golden ${model}: every format and layout holds the same weights`, golden, async (t) => {
    const path = sharedPath(`golden/${model}.model.safetensors`);
    const configPath = sharedPath(`golden/${model}.config.json`);
    const expected = new Map<string, Float32Array>();
    const raw = await openSafetensors(path);
    for (const [name, tensor] of raw.tensors) expected.set(name, (await tensor.read()) as Float32Array);
    await raw.close();
    await using source = await openCheckpoint(path, { configPath });
    assert.equal(source.layout, "cpm-live");
    assert.deepEqual([source.assumptions, source.unknownNames], [[], []]);
    await assertSame(source, expected, 0);
    const tensors = source.names().map((name) => source.tensor(name));
    const folder = scratch(t);
    const cases: [string, SaveOptions, number][] = [
      ["live", {}, 0],
      ["sharded", { maxShardBytes: 100_000 }, 0],
      ["hf", { layout: "hf-cpmant" }, 1e-7],
      ["hf-sharded", { layout: "hf-cpmant", maxShardBytes: 100_000 }, 1e-7],
      ["half", { dtype: "float16" }, 2 ** -11],
      ["brain", { dtype: "bfloat16" }, 2 ** -8],
      ["hf-half", { layout: "hf-cpmant", dtype: "float16" }, 2 ** -11],
    ];
    for (const [name, options, tolerance] of cases) {
      await saveCheckpoint(join(folder, name), source.config, tensors, options);
      await using saved = await openCheckpoint(join(folder, name));
      assert.equal(saved.layout, options.layout ?? "cpm-live");
      assert.deepEqual(saved.config, { ...source.config, half: options.dtype === "float16" });
      assert.deepEqual(saved.unknownNames, []);
      await assertSame(saved, expected, tolerance);
    }
  });
}

test("golden: what torch.save wrote is equal, and float16 within its rounding", golden, async () => {
  const configPath = sharedPath("golden/full.config.json");
  await using source = await openCheckpoint(sharedPath("golden/full.model.safetensors"), { configPath });
  const expected = await all(source);
  await using full = await openCheckpoint(sharedPath("golden/full.model.pt"), { configPath });
  assert.equal(full.format, "torch");
  await assertSame(full, expected, 0);
  await using half = await openCheckpoint(sharedPath("golden/full.model.fp16.pt"), { configPath });
  assert.equal(half.tensor(names.token).dtype, "float16");
  await assertSame(half, expected, 2 ** -11);
});

test("golden: a location is where the elements are", golden, async () => {
  for (const file of ["full.model.safetensors", "full.model.pt"]) {
    await using checkpoint = await openCheckpoint(sharedPath(`golden/${file}`));
    for (const name of checkpoint.names()) {
      const tensor = checkpoint.tensor(name);
      const { file: path, byteOffset, byteLength } = tensor.location!;
      const bytes = readFileSync(path).subarray(byteOffset, byteOffset + byteLength);
      assert.deepEqual(new Float32Array(new Uint8Array(bytes).buffer), await tensor.read());
    }
  }
});

test("golden: a config is inferred from names and shapes, and what was assumed is said", golden, async () => {
  for (const model of ["full", "pruned"]) {
    const known = await readConfigFile(sharedPath(`golden/${model}.config.json`));
    await using checkpoint = await openCheckpoint(sharedPath(`golden/${model}.model.safetensors`));
    const { promptTypes, promptLength, positionMaxDistance, ...told } = checkpoint.config;
    const { promptTypes: types, promptLength: length, positionMaxDistance: distance, ...expected } = known;
    assert.deepEqual(told, expected);
    assert.equal(promptTypes * promptLength, types * length);
    assert.match(checkpoint.assumptions.join("\n"), /prompt_length = 32.*\n.*max_distance = 2048, eps = 0.000001/);
  }
});

test("a pruned model goes through both layouts and is inferred from either", async (t) => {
  const folder = scratch(t);
  const tensors = weightsOf(small);
  const expected = new Map(tensors.map((tensor) => [tensor.name, tensor.read() as Float32Array]));
  for (const layout of ["cpm-live", "hf-cpmant"] as const) {
    const target = join(folder, layout);
    await saveCheckpoint(target, small, tensors, { layout });
    await using given = await openCheckpoint(target);
    assert.deepEqual(given.config, small);
    assert.match(given.configPath!, /config\.json$/);
    assert.deepEqual(given.unknownNames, []);
    await assertSame(given, expected, layout === "cpm-live" ? 0 : 1e-7);
    rmSync(join(target, "config.json"));
    await using inferred = await openCheckpoint(target);
    assert.equal(inferred.configPath, undefined);
    // Zeros stand for absent sub-layers in Hugging Face's layout: without the config nothing is absent there.
    assert.deepEqual(inferred.config, layout === "cpm-live" ? small : { ...small, maskModules: undefined });
  }
  // A caller's own memory is never scaled in place.
  for (const { name, read } of weightsOf(small)) assert.deepEqual(expected.get(name), read());
});

test("the cpmant layout is Hugging Face's: names, merged prompts, divided weights, zeros for what is absent", async (t) => {
  const folder = scratch(t);
  const tensors = weightsOf(small);
  const value = (name: string, i: number) =>
    (tensors.find((tensor) => tensor.name === name)!.read() as Float32Array)[i]!;
  await saveCheckpoint(join(folder, "hf"), small, tensors, { layout: "hf-cpmant" });
  const raw = await openSafetensors(join(folder, "hf", "model.safetensors"));
  const read = async (name: string) => (await raw.tensors.get(name)!.read()) as Float32Array;
  const table = await read("cpmant.input_embedding.weight");
  assert.equal(raw.metadata.format, "pt");
  assert.deepEqual(raw.tensors.get("cpmant.input_embedding.weight")!.shape, [40 + 64, 6]);
  assert.equal(table[7], Math.fround(value("input_embedding.weight", 7) / Math.sqrt(6)));
  assert.equal(table[40 * 6 + 7], Math.fround(value("prompt_embedding.weight", 7) / Math.sqrt(6)));
  assert.deepEqual(await read("lm_head.weight"), table.subarray(0, 40 * 6));
  const out = "encoder.layers.3.self_att.self_attention.attention_out.weight";
  assert.equal((await read(`cpmant.${out}`))[3], Math.fround(value(out, 3) / Math.sqrt(10)));
  const bias = "position_bias.relative_attention_bias";
  assert.equal((await read(`cpmant.${bias}`))[3], value(bias, 3));
  assert.ok((await read("cpmant.encoder.layers.1.ffn.ffn.w_out.weight")).every((zero) => zero === 0));
  assert.ok((await read("cpmant.encoder.layers.1.ffn.layernorm_before_ffn.weight")).every((one) => one === 1));
  await raw.close();
  const json = JSON.parse(readFileSync(join(folder, "hf", "config.json"), "utf8"));
  assert.deepEqual(
    [json.model_type, json.hidden_size, json.half, json.torch_dtype],
    ["cpmant", 6, undefined, "float32"],
  );
});

/** Re-saves the cpmant layout with some tensors changed. */
async function hfWith(
  folder: string,
  change: (tensors: Map<string, WritableTensor>) => void,
  config: unknown = configToHfJson(small),
): Promise<string> {
  const plain = join(folder, "plain");
  await saveCheckpoint(plain, small, weightsOf(small), { layout: "hf-cpmant" });
  const raw = await openSafetensors(join(plain, "model.safetensors"));
  const tensors = new Map<string, WritableTensor>();
  for (const [name, tensor] of raw.tensors) {
    const data = await tensor.read();
    tensors.set(name, { name, dtype: tensor.dtype!, shape: tensor.shape, read: () => data });
  }
  await raw.close();
  rmSync(plain, { recursive: true });
  change(tensors);
  const target = join(folder, "changed");
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target);
  await writeSafetensors(join(target, "model.safetensors"), [...tensors.values()]);
  if (config !== undefined) writeFileSync(join(target, "config.json"), JSON.stringify(config));
  return target;
}

test("heads of Hugging Face files: missing, with the prompts' rows, of another shape, trained apart", async (t) => {
  const folder = scratch(t);
  const head = "lm_head.weight";
  const expected = new Map(weightsOf(small).map((tensor) => [tensor.name, tensor.read() as Float32Array]));
  const headless = await hfWith(folder, (tensors) => tensors.delete(head));
  {
    await using checkpoint = await openCheckpoint(headless);
    await assertSame(checkpoint, expected, 1e-7);
  }
  const long = await hfWith(folder, (tensors) => {
    tensors.set(head, { ...tensors.get("cpmant.input_embedding.weight")!, name: head });
  });
  {
    await using checkpoint = await openCheckpoint(long);
    await assertSame(checkpoint, expected, 1e-7);
    assert.deepEqual(checkpoint.unknownNames, []);
  }
  const odd = await hfWith(folder, (tensors) => {
    tensors.set(head, { name: head, dtype: "float32", shape: [41, 6], read: () => new Float32Array(41 * 6) });
  });
  await refused(openCheckpoint(odd), "CPM_CHECKPOINT_SHAPE");
  const apart = await hfWith(folder, (tensors) => {
    tensors.set(head, { ...tensors.get(head)!, read: () => new Float32Array(40 * 6).fill(1) });
  });
  await refused(openCheckpoint(apart), "CPM_CHECKPOINT_UNTIED");
});

test("prefixes, a bare Hugging Face model and CPM-Ant+ are told apart", async (t) => {
  const folder = scratch(t);
  const renamed = (tensors: Map<string, WritableTensor>, rename: (name: string) => string) => {
    const old = [...tensors.values()];
    tensors.clear();
    for (const tensor of old) tensors.set(rename(tensor.name), { ...tensor, name: rename(tensor.name) });
  };
  const expected = new Map(weightsOf(small).map((tensor) => [tensor.name, tensor.read() as Float32Array]));
  const wrapped = await hfWith(folder, (tensors) => renamed(tensors, (name) => `module.${name}`));
  {
    await using checkpoint = await openCheckpoint(wrapped);
    assert.equal(checkpoint.layout, "hf-cpmant");
    await assertSame(checkpoint, expected, 1e-7);
  }
  const bare = (tensors: Map<string, WritableTensor>) => {
    tensors.delete("lm_head.weight");
    renamed(tensors, (name) => name.replace("cpmant.", ""));
  };
  {
    await using checkpoint = await openCheckpoint(await hfWith(folder, bare));
    assert.equal(checkpoint.layout, "hf-cpmant");
    assert.match(checkpoint.layoutEvidence, /config/);
    await assertSame(checkpoint, expected, 1e-7);
  }
  {
    await using checkpoint = await openCheckpoint(await hfWith(folder, bare, configToJson(small)));
    assert.equal(checkpoint.layout, "cpm-ant-plus");
    const token = checkpoint.tensor(names.token);
    assert.deepEqual([token.dtype, token.shape], ["float32", [40, 6]]);
    const prompt = checkpoint.tensor(names.prompt).location!;
    assert.equal(prompt.byteOffset - token.location!.byteOffset, 40 * 6 * 4);
    const scale = Math.sqrt(small.dimModel);
    assertClose(
      (await checkpoint.tensor(names.prompt).readFloat32()).map((x) => x * scale),
      expected.get(names.prompt)!,
      1e-6,
    );
  }
});

test("deltas and other models are refused by what they are", async (t) => {
  const path = join(scratch(t), "x.safetensors");
  const write = (...tensorNames: string[]) =>
    writeSafetensors(
      path,
      tensorNames.map((name) => ({ name, dtype: "float32", shape: [1], read: () => new Float32Array(1) })),
    );
  const q = "encoder.layers.0.self_att.self_attention.project_q";
  await write(`${q}.lora.lora_A`, `${q}.lora.lora_B`);
  const alone = await refused(openCheckpoint(path), "CPM_CHECKPOINT_DELTA");
  assert.match(alone.got!, /2 tensors of LoRA/);
  await write("input_embedding.weight", "segment_embedding.weight", `${q}.lora_A`);
  assert.match((await refused(openCheckpoint(path), "CPM_CHECKPOINT_DELTA")).what, /not merged/);
  await write("input_embedding.weight", "encoder.layers.0.x");
  await refused(openCheckpoint(path), "CPM_CHECKPOINT_ARCHITECTURE");
  await write("transformer.wte.weight");
  await refused(openCheckpoint(path), "CPM_CHECKPOINT_LAYOUT");
  await write();
  await refused(openCheckpoint(path), "CPM_CHECKPOINT_LAYOUT");
  assert.equal(deltaKind(`base_model.model.${q}.lora_A.weight`), "LoRA");
  assert.equal(deltaKind(`${q}.bias`), "BitFit");
  assert.equal(deltaKind("encoder.layers.0.ffn.adapter.modulelist.down_proj.weight"), "adapter");
  for (const { name } of parameterTable(small)) assert.equal(deltaKind(name), undefined, name);
  assert.equal(
    detectLayout(
      parameterTable(small).map(({ name }) => name),
      "x",
    ).layout,
    "cpm-live",
  );
});

test("missing parameters, other shapes and other dtypes name the parameter", async (t) => {
  const folder = scratch(t);
  const path = join(folder, "x.safetensors");
  const config = { config: small };
  const write = (change: (tensor: WritableTensor) => WritableTensor | undefined) =>
    writeSafetensors(
      path,
      weightsOf(small).flatMap((tensor) => change(tensor) ?? []),
    );
  await write((tensor) => (tensor.name === "encoder.output_layernorm.weight" ? undefined : tensor));
  const lost = await refused(openCheckpoint(path, config), "CPM_CHECKPOINT_MISSING");
  assert.match(lost.got!, /1 missing, such as encoder\.output_layernorm\.weight/);
  await write((tensor) => tensor);
  const pruned = await refused(
    openCheckpoint(path, { config: { ...small, maskModules: undefined } }),
    "CPM_CHECKPOINT_MISSING",
  );
  assert.match(pruned.hint!, /4 whole sub-layers are missing.*mask_modules/);
  const wide = await refused(openCheckpoint(path, { config: { ...small, dimFf: 12 } }), "CPM_CHECKPOINT_SHAPE");
  assert.match(wide.where!, /w_0/);
  assert.equal(wide.got, "[10, 6]");
  const whole = (shape: readonly number[]) => () => new Int32Array(elementCount(shape));
  await write((tensor) => ({ ...tensor, dtype: "int32", read: whole(tensor.shape) }));
  await refused(openCheckpoint(path, config), "CPM_CHECKPOINT_DTYPE");
  await write((tensor) => tensor);
  await using checkpoint = await openCheckpoint(path, config);
  assert.throws(() => checkpoint.tensor("nothing"), /internal/);
  const more = [
    ...weightsOf(small),
    { name: "extra", dtype: "float32", shape: [1], read: () => new Float32Array(1) } as const,
  ];
  await writeSafetensors(path, more);
  await using extra = await openCheckpoint(path, config);
  assert.deepEqual(extra.unknownNames, ["extra"]);
});

test("configs that cannot be inferred are refused with what is wrong", async (t) => {
  const path = join(scratch(t), "x.pt");
  const tables: Record<string, number[]> = {
    [names.token]: [40, 6],
    [names.prompt]: [64, 6],
    [names.segment]: [3, 6],
    [names.positionBias]: [17, 2],
    "encoder.layers.0.self_att.layernorm_before_attention.weight": [6],
    "encoder.layers.0.self_att.self_attention.project_q.weight": [10, 6],
  };
  const infer = async (change: Record<string, number[] | undefined>) => {
    const tensors = Object.entries({ ...tables, ...change }).filter((entry): entry is [string, number[]] => !!entry[1]);
    writeFileSync(
      path,
      torchFile(tensors.map(([name, shape]) => floatTensor(name, shape, new Float32Array(elementCount(shape))))),
    );
    return refused(openCheckpoint(path), "CPM_CHECKPOINT_INFER");
  };
  assert.match((await infer({ [names.positionBias]: [5, 2] })).what, /fewer rows/);
  assert.match((await infer({ [names.positionBias]: [17, 3] })).what, /no multiple/);
  assert.match((await infer({ [names.positionBias]: undefined })).what, /is missing/);
  assert.match((await infer({ [names.token]: [40] })).what, /no matrix/);
  assert.match((await infer({ "encoder.layers.x.y": [1] })).what, /no number/);
  const noLayers = Object.fromEntries(
    Object.keys(tables)
      .filter((name) => name.startsWith("enc"))
      .map((name) => [name, undefined]),
  );
  assert.match((await infer(noLayers)).what, /no encoder\.layers/);
  // Complete for one layer without an FFN, so the width of the FFN is assumed.
  const k = "encoder.layers.0.self_att.self_attention.project_";
  const rest = { [`${k}k.weight`]: [10, 6], [`${k}v.weight`]: [10, 6], "encoder.output_layernorm.weight": [6] };
  const out = { "encoder.layers.0.self_att.self_attention.attention_out.weight": [6, 10] };
  const shapes = Object.entries({ ...tables, ...rest, ...out });
  writeFileSync(
    path,
    torchFile(shapes.map(([name, shape]) => floatTensor(name, shape, new Float32Array(elementCount(shape))))),
  );
  await using checkpoint = await openCheckpoint(path);
  assert.match(checkpoint.assumptions.join("\n"), /dim_ff = 6/);
  assert.deepEqual(checkpoint.config.maskModules, [[false, true]]);
});

test("weights are found in a folder by their usual or their only name", async (t) => {
  const folder = scratch(t);
  await refused(openCheckpoint(join(folder, "nothing")), "CPM_FILE_NOT_FOUND");
  await refused(openCheckpoint(folder), "CPM_CHECKPOINT_NOT_FOUND");
  await writeSafetensors(join(folder, "a.safetensors"), weightsOf(small));
  (await openCheckpoint(folder)).close();
  await writeSafetensors(join(folder, "b.safetensors"), weightsOf(small));
  await refused(openCheckpoint(folder), "CPM_CHECKPOINT_AMBIGUOUS");
  const floats = weightsOf(small).map(({ name, shape, read }) => floatTensor(name, shape, read() as Float32Array));
  writeFileSync(join(folder, "pytorch_model.bin"), torchFile(floats));
  await using checkpoint = await openCheckpoint(folder);
  assert.deepEqual(checkpoint.files, [join(folder, "pytorch_model.bin")]);
  writeFileSync(join(folder, "config.json"), '{"vocab_size": 1, "vocab_size": 2}');
  await refused(openCheckpoint(folder), "CPM_CHECKPOINT_JSON");
});

test("saving is whole or not at all, and refuses what does not fit", async (t) => {
  const folder = scratch(t);
  const target = join(folder, "m");
  const weights = weightsOf(small);
  const failing = weights.map((tensor, i) =>
    i === 9 ? { ...tensor, read: () => Promise.reject(new RangeError()) } : tensor,
  );
  await assert.rejects(saveCheckpoint(target, small, failing), RangeError);
  assert.deepEqual(readdirSync(folder), []);
  await refused(saveCheckpoint(target, small, weights.slice(1)), "CPM_CHECKPOINT_MISSING");
  await refused(saveCheckpoint(target, { ...small, dimFf: 12 }, weights), "CPM_CHECKPOINT_SHAPE");
  await refused(saveCheckpoint(target, small, [...weights, { ...weights[0]!, name: "x" }]), "CPM_CHECKPOINT_UNKNOWN");
  const huge = weights.map((tensor, i) =>
    i > 0 ? tensor : { ...tensor, read: () => new Float32Array(240).fill(1e5) },
  );
  await refused(saveCheckpoint(target, small, huge, { dtype: "float16" }), "CPM_CHECKPOINT_FLOAT16_RANGE");
  assert.deepEqual(readdirSync(folder), []);
  const files = await saveCheckpoint(target, small, weights, { maxShardBytes: 3000, files: { "vocab.txt": "<s>\n" } });
  assert.deepEqual(readdirSync(target).sort(), [...files].sort());
  assert.ok(files.length > 4);
  await refused(saveCheckpoint(target, small, weights), "CPM_FILE_EXISTS");
  await saveCheckpoint(target, small, weights, { overwrite: true });
  assert.deepEqual(readdirSync(target).sort(), ["config.json", "model.safetensors", "vocab.txt"]);
  await assert.rejects(saveCheckpoint(target, small, weights, { files: { "../x": "" } }), /internal/);
});
